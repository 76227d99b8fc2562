"""A short random motion of the arm between two attempts, so that practice begins from varied poses and not only from where the
last attempt ended.

A policy that only ever starts beside its last success may forget every other start. An arm with a gripper lets go and rises
first: wandering with the fingers around the object would drag it along. Nothing else touches the scene on purpose, and all
actions pass the safety filter like any others. The motion is not recorded.
"""

from __future__ import annotations

import numpy as np

from actor.safety import GRIPPER
from etude.specs import ActionSpec

RETREAT_STEPS = 3
"""Steps straight up with an opening gripper, before an arm that has one wanders."""


class Wander:
    """`plan` draws a motion; `next` gives its actions, then None.

    A motion is 0 to `max_steps` steps in one random direction, never downwards, with the gripper open; before them the retreat.
    With `max_steps` 0 there is no motion at all.
    """

    def __init__(self, spec: ActionSpec, max_steps: int, rng: np.random.Generator) -> None:
        self._spec, self._max_steps, self._rng = spec, max_steps, rng
        self._actions: list[np.ndarray] = []

    def plan(self) -> None:
        if not self._max_steps:
            return
        steps = int(self._rng.integers(self._max_steps + 1))
        action = self._rng.uniform(-1.0, 1.0, self._spec.dim).astype(np.float32)
        if "z" in self._spec.names:
            index = self._spec.names.index("z")
            action[index] = abs(action[index])
        self._actions = [action] * steps
        if GRIPPER in self._spec.names:
            action[self._spec.names.index(GRIPPER)] = 1.0
            self._actions = [self._retreat()] * RETREAT_STEPS + self._actions

    def next(self) -> np.ndarray | None:
        return self._actions.pop(0) if self._actions else None

    def cancel(self) -> None:
        self._actions = []

    def _retreat(self) -> np.ndarray:
        action = self._spec.zeros()
        action[self._spec.names.index(GRIPPER)] = 1.0
        if "z" in self._spec.names:
            action[self._spec.names.index("z")] = 1.0
        return action
