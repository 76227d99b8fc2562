"""Run folders to export: one that has only begun, and one that is over."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from exported_run import START_NS, lines, write_attempts

from etude.config import load_run_config, save_config
from etude.run_folder import RunFolder


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    """A run without anything stored or measured, whose page has a secret."""
    folder = RunFolder(tmp_path / "runs" / "one")
    folder.create()
    settings = ["seed=7", "dashboard.token=hush", "dashboard.notify.url=https://hush.example"]
    save_config(load_run_config("robot_configs/runs/demo.yaml", settings), folder.config)
    return folder


@pytest.fixture
def run(folder: RunFolder) -> RunFolder:
    """A whole run that is over."""
    write_attempts(folder)
    seconds = START_NS / 1e9
    lines(
        folder.metrics("actor"),
        {"time_s": seconds + 1, "step": 3, "loop_rate_hz": 10.0, "weight_age_s": None},
        {"time_s": seconds + 3, "step": 9, "loop_rate_hz": 9.5, "weight_age_s": 0.5},
    )
    lines(folder.metrics("learner"), {"time_s": seconds + 2, "step": 6, "critic/td_loss/forward": 0.125})
    lines(
        folder.evaluations,
        {"stamp_ns": START_NS + 10**9, "env_steps": 4, "phase": "forward", "episodes": 20, "successes": 15, "kind": "after"},
    )
    (folder.root / "actor_status.json").write_text("{}")
    folder.summary.write_text(
        json.dumps({"forward_success": 0.75, "minutes_to_85": None, "evaluations": [{}], "packages": {"jax": "1"}})
    )
    os.utime(folder.root / "actor_status.json", (1e9, 1e9))
    return folder
