"""When a person is asked, by each rule alone."""

from __future__ import annotations

import math

import pytest

from actor.help import Attempt
from actor.help.classifier_doubt import ClassifierDoubt
from actor.help.paint import Paint
from actor.help.scheduled import Scheduled
from actor.help.timeout import Timeout


def attempt(phase="forward", success=False, probability=math.nan, segment=1):
    return Attempt(segment, phase, success, probability)


def test_one_direction_s_successes_do_not_hide_that_the_other_is_stuck():
    rule = Timeout(limit=3)
    asked = [rule.after_attempt(attempt(phase, success)) for phase, success in [("forward", True), ("backward", False)] * 3]
    assert asked[:5] == [None] * 5 and "3 backward attempts" in asked[5].reason
    rule.answered()
    assert rule.after_attempt(attempt("backward")) is None


def asked_at(rule, probabilities, first=1):
    """Steps at which `rule` wants a person, and what for."""
    asks = [(step, rule.after_step(step, p)) for step, p in enumerate(probabilities, first)]
    return [(step, ask.about) for step, ask in asks if ask]


def test_paint_asks_so_many_steps_after_the_first_alarm_and_until_it_is_answered():
    rule = Paint(seed_steps=0, patience_steps=5, horizon_steps=1000)
    assert asked_at(rule, [0.1, 0.5, 0.51, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1]) == [(8, "irreversible"), (9, "irreversible")]
    rule.answered()
    assert asked_at(rule, [0.1] * 20, first=10) == [], "the alarm is forgotten"


def test_paint_ignores_alarms_in_the_seed_steps_and_has_somebody_look_once_at_their_end():
    rule = Paint(seed_steps=10, patience_steps=2, horizon_steps=1000)
    assert asked_at(rule, [0.9] * 10) == [(10, "seed steps")]
    rule.answered()
    assert asked_at(rule, [0.1] * 20, first=11) == []
    assert asked_at(Paint(10, 2, 1000), [0.1] * 5, first=50) == [], "not again after a restart"


def test_paint_has_somebody_look_after_a_long_time_without_help():
    rule = Paint(seed_steps=0, patience_steps=5, horizon_steps=20)
    assert asked_at(rule, [math.nan] * 20) == [(20, "horizon")]
    rule.answered()
    assert asked_at(rule, [0.0] * 20, first=21) == [(40, "horizon")]
    assert rule.object_lost() is None, "nobody tells it what is irreversible"


def test_an_alarm_that_the_next_states_contradict_is_none_where_several_in_a_row_are_wanted():
    rule = Paint(seed_steps=0, patience_steps=2, horizon_steps=1000, alarm_states=3)
    assert asked_at(rule, [0.9, 0.9, 0.4, 0.9, 0.9, math.nan, 0.9, 0.9]) == []
    assert asked_at(rule, [0.9, 0.1, 0.1], first=9) == [(11, "irreversible")], "the third in a row, then two steps of patience"
    rule.answered()
    assert asked_at(rule, [0.9, 0.9, 0.1, 0.1, 0.1], first=12) == [], "counting starts anew"


def test_a_schedule_counts_from_the_newest_answer_and_cares_for_nothing_else():
    rule = Scheduled(interval_steps=10)
    assert asked_at(rule, [1.0] * 10) == [(10, "schedule")]
    rule.answered()
    assert asked_at(rule, [1.0] * 10, first=11) == [(20, "schedule")]
    assert rule.object_lost() is None and all(rule.after_attempt(attempt()) is None for _ in range(20))
    assert asked_at(Scheduled(10), [1.0] * 9, first=105) == [], "not at once after a restart"


def test_members_that_disagree_are_doubt_too():
    rule = ClassifierDoubt((0.2, 0.8), 0.25, limit=2)
    asked = [rule.after_attempt(attempt(probability=0.9)._replace(disagreement=d)) for d in (0.3, 0.1, 0.25, 0.4)]
    assert asked[:3] == [None] * 3 and "0.40 apart" in asked[3].reason


@pytest.mark.parametrize("clear", [0.0, 0.1, 0.9, 1.0, math.nan])
def test_doubt_is_asked_about_when_attempts_in_a_row_end_unsure(clear):
    rule = ClassifierDoubt((0.2, 0.8), 0.25, limit=3)
    outcomes = [0.5, 0.7, clear, 0.3, 0.2, 0.8]
    asked = [rule.after_attempt(attempt(probability=p, segment=i)) for i, p in enumerate(outcomes, 1)]
    assert asked[:5] == [None] * 5 and "attempts 4, 5, 6" in asked[5].reason
    rule.answered()
    assert rule.after_attempt(attempt(probability=0.5)) is None
