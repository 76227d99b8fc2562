"""What each direction's policy is rewarded for."""

import numpy as np
from helpers import STATE_ONLY, segment

from etude.config import RewardConfig
from learner.resets.backward_policy import relabel


def test_a_demonstration_gets_the_recipes_rewards() -> None:
    steps = segment(np.random.default_rng(0), STATE_ONLY, 5, "backward")
    relabelled = relabel(steps, RewardConfig(kind="environment", success=2.0, step=-1.0))
    assert [step.reward for step in relabelled] == [-1.0, -1.0, -1.0, 2.0, 0.0]
    assert [step.is_terminal for step in relabelled] == [False] * 4 + [True]


def test_practice_under_another_convention_gets_this_recipes_rewards() -> None:
    rng = np.random.default_rng(0)
    for terminal, last_reward in ((True, 0.0), (False, -1.0)):
        steps = segment(rng, STATE_ONLY, 4, terminal=terminal)  # collected with 1 at success and 0 elsewhere
        relabelled = relabel(steps, RewardConfig(kind="environment", success=0.0, step=-1.0))
        assert [step.reward for step in relabelled] == [-1.0, -1.0, last_reward, 0.0]
        assert relabelled[-1].is_terminal is terminal


def test_where_success_is_not_terminal_values_go_on_behind_it() -> None:
    steps = segment(np.random.default_rng(0), STATE_ONLY, 5)
    relabelled = relabel(steps, RewardConfig(kind="environment", success_is_terminal=False))
    assert not any(step.is_terminal for step in relabelled)
    assert relabelled[3].reward == 1.0
