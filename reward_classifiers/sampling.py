"""Which rows a training batch is made of: classes balanced in each direction, more of those near the other label."""

from __future__ import annotations

import numpy as np

from etude.specs import PHASES
from reward_classifiers.frames import FrameSet

Pools = list[tuple[np.ndarray, np.ndarray]]
"""Per direction, successes and then failures: (rows, chance of each)."""


def class_pools(frames: FrameSet, near_frames: int, near_weight: float) -> Pools:
    """Rows within `near_frames` of the other label are drawn `near_weight` times as often: there the decision is made."""
    near = near_the_other_label(frames, near_frames)
    pools = []
    for column in range(len(PHASES)):
        for value in (1, 0):
            rows = np.flatnonzero(frames.labels[:, column] == value)
            weight = np.where(near[rows, column], near_weight, 1.0)
            pools.append((rows, weight / weight.sum()))
    return pools


def draw(pools: Pools, batch_size: int, rng: np.random.Generator) -> np.ndarray:
    """Rows of one batch, equally many from every pool (at least one)."""
    share = max(1, batch_size // len(pools))
    return np.concatenate([rng.choice(rows, share, p=chance) for rows, chance in pools])


def near_the_other_label(frames: FrameSet, reach: int) -> np.ndarray:
    """bool ``(N, 2)``: within `reach` rows there is a frame of the same segment with the opposite label of that direction."""
    near = np.zeros(frames.labels.shape, bool)
    for step in range(1, min(reach, len(frames) - 1) + 1):
        together = (frames.group[step:] == frames.group[:-step])[:, None]
        # 0 and 1; IGNORE is -1 and adds up to 1 with nothing
        opposite = together & (frames.labels[step:] + frames.labels[:-step] == 1)
        near[step:] |= opposite
        near[:-step] |= opposite
    return near
