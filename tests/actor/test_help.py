"""When a person is asked, by the outcomes of attempts alone."""

from __future__ import annotations

from actor.help.timeout import Timeout


def test_one_direction_s_successes_do_not_hide_that_the_other_is_stuck():
    rule = Timeout(limit=3)
    asked = [rule.after_attempt(phase, success) for phase, success in [("forward", True), ("backward", False)] * 3]
    assert asked[:5] == [None] * 5 and "3 backward attempts" in asked[5]
    rule.answered()
    assert rule.after_attempt("backward", False) is None
