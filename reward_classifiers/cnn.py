"""Backends ``cnn`` and ``vice``: the small networks of `network.py`, one opinion per member. They look at the last frames and
at velocities, and differ only in the labels that they were trained on."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from etude.specs import PHASES
from reward_classifiers.files import Tensors, members_of
from reward_classifiers.judge import Images
from reward_classifiers.network import Architecture, Params, initialise, logits, stacked, to_unit

BATCH = 64


class CnnBackend:
    """`reward_classifiers.judge.Backend`."""

    def __init__(self, architecture: Architecture, members: list[Tensors], kind: str = "cnn") -> None:
        self.kind, self.architecture = kind, architecture
        self.cameras, self.state_names, self.members = architecture.cameras, architecture.state_names, len(members)
        self.frames = architecture.frames
        self._params = [{name: jax.device_put(array) for name, array in member.items()} for member in members]

    @classmethod
    def load(cls, folder: Path, architecture: dict[str, Any], tensors: Tensors, kind: str = "cnn") -> CnnBackend:
        """From what `files.read_classifier` gave. Raises ClassifierError, TypeError, KeyError or ValueError."""
        sizes = Architecture.from_json({name: value for name, value in architecture.items() if name != "members"})
        shapes = {name: array.shape for name, array in initialise(sizes, jax.random.key(0)).items()}
        return cls(sizes, members_of(tensors, shapes, int(architecture["members"]), folder), kind)

    def member_logits(self, images: Images, state: np.ndarray, phase: str) -> np.ndarray:
        pictures = {name: stacked(array) for name, array in images.items()}
        motion = state[:, self.architecture.motion]
        apply = partial(_forward, self._params)
        return in_batches(apply, pictures, motion)[:, :, PHASES.index(phase)]


@jax.jit
def _forward(members: list[Params], images: dict[str, jax.Array], motion: jax.Array) -> jax.Array:
    unit = to_unit(images)
    return jnp.stack([logits(params, unit, motion) for params in members])


def in_batches(apply: Any, *inputs: Any, size: int = BATCH) -> np.ndarray:
    """`apply(*inputs)` ``(K, B, …)`` in batches of one size (or of 1), so that few programs are compiled; axis 0 of every input
    array is B."""
    total = len(jax.tree.leaves(inputs)[0])
    if total <= 1:
        return np.asarray(apply(*inputs))
    rows = np.arange(-(-total // size) * size) % total  # the last batch is padded
    parts = []
    for start in range(0, len(rows), size):
        chosen = rows[start : start + size]
        parts.append(np.asarray(apply(*jax.tree.map(lambda array, chosen=chosen: array[chosen], inputs))))
    return np.concatenate(parts, axis=1)[:, :total]
