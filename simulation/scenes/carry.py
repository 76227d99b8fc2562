"""What the two grasping scenes share: one free object, a goal per direction, and an expert that grasps, carries and sets down.

Separate because a block and a peg differ only in shape, goal and how exactly the goal must be met.
"""

from __future__ import annotations

from typing import ClassVar

import mujoco
import numpy as np

from simulation.panda import MAX_FINGER_M
from simulation.scenes.base import STEP_M, Intent, Scene, Tool, towards


class CarryScene(Scene):
    """A scene whose body ``object`` has a free joint named ``object``. Heights are of the body's origin unless they say tool."""

    action_names = ("x", "y", "z", "gripper")
    rest_height_m: ClassVar[float]
    """Height of the object's origin when it stands on the table."""
    grip_m: ClassVar[float]
    """Tool height above the object's origin when it is grasped."""
    width_m: ClassVar[float]
    """Width of the part that the fingers hold."""
    carry_m: ClassVar[float]
    """Height of the object's origin while it is carried."""
    hover_m: ClassVar[float]
    """Tool height that clears a standing object."""
    caution: ClassVar[float] = 0.5
    """Share of the expert's noise that is left while the object is set down."""
    lower_within_m: ClassVar[float]
    """Horizontal distance to the goal below which the object is set down."""

    def bind(self, model: mujoco.MjModel) -> None:
        joint = model.joint("object")
        self._qpos, self._qvel = int(joint.qposadr[0]), int(joint.dofadr[0])
        self._body = model.body("object").id

    # --- state ----------------------------------------------------------------------------------------------------

    def object_state(self, data: mujoco.MjData) -> np.ndarray:
        return self.object_m(data).copy()

    def object_m(self, data: mujoco.MjData) -> np.ndarray:
        return data.qpos[self._qpos : self._qpos + 3]

    def upright(self, data: mujoco.MjData) -> float:
        """Cosine of the tilt."""
        return float(data.xmat[self._body][8])

    def slow(self, data: mujoco.MjData) -> bool:
        return bool(np.abs(data.qvel[self._qvel : self._qvel + 3]).max() < 0.04)

    def put(self, data: mujoco.MjData, x: float, y: float, turn_rad: float) -> None:
        """Stand the object on the table."""
        data.qpos[self._qpos : self._qpos + 3] = (x, y, self.rest_height_m)
        data.qpos[self._qpos + 3 : self._qpos + 7] = (np.cos(turn_rad / 2), 0.0, 0.0, np.sin(turn_rad / 2))
        data.qvel[self._qvel : self._qvel + 6] = 0.0

    def lost(self, data: mujoco.MjData) -> bool:
        position = self.object_m(data)
        low, high = np.subtract(self.workspace_min_m, 0.03), np.add(self.workspace_max_m, 0.03)
        fallen = position[2] < -0.02
        out_of_reach = bool((position[:2] < low[:2]).any() or (position[:2] > high[:2]).any())
        return bool(fallen or out_of_reach)

    # --- success --------------------------------------------------------------------------------------------------

    def placed(self, data: mujoco.MjData) -> dict[str, bool]:
        """Phase -> whether the object rests where that phase wants it, held or not."""
        raise NotImplementedError

    def success(self, data: mujoco.MjData, tool: Tool) -> dict[str, bool]:
        """Placed and let go: otherwise two phases could hand the object to each other without ever grasping it again."""
        released = tool.opening_m > self.width_m + 0.012
        return {phase: placed and released for phase, placed in self.placed(data).items()}

    # --- expert ---------------------------------------------------------------------------------------------------

    def goal_m(self, data: mujoco.MjData, phase: str) -> np.ndarray:
        """Where the object's origin should come to rest ``(3,)``."""
        raise NotImplementedError

    def expert(self, data: mujoco.MjData, tool: Tool, phase: str) -> Intent:
        position, goal = self.object_m(data), self.goal_m(data, phase)
        offset = tool.tcp_m - position
        aside = np.abs(offset[:2])
        reach = np.array([0.016, MAX_FINGER_M - self.width_m / 2 - 0.003])  # the object still fits between the open fingers
        opened = tool.opening_m > min(self.width_m + 0.025, 2 * MAX_FINGER_M - 0.01)
        grasp = position + np.array([0.0, 0.0, self.grip_m])
        level = abs(offset[2] - self.grip_m) < (0.007 if opened else 0.022)  # wider once the fingers close: no hesitating
        if self.placed(data)[phase]:
            return Intent(np.zeros(3), open_gripper=True, caution=0.3)
        if level and (aside < reach + 0.004).all():
            if tool.opening_m < self.width_m + 0.004:
                return self._carry(tool, position, goal)
            return Intent(np.array([0.0, 0.0, grasp[2] - tool.tcp_m[2]]), caution=0.3)  # close the fingers
        hover = self.hover_m + max(position[2] - self.rest_height_m, 0.0)
        descending = tool.tcp_m[2] < hover - 0.02
        if opened and (aside < (reach if descending else 0.6 * reach)).all():
            return Intent(towards(tool.tcp_m, grasp), open_gripper=True, caution=0.5)
        if tool.tcp_m[2] < hover - 0.015:  # rise before moving sideways, or before opening above the object
            sideways = np.zeros(2) if aside.max() < 0.09 else -offset[:2]
            return Intent(np.array([*np.clip(sideways, -STEP_M, STEP_M), STEP_M]), open_gripper=True)
        return Intent(towards(tool.tcp_m, np.array([position[0], position[1], hover])), open_gripper=True, caution=0.7)

    def _carry(self, tool: Tool, position: np.ndarray, goal: np.ndarray) -> Intent:
        missing = goal - position
        distance = float(np.linalg.norm(missing[:2]))
        if distance < self.lower_within_m:
            down = np.array([missing[0], missing[1], goal[2] - position[2] - 0.004])
            return Intent(np.clip(down, -STEP_M, STEP_M), caution=self.caution)
        near = self.caution if distance < 3 * self.lower_within_m else 1.0
        lift = np.clip(self.carry_m - position[2], -STEP_M, STEP_M)
        if position[2] < self.carry_m - 0.012:
            return Intent(np.array([0.0, 0.0, STEP_M]), caution=self.caution)
        return Intent(np.array([*np.clip(missing[:2], -STEP_M, STEP_M), lift]), caution=near)
