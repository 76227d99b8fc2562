"""Scene ``slide``: a knob on a rail along y; forward pushes it into the green window (+y), backward into the blue one (-y).

A push can overshoot; then the arm has to come round to the other side. Friction keeps the knob where it is left.
"""

from __future__ import annotations

from typing import ClassVar

import mujoco
import numpy as np

from simulation.scenes.base import STEP_M, Camera, Intent, Scene, Tool, towards, uniform

_X = 0.50
_KNOB_RADIUS = 0.018
_FINGERS_HALF_Y = 0.012  # closed fingers, measured along y
_TRAVEL = 0.17
_LOW_Z, _CLEAR_Z = 0.055, 0.125
_REST_M_S = 0.02


class Slide(Scene):
    name = "slide"
    options: ClassVar = {"window_half_width_m": 0.025, "window_y_m": 0.11, "anywhere_share": 0.3}
    object_names = ("knob_y_m", "knob_velocity_y_m_s")
    workspace_min_m, workspace_max_m = (0.42, -0.24, 0.045), (0.58, 0.24, 0.18)
    front = Camera((1.02, 0.0, 0.46), (0.49, 0.0, 0.035), 41.0)

    def world_xml(self) -> str:
        half, y = self.option["window_half_width_m"], self.option["window_y_m"]
        return f"""
    <geom type="box" size="0.085 {half} 0.0015" pos="{_X} {y} 0.0015" material="green" contype="0" conaffinity="0"/>
    <geom type="box" size="0.085 {half} 0.0015" pos="{_X} {-y} 0.0015" material="blue" contype="0" conaffinity="0"/>
    <geom type="box" size="0.010 {_TRAVEL + 0.035} 0.006" pos="{_X} 0 0.009" material="steel" contype="0" conaffinity="0"/>
    <geom type="box" size="0.018 0.008 0.016" pos="{_X} {_TRAVEL + 0.04} 0.016" material="dark" contype="0" conaffinity="0"/>
    <geom type="box" size="0.018 0.008 0.016" pos="{_X} {-_TRAVEL - 0.04} 0.016" material="dark" contype="0" conaffinity="0"/>
    <body name="knob" pos="{_X} 0 0">
      <joint name="knob" type="slide" axis="0 1 0" range="{-_TRAVEL} {_TRAVEL}" damping="3" frictionloss="2.5" armature="0.1"/>
      <geom type="box" size="0.020 0.024 0.011" pos="0 0 0.021" material="dark" mass="0.2" contype="0" conaffinity="0"/>
      <geom name="knob" type="cylinder" size="{_KNOB_RADIUS} 0.031" pos="0 0 0.063" rgba="0.95 0.38 0.08 1" mass="0.2"
            contype="2" conaffinity="1" friction="0.3"/>
      <geom type="cylinder" size="{_KNOB_RADIUS + 0.004} 0.004" pos="0 0 0.094" rgba="1.0 0.62 0.12 1" mass="0.05"
            contype="0" conaffinity="0"/>
    </body>"""

    def bind(self, model: mujoco.MjModel) -> None:
        self._qpos = model.joint("knob").qposadr[0]
        self._qvel = model.joint("knob").dofadr[0]
        self._goal = {"forward": self.option["window_y_m"], "backward": -self.option["window_y_m"]}

    def place(self, data: mujoco.MjData, phase: str, rng: np.random.Generator) -> None:
        half, goal = self.option["window_half_width_m"], self._goal[phase]
        if rng.random() >= self.option["anywhere_share"]:
            y = -goal + rng.uniform(-half, half)
        else:
            y = rng.uniform(-_TRAVEL, _TRAVEL)
            while abs(y - goal) < half + 0.01:
                y = rng.uniform(-_TRAVEL, _TRAVEL)
        data.qpos[self._qpos], data.qvel[self._qvel] = y, 0.0

    def tool_start_m(self, data: mujoco.MjData, phase: str, rng: np.random.Generator) -> np.ndarray:
        while True:
            point = uniform(rng, (0.45, -0.22, 0.05), (0.55, 0.22, 0.16))
            beside = abs(point[1] - data.qpos[self._qpos]) > 0.05
            if beside or point[2] > _CLEAR_Z:
                return point

    def object_state(self, data: mujoco.MjData) -> np.ndarray:
        return np.array([data.qpos[self._qpos], data.qvel[self._qvel]])

    def success(self, data: mujoco.MjData, tool: Tool) -> dict[str, bool]:
        y, slow = data.qpos[self._qpos], abs(data.qvel[self._qvel]) < _REST_M_S
        half = self.option["window_half_width_m"]
        return {phase: bool(slow and abs(y - goal) < half) for phase, goal in self._goal.items()}

    def expert(self, data: mujoco.MjData, tool: Tool, phase: str) -> Intent:
        knob, x, y, z = float(data.qpos[self._qpos]), *tool.tcp_m
        missing = self._goal[phase] - knob
        if abs(missing) < 0.5 * self.option["window_half_width_m"]:
            return Intent(np.zeros(3), caution=0.3)
        side = np.sign(missing)
        contact = knob - side * (_KNOB_RADIUS + _FINGERS_HALF_Y)
        behind = side * (contact - y)  # > 0: the tool is on the pushing side
        if behind > -0.012 and z < _LOW_Z + 0.025 and abs(x - _X) < 0.02:
            push = contact + missing if behind < 0.006 else contact
            return Intent(towards(tool.tcp_m, np.array([_X, push, _LOW_Z])))
        above = np.array([_X, contact - side * 0.022, _CLEAR_Z])
        if behind > 0.008:
            descend = z if abs(x - _X) > 0.03 and z > _LOW_Z else _LOW_Z
            return Intent(towards(tool.tcp_m, np.array([_X, min(above[1], y) if side > 0 else max(above[1], y), descend])))
        if z < _CLEAR_Z - 0.015 and abs(y - knob) < 0.06:
            return Intent(np.array([0.0, 0.0, STEP_M]))
        return Intent(towards(tool.tcp_m, above))
