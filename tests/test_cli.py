"""The command `etude`: quick, lazily imported, and every error one clear sentence."""

from __future__ import annotations

import re
import subprocess
import sys
import time

import pytest

from etude import cli
from etude.cli import COMMANDS, Command, main
from etude.config import REPOSITORY, ConfigError


class Boom(Exception):
    """An exception type of no package of ours."""


def commands_raising(error: BaseException, monkeypatch) -> dict[str, Command]:
    def fail(argv):
        raise error

    monkeypatch.setattr(cli, "_load", lambda target: fail)
    return {"recipe list": Command("a.b:c", "Fails.")}


def test_help_lists_every_command_with_a_sentence(capsys):
    assert main(["--help"]) == 0
    printed = capsys.readouterr().out
    for name, command in COMMANDS.items():
        assert re.search(rf"^  {name} +{re.escape(command.summary)}$", printed, re.MULTILINE)
        assert command.summary.endswith(".")


def test_help_is_quick_and_imports_no_heavy_library():
    code = (
        "import sys; from etude.cli import main; main(['--help']);"
        "heavy = {'jax', 'numpy', 'mujoco', 'rclpy', 'zarr', 'pydantic', 'matplotlib'} & set(sys.modules);"
        "assert not heavy, heavy"
    )
    started = time.monotonic()
    subprocess.run([sys.executable, "-c", code], check=True, cwd=REPOSITORY, stdout=subprocess.DEVNULL)
    assert time.monotonic() - started < 3.0, "measured 0.06 s on an idle core"


def test_without_arguments_the_help_is_printed_and_the_status_says_usage(capsys):
    assert main([]) == 2
    assert "practice run" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "suggestion"),
    [
        (["practise"], "practice"),
        (["practice", "rnu"], "practice run"),
        (["doctr"], "doctor"),
        (["episode", "validate"], "episodes"),
        (["recipe", "lst"], "recipe list"),
    ],
)
def test_an_unknown_command_gets_a_suggestion(arguments, suggestion, capsys):
    assert main(arguments) == 2
    assert f"Did you mean `etude {suggestion}" in capsys.readouterr().err


def test_a_word_like_no_command_points_to_the_help(capsys):
    assert main(["xyzzy"]) == 2
    assert "etude --help" in capsys.readouterr().err


def test_a_group_lists_its_commands(capsys):
    assert main(["episodes", "--help"]) == 0
    printed = capsys.readouterr().out
    assert "episodes validate" in printed and "doctor" not in printed


def test_arguments_after_the_command_reach_it_unchanged(monkeypatch):
    received = []
    monkeypatch.setattr(cli, "_load", lambda target: lambda argv: received.extend([target, *argv]) or 3)
    assert main(["recipe", "show", "rlpd", "--x", "practice"], {"recipe show": Command("m:f", "Shows.")}) == 3
    assert received == ["m:f", "rlpd", "--x", "practice"]


def test_an_error_of_the_project_is_one_message(monkeypatch, capsys):
    status = main(["recipe", "list"], commands_raising(ConfigError("the file x.yaml is empty; write something"), monkeypatch))
    assert status == 2
    assert capsys.readouterr().err == "etude recipe list: the file x.yaml is empty; write something\n"


def test_an_error_of_the_operating_system_names_the_file(monkeypatch, capsys):
    assert (
        main(["recipe", "list"], commands_raising(FileNotFoundError(2, "No such file or directory", "a.yaml"), monkeypatch)) == 2
    )
    assert "No such file or directory: a.yaml" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("module", "remedy"),
    [
        ("torch", "vision"),
        ("open_clip", "vision"),
        ("rosbags", "[mcap]"),
        ("rerun", "[rerun]"),
        ("wandb", "[wandb]"),
        ("rclpy", "source your ROS 2"),
        ("zarr", "make build"),
    ],
)
def test_a_missing_module_says_how_to_get_it(module, remedy, monkeypatch, capsys):
    assert (
        main(["recipe", "list"], commands_raising(ModuleNotFoundError(f"No module named {module!r}", name=module), monkeypatch))
        == 2
    )
    printed = capsys.readouterr().err
    assert module in printed and remedy in printed


def test_a_bug_keeps_its_traceback(monkeypatch):
    Boom.__module__ = "elsewhere"
    with pytest.raises(Boom):
        main(["recipe", "list"], commands_raising(Boom("bug"), monkeypatch))


def test_interruption_is_quiet(monkeypatch, capsys):
    assert main(["recipe", "list"], commands_raising(KeyboardInterrupt(), monkeypatch)) == 130
    assert capsys.readouterr().err == ""


def test_every_target_names_a_function_that_exists():
    """Looked up in the source text, so that the test loads no heavy library."""
    packages = {"etude_nodes": REPOSITORY / "ros2_ws/src/etude_nodes"}
    missing = []
    for command in COMMANDS.values():
        module, _, function = command.target.partition(":")
        path = packages.get(module.partition(".")[0], REPOSITORY) / (module.replace(".", "/") + ".py")
        if not path.is_file() or not re.search(rf"^def {function}\(", path.read_text(encoding="utf-8"), re.MULTILINE):
            missing.append(command.target)
    assert not missing
