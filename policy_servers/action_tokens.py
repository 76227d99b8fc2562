"""OpenVLA's actions (Kim et al. 2024, §3.2): tokens at the end of the vocabulary, quantiles of a data set, a robot's units.

One robot action r in [-1, 1] and one token are the two ends of this chain, per dimension:

1. dataset action ``a = r · scale + offset`` in the data set's units (metres and radians per step for Bridge);
2. normalised ``u = 2 (a − q01) / (q99 − q01) − 1``, clipped to [-1, 1]; ``u = a`` where the data set's mask is off (gripper);
3. bin ``b`` of 1 … 256 by 256 even edges on [-1, 1]; token ``vocabulary − b``. A token means the centre of its bin.

Dimensions of the data set that the robot lacks are taught as 0 and ignored when sampled.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

BINS = 256


@dataclass(frozen=True)
class ActionTokens:
    """The chain for one vocabulary, one data set and one robot; all arrays ``(D,)`` for the D dimensions of the data set.

    Attributes:
        vocabulary: tokens that text uses; the last 256 of them are actions.
        low, high, mask: q01, q99 and whether they are applied.
        dims: which dimension of the data set each of the robot's d dimensions is.
        scale, offset: ``(d,)`` data set units of a robot action of 1, and of 0.
    """

    vocabulary: int
    low: np.ndarray
    high: np.ndarray
    mask: np.ndarray
    dims: tuple[int, ...]
    scale: np.ndarray
    offset: np.ndarray

    @classmethod
    def of(
        cls,
        vocabulary: int,
        statistics: Mapping[str, Any],
        dims: Sequence[int] | None,
        scale: Sequence[float],
        offset: Sequence[float] | None,
    ) -> ActionTokens:
        """From the model's statistics of one data set, ``{"q01": [...], "q99": [...], "mask": [...]}``.

        Raises:
            ValueError: lengths do not fit, a scale is not positive, or a dimension is named twice or does not exist.
        """
        low, high = np.asarray(statistics["q01"], np.float64), np.asarray(statistics["q99"], np.float64)
        mask = np.asarray(statistics.get("mask", np.ones(len(low))), bool)
        chosen = tuple(range(len(low)) if dims is None else dims)
        zero = [0.0] * len(chosen) if offset is None else offset
        if len(scale) != len(chosen) or len(zero) != len(chosen):
            raise ValueError(
                f"there are {len(scale)} scales and {len(zero)} offsets for the {len(chosen)} dimensions {list(chosen)} of the "
                "data set: give one of each per dimension"
            )
        if len(set(chosen)) != len(chosen) or not all(0 <= dim < len(low) for dim in chosen):
            raise ValueError(f"the dimensions {list(chosen)} are not distinct numbers from 0 to {len(low) - 1}")
        if not all(value > 0 for value in scale):
            raise ValueError(f"the scales {list(scale)} are not all positive")
        return cls(vocabulary, low, high, mask, chosen, np.asarray(scale, np.float64), np.asarray(zero, np.float64))

    @property
    def first_token(self) -> int:
        """The lowest action token; the highest one is ``vocabulary − 1``."""
        return self.vocabulary - BINS

    def from_tokens(self, tokens: np.ndarray) -> np.ndarray:
        """Token numbers ``(..., D)`` → robot actions ``(..., d)`` float32, clipped to [-1, 1]."""
        edges = np.linspace(-1.0, 1.0, BINS)
        centres = (edges[:-1] + edges[1:]) / 2.0
        normalised = centres[np.clip(self.vocabulary - tokens - 1, 0, BINS - 2)]
        a = np.where(self.mask, 0.5 * (normalised + 1.0) * (self.high - self.low) + self.low, normalised)
        robot = (a[..., list(self.dims)] - self.offset) / self.scale
        return np.clip(robot, -1.0, 1.0).astype(np.float32)

    def to_tokens(self, action: np.ndarray) -> np.ndarray:
        """Robot actions ``(..., d)`` → token numbers ``(..., D)``, int64."""
        a = np.zeros((*action.shape[:-1], len(self.low)))
        a[..., list(self.dims)] = action * self.scale + self.offset
        width = np.maximum(self.high - self.low, 1e-8)
        normalised = np.clip(np.where(self.mask, 2.0 * (a - self.low) / width - 1.0, a), -1.0, 1.0)
        return self.vocabulary - np.digitize(normalised, np.linspace(-1.0, 1.0, BINS))
