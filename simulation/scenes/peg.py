"""Scene ``peg``: a peg with a handle is inserted into a socket (forward), or taken out and stood on the blue mat (backward).

The clearance is about three millimetres. A peg that topples or leaves the table is lost, and only a person can right it.
"""

from __future__ import annotations

from typing import ClassVar

import mujoco
import numpy as np

from simulation.scenes.base import Camera, uniform
from simulation.scenes.carry import CarryScene

_HOLE = np.array([0.49, 0.10])
_MAT = np.array([0.49, -0.10])
_PEG_RADIUS, _FOOT_RADIUS, _BASE_HEIGHT = 0.026, 0.007, 0.045
_SOCKET_HALF, _SOCKET_HEIGHT = 0.055, 0.032


class Peg(CarryScene):
    name = "peg"
    options: ClassVar = {"clearance_m": 0.0035, "mat_half_width_m": 0.05, "anywhere_share": 0.2}
    object_names = ("peg_x_m", "peg_y_m", "peg_z_m", "peg_upright_cos")
    workspace_min_m, workspace_max_m = (0.40, -0.20, 0.055), (0.58, 0.20, 0.20)
    front = Camera((0.98, 0.0, 0.46), (0.48, 0.0, 0.055), 36.0)
    rest_height_m, grip_m, width_m = 0.0, 0.076, 0.024
    carry_m, hover_m, lower_within_m = 0.045, 0.128, 0.006
    caution = 0.15

    def world_xml(self) -> str:
        gap = _PEG_RADIUS + self.option["clearance_m"]
        wall = (_SOCKET_HALF - gap) / 2
        middle, half_height = gap + wall, _SOCKET_HEIGHT / 2
        walls = []
        for axis, sign in ((0, 1), (0, -1), (1, 1), (1, -1)):
            centre, size = [0.0, 0.0], [_SOCKET_HALF, _SOCKET_HALF]
            centre[axis], size[axis] = sign * middle, wall
            if axis == 1:
                size[0] = gap  # the other two walls own the corners
            x, y = _HOLE
            walls.append(
                f'<geom type="box" size="{size[0]} {size[1]} {half_height}" pos="{x + centre[0]} {y + centre[1]} {half_height}" '
                'material="socket" contype="2" conaffinity="3" friction="0.3"/>'
            )
        mat, top = self.option["mat_half_width_m"], _BASE_HEIGHT - _FOOT_RADIUS
        feet = "".join(
            f'<geom type="capsule" size="{_FOOT_RADIUS}" fromto="{c:.5f} {s:.5f} {_FOOT_RADIUS} {c:.5f} {s:.5f} {top}" '
            'mass="0.02" material="peg" contype="2" conaffinity="3" friction="0.5 0.01 0.0005"/>'
            for c, s in ((_PEG_RADIUS - _FOOT_RADIUS) * np.array([np.cos(a), np.sin(a)]) for a in np.arange(8) * np.pi / 4)
        )
        return f"""
    {"".join(walls)}
    <geom type="box" size="{gap} {gap} 0.0008" pos="{_HOLE[0]} {_HOLE[1]} 0.0008" material="green" contype="0" conaffinity="0"/>
    <geom type="box" size="{mat} {mat} 0.0008" pos="{_MAT[0]} {_MAT[1]} 0.0008" material="blue" contype="0" conaffinity="0"/>
    <body name="object" pos="{_MAT[0]} {_MAT[1]} 0">
      <freejoint name="object"/>
      {feet}
      <geom type="cylinder" size="{_PEG_RADIUS - 0.002} {_BASE_HEIGHT / 2 - 0.003}" pos="0 0 {_BASE_HEIGHT / 2}" material="peg"
            mass="0.04" contype="0" conaffinity="0"/>
      <geom name="handle" type="box" size="0.012 0.012 0.030" pos="0 0 {_BASE_HEIGHT + 0.028}" rgba="1.0 0.68 0.15 1" mass="0.02"
            contype="2" conaffinity="1" condim="4" friction="1.0 0.02 0.0005"/>
    </body>"""

    def assets_xml(self) -> str:
        return """
    <material name="peg" rgba="0.92 0.34 0.07 1" specular="0.3" shininess="0.4"/>
    <material name="socket" rgba="0.36 0.40 0.47 1" specular="0.2" shininess="0.3"/>"""

    def place(self, data: mujoco.MjData, phase: str, rng: np.random.Generator) -> None:
        if phase == "backward":
            x, y = _HOLE + rng.uniform(-1, 1, 2) * 0.6 * self.option["clearance_m"]
        elif rng.random() >= self.option["anywhere_share"]:
            x, y = _MAT + rng.uniform(-1, 1, 2) * (self.option["mat_half_width_m"] - 0.01)
        else:
            x, y = uniform(rng, (0.43, -0.16), (0.55, -0.01))
        self.put(data, float(x), float(y), rng.uniform(-0.3, 0.3))

    def tool_start_m(self, data: mujoco.MjData, phase: str, rng: np.random.Generator) -> np.ndarray:
        return uniform(rng, (0.42, -0.17, 0.13), (0.56, 0.17, 0.19))

    def object_state(self, data: mujoco.MjData) -> np.ndarray:
        return np.append(self.object_m(data), self.upright(data))

    def placed(self, data: mujoco.MjData) -> dict[str, bool]:
        position = self.object_m(data)
        down = position[2] < 0.008 and self.upright(data) > 0.97 and self.slow(data)
        inserted = np.abs(position[:2] - _HOLE).max() < self.option["clearance_m"] + 0.002
        on_mat = np.abs(position[:2] - _MAT).max() < self.option["mat_half_width_m"]
        return {"forward": bool(down and inserted), "backward": bool(down and on_mat)}

    def lost(self, data: mujoco.MjData) -> bool:
        return super().lost(data) or self.upright(data) < 0.6

    def goal_m(self, data: mujoco.MjData, phase: str) -> np.ndarray:
        if phase == "forward":
            return np.array([*_HOLE, 0.0])
        inner = self.option["mat_half_width_m"] - 0.02
        return np.array([*np.clip(self.object_m(data)[:2], _MAT - inner, _MAT + inner), 0.0])
