"""What the arm does between two attempts, so that practice begins from varied poses and not only from where the last attempt
ended: a short random motion, or, where the task says where attempts begin, the way to a random point there.

A policy that only ever starts beside its last success may forget every other start, and one whose last attempt ended in a corner
that no demonstration visits stays there, attempt after attempt. An arm with a gripper lets go and rises first: moving with the
fingers around the object would drag it along. Nothing else touches the scene on purpose, and all actions pass the safety filter
like any others. The motion is not recorded.
"""

from __future__ import annotations

import numpy as np

from actor.safety import GRIPPER, grippers
from etude.config import TaskConfig
from etude.specs import ActionSpec, bare

RETREAT_STEPS = 3
"""Steps straight up with an opening gripper, before an arm that has one wanders."""
HOMING_STEPS = 40
"""The way to a start point is given up after so many steps: an arm at a limit may never get there."""
ARRIVED_M = 0.01
_AXES = "xyz"

Box = tuple[np.ndarray, np.ndarray]


class Wander:
    """`plan` draws a motion; `next` gives its actions, then None.

    A motion is 0 to `max_steps` steps in one random direction, never downwards, with the gripper open; before them the retreat.
    With a `start` box (lowest and highest corner of the tool centre point, base frame, metres) it is the retreat and then the way
    to a random point in the box, as far as the action moves x, y and z. With neither there is no motion at all.
    """

    def __init__(self, spec: ActionSpec, max_steps: int, rng: np.random.Generator, start: Box | None = None) -> None:
        self._spec, self._max_steps, self._rng, self._start = spec, max_steps, rng, start
        self._actions: list[np.ndarray] = []
        self._goal_m: np.ndarray | None = None
        self._homing_left = 0

    def plan(self) -> None:
        self.cancel()
        retreat = [self._retreat()] * RETREAT_STEPS if grippers(self._spec) else []
        if self._start is not None:
            self._goal_m, self._homing_left, self._actions = self._rng.uniform(*self._start), HOMING_STEPS, retreat
        elif self._max_steps:
            self._actions = [*retreat, *self._random_motion()]

    def next(self, tcp_m: np.ndarray | None = None) -> np.ndarray | None:
        """The next action, for a tool that is at `tcp_m` (None: unknown, then nothing leads to the start box)."""
        if self._actions:
            return self._actions.pop(0)
        if self._goal_m is None or tcp_m is None or not self._homing_left:
            return None
        self._homing_left -= 1
        action = self._spec.zeros()
        for index, name in enumerate(self._spec.names):
            if name == GRIPPER:
                action[index] = 1.0
            elif name in _AXES:
                axis = _AXES.index(name)
                missing_m = self._goal_m[axis] - tcp_m[axis]
                action[index] = 0.0 if abs(missing_m) < ARRIVED_M else np.clip(missing_m / self._spec.scale[index], -1.0, 1.0)
        if not any(action[i] for i, name in enumerate(self._spec.names) if name in _AXES):
            self._goal_m = None
            return None
        return action

    def cancel(self) -> None:
        self._actions, self._goal_m = [], None

    def _random_motion(self) -> list[np.ndarray]:
        steps = int(self._rng.integers(self._max_steps + 1))
        action = self._rng.uniform(-1.0, 1.0, self._spec.dim).astype(np.float32)
        up = self._up()
        action[up] = np.abs(action[up])
        action[grippers(self._spec)] = 1.0
        return [action] * steps

    def _retreat(self) -> np.ndarray:
        action = self._spec.zeros()
        action[[*grippers(self._spec), *self._up()]] = 1.0
        return action

    def _up(self) -> list[int]:
        return [i for i, name in enumerate(self._spec.names) if bare(name) == "z"]


def start_box(task: TaskConfig) -> Box | None:
    """Where `task` lets attempts begin."""
    if task.tool_start_min_m is None or task.tool_start_max_m is None:
        return None
    return np.array(task.tool_start_min_m), np.array(task.tool_start_max_m)
