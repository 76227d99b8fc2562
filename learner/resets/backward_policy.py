"""Reset by a second policy with the backward task's own reward (forward-backward RL; Eysenbach et al. 2018 without the learned
gate).

Both directions are tasks of equal standing: each has its own judge's success as reward, and a transition is rewarded by the
goal of the
direction under which it was collected.
"""

from __future__ import annotations

from dataclasses import replace

from etude.config import RewardConfig
from etude.step import Step


def relabel_demonstration(steps: list[Step], reward: RewardConfig) -> list[Step]:
    """The steps of one successful demonstration with the recipe's rewards, as if it had been collected in practice.

    Stored demonstrations end in success and carry no recipe's convention; `reward` decides what success and every other step
    are worth
    and whether success ends the episode.
    """
    relabelled = []
    for i, step in enumerate(steps):
        succeeds = i + 1 < len(steps) and steps[i + 1].is_terminal
        value = 0.0 if step.is_last else reward.success if succeeds else reward.step
        relabelled.append(replace(step, reward=value, is_terminal=step.is_terminal and reward.success_is_terminal))
    return relabelled
