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


def relabel(steps: list[Step], reward: RewardConfig) -> list[Step]:
    """The steps of one stored segment with the recipe's rewards, as if it had been collected under them.

    Demonstrations carry no recipe's convention, and practice may have been collected under another recipe's: `reward` decides
    what a transition to success and every other one are worth, and whether success ends the task. A segment succeeded when its
    last step was judged a success.
    """
    succeeded = steps[-1].is_last and (steps[-1].is_terminal or steps[-1].success == 1)
    relabelled = []
    for i, step in enumerate(steps):
        succeeds = succeeded and i == len(steps) - 2
        value = 0.0 if step.is_last else reward.success if succeeds else reward.step
        terminal = step.is_last and succeeded and reward.success_is_terminal
        relabelled.append(replace(step, reward=value, is_terminal=terminal))
    return relabelled
