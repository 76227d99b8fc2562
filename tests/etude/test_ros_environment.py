"""The environment that commands give themselves: complete, stable, and free of wheels when a system ROS 2 is sourced."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from etude.config import REPOSITORY
from etude.ros_environment import MALLOC, READY, is_ready, ros_environment, workspace_install


def test_applying_it_twice_changes_nothing():
    once = ros_environment({"PATH": "/bin", "LD_LIBRARY_PATH": "/mine"})
    assert ros_environment(once) == once
    assert once["LD_LIBRARY_PATH"].endswith(":/mine")
    assert is_ready(once)


def test_what_the_caller_chose_is_kept():
    chosen = {"ROS_AUTOMATIC_DISCOVERY_RANGE": "SUBNET", "MALLOC_ARENA_MAX": "4", "ROS_DOMAIN_ID": "7"}
    assert chosen.items() <= ros_environment(chosen).items()


def test_a_foreign_middleware_is_taken_out_in_wheels_mode():
    assert "RMW_IMPLEMENTATION" not in ros_environment({"RMW_IMPLEMENTATION": "rmw_cyclonedds_cpp"})


def test_a_sourced_ros_gets_the_overlay_and_nothing_of_the_wheels():
    result = ros_environment(
        {"ROS_DISTRO": "jazzy", "AMENT_PREFIX_PATH": "/opt/ros/jazzy", "RMW_IMPLEMENTATION": "rmw_zenoh_cpp"}
    )
    assert result["AMENT_PREFIX_PATH"] == f"{workspace_install()}:/opt/ros/jazzy"
    assert result["RMW_IMPLEMENTATION"] == "rmw_zenoh_cpp"
    assert "_ROS_WHEELS_BOOTSTRAP_COMPLETE" not in result
    assert sys.prefix + "/lib" not in result["LD_LIBRARY_PATH"]


def test_every_process_gets_the_middleware_profile_and_the_allocator_settings():
    result = ros_environment({})
    assert os.path.exists(result["FASTRTPS_DEFAULT_PROFILES_FILE"])
    assert MALLOC.items() <= result.items()
    assert result[READY] == str(REPOSITORY)


@pytest.mark.skipif(bool(os.environ.get("ROS_DISTRO")), reason="the two ways are compared in wheels mode only")
def test_the_shell_script_and_the_module_agree():
    """What the module sets, the script sets too; the script may add what colcon lists for development installs."""
    names = [
        "AMENT_PREFIX_PATH",
        "PYTHONPATH",
        "FASTRTPS_DEFAULT_PROFILES_FILE",
        "ROS_AUTOMATIC_DISCOVERY_RANGE",
        "LD_LIBRARY_PATH",
    ]
    script = f'. tools/ros_env.sh; for n in {" ".join(names)}; do echo "${{!n}}"; done'
    bare = {"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/")}
    done = subprocess.run(["bash", "-c", script], env=bare, cwd=REPOSITORY, capture_output=True, text=True, check=True)
    expected = ros_environment(bare)
    for name, value in zip(names, done.stdout.splitlines(), strict=True):
        assert set(expected[name].split(":")) <= set(value.split(":")), name
