"""VaPRL's choice of where to begin, and attempts that are learned from under other goals."""

from __future__ import annotations

import numpy as np
from helpers import ACTION, STATE_ONLY, segment

from etude.config import RewardConfig
from learner.replay.ring import Ring
from learner.resets import vaprl

REWARD = RewardConfig(kind="environment", success=10.0, step=0.0)


def test_the_nearest_state_that_is_good_enough_is_chosen():
    values, distance = np.array([0.9, 0.4, 0.6, 0.1]), np.array([30, 10, 20, 0])
    assert vaprl.choose(values, distance, 0.3) == 1
    assert vaprl.choose(values, distance, 0.5) == 2
    assert vaprl.choose(values, distance, 0.05) == 3


def test_without_a_good_state_the_best_one_is_chosen():
    assert vaprl.choose(np.array([0.1, 0.3, 0.2]), np.array([0, 9, 5]), 0.5) == 1


def test_candidates_are_the_forward_demonstrations_with_their_steps():
    ring, rng = Ring(50, STATE_ONLY, ACTION), np.random.default_rng(0)
    for number, (phase, length) in enumerate((("forward", 3), ("backward", 4), ("forward", 2)), 1):
        for step in segment(rng, STATE_ONLY, length, phase, number=number):
            ring.add(step)
    rows, distance = vaprl.candidates(ring)
    assert rows.tolist() == [0, 1, 2, 7, 8] and distance.tolist() == [0, 1, 2, 0, 1]


def relabelled(reached: list[bool]) -> list:
    steps = segment(np.random.default_rng(0), STATE_ONLY, len(reached), "backward", terminal=False)
    return vaprl.relabel(steps, REWARD, 7, lambda states: states + 1.0, lambda _: np.array(reached))


def test_a_copy_ends_where_its_goal_is_reached():
    copy = relabelled([True, False, False, True, False])
    assert [step.reward for step in copy] == [0.0, 0.0, 10.0, 0.0]
    assert [step.is_last for step in copy] == [step.is_terminal for step in copy] == [False, False, False, True]
    assert copy[0].is_first and copy[-1].success == 1 and {step.phase for step in copy} == {"forward"}
    original = segment(np.random.default_rng(0), STATE_ONLY, 5, "backward", terminal=False)
    np.testing.assert_array_equal(copy[2].observation["state"], original[2].observation["state"] + 1.0)
    ring = Ring(20, STATE_ONLY, ACTION)
    for step in copy:
        ring.add(step)
    assert ring.transitions("forward") == 3 and ring.successes["forward"].count == 1


def test_a_copy_that_never_reaches_its_goal_is_a_time_out():
    copy = relabelled([False] * 4)
    assert len(copy) == 4 and copy[-1].is_last and not copy[-1].is_terminal and not any(step.reward for step in copy)
