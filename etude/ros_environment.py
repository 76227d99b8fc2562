"""The environment variables that a process with ROS 2 needs, made without a shell.

`.venv/bin/etude` must work with nothing sourced, and libraries are found through variables that the loader reads only when a
process starts; so a command that needs ROS starts itself once more with them. tools/ros_env.sh does the same for a shell: keep
the two in step.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path

from etude.compilation_cache import compilation_cache
from etude.config import REPOSITORY

READY = "ETUDE_ENVIRONMENT"
"""Set to this repository's path in processes whose environment is complete."""

MALLOC = {
    # XLA on CPU allocates and frees large buffers all the time; glibc's defaults give them back to the kernel each time, and
    # the page faults cost more than the arithmetic (a convolution's gradient: 135 ms before, 50 ms with these).
    "MALLOC_MMAP_THRESHOLD_": str(4 * 2**30),
    "MALLOC_TRIM_THRESHOLD_": str(64 * 2**30),
    "MALLOC_TOP_PAD_": str(256 * 2**20),
    "MALLOC_ARENA_MAX": "1",
}


class RosEnvironmentError(RuntimeError):
    """ROS 2 cannot be used in this process; the message says what is missing and the remedy."""


def workspace_install() -> Path:
    """Where colcon installed the interfaces."""
    return REPOSITORY / "ros2_ws" / "install"


def interfaces_are_built() -> bool:
    """Whether etude_msgs was installed to the end (a failed build leaves its folders but no entry in the index)."""
    return (workspace_install() / "share/ament_index/resource_index/packages/etude_msgs").is_file()


def is_system_ros(environ: Mapping[str, str] | None = None) -> bool:
    """Whether a system ROS 2 was sourced in the caller's shell; then nothing is taken from wheels."""
    return bool((os.environ if environ is None else environ).get("ROS_DISTRO"))


def holds_wheels() -> bool:
    """Whether this interpreter's environment has the ROS 2 wheels."""
    return any(_site_packages(Path(sys.prefix)).glob("ros_rclpy*.dist-info"))


def is_ready(environ: Mapping[str, str] | None = None) -> bool:
    return (os.environ if environ is None else environ).get(READY) == str(REPOSITORY)


def ros_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """`environ` completed for ROS 2: overlay, wheels' libraries (unless a system ROS is sourced), middleware, allocator, and the
    folder in which JAX keeps what it compiled.

    A value that the caller set for one of the last three is kept. Applying it twice changes nothing.
    """
    result = dict(environ)
    install = workspace_install()
    prefixes, libraries = [str(install)], [str(install / "lib")]
    if not is_system_ros(environ):
        venv = Path(sys.prefix)
        prefixes.append(str(venv))
        libraries.append(str(venv / "lib"))
        libraries += sorted(str(folder) for folder in _site_packages(venv).glob("ros_*.libs"))
        # the wheels' start-up hook would start every interpreter twice to set the library path
        result["_ROS_WHEELS_BOOTSTRAP_COMPLETE"] = "1"
        # the wheels hold one middleware only; any other choice would abort the process
        result.pop("RMW_IMPLEMENTATION", None)
    _prepend(result, "AMENT_PREFIX_PATH", prefixes)
    _prepend(result, "LD_LIBRARY_PATH", libraries)
    _prepend(result, "PYTHONPATH", [str(_site_packages(install))])
    defaults = {
        "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST",
        "FASTRTPS_DEFAULT_PROFILES_FILE": str(REPOSITORY / "config" / "fastdds_profile.xml"),
        **MALLOC,
        **compilation_cache(environ),
    }
    for name, value in defaults.items():
        result.setdefault(name, value)
    result[READY] = str(REPOSITORY)
    return result


def ensure_ros_environment(module: str, arguments: list[str]) -> None:
    """Return when this process has the environment; otherwise replace it by ``python -m module arguments`` that has it."""
    if is_ready():
        return
    sys.stdout.flush()
    sys.stderr.flush()
    os.execve(sys.executable, [sys.executable, "-m", module, *arguments], ros_environment(os.environ))


def _site_packages(prefix: Path) -> Path:
    return prefix / "lib" / f"python{sys.version_info.major}.{sys.version_info.minor}" / "site-packages"


def _prepend(environ: dict[str, str], name: str, entries: list[str]) -> None:
    old = [entry for entry in environ.get(name, "").split(os.pathsep) if entry and entry not in entries]
    environ[name] = os.pathsep.join([*entries, *old])
