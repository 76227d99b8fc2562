"""What discriminators compare: rows of demonstrations against rows of the policy's own practice, as many of either.

Separate from `mixing`, because these are single observations and not transitions, and one draw serves many updates: a
discriminator learns once per period, and its rows of images take as long to draw as those of a batch.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from etude.config import DiscriminatorConfig
from etude.specs import IMAGE_PREFIX, PHASES
from learner.replay.ring import NONE, Ring

DRAWS_PER_PERIOD = 4
"""So many draws in the period of a discriminator: what it learns from is a quarter of a period old at most, whoever counts its
updates, and no draw is learned from twice."""
POSITIVE_PHASE = "forward"
"""Demonstrations of this direction are the positives: of VICE their ends, of MEDAL all of their states."""


class Contrast:
    """Draws, for every direction with a learned reward, ``positive`` and ``negative`` observations ``(rows, …)``.

    ``ready`` is 1 when the direction has been practised, so that there are negatives. ``positive_action`` ``(rows, d)``, ``now``
    and ``now_action`` ``(1, …)`` (the newest step) are for value-weighted positives.
    """

    def __init__(
        self,
        configs: dict[str, DiscriminatorConfig],
        demonstrations: Ring,
        online: Ring,
        rng: np.random.Generator,
        prepare: Callable[[np.ndarray], np.ndarray],
    ) -> None:
        """`prepare`: images ``(n, h, w, 3)`` as the discriminator sees them (random shifts)."""
        self._configs, self._demonstrations, self._online, self._rng = configs, demonstrations, online, rng
        self._prepare = prepare
        self._positives = {direction: _positives(demonstrations, config) for direction, config in configs.items()}
        self._drawn: dict[str, dict[str, Any]] = {}
        self._age: dict[str, int] = {}

    def sample(self, updates: int) -> dict[str, Any]:
        """``{direction: {...}}``, see the class, for the next `updates` updates."""
        for direction, config in self._configs.items():
            age = self._age.get(direction, config.period_updates) + updates
            began = direction in self._drawn and not self._drawn[direction]["ready"] and self._online.transitions(direction) > 0
            if age * DRAWS_PER_PERIOD > config.period_updates or began:
                self._drawn[direction], age = self._draw(direction, config.rows), 0
            self._age[direction] = age
        return dict(self._drawn)

    def _draw(self, direction: str, rows: int) -> dict[str, Any]:
        online, prior = self._online, self._demonstrations
        chosen = self._rng.choice(self._positives[direction], rows)
        practised = np.flatnonzero(online.row_phase[: min(online.steps, online.capacity)] == PHASES.index(direction))
        ready = len(practised) > 0
        visited = self._rng.choice(practised, rows) if ready else np.zeros(rows, np.int64)
        now = np.array([(online.cursor - 1) % online.capacity])
        return {
            "positive": self._rows(prior, chosen),
            "negative": self._rows(online, visited),
            "positive_action": prior.action[chosen],
            "now": {name: array[now] for name, array in online.observation.items()},
            "now_action": online.action[now],
            "ready": np.float32(ready),
        }

    def _rows(self, ring: Ring, rows: np.ndarray) -> dict[str, np.ndarray]:
        taken = {name: array[rows] for name, array in ring.observation.items()}
        return {name: self._prepare(array) if name.startswith(IMAGE_PREFIX) else array for name, array in taken.items()}


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
