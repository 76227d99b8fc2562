"""A short random motion of the arm between two attempts, so that practice begins from varied poses and not only from where the
last attempt ended.

A policy that only ever starts beside its last success may forget every other start. This moves the arm, never the scene on
purpose, and
its actions pass the safety filter like all others. It is not recorded.
"""

from __future__ import annotations

import numpy as np

from etude.specs import ActionSpec


class Wander:
    """`plan` draws a motion of 0 to `max_steps` steps in one random direction, never downwards; `next` gives its actions, then
    None."""

    def __init__(self, spec: ActionSpec, max_steps: int, rng: np.random.Generator) -> None:
        self._spec, self._max_steps, self._rng = spec, max_steps, rng
        self._left = 0
        self._action = spec.zeros()

    def plan(self) -> None:
        self._left = int(self._rng.integers(self._max_steps + 1)) if self._max_steps else 0
        self._action = self._rng.uniform(-1.0, 1.0, self._spec.dim).astype(np.float32)
        if "z" in self._spec.names:
            index = self._spec.names.index("z")
            self._action[index] = abs(self._action[index])

    def next(self) -> np.ndarray | None:
        if self._left <= 0:
            return None
        self._left -= 1
        return self._action

    def cancel(self) -> None:
        self._left = 0
