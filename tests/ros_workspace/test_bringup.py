"""The launch package: files that compile, name programs that exist, and start from a configuration that loads."""

from __future__ import annotations

import ast
import re
import runpy
import sys

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


@pytest.mark.parametrize("path", LAUNCH_FILES, ids=lambda path: path.name)
def test_launch_file_starts_only_programs_that_are_installed(path):
    scripts = {**console_scripts("etude_nodes"), **console_scripts("etude_bringup")}
    named = set(re.findall(r'(?:node\(|program\("etude_\w+", )"(\w+)"', path.read_text()))
    assert named and named <= set(scripts)


@pytest.mark.parametrize("path", LAUNCH_FILES, ids=lambda path: path.name)
def test_launch_description_can_be_made(path):
    pytest.importorskip("launch_ros", reason="the wheels have no launch system; this needs a system ROS 2")
    description = runpy.run_path(str(path))["generate_launch_description"]()
    assert description.entities


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
