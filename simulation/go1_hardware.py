"""The simulated Go1 as its hardware sees it: motors with gains of their own, or velocities of the trunk, one physics step each.

Separate from `simulation.go1`, whose robot is driven by normalised actions with fixed gains. What a real robot's stand-in needs
and learning does not is here: other gains, torques, a push, a start on the belly.
"""

from __future__ import annotations

from dataclasses import replace

import mujoco
import numpy as np

from simulation.go1 import ACTION_SCALE_RAD, TIMESTEP_S, Go1
from simulation.go1_gaits import action as gait_action
from simulation.go1_library import LIBRARY
from simulation.go1_model import NOMINAL_RAD
from simulation.go1_stand_up import FOLDED

STRIDE_PER_SPEED_S = 0.42
"""Metres of stride per m/s of a trot at the library's frequency, measured forwards; backwards it is faster."""
STANDS_BELOW_M_S = 0.02


class Go1Hardware:
    """`step` once per `TIMESTEP_S`, after `motors` or `walk`. `robot` is the simulation itself."""

    def __init__(self, seed: int, lying: bool) -> None:
        self.robot = Go1(seed, 1.0 / TIMESTEP_S)
        self.time_s = 0.0
        self.push_n = 0.0
        self._velocity = np.zeros(3)
        self._heading_rad = 0.0
        self._walks = not lying
        self._up = True
        model, data = self.robot.model, self.robot.data
        self._usual = (model.actuator_gainprm.copy(), model.actuator_biasprm.copy())
        if lying:
            self.motors(FOLDED, np.full(12, 30.0), np.full(12, 3.0))
            data.qpos[:3], data.qpos[3:7], data.qpos[7:] = (0.0, 0.0, 0.1), (1.0, 0.0, 0.0, 0.0), FOLDED
            mujoco.mj_forward(model, data)
            for _ in range(200):
                self.step()
            self.motors(FOLDED, np.zeros(12), np.full(12, 1.0))

    def motors(self, target_rad: np.ndarray, stiffness_nm_rad: np.ndarray, damping_nm_s_rad: np.ndarray) -> None:
        """What the motors do from now on: torque = stiffness (target - angle) - damping speed, arrays ``(12,)``."""
        model, data = self.robot.model, self.robot.data
        self._walks = False
        model.actuator_gainprm[:, 0], model.actuator_biasprm[:, 1] = stiffness_nm_rad, -np.asarray(stiffness_nm_rad)
        model.actuator_biasprm[:, 2] = -np.asarray(damping_nm_s_rad)
        data.ctrl[:] = target_rad

    def walk(self, velocity: np.ndarray) -> None:
        """Trunk velocity to walk with from now on: forward, left m/s, turn to the left rad/s. It cannot step sideways."""
        self._velocity = np.asarray(velocity, float)

    def stand(self, up: bool) -> None:
        """The firmware's stand up and stand down."""
        self._up = up

    def step(self) -> None:
        data = self.robot.data
        if self._walks:
            self._trot()
        data.body("trunk").xfrc_applied[1] = self.push_n
        mujoco.mj_step(self.robot.model, data)
        self.time_s += TIMESTEP_S

    def _trot(self) -> None:
        model, data, forward, turn = self.robot.model, self.robot.data, self._velocity[0], self._velocity[2]
        model.actuator_gainprm[:], model.actuator_biasprm[:] = self._usual
        if not self._up:
            data.ctrl[:] += np.clip(FOLDED - data.ctrl, -1.0 * TIMESTEP_S, 1.0 * TIMESTEP_S)
            return
        if max(abs(forward), abs(turn)) < STANDS_BELOW_M_S:
            data.ctrl[:] += np.clip(NOMINAL_RAD - data.ctrl, -3.0 * TIMESTEP_S, 3.0 * TIMESTEP_S)
            self._heading_rad = self.robot.heading_rad
            return
        self._heading_rad += turn * TIMESTEP_S
        error = float(np.angle(np.exp(1j * (self.robot.heading_rad - self._heading_rad))))
        stride_m = STRIDE_PER_SPEED_S * forward if abs(forward) >= STANDS_BELOW_M_S else 0.05
        gait = replace(LIBRARY["trot"], stride_m=float(np.clip(stride_m, -0.3, 0.3)))
        data.ctrl[:] = NOMINAL_RAD + ACTION_SCALE_RAD * gait_action(gait, self.time_s, error, data.qvel[5])

    # --- reading ----------------------------------------------------------------------------------------------------------

    @property
    def torques_nm(self) -> np.ndarray:
        return self.robot.data.actuator_force.copy()

    @property
    def speeds_rad_s(self) -> np.ndarray:
        return self.robot.data.qvel[6:].copy()

    @property
    def quaternion(self) -> np.ndarray:
        """Trunk to world (w, x, y, z)."""
        return self.robot.data.qpos[3:7].copy()

    @property
    def gyroscope_rad_s(self) -> np.ndarray:
        """In the trunk's frame."""
        return self.robot.data.qvel[3:6].copy()

    @property
    def roll_pitch_yaw_rad(self) -> np.ndarray:
        r = self.robot.rotation
        roll, pitch = np.arctan2(r[2, 1], r[2, 2]), np.arctan2(-r[2, 0], np.hypot(r[2, 1], r[2, 2]))
        return np.array([roll, pitch, np.arctan2(r[1, 0], r[0, 0])])

    def close(self) -> None:
        self.robot.close()
