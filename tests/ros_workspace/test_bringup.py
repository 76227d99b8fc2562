"""The launch package: files that compile, name programs that exist, and start from a configuration that loads."""

from __future__ import annotations

import ast
import importlib
import re
import runpy
import sys
import types
from typing import ClassVar

import pytest

from etude.config import REPOSITORY, build, load_run_config, read_yaml

SOURCE = REPOSITORY / "ros2_ws" / "src"
BRINGUP = SOURCE / "etude_bringup"
LAUNCH_FILES = sorted((BRINGUP / "launch").glob("*.launch.py"))


def console_scripts(package: str) -> dict[str, str]:
    """Script name -> ``module:function`` of an ament_python package."""
    return dict(re.findall(r'"(\w+) = ([\w.]+:\w+)"', (SOURCE / package / "setup.py").read_text()))


@pytest.mark.parametrize("path", LAUNCH_FILES, ids=lambda path: path.name)
def test_launch_file_compiles_and_describes_a_launch(path):
    names = {node.name for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.FunctionDef)}
    assert "generate_launch_description" in names
    compile(path.read_text(), str(path), "exec")


def test_launch_files_start_only_programs_that_are_installed():
    scripts = {**console_scripts("etude_nodes"), **console_scripts("etude_bringup")}
    named = set(re.findall(r'(?:node\(|program\("etude_\w+", )"(\w+)"', (BRINGUP / "etude_bringup" / "parts.py").read_text()))
    assert {"prepare_run", "safety", "learner", "actor", "teleop", "dashboard"} <= named <= set(scripts)


@pytest.mark.parametrize("path", LAUNCH_FILES, ids=lambda path: path.name)
def test_launch_description_can_be_made(path, monkeypatch):
    pytest.importorskip("launch_ros", reason="the wheels have no launch system; this needs a system ROS 2")
    monkeypatch.syspath_prepend(str(BRINGUP))
    description = runpy.run_path(str(path))["generate_launch_description"]()
    assert description.entities


class Made:
    """Stands for any class of the launch system, which the wheels lack: it keeps what it was made with."""

    def __init__(self, *arguments, **named):
        self.arguments, self.named = arguments, named


class Value(Made):
    """A launch argument's value, from the table of the test."""

    table: ClassVar[dict[str, str]] = {}

    def perform(self, context):
        return self.table[self.arguments[0]]


@pytest.fixture
def parts(monkeypatch):
    """`etude_bringup.parts` over `Made` classes."""
    names = {
        "launch": ["LaunchContext", "LaunchDescription"],
        "launch.actions": [
            *("DeclareLaunchArgument", "EmitEvent", "ExecuteProcess", "IncludeLaunchDescription"),
            *("LogInfo", "OpaqueFunction", "RegisterEventHandler"),
        ],
        "launch.event_handlers": ["OnProcessExit"],
        "launch.events": ["Shutdown"],
        "launch.launch_description_sources": ["AnyLaunchDescriptionSource"],
        "launch.substitutions": ["LaunchConfiguration", "PathJoinSubstitution"],
        "launch_ros": [],
        "launch_ros.substitutions": ["FindPackagePrefix", "FindPackageShare"],
    }
    for module, classes in names.items():
        made = types.ModuleType(module)
        for name in classes:
            setattr(made, name, Value if name == "LaunchConfiguration" else type(name, (Made,), {}))
        monkeypatch.setitem(sys.modules, module, made)
    monkeypatch.syspath_prepend(str(BRINGUP))
    for name in ("etude_bringup", "etude_bringup.parts"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    return importlib.import_module("etude_bringup.parts")


def processes(actions) -> list[str]:
    return [action.named["name"] for action in actions if type(action).__name__ == "ExecuteProcess"]


def started(parts, *, guarded: bool, status: int = 0, **values: str) -> list:
    """What follows the preparation when it ended with `status`."""
    table = {"run": "runs/x", "config": "c.yaml", "set": "", "computer": "both", "dashboard": "true", "teleop": "", "drivers": ""}
    Value.table = {**table, **values}
    begun = parts.start(None, guarded=guarded)
    assert processes(begun) == ["prepare_run"]
    handler = next(action for action in begun if type(action).__name__ == "RegisterEventHandler").arguments[0]
    return handler.named["on_exit"](types.SimpleNamespace(returncode=status), None)


@pytest.mark.parametrize(
    ("guarded", "values", "expected"),
    [
        (False, {}, ["learner", "actor", "dashboard"]),
        (True, {}, ["safety", "learner", "actor", "dashboard"]),
        (True, {"computer": "robot", "teleop": "spacemouse"}, ["safety", "actor", "teleop", "dashboard"]),
        (True, {"computer": "learner", "dashboard": "false", "teleop": "spacemouse"}, ["learner"]),
    ],
)
def test_one_argument_says_which_parts_a_computer_starts(parts, guarded, values, expected):
    assert processes(started(parts, guarded=guarded, **values)) == expected


def test_nothing_starts_when_the_run_cannot_be_prepared(parts):
    assert processes(started(parts, guarded=True, status=2)) == []


def test_drivers_of_the_vendor_are_included_with_their_arguments(parts):
    included = parts.drivers(["franka_bringup/franka.launch.py", "robot_ip:=10.0.0.2", "realsense2_camera/rs_launch.py"])
    assert [dict(action.named["launch_arguments"]) for action in included] == [{"robot_ip": "10.0.0.2"}, {}]
    for wrong in ("franka.launch.py", "robot_ip:=10.0.0.2"):
        with pytest.raises(RuntimeError, match=r"package/file\.launch\.py"):
            parts.drivers([wrong])


@pytest.mark.parametrize("path", LAUNCH_FILES, ids=lambda path: path.name)
def test_every_launch_argument_says_what_it_is(path, parts):
    description = runpy.run_path(str(path))["generate_launch_description"]()
    declared = [entity for entity in description.arguments[0] if type(entity).__name__ == "DeclareLaunchArgument"]
    assert {"run", "config", "computer"} <= {argument.arguments[0] for argument in declared}
    assert all(len(argument.named["description"]) > 10 for argument in declared)


@pytest.mark.parametrize("package", ["etude_nodes", "etude_bringup"])
def test_console_scripts_name_functions_that_exist(package):
    missing = []
    for target in console_scripts(package).values():
        module, _, function = target.partition(":")
        path = SOURCE / package / (module.replace(".", "/") + ".py")
        if not path.is_file() or f"def {function}(" not in path.read_text():
            missing.append(target)
    assert not missing


def test_every_configuration_of_the_launch_files_loads():
    paths = sorted((BRINGUP / "config").glob("*.yaml"))
    assert paths
    for path in paths:
        load_run_config(path)


def test_a_run_folder_is_made_once_and_then_kept(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(BRINGUP))
    sys.modules.pop("etude_bringup", None)
    from etude_bringup.prepare_run import main

    from etude.config import RunConfig
    from etude_nodes import prepare

    prepared = []
    monkeypatch.setattr(prepare, "main", lambda argv: prepared.append(argv) or 0)
    run, config = tmp_path / "run", REPOSITORY / "robot_configs" / "runs" / "demo_state.yaml"
    assert main(["--run", str(run), "--config", str(config), "seed=5"]) == 0
    assert main(["--run", str(run), "--config", str(config), "seed=6"]) == 0
    assert build(RunConfig, read_yaml(run / "config.yaml"), "run").seed == 5
    assert prepared == [["--run", str(run)]] * 2


def test_a_wrong_configuration_is_one_message(tmp_path, monkeypatch, capsys):
    monkeypatch.syspath_prepend(str(BRINGUP))
    from etude_bringup.prepare_run import main

    assert main(["--run", str(tmp_path / "run"), "--config", str(tmp_path / "none.yaml")]) == 2
    assert "none.yaml" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
