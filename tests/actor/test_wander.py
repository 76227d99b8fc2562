"""Between attempts the arm wanders: bounded, never downwards, and through the safety filter like everything else."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from actor.wander import RETREAT_STEPS, Wander
from etude.specs import ActionSpec

SPEC = ActionSpec(("x", "y", "z", "gripper"), (0.03, 0.03, 0.03, 1.0))


@given(seed=st.integers(0, 1000), most=st.integers(0, 12))
def test_a_motion_is_bounded_and_never_downwards(seed: int, most: int) -> None:
    wander = Wander(SPEC, most, np.random.default_rng(seed))
    wander.plan()
    actions = []
    while (action := wander.next()) is not None:
        SPEC.check(action)
        actions.append(action)
    assert len(actions) <= most + RETREAT_STEPS if most else not actions
    assert all(action[2] >= 0 for action in actions)


def test_a_cancelled_motion_ends_at_once() -> None:
    wander = Wander(SPEC, 50, np.random.default_rng(0))
    wander.plan()
    wander.cancel()
    assert wander.next() is None


def test_an_arm_with_a_gripper_lets_go_and_rises_before_it_moves_sideways() -> None:
    wander = Wander(SPEC, 8, np.random.default_rng(0))
    wander.plan()
    for _ in range(RETREAT_STEPS):
        np.testing.assert_array_equal(wander.next(), np.array([0, 0, 1, 1], np.float32))
    while (action := wander.next()) is not None:
        assert action[3] == 1.0


def test_an_arm_without_a_gripper_needs_no_retreat() -> None:
    spec = ActionSpec(("x", "y", "z"), (0.03, 0.03, 0.03))
    lengths = []
    for seed in range(50):
        wander = Wander(spec, 4, np.random.default_rng(seed))
        wander.plan()
        count = 0
        while wander.next() is not None:
            count += 1
        lengths.append(count)
    assert set(lengths) == {0, 1, 2, 3, 4}
