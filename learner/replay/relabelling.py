"""Labels of practice that are known only when the next segment begins: what a take-over says about the segment before it.

Separate from `interventions`, which are pure functions on arrays: this is their bookkeeping over a ring.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from etude.config import RecipeConfig
from etude.step import Step
from learner.replay.interventions import Kind, rlif_rewards, sirius_class_weights, sirius_kinds
from learner.replay.ring import Ring


class _Row(NamedTuple):
    row: int
    source: int
    is_last: bool
    is_terminal: bool


class InterventionLabels:
    """Keeps a ring's rewards (RLIF: ``reward.kind: intervention``) and weights (Sirius: ``data.intervention_weights``) right.

    A segment gets its labels when the next one of the same actor begins; until then its rows are sampled with the reward that
    was stored and with weight 1.
    """

    def __init__(self, recipe: RecipeConfig, ring: Ring) -> None:
        self._rewards = recipe.reward.kind == "intervention"
        self._weights = recipe.data.intervention_weights
        self._ring = ring
        self._kind = np.full(ring.capacity, Kind.ROBOT, np.int8)
        self._lookback = recipe.data.pre_intervention_steps
        share = recipe.data.demonstration_share
        self._demonstration_share = 0.0 if share == "proportional" else share  # never proportional where weights are asked for
        self._newest: dict[str, list[_Row]] = {}

    def add(self, step: Step, row: int) -> None:
        """Note that `step` was written to `row`; in the order of the actor's sequence."""
        if not (self._rewards or self._weights):
            return
        self._kind[row] = Kind.ROBOT
        here = _Row(row, int(step.source), step.is_last, step.is_terminal)
        if step.is_first:
            finished = self._newest.pop(step.actor_id, [])
            if finished and finished[-1].is_last:
                self._label([*finished, here])
            self._newest[step.actor_id] = [here]
        else:
            self._newest.setdefault(step.actor_id, []).append(here)

    def _label(self, window: list[_Row]) -> None:
        """Label all but the last entry of `window`, which only says who acts next."""
        rows, source, is_last, is_terminal = (np.array(column) for column in zip(*window, strict=True))
        rows = rows[:-1]
        if self._rewards:
            reward, keep = rlif_rewards(source, is_last, is_terminal)
            self._ring.reward[rows] = reward[:-1]
            for row in rows[~keep[:-1]]:
                self._ring.drop(int(row))
        if self._weights:
            kinds = sirius_kinds(source, is_last, is_terminal, self._lookback)[:-1]
            self._kind[rows] = kinds
            self._ring.weight[:] = sirius_class_weights(self._frequencies())[self._kind]

    def _frequencies(self) -> np.ndarray:
        """How often each class is drawn: batches have their share of demonstrations, the rest is uniform over practice."""
        drawn = np.bincount(self._kind[: min(self._ring.steps, self._ring.capacity)], minlength=len(Kind)).astype(np.float64)
        drawn[Kind.NONE] = 0.0
        drawn *= (1.0 - self._demonstration_share) / max(1.0, drawn.sum())
        drawn[Kind.DEMONSTRATION] = self._demonstration_share
        return drawn
