"""What discriminators compare: rows of demonstrations against rows of the policy's own practice, as many of either.

Separate from `mixing`, because these are single observations and not transitions, and one draw serves a whole block of updates.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from etude.config import DiscriminatorConfig
from etude.specs import PHASES
from learner.replay.ring import NONE, Ring

POSITIVE_PHASE = "forward"
"""Demonstrations of this direction are the positives: of VICE their ends, of MEDAL all of their states."""


class Contrast:
    """Draws, for every direction with a learned reward, ``positive`` and ``negative`` observations ``(rows, …)``.

    ``ready`` is 1 when the direction has been practised, so that there are negatives. ``positive_action`` ``(rows, d)``, ``now``
    and ``now_action`` ``(1, …)`` (the newest step) are for value-weighted positives.
    """

    def __init__(self, configs: dict[str, DiscriminatorConfig], demonstrations: Ring, online: Ring, rng: np.random.Generator):
        self._configs, self._demonstrations, self._online, self._rng = configs, demonstrations, online, rng
        self._positives = {direction: _positives(demonstrations, config) for direction, config in configs.items()}

    def sample(self) -> dict[str, Any]:
        """``{direction: {...}}``, see the class."""
        return {direction: self._draw(direction, config.rows) for direction, config in self._configs.items()}

    def _draw(self, direction: str, rows: int) -> dict[str, Any]:
        online, prior = self._online, self._demonstrations
        chosen = self._rng.choice(self._positives[direction], rows)
        practised = np.flatnonzero(online.row_phase[: min(online.steps, online.capacity)] == PHASES.index(direction))
        ready = len(practised) > 0
        visited = self._rng.choice(practised, rows) if ready else np.zeros(rows, np.int64)
        now = np.array([(online.cursor - 1) % online.capacity])
        return {
            "positive": {name: array[chosen] for name, array in prior.observation.items()},
            "negative": {name: array[visited] for name, array in online.observation.items()},
            "positive_action": prior.action[chosen],
            "now": {name: array[now] for name, array in online.observation.items()},
            "now_action": online.action[now],
            "ready": np.float32(ready),
        }


def _positives(ring: Ring, config: DiscriminatorConfig) -> np.ndarray:
    """Rows of the chosen frames of every demonstration; an empty ring has its one empty row, which nothing is learned from."""
    rows = np.flatnonzero(ring.row_phase == PHASES.index(POSITIVE_PHASE))
    ends = [int(row) for row in rows if ring.next_row[row] == NONE]
    chosen: list[int] = []
    for end in ends:
        segment = ring.segment_rows(end)
        whole = config.first_frames is None and config.last_frames is None
        first = segment if whole else segment[: config.first_frames or 0]
        last = segment[-config.last_frames :] if config.last_frames else []
        chosen += sorted({*first, *last})
    return np.array(chosen or [0], np.int64)
