"""Demonstrations into a ring: rewards rewritten by the recipe's convention, and the statistics that normalise the state."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from etude.config import RecipeConfig
from etude.episodes.store import EpisodeStore
from etude.specs import ActionSpec, ObservationSpec
from learner.critics.cal_ql import monte_carlo_returns
from learner.replay.ring import Ring
from learner.resets.backward_policy import relabel_demonstration


class DemonstrationError(ValueError):
    """Demonstrations cannot be used for this run; the message names the folder and the remedy."""


def load_demonstrations(path: Path, recipe: RecipeConfig, observation_spec: ObservationSpec, action_spec: ActionSpec) -> Ring:
    """A ring with every demonstration of the store at `path`.

    Raises:
        DemonstrationError: the store's specs are not the robot's.
    """
    store = EpisodeStore.open(path, "r")
    for what, found, wanted in (
        ("observation", store.observation_spec, observation_spec),
        ("action", store.action_spec, action_spec),
    ):
        if found != wanted:
            raise DemonstrationError(
                f"demonstrations in {path} have another {what} spec than the robot ({found} instead of "
                f"{wanted}); record them anew with `etude demo record`"
            )
    segments = [store.read(info) for info in store.segments()]
    ring = Ring(max(1, sum(len(segment.reward) for segment in segments)), observation_spec, action_spec)
    for segment in segments:
        for step in relabel_demonstration(segment.steps(), recipe.reward):
            row = ring.add(step)
        rows = np.array(ring.segment_rows(row)[:-1], np.int64)
        ring.monte_carlo_return[rows] = monte_carlo_returns(ring.reward[rows], ring.terminal[rows], recipe.critic.discount, None)
    return ring


def state_statistics(ring: Ring, floor: float = 0.01) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation ``(state_dim,)`` of the ring's states; a nearly constant element keeps at least `floor` (SI
    units)."""
    rows = ring.observation["state"][: min(ring.steps, ring.capacity)]
    if len(rows) == 0:
        dim = ring.observation["state"].shape[1]
        return np.zeros(dim, np.float32), np.ones(dim, np.float32)
    return rows.mean(0), np.maximum(rows.std(0), floor)
