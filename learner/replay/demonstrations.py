"""Demonstrations into a ring: rewards rewritten by the recipe's convention, and the statistics that normalise the state."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from etude.config import RecipeConfig
from etude.episodes.segment import Segment
from etude.episodes.store import EpisodeStore
from etude.specs import ActionSpec, ObservationSpec
from learner.critics.cal_ql import monte_carlo_returns
from learner.replay.relabelling import InterventionLabels
from learner.replay.ring import Ring
from learner.resets.backward_policy import relabel


class DemonstrationError(ValueError):
    """Demonstrations cannot be used for this run; the message names the folder and the remedy."""


def load_demonstrations(
    paths: Sequence[Path], recipe: RecipeConfig, observation_spec: ObservationSpec, action_spec: ActionSpec
) -> Ring:
    """A ring with every demonstration of the stores at `paths`.

    Raises:
        StoreError: no store is there.
        DemonstrationError: a store's specs are not the robot's.
    """
    segments = [segment for path in paths for segment in _segments(path, observation_spec, action_spec)]
    rows = max(1, sum(len(segment.reward) for segment in segments))
    ring = Ring(rows, observation_spec, action_spec, recipe.policy.chunk)
    for segment in segments:
        for step in relabel(segment.steps(), recipe.reward):
            row = ring.add(step)
            ring.stuck[row] = 0.0  # what was demonstrated can be undone (PAINT)
        begun = np.array(ring.segment_rows(row)[:-1], np.int64)
        ring.monte_carlo_return[begun] = monte_carlo_returns(
            ring.reward[begun], ring.terminal[begun], recipe.critic.discount, None
        )
    return ring


def _segments(path: Path, observation_spec: ObservationSpec, action_spec: ActionSpec) -> list[Segment]:
    store = EpisodeStore.open(path, "r")
    for what, found, wanted in (
        ("observation", store.observation_spec, observation_spec),
        ("action", store.action_spec, action_spec),
    ):
        if found != wanted:
            raise DemonstrationError(
                f"demonstrations in {path} have another {what} spec than the robot ({found} instead of "
                f"{wanted}); record them anew with `etude demo record`, and leave out prior data of another robot"
            )
    return [store.read(info) for info in store.segments()]


def add_practice(ring: Ring, store: EpisodeStore, recipe: RecipeConfig, labels: InterventionLabels) -> None:
    """Fill `ring` with the newest segments of a practice run's store that fit, oldest first, with the recipe's rewards."""
    kept, room = [], ring.capacity
    for info in sorted(store.segments(), key=lambda info: info.first_stamp_ns, reverse=True):
        room -= info.length
        if room < 0:
            break
        kept.append(info)
    for info in reversed(kept):
        for step in relabel(store.read(info).steps(), recipe.reward):
            row = ring.add(step)
            labels.add(step, row)
            if step.is_last:
                fill_returns(ring, row, recipe)


def fill_returns(ring: Ring, last_row: int, recipe: RecipeConfig) -> None:
    """Monte-Carlo returns of the finished segment that ends at `last_row` (Cal-QL's calibration)."""
    rows = np.array(ring.segment_rows(last_row)[:-1], np.int64)
    failure = recipe.reward.step if recipe.reward.step < 0 else None
    ring.monte_carlo_return[rows] = monte_carlo_returns(ring.reward[rows], ring.terminal[rows], recipe.critic.discount, failure)


def state_statistics(ring: Ring, floor: float = 0.01) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation ``(state_dim,)`` of the ring's states; a nearly constant element keeps at least `floor` (SI
    units)."""
    rows = ring.observation["state"][: min(ring.steps, ring.capacity)]
    if len(rows) == 0:
        dim = ring.observation["state"].shape[1]
        return np.zeros(dim, np.float32), np.ones(dim, np.float32)
    return rows.mean(0), np.maximum(rows.std(0), floor)
