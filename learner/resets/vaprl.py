"""Value-accelerated persistent RL (VaPRL; Sharma et al. 2021): one goal-conditioned policy that resets itself by a curriculum.

After an attempt at the task it goes to a demonstrated state: the one nearest to the initial states from which its own critic says
that the task can be done. Every attempt is learned from again under other goals. The environment says what goals are.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from etude.config import RewardConfig
from etude.step import Step
from learner.replay.ring import NONE, Ring


def candidates(demonstrations: Ring) -> tuple[np.ndarray, np.ndarray]:
    """Rows of the forward demonstrations ``(C,)`` and the step ``(C,)`` of each in its own: how far it is from the start."""
    rows: list[int] = []
    steps: list[int] = []
    for row in range(demonstrations.steps):
        if demonstrations.next_row[row] == NONE and demonstrations.row_phase[row] == 0:
            segment = demonstrations.segment_rows(row)
            rows += segment
            steps += range(len(segment))
    return np.array(rows, np.int64), np.array(steps, np.int64)


def choose(values: np.ndarray, distance: np.ndarray, threshold: float) -> int:
    """Index of the nearest candidate with a value of at least `threshold`; without any the one with the highest value.

    Args:
        values: ``(C,)``, of the task's goal from each candidate, by the current critic and policy.
        distance: ``(C,)`` to the initial states.
    """
    possible = np.flatnonzero(values >= threshold)
    return int(np.argmax(values)) if len(possible) == 0 else int(possible[np.argmin(distance[possible])])


def relabel(
    steps: list[Step],
    reward: RewardConfig,
    segment: int,
    show: Callable[[np.ndarray], np.ndarray],
    reached: Callable[[np.ndarray], np.ndarray],
) -> list[Step]:
    """The steps of one attempt as if they had been one at another goal, up to where that was reached.

    Args:
        segment: number of the copy.
        show: states ``(T, d)`` with the other goal shown.
        reached: states ``(T, d)`` -> ``(T,)`` whether the other goal is reached.
    """
    states = np.stack([step.observation["state"] for step in steps])
    shown, hits = show(states), np.flatnonzero(reached(states)[1:])
    end = int(hits[0]) + 1 if len(hits) else len(steps) - 1
    copies = []
    for index, step in enumerate(steps[: end + 1]):
        last = index == end
        succeeds = bool(len(hits)) and index == end - 1
        copies.append(
            replace(
                step,
                actor_id="relabelled",
                segment=segment,
                index=index,
                phase="forward",
                observation={**step.observation, "state": shown[index]},
                reward=0.0 if last else reward.success if succeeds else reward.step,
                is_first=index == 0,
                is_last=last,
                is_terminal=last and bool(len(hits)) and reward.success_is_terminal,
                success=int(last and bool(len(hits))),
            )
        )
    return copies
