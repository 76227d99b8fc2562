"""Curves of a run, once and followed: every number with its environment steps, and an end that is noticed."""

from __future__ import annotations

import os

from exported_run import START_NS, lines

from etude.sinks.curves import QUIET_S, Curves, why_over

SECONDS = START_NS / 1e9


def test_names_tell_the_process_and_numbers_their_step(run):
    told = {(point.env_steps, name): value for point in Curves(run).new() for name, value in point.values.items()}
    assert told == {
        (3, "actor/loop_rate_hz"): 10.0,
        (9, "actor/loop_rate_hz"): 9.5,
        (9, "actor/weight_age_s"): 0.5,
        (6, "critic/td_loss/forward"): 0.125,
        (4, "evaluation/forward"): 0.75,
        (4, "evaluation/forward_episodes"): 20.0,
    }


def test_points_come_in_order_of_time(run):
    times = [point.time_s for point in Curves(run).new()]
    assert times == sorted(times) and len(times) == 4


def test_only_what_is_new_is_told_and_files_may_appear_late(folder):
    curves = Curves(folder)
    assert curves.new() == []
    lines(folder.metrics("actor"), {"time_s": SECONDS, "step": 1, "a": 1.0})
    assert [point.values for point in curves.new()] == [{"actor/a": 1.0}]
    lines(folder.metrics("learner"), {"time_s": SECONDS, "step": 2, "a": 2.0}, {"no": "measurement"}, {"time_s": 1.0, "step": 3})
    assert [point.values for point in curves.new()] == [{"learner/a": 2.0}]
    assert curves.new() == []


def test_a_run_is_over_when_its_summary_is_newer_than_its_status(run):
    assert why_over(run) == "the run has ended"
    os.utime(run.root / "actor_status.json", None)
    os.utime(run.summary, (1e9, 1e9))
    assert why_over(run) is None, "it was resumed"


def test_a_run_that_was_killed_is_over_when_it_stays_quiet(folder):
    now = folder.config.stat().st_mtime
    assert why_over(folder, now + QUIET_S - 1) is None
    assert "written nothing for 11 minutes" in str(why_over(folder, now + QUIET_S + 60))
