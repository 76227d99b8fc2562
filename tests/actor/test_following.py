"""Whether an arm follows its commands, told from a window of time."""

from __future__ import annotations

import numpy as np
import pytest

from actor.following import Following

PERIOD_S = 0.1


def watched(commands, tools, force_n=0.0) -> int | None:
    """Number of the first control period in which nobody follows, or None."""
    following = Following(0.03)
    for number, (command, tool) in enumerate(zip(commands, tools, strict=True)):
        if following.watch(np.asarray(command), np.asarray(tool), force_n, number * PERIOD_S):
            return number
    return None


STILL = [np.zeros(3)] * 40


def test_a_target_that_stays_ahead_of_a_still_tool_is_noticed_after_a_second():
    assert watched([[0.05, 0, 0]] * 40, STILL) == 10


def test_a_policy_that_goes_back_and_forth_hides_nothing():
    """In practice the target was ahead now and then only, and a lost controller was not noticed for 12 s."""
    swings = [[0.045 * np.sin(2 * np.pi * n / 7), 0, 0] for n in range(40)]
    assert watched(swings, STILL) == 10


def test_small_motions_around_a_tool_that_rests_are_none():
    assert watched([[0.01 * (-1) ** n, 0, 0] for n in range(40)], STILL) is None


def test_an_arm_that_lags_but_moves_follows():
    tools = [[0.02 * n, 0, 0] for n in range(40)]
    assert watched([[t[0] + 0.05, 0, 0] for t in tools], tools) is None


@pytest.mark.parametrize("force_n, expected", [(20.0, None), (1.0, 10)])
def test_an_arm_that_pushes_against_something_may_stand_still(force_n, expected):
    assert watched([[0.05, 0, 0]] * 40, STILL, force_n) == expected


def test_a_hold_begins_the_window_anew():
    following = Following(0.03)
    ahead, tool = np.array([0.05, 0, 0]), np.zeros(3)
    for number in range(9):
        assert not following.watch(ahead, tool, 0.0, number * PERIOD_S)
    following.forget()
    assert not any(following.watch(ahead, tool, 0.0, number * PERIOD_S) for number in range(9, 19))
    assert following.watch(ahead, tool, 0.0, 2.0)
