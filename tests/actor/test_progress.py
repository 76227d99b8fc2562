"""Counts of a run: the last twenty attempts, labels, the judge against the truth, and their JSON form."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from actor.progress import Progress
from etude.step import UNKNOWN

attempts = st.lists(
    st.tuples(st.sampled_from(["forward", "backward"]), st.booleans(), st.sampled_from([0, 1, UNKNOWN])), max_size=80
)


def build(history):
    progress = Progress()
    for segment, (phase, judged, truth) in enumerate(history, 1):
        progress.finished(segment, phase, judged, truth)
    return progress


@given(attempts)
def test_every_attempt_with_known_truth_is_in_one_cell_of_the_table(history):
    progress = build(history)
    cells = progress.true_positives + progress.false_positives + progress.true_negatives + progress.false_negatives
    assert cells == sum(truth != UNKNOWN for _, _, truth in history)
    assert progress.true_positives + progress.false_positives == sum(judged for _, judged, truth in history if truth != UNKNOWN)


@given(attempts)
def test_rates_are_of_the_last_twenty_of_their_direction(history):
    progress = build(history)
    for phase, rate in progress.success().items():
        outcomes = [judged for p, judged, _ in history if p == phase]
        assert (rate.successes, rate.attempts, rate.total_attempts) == (
            sum(outcomes[-20:]),
            min(20, len(outcomes)),
            len(outcomes),
        )


@given(attempts)
def test_json_takes_everything_up_again(history):
    progress = build(history)
    progress.practice_time_s = 12.5
    again = Progress.from_json(json.loads(json.dumps(progress.to_json())))
    assert again == progress


def test_a_label_overrides_the_judge_and_can_be_changed_again():
    progress = build([("forward", False, 1), ("forward", True, 1)])
    assert progress.label(1, True)
    assert progress.success()["forward"].successes == 2
    assert progress.label(1, False)
    assert progress.success()["forward"].successes == 1
    assert not progress.label(3, True)


def test_without_ground_truth_there_is_no_true_rate():
    assert build([("forward", True, UNKNOWN)]).success(truth=True)["forward"].attempts == 0
