"""Scene ``drawer``: a low cabinet with one drawer that slides along x; forward closes it, backward opens it.

The closed fingers push the handle, or reach behind its bar and pull. Friction keeps the drawer where it is left.
"""

from __future__ import annotations

from typing import ClassVar

import mujoco
import numpy as np

from simulation.scenes.base import STEP_M, Camera, Intent, Scene, Tool, towards, uniform

_TRAVEL = 0.16
_FACE_X = 0.60  # front face of the closed drawer
_BAR_OUT = 0.055  # the handle's bar, in front of the face
_BAR_HALF = 0.008
_BAR_Z, _BAR_HALF_Y = 0.088, 0.055
_FINGERS_HALF_X = 0.0115
_LOW_Z, _CLEAR_Z = 0.075, 0.125


class Drawer(Scene):
    name = "drawer"
    options: ClassVar = {"closed_m": 0.012, "open_m": 0.12, "anywhere_share": 0.3}
    object_names = ("drawer_opening_m", "drawer_velocity_m_s")
    workspace_min_m, workspace_max_m = (0.32, -0.14, 0.06), (0.60, 0.14, 0.20)
    front = Camera((0.80, -0.62, 0.50), (0.48, 0.0, 0.085), 32.0)
    beauty = Camera((1.22, -1.06, 0.80), (0.34, 0.0, 0.24), 41.0)

    def assets_xml(self) -> str:
        return '<material name="cabinet" rgba="0.30 0.36 0.46 1" specular="0.2" shininess="0.3"/>'

    def world_xml(self) -> str:
        fixed = 'material="cabinet" contype="2" conaffinity="1"'
        ghost = 'contype="0" conaffinity="0"'
        arms = "".join(
            f'<geom type="box" size="{_BAR_OUT / 2} 0.006 0.008" pos="{-_BAR_OUT / 2} {y} {_BAR_Z}" material="handle" '
            'mass="0.02" contype="2" conaffinity="1"/>'
            for y in (_BAR_HALF_Y, -_BAR_HALF_Y)
        )
        sides = "".join(
            f'<geom type="box" size="0.085 0.004 0.028" pos="0.095 {y} 0.042" rgba="0.80 0.62 0.36 1" mass="0.1" {ghost}/>'
            for y in (0.09, -0.09)
        )
        return f"""
    <geom type="box" size="0.10 0.10 0.005" pos="0.71 0 0.005" {fixed}/>
    <geom type="box" size="0.10 0.005 0.047" pos="0.71 0.105 0.047" {fixed}/>
    <geom type="box" size="0.10 0.005 0.047" pos="0.71 -0.105 0.047" {fixed}/>
    <geom type="box" size="0.005 0.10 0.042" pos="0.804 0 0.052" {fixed}/>
    <geom type="box" size="0.10 0.112 0.005" pos="0.71 0 0.099" {fixed}/>
    <body name="drawer" pos="{_FACE_X} 0 0">
      <joint name="drawer" type="slide" axis="-1 0 0" range="0 {_TRAVEL}" damping="4" frictionloss="3" armature="0.1"/>
      <geom type="box" size="0.006 0.096 0.040" pos="0.006 0 0.053" rgba="0.90 0.72 0.40 1" mass="0.3"
            contype="2" conaffinity="1"/>
      {sides}
      <geom type="box" size="0.085 0.086 0.003" pos="0.095 0 0.017" rgba="0.35 0.25 0.18 1" mass="0.1" {ghost}/>
      {arms}
      <geom name="bar" type="box" size="{_BAR_HALF} {_BAR_HALF_Y + 0.006} 0.008" pos="{-_BAR_OUT} 0 {_BAR_Z}" material="handle"
            mass="0.05" contype="2" conaffinity="1" friction="0.4"/>
    </body>"""

    def bind(self, model: mujoco.MjModel) -> None:
        self._qpos = model.joint("drawer").qposadr[0]
        self._qvel = model.joint("drawer").dofadr[0]

    def place(self, data: mujoco.MjData, phase: str, rng: np.random.Generator) -> None:
        closed, opened = self.option["closed_m"], self.option["open_m"]
        if rng.random() < self.option["anywhere_share"]:
            opening = rng.uniform(closed + 0.01, opened - 0.01)
        else:
            opening = rng.uniform(opened, _TRAVEL) if phase == "forward" else rng.uniform(0.0, closed)
        data.qpos[self._qpos], data.qvel[self._qvel] = opening, 0.0

    def tool_start_m(self, data: mujoco.MjData, phase: str, rng: np.random.Generator) -> np.ndarray:
        bar = self._bar_x(data)
        while True:
            point = uniform(rng, (0.34, -0.11, 0.07), (0.58, 0.11, 0.18))
            if point[0] < bar - 0.035 or point[2] > _CLEAR_Z + 0.005:
                return point

    def object_state(self, data: mujoco.MjData) -> np.ndarray:
        return np.array([data.qpos[self._qpos], data.qvel[self._qvel]])

    def success(self, data: mujoco.MjData, tool: Tool) -> dict[str, bool]:
        opening, slow = data.qpos[self._qpos], abs(data.qvel[self._qvel]) < 0.03
        return {
            "forward": bool(slow and opening < self.option["closed_m"]),
            "backward": bool(slow and opening > self.option["open_m"]),
        }

    def expert(self, data: mujoco.MjData, tool: Tool, phase: str) -> Intent:
        done = self.success(data, tool)[phase]
        if done:
            return Intent(np.zeros(3), caution=0.3)
        bar = self._bar_x(data)
        reach = _BAR_HALF + _FINGERS_HALF_X
        x, y, z = tool.tcp_m
        side_y = float(np.clip(y, -0.03, 0.03))
        if phase == "forward":  # push the bar from the robot's side
            if x < bar - reach + 0.012 and z < _BAR_Z + 0.012:
                return Intent(towards(tool.tcp_m, np.array([max(bar - reach + 0.03, x + STEP_M), side_y, _LOW_Z + 0.005])))
            start = np.array([bar - reach - 0.02, side_y, _LOW_Z + 0.005])
            if x > bar - reach - 0.006 and z < _CLEAR_Z - 0.01:  # in the gap behind the bar, or beside it: rise first
                return Intent(np.array([0.0, 0.0, STEP_M]))
            if x > bar - reach - 0.006:
                return Intent(towards(tool.tcp_m, np.array([start[0], start[1], _CLEAR_Z])))
            return Intent(towards(tool.tcp_m, start))
        gap = bar + reach + 0.006  # backward: pull from between bar and face
        if x > bar + reach - 0.012 and z < _BAR_Z + 0.004 and abs(y) < _BAR_HALF_Y - 0.012:
            return Intent(towards(tool.tcp_m, np.array([x - STEP_M, side_y, _LOW_Z])))
        aligned = abs(x - gap) < 0.008 and abs(y) < _BAR_HALF_Y - 0.018
        if aligned:
            return Intent(towards(tool.tcp_m, np.array([gap, side_y, _LOW_Z])))
        if z < _CLEAR_Z - 0.012:
            return Intent(np.array([0.0, 0.0, STEP_M]))
        return Intent(towards(tool.tcp_m, np.array([gap, side_y, _CLEAR_Z])))

    def _bar_x(self, data: mujoco.MjData) -> float:
        return _FACE_X - _BAR_OUT - float(data.qpos[self._qpos])
