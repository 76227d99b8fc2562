"""Between attempts the arm wanders: bounded, never downwards, and through the safety filter like everything else."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from actor.wander import Wander
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
    assert len(actions) <= most
    assert all(action[2] >= 0 for action in actions)


def test_a_cancelled_motion_ends_at_once() -> None:
    wander = Wander(SPEC, 50, np.random.default_rng(0))
    wander.plan()
    wander.cancel()
    assert wander.next() is None
