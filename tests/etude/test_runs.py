"""Runs side by side: every folder is listed, also those that cannot be read, and comparing says what differs."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from etude.config import ConfigError, load_run_config, save_config
from etude.run_folder import RunFolder
from etude.runs import differences, runs_compare, runs_list


def made(root: Path, name: str, *settings: str, evaluations: list[dict] | None = None) -> RunFolder:
    folder = RunFolder(root / name)
    folder.create()
    save_config(load_run_config("robot_configs/runs/demo_state.yaml", [*settings, f"name={name}"]), folder.config)
    folder.evaluations.write_text("".join(json.dumps(row) + "\n" for row in evaluations or []))
    return folder


def score(minutes: float, successes: int, phase: str = "forward", kind: str = "interval") -> dict:
    return {
        "run_time_s": 60 * minutes,
        "env_steps": int(600 * minutes),
        "phase": phase,
        "episodes": 20,
        "successes": successes,
    } | {"kind": kind}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    made(tmp_path, "one", evaluations=[score(0, 4, kind="before"), score(2, 19), score(3, 18, kind="after")])
    made(tmp_path, "two", "seed=5", "recipe.data.utd=2", evaluations=[score(0, 4, kind="before"), score(1, 10)])
    (tmp_path / "latest").symlink_to(tmp_path / "two")
    (tmp_path / "notes").mkdir()
    for age, name in enumerate(("two", "one")):
        os.utime(RunFolder(tmp_path / name).config, (1e9 - age, 1e9 - age))
    return tmp_path


def test_runs_are_listed_oldest_first_with_first_and_last_evaluation(root, capsys):
    assert runs_list(["--root", str(root)]) == 0
    header, first, second = capsys.readouterr().out.splitlines()
    assert header.split()[:2] == ["name", "started"]
    assert first.startswith("one ") and "20 → 90%" in first and " 2.0 " in first
    assert second.startswith("two ") and "20 → 50%" in second


def test_a_run_that_cannot_be_read_does_not_hide_the_others(root, capsys):
    (root / "three").mkdir()
    (root / "three" / "config.yaml").write_text("task: [")
    assert runs_list(["--root", str(root)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 4 and lines[-1].startswith("three")


def test_json_lines_are_the_summaries(root, capsys):
    runs_list(["--root", str(root), "--json", "--task", "slide"])
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["name"] for row in rows] == ["one", "two"] and rows[1]["seed"] == 5
    runs_list(["--root", str(root), "--json", "--task", "peg"])
    assert capsys.readouterr().out == ""


def test_without_runs_it_says_how_to_make_one(tmp_path, capsys):
    assert runs_list(["--root", str(tmp_path / "none")]) == 0
    assert "make demo" in capsys.readouterr().out


def test_comparing_draws_and_names_what_differs(root, tmp_path, capsys):
    out = tmp_path / "c.png"
    assert runs_compare(["one", str(root / "two"), "--root", str(root), "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    assert out.read_bytes().startswith(b"\x89PNG")
    assert "recipe.data.utd" in printed and "seed: one 0, two 5" in printed and "task" not in printed


def test_what_is_no_run_is_refused_with_those_there_are(root):
    with pytest.raises(ConfigError, match="one, two"):
        runs_compare(["none", "--root", str(root)])


def test_equal_settings_are_no_difference():
    assert differences([{"a": 1, "name": "x"}, {"a": 1, "name": "y"}]) == {}
    assert differences([{"a": 1}, {}]) == {"a": [1, None]}
