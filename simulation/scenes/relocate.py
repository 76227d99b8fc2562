"""Scene ``relocate``: a block is carried from the blue zone on one side to the green zone on the other, and back.

The table is small: a block that is pushed over its edge is lost, and only a person can bring it back. With the option
`rim` the table has a rim at its far edge and one on the arm's side, as a laboratory would build it: a block that is pushed
against it stays within reach. The left and the right edge stay open, where the fingers need room beside the block.
"""

from __future__ import annotations

from typing import ClassVar

import mujoco
import numpy as np

from simulation.scenes.base import Camera, uniform
from simulation.scenes.carry import CarryScene

_X, _Y = 0.49, 0.12
_HALF = 0.022
_RIM_X_M = {"near": 0.337, "far": 0.642}
"""Middle of the two strips of the rim: a block that touches one can still be grasped, and no finger reaches one."""
_RIM_HALF_M = (0.003, 0.265, 0.015)


class Relocate(CarryScene):
    name = "relocate"
    options: ClassVar = {"zone_half_width_m": 0.05, "anywhere_share": 0.2, "rim": 0.0}
    object_names = ("block_x_m", "block_y_m", "block_z_m")
    workspace_min_m, workspace_max_m = (0.37, -0.24, 0.02), (0.61, 0.24, 0.18)
    table_min_m, table_max_m = (-0.22, -0.265), (0.645, 0.265)
    front = Camera((1.04, 0.0, 0.50), (0.48, 0.0, 0.03), 42.0)
    rest_height_m, grip_m, width_m = _HALF, 0.004, 2 * _HALF
    carry_m, hover_m, lower_within_m = 0.07, 0.095, 0.022

    def world_xml(self) -> str:
        half = self.option["zone_half_width_m"]
        return f"""
    <geom type="box" size="{half} {half} 0.0008" pos="{_X} {_Y} 0.0008" material="green" contype="0" conaffinity="0"/>
    <geom type="box" size="{half} {half} 0.0008" pos="{_X} {-_Y} 0.0008" material="blue" contype="0" conaffinity="0"/>
    {self._rim_xml()}
    <body name="object" pos="{_X} {-_Y} {_HALF}">
      <freejoint name="object"/>
      <geom name="block" type="box" size="{_HALF} {_HALF} {_HALF}" rgba="0.95 0.38 0.08 1" mass="0.08"
            contype="2" conaffinity="3" condim="4" friction="0.8 0.01 0.0005"/>
    </body>"""

    def _rim_xml(self) -> str:
        if not self.option["rim"]:
            return ""
        half_x, half_y, half_z = _RIM_HALF_M
        return "".join(
            f'<geom name="rim_{name}" type="box" size="{half_x} {half_y} {half_z}" pos="{x} 0 {half_z}" material="dark" '
            'contype="2" conaffinity="3"/>'
            for name, x in _RIM_X_M.items()
        )

    def place(self, data: mujoco.MjData, phase: str, rng: np.random.Generator) -> None:
        half, goal_y = self.option["zone_half_width_m"], self._goal_y(phase)
        if rng.random() >= self.option["anywhere_share"]:
            x, y = uniform(rng, (_X - half, -goal_y - half), (_X + half, -goal_y + half))
        else:
            x, y = uniform(rng, (0.40, -0.21), (0.58, 0.21))
            while abs(y - goal_y) < half + 0.015:
                x, y = uniform(rng, (0.40, -0.21), (0.58, 0.21))
        self.put(data, float(x), float(y), rng.uniform(-0.3, 0.3))

    def tool_start_m(self, data: mujoco.MjData, phase: str, rng: np.random.Generator) -> np.ndarray:
        return uniform(rng, (0.40, -0.20, 0.09), (0.58, 0.20, 0.17))

    def placed(self, data: mujoco.MjData) -> dict[str, bool]:
        x, y, z = self.object_m(data)
        half, down = self.option["zone_half_width_m"], z < _HALF + 0.006 and self.slow(data)
        return {p: bool(down and abs(x - _X) < half and abs(y - self._goal_y(p)) < half) for p in ("forward", "backward")}

    def goal_m(self, data: mujoco.MjData, phase: str) -> np.ndarray:
        inner = self.option["zone_half_width_m"] - 0.025
        x, y, _ = self.object_m(data)
        goal_y = self._goal_y(phase)
        return np.array([np.clip(x, _X - inner, _X + inner), np.clip(y, goal_y - inner, goal_y + inner), _HALF])

    @staticmethod
    def _goal_y(phase: str) -> float:
        return _Y if phase == "forward" else -_Y
