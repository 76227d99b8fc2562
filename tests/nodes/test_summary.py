"""A run's summary and curve come from its folder alone, whole or half written."""

from __future__ import annotations

import json

import pytest

from etude.config import load_run_config, save_config
from etude.run_folder import RunFolder
from etude.summary import minutes_to, summarise, write_summary

REQUIRED = """
task recipe robot observation seed minutes env_steps learner_updates forward_success_before forward_success backward_success
evaluation_episodes minutes_to_85 help_requests hard_resets loop_rate_hz loop_period_p99_ms
"""


@pytest.fixture
def folder(tmp_path) -> RunFolder:
    folder = RunFolder(tmp_path / "some-run")
    folder.create()
    save_config(load_run_config("robot_configs/runs/demo_state.yaml", ["seed=3"]), folder.config)
    return folder


def row(minutes: float, successes: int, episodes: int = 20, kind: str = "interval", phase: str = "forward") -> dict:
    return {"run_time_s": minutes * 60, "time_s": 1.0, "phase": phase, "episodes": episodes, "successes": successes, "kind": kind}


def test_85_percent_counts_from_the_first_evaluation_that_the_next_one_confirms() -> None:
    series = [row(0, 2), row(1, 18), row(2, 10), row(3, 17), row(4, 20)]
    assert minutes_to(series) == (3.0, 1.0)
    assert minutes_to(series[:2]) == (None, 1.0)
    assert minutes_to(series[:1]) == (None, None)


def test_the_final_evaluation_needs_no_later_one_to_confirm_it() -> None:
    series = [row(0, 2, kind="before"), row(1, 10), row(2, 45, 50, kind="after")]
    assert minutes_to(series) == (2.0, 2.0)
    assert minutes_to([*series[:2], row(2, 40, 50, kind="after")]) == (None, None)
    resumed = [*series[:2], row(2, 45, 50), row(3, 30, 50, kind="after")]  # what was final is a point of the curve
    assert minutes_to(resumed) == (None, 2.0)


def test_the_other_direction_and_the_order_of_lines_do_not_matter() -> None:
    series = [row(2, 20), row(1, 20), row(0, 20, phase="backward")]
    assert minutes_to(series) == (1.0, 1.0)


def test_a_fresh_run_has_every_key_and_null_for_what_is_not_known(folder: RunFolder) -> None:
    summary = summarise(folder)
    assert set(REQUIRED.split()) <= set(summary)
    assert summary["seed"] == 3 and summary["forward_success"] is None and summary["minutes_to_85"] is None


def test_a_finished_run_is_summarised_and_drawn(folder: RunFolder) -> None:
    evaluations = [row(0, 10, 50, "before"), row(0, 5, 50, "before", "backward"), row(1, 18), row(2, 19)]
    evaluations += [row(3, 48, 50, "after"), row(3, 45, 50, "after", "backward")]
    folder.evaluations.write_text("".join(json.dumps(e) + "\n" for e in evaluations) + '{"torn": ')
    status = {"run_time_s": 181.0, "practice_time_s": 150.0, "env_steps": 4000, "help_requests": 2, "hard_resets": 2}
    status |= {"judge_true_positives": 9, "judge_false_positives": 1, "judge_false_negatives": 0, "loop_rate_hz": None}
    (folder.root / "actor_status.json").write_text(json.dumps(status))
    (folder.root / "learner_status.json").write_text(json.dumps({"updates": 16000}))
    (folder.metrics("actor")).write_text(json.dumps({"time_s": 1.7e9, "run_time_s": 30, "success_forward": 0.5}) + "\n")
    folder.help_log.write_text(json.dumps({"event": "asked", "run_time_s": 60}) + "\n")
    summary = write_summary(folder)
    assert json.loads(folder.summary.read_text()) == summary
    assert (summary["forward_success_before"], summary["forward_success"], summary["backward_success"]) == (0.2, 0.96, 0.9)
    assert (summary["minutes_to_85"], summary["learner_updates"], summary["minutes"]) == (1.0, 16000, 3.02)
    assert (summary["judge_precision"], summary["judge_recall"]) == (0.9, 1.0)
    points = [(e["kind"], e["phase"], e["successes"]) for e in summary["evaluations"]]
    assert points == [(e["kind"], e["phase"], e["successes"]) for e in evaluations]
    assert folder.learning_curve.read_bytes().startswith(b"\x89PNG")
