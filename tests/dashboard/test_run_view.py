"""What the page knows: statuses, metrics, help requests and evaluations become one JSON snapshot."""

from __future__ import annotations

import json
import math

import pytest
from demo_bridge import example_config, example_help, example_status
from hypothesis import given
from hypothesis import strategies as st

from dashboard.attempts import AttemptTracker
from dashboard.run_view import SILENT_AFTER_S, RunView, Series, finite
from etude.status import Mode, SuccessRate, wilson_interval
from etude.tail import JsonLines

EVALUATION = {"time_s": 90.0, "env_steps": 700, "phase": "forward", "episodes": 20, "successes": 15, "kind": "interval"}


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def view(clock: Clock) -> RunView:
    return RunView(example_config(), "runs/test", clock)


def test_an_empty_view_is_a_complete_snapshot(view: RunView) -> None:
    data = view.snapshot()
    assert data["status"] is None and data["actor"]["silent"] and data["learner"]["silent"] and data["help"] is None
    assert data["cameras"] == {"beauty": None, "front": None, "wrist": None}
    json.dumps(data, allow_nan=False)


def test_state_runs_have_no_policy_cameras() -> None:
    config = example_config(observation="state", recipe={"name": "rlpd", "reward": {"kind": "environment"}})
    assert RunView(config, "runs/test").cameras == ["beauty"]


def test_numbers_that_json_does_not_know_become_null(view: RunView) -> None:
    view.on_status(example_status(judge_probability=math.nan, weight_age_s=math.inf))
    status = view.snapshot()["status"]
    assert status["judge_probability"] is None and status["weight_age_s"] is None
    assert finite({"a": [1.0, (math.nan,)], "b": "x"}) == {"a": [1.0, [None]], "b": "x"}


def test_success_carries_its_wilson_interval(view: RunView) -> None:
    view.on_status(example_status())
    forward = view.snapshot()["status"]["success"]["forward"]
    assert (forward["low"], forward["high"]) == wilson_interval(17, 20)


def test_precision_and_recall_follow_from_the_counts(view: RunView) -> None:
    counts = {"true_positives": 8, "false_positives": 2, "true_negatives": 5, "false_negatives": 4}
    view.on_status(example_status(**{f"judge_{name}": count for name, count in counts.items()}))
    judge = view.snapshot()["status"]["judge"]
    assert judge == {
        "precision": pytest.approx(0.8),
        "recall": pytest.approx(8 / 12),
        "outcomes": 19,
        "false_positive_rate": pytest.approx(2 / 7),
        "labelled": None,
    }


def test_an_actor_without_news_is_silent(view: RunView, clock: Clock) -> None:
    view.on_status(example_status())
    assert not view.snapshot()["actor"]["silent"]
    clock.now += SILENT_AFTER_S + 0.1
    assert view.snapshot()["actor"]["silent"]


def test_update_rate_is_taken_over_the_last_ten_seconds_and_survives_a_restart(view: RunView, clock: Clock) -> None:
    for updates in (0, 1000, 1040, 1080, 1120, 1160, 1200, 1240, 1280, 1320, 1360, 1400):
        view.on_metrics({"critic/loss": 0.1}, updates)
        clock.now += 1.0
    metrics = view.snapshot()["learner"]["metrics"]
    assert metrics["updates_per_s"] == pytest.approx(40) and metrics["updates"] == 1400 and metrics["critic/loss"] == 0.1
    view.on_metrics({}, 1200)  # killed and resumed from its checkpoint
    assert view.snapshot()["learner"]["metrics"]["updates_per_s"] is None


def test_only_an_open_help_request_is_shown(view: RunView) -> None:
    view.on_status(example_status())
    view.on_help(example_help())
    assert view.snapshot()["help"]["reason"] == "The block has left the table." and view.open_help_id == 5
    view.on_help(example_help())  # latched, said again: one mark, one line
    view.on_help(example_help(open=False, meanwhile="Answered by page: reset."))
    data = view.snapshot()
    assert data["help"] is None and view.open_help_id is None and data["history"]["help"] == [754.0]
    assert [note["text"] for note in data["journal"]] == ["Answered by page: reset.", "Help asked: The block has left the table."]


def test_history_changes_with_its_revision_only(view: RunView) -> None:
    before = view.snapshot()
    view.on_evaluation(EVALUATION)
    after = view.snapshot()
    assert after["revision"] > before["revision"] and after["history"]["evaluations"][0]["rate"] == 0.75
    view.on_image("beauty", b"jpeg")
    assert view.snapshot()["revision"] == after["revision"]


@pytest.mark.parametrize(
    "change",
    [{"phase": "sideways"}, {"successes": 21}, {"successes": -1}, {"episodes": "many"}, {"time_s": None}, {"phase": None}],
)
def test_a_malformed_evaluation_is_refused(view: RunView, change: dict) -> None:
    with pytest.raises((KeyError, TypeError, ValueError)):
        view.on_evaluation({**EVALUATION, **change})
    assert view.snapshot()["history"]["evaluations"] == []


def test_an_abandoned_evaluation_is_no_point(view: RunView) -> None:
    view.on_evaluation({**EVALUATION, "episodes": 0, "successes": 0})
    assert view.snapshot()["history"]["evaluations"] == []


def test_the_journal_tells_of_stops_but_not_of_every_phase(view: RunView) -> None:
    for mode in (Mode.FORWARD, Mode.BACKWARD, Mode.FORWARD, Mode.STOPPED, Mode.PAUSED):
        view.on_status(example_status(mode=mode))
    assert [(note["kind"], note["text"]) for note in view.snapshot()["journal"]] == [
        ("mode", "Paused"),
        ("stop", "Software stop"),
    ]


@given(st.lists(st.floats(0.1, 50), max_size=300))
def test_series_stays_short_ordered_and_spans_the_whole_time(gaps: list[float]) -> None:
    series, now = Series(limit=16, interval=1.0), 0.0
    for gap in gaps:
        now += gap
        series.add(now, 0.5)
    points = [point[0] for point in series.points()]
    assert len(points) <= 16 and points == sorted(points)


# --- attempts ---------------------------------------------------------------------------------------------------------


def statuses(outcomes: list[bool]):
    """The status after each attempt, forward and backward in turn, in segments 1, 2, 3, …"""
    windows: dict[str, list[bool]] = {"forward": [], "backward": []}
    totals = {"forward": 0, "backward": 0}
    for segment in range(len(outcomes) + 1):
        if segment:
            phase = ("forward", "backward")[(segment - 1) % 2]
            windows[phase] = [*windows[phase], outcomes[segment - 1]][-20:]
            totals[phase] += 1
        success = {p: SuccessRate(sum(w), len(w), totals[p]) for p, w in windows.items()}
        yield example_status(segment=segment + 1, success=success)


@given(st.lists(st.booleans(), max_size=90))
def test_every_attempt_is_told_from_the_counters(outcomes: list[bool]) -> None:
    tracker = AttemptTracker()
    for status in statuses(outcomes):
        tracker.update(status)
    for offset, phase in enumerate(("forward", "backward")):
        expected = [(segment + 1, outcomes[segment]) for segment in range(offset, len(outcomes), 2)][-20:]
        assert [(a.segment, a.success) for a in tracker.recent(phase)] == expected


@given(st.lists(st.booleans(), min_size=1, max_size=90), st.data())
def test_what_is_claimed_of_an_attempt_is_true_even_when_statuses_are_missed(outcomes: list[bool], data: st.DataObject) -> None:
    tracker = AttemptTracker()
    for status in statuses(outcomes):
        if data.draw(st.booleans()):
            tracker.update(status)
            for phase in ("forward", "backward"):
                rate, recent = status.success[phase], tracker.recent(phase)
                assert len(recent) <= 20 and sum(a.success is True for a in recent) <= rate.successes
                assert sum(a.success is False for a in recent) <= rate.attempts - rate.successes
                for attempt in recent:
                    if attempt.segment is not None and attempt.success is not None:
                        assert outcomes[attempt.segment - 1] == attempt.success


def test_a_corrected_label_is_shown(view: RunView) -> None:
    for status in statuses([False, True]):
        view.on_status(status)
    view.relabel(1, True)
    assert view.snapshot()["attempts"]["forward"] == [{"phase": "forward", "segment": 1, "success": True}]


def test_labels_of_called_successes_tell_how_often_failures_pass(view: RunView) -> None:
    for status in statuses([True, False, True, False]):
        view.on_status(status)
    view.relabel(2, False)
    assert view.snapshot()["status"]["judge"]["labelled"] is None, "a failure that was called one says nothing about false ones"
    view.relabel(1, False)
    view.relabel(3, True)
    told = view.snapshot()["status"]["judge"]["labelled"]
    # half of the two called successes were none, beside two that were called failures
    assert told["labels"] == 2 and told["rate"] == pytest.approx(1 / 3)
    assert told["low"] < told["rate"] < told["high"]
    view.relabel(1, True)
    assert view.snapshot()["status"]["judge"]["labelled"]["rate"] == 0.0, "the newest answer about an attempt counts"


# --- following a file -------------------------------------------------------------------------------------------------


def test_lines_are_read_once_and_only_when_complete(tmp_path) -> None:
    path = tmp_path / "evaluations.jsonl"
    lines = JsonLines(path)
    assert lines.new() == []
    path.write_text('{"a": 1}\n{"a": ')
    assert lines.new() == [{"a": 1}]
    with path.open("a") as file:
        file.write('2}\nnot json\n[3]\n\n{"a": 4}\n')
    assert lines.new() == [{"a": 2}, {"a": 4}]
    assert lines.new() == []
    path.write_text('{"b": 1}\n')
    assert lines.new() == [{"b": 1}]
