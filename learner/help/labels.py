"""Labels of stuck states into a ring: a person's word about (segment, index) becomes a number beside each row."""

from __future__ import annotations

import numpy as np

from etude.specs import Observation
from etude.status import StuckLabels
from learner.replay.ring import UNLABELLED, Ring, place

MOST_STATES = 10_000
"""Of each class, for one training of the classifier: a uniform sample of more."""


class StuckStates:
    """Keeps `Ring.stuck` of practice right, and gives the classifier's training set."""

    def __init__(self, ring: Ring) -> None:
        self._ring = ring
        self._given: dict[str, list[StuckLabels]] = {}

    def label(self, actor_id: str, labels: StuckLabels) -> int:
        """Take labels of one actor; returns how many states in the ring have a label now.

        Those given before are applied once more: their last steps may have arrived after them.
        """
        given = self._given.setdefault(actor_id, [])
        if labels not in given:
            given.append(labels)
        for one in (*given[-2:], labels):
            self._apply(actor_id, one)
        return int((self._ring.stuck != UNLABELLED).sum())

    def _apply(self, actor_id: str, labels: StuckLabels) -> None:
        ring = self._ring
        places = ring.place
        meant = (ring.actor == ring.actor_number(actor_id)) & (places >= place(*labels.first)) & (places <= place(*labels.last))
        stuck = places >= place(*labels.stuck_from) if labels.stuck_from is not None else np.zeros_like(meant)
        ring.stuck[meant] = stuck[meant]


def labelled_states(rings: tuple[Ring, ...], stuck: bool, rng: np.random.Generator) -> Observation:
    """Observations ``(n, …)`` of all states of `rings` that are labelled as `stuck` or as free, at most `MOST_STATES`."""
    rows = [np.flatnonzero(ring.stuck == float(stuck)) for ring in rings]
    total = sum(map(len, rows))
    kept = np.sort(rng.choice(total, MOST_STATES, replace=False)) if total > MOST_STATES else np.arange(total)
    ends = np.cumsum([0, *map(len, rows)])
    chosen = [r[kept[(kept >= a) & (kept < b)] - a] for r, a, b in zip(rows, ends, ends[1:], strict=False)]
    return {
        name: np.concatenate([ring.observation[name][r] for ring, r in zip(rings, chosen, strict=True)])
        for name in rings[0].observation
    }
