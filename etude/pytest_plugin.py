"""Gives pytest the ROS environment, so that plain `pytest` works in a shell where nothing was sourced.

Loaded by ``-p etude.pytest_plugin`` (pyproject.toml), which happens before pytest captures output; a conftest.py would be too
late to start the process again.
"""

import os
import sys

from etude.ros_environment import is_ready, ros_environment

if not is_ready() and "pytest" in sys.modules:
    os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], ros_environment(os.environ))
