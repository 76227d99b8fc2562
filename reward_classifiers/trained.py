"""What training a backend gives, whichever it is: arrays for the file, and logits of frames that the scorer never saw."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from reward_classifiers.files import Tensors

Progress = Callable[[int, int, str], None]
"""(updates done, updates in all, a sentence)."""


@dataclass(frozen=True)
class Trained:
    """A backend before calibration.

    Attributes:
        backend, architecture, tensors: as in `files.save_classifier`.
        members: K, opinions per frame of the finished backend.
        held_out: float32 ``(J, N, 2)``, out-of-fold logits; J is K, or 1 where every frame has one member that never saw it.
        settings: what shaped the result besides data and seed, as JSON.
    """

    backend: str
    architecture: dict[str, Any]
    members: int
    tensors: Tensors
    held_out: np.ndarray
    settings: dict[str, Any]
