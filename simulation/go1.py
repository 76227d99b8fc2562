"""A Go1 on flat ground: joint-position targets at the control rate, proprioception, reward, falls, and perturbations in mid-life.

Perturbations change the physics and nothing else: the robot has to notice them by how it moves.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import mujoco
import numpy as np

from etude.specs import ActionSpec, ObservationSpec
from simulation.go1_model import JOINTS, NOMINAL_HEIGHT_M, NOMINAL_RAD, mjcf
from simulation.rendering import Pictures

CONTROL_RATE_HZ = 20.0
TIMESTEP_S = 0.005
ACTION_SCALE_RAD = np.tile([0.6, 1.2, 0.9], 4)
"""Joint displacement of an action of 1. The whole range [-1, 1] lies inside the joint limits."""
TARGET_SPEED_M_S = 1.0
SPEED_NOISE_M_S = 0.05
"""Standard deviation of the velocity estimate. A real Go1 estimates it from leg odometry and the IMU."""
SUMMARY_S = 0.5
"""Time constant of the slow averages in the observation."""
FALLEN_UPRIGHT = 0.5
"""A trunk that is tilted by more than 60 degrees has fallen."""
FALLEN_HEIGHT_M = 0.13
"""A trunk whose centre is lower than this lies on its belly (half its height, and the folded legs)."""


def _names() -> tuple[str, ...]:
    names = [f"{joint}_rad" for joint in JOINTS] + [f"{joint}_rad_s" for joint in JOINTS]
    names += ["gravity_x", "gravity_y", "gravity_z", "gyro_x_rad_s", "gyro_y_rad_s", "gyro_z_rad_s"]
    names += ["speed_x_m_s", "speed_y_m_s", "speed_z_m_s", "heading_sin", "heading_cos"]
    names += [f"previous_{joint}" for joint in JOINTS]
    names += [f"slow_error_{joint}_rad" for joint in JOINTS]
    return (*names, "slow_speed_x_m_s", "slow_speed_y_m_s", "slow_gyro_z_rad_s")


OBSERVATION_SPEC = ObservationSpec(_names())
"""Joint angles minus the nominal stance and joint velocities; the direction of gravity, the turning rate and the estimated
velocity, all in the trunk's frame; the heading in the world (IMU); the previous normalised action; and averages over about
`SUMMARY_S` of the tracking error (target minus angle), of the velocity and of the yaw rate."""
ACTION_SPEC = ActionSpec(tuple(f"{joint}_joint" for joint in JOINTS), tuple(ACTION_SCALE_RAD))


@dataclass(frozen=True)
class Perturbation:
    """What is wrong with the robot or its world. The default is nothing.

    Attributes:
        payload_kg: on the trunk, its centre 0.1 m above the trunk's and `payload_x_m` ahead.
        stuck_joint: a name of `JOINTS` that is held at the angle it has when the perturbation begins.
        floor_friction: coefficient of sliding friction of the floor, 0.8 when nothing is wrong.
        pull_n: force on the trunk, world frame, newtons.
    """

    payload_kg: float = 0.0
    payload_x_m: float = 0.0
    stuck_joint: str | None = None
    floor_friction: float = 0.8
    pull_n: tuple[float, float, float] = (0.0, 0.0, 0.0)


class Go1:
    """One simulated robot. `step` moves it by one control period; nothing else moves it, except `place` before a life begins."""

    def __init__(self, seed: int, control_rate_hz: float = CONTROL_RATE_HZ) -> None:
        self.model = mujoco.MjModel.from_xml_string(mjcf(TIMESTEP_S))
        self.data = mujoco.MjData(self.model)
        self.rng = np.random.default_rng(seed)
        self.perturbation = Perturbation()
        self._substeps = round(1.0 / (control_rate_hz * TIMESTEP_S))
        self._keep = float(np.exp(-1.0 / (control_rate_hz * SUMMARY_S)))
        self._pictures: Pictures | None = None
        self._action = np.zeros(12)
        self._error = np.zeros(12)
        self._slow = np.zeros(3)
        self._estimate = np.zeros(3)
        self.place()

    # --- moving -----------------------------------------------------------------------------------------------------

    def place(self, rng: np.random.Generator | None = None) -> None:
        """Put it into the nominal stance at the origin, heading along x; with `rng` joints and heading a little off."""
        mujoco.mj_resetData(self.model, self.data)
        self.perturb(Perturbation())
        joints, yaw = NOMINAL_RAD.copy(), 0.0
        if rng is not None:
            joints += rng.uniform(-0.1, 0.1, 12)
            yaw = rng.uniform(-0.2, 0.2)
        self.data.qpos[:7] = (0, 0, NOMINAL_HEIGHT_M, np.cos(yaw / 2), 0, 0, np.sin(yaw / 2))
        self._begin(joints)
        for _ in range(5):
            self.step(np.zeros(12))

    def throw(self, rng: np.random.Generator) -> None:
        """Let it fall from a random orientation with random joints, and lie still: a start for tests of standing up."""
        mujoco.mj_resetData(self.model, self.data)
        self.perturb(Perturbation())
        quaternion = rng.normal(size=4)
        self.data.qpos[:7] = (0, 0, 0.5, *(quaternion / np.linalg.norm(quaternion)))
        self._begin(rng.uniform(self.model.jnt_range[1:, 0], np.minimum(self.model.jnt_range[1:, 1], 2.5)))
        for _ in range(40):
            self._simulate(self.joints_rad, gain=0.1)

    def step(self, action: np.ndarray) -> None:
        """One control period with joint targets ``NOMINAL_RAD + ACTION_SCALE_RAD · action``; `action` is clipped to [-1, 1]."""
        self._action = np.clip(np.asarray(action, np.float64), -1.0, 1.0)
        self._simulate(NOMINAL_RAD + ACTION_SCALE_RAD * self._action)

    def step_targets(self, target_rad: np.ndarray) -> None:
        """One control period with any joint targets ``(12,)``; for the scripted stand-up, which needs the joints' whole range."""
        self._action = np.clip((target_rad - NOMINAL_RAD) / ACTION_SCALE_RAD, -1.0, 1.0)
        self._simulate(target_rad)

    def _simulate(self, target_rad: np.ndarray, gain: float = 1.0) -> None:
        limits = self.model.jnt_range[1:]
        target = np.clip(target_rad, limits[:, 0], limits[:, 1])
        self.data.ctrl[:] = self.joints_rad + gain * (target - self.joints_rad) if gain != 1.0 else target
        mujoco.mj_step(self.model, self.data, self._substeps)
        self._error = self._keep * self._error + (1 - self._keep) * (target - self.joints_rad)
        self._sense()

    def _begin(self, joints_rad: np.ndarray) -> None:
        self.data.qpos[7:] = joints_rad
        mujoco.mj_forward(self.model, self.data)
        self._action, self._error, self._slow = np.zeros(12), np.zeros(12), np.zeros(3)
        self._sense()

    def _sense(self) -> None:
        self._estimate = self.velocity_m_s + SPEED_NOISE_M_S * self.rng.normal(size=3)
        now = np.array([*self._estimate[:2], self.data.qvel[5]])
        self._slow = self._keep * self._slow + (1 - self._keep) * now

    # --- perturbing -------------------------------------------------------------------------------------------------

    def perturb(self, perturbation: Perturbation) -> None:
        """From now on this and nothing else is wrong. A joint sticks where it is.

        Raises:
            ValueError: `stuck_joint` names no joint.
        """
        if perturbation.stuck_joint is not None and perturbation.stuck_joint not in JOINTS:
            raise ValueError(f"stuck_joint is {perturbation.stuck_joint!r}, expected one of {', '.join(JOINTS)}")
        self._load(perturbation.payload_kg, perturbation.payload_x_m)
        self.model.geom("floor").friction[0] = perturbation.floor_friction
        self.data.body("trunk").xfrc_applied[:3] = perturbation.pull_n
        self.data.eq_active[:] = [joint == perturbation.stuck_joint for joint in JOINTS]
        if perturbation.stuck_joint is not None:
            index = JOINTS.index(perturbation.stuck_joint)
            # the equality holds q - q0 = c, with q0 the joint's zero
            self.model.eq_data[index, 0] = self.joints_rad[index] - self.model.qpos0[7 + index]
        self.perturbation = replace(perturbation)

    def _load(self, mass_kg: float, x_m: float) -> None:
        body, half = self.model.body("payload"), np.array([0.09, 0.06, 0.04])
        body.mass[0] = max(mass_kg, 1e-6)
        body.inertia[:] = body.mass[0] / 3.0 * (np.sum(half**2) - half**2)
        body.pos[0] = x_m
        self.model.geom("payload").rgba[:] = (0.86, 0.45, 0.12, float(mass_kg > 0))
        mujoco.mj_setConst(self.model, mujoco.MjData(self.model))

    # --- reading ----------------------------------------------------------------------------------------------------

    @property
    def joints_rad(self) -> np.ndarray:
        return self.data.qpos[7:].copy()

    @property
    def position_m(self) -> np.ndarray:
        """Of the trunk's centre in the world ``(3,)``."""
        return self.data.qpos[:3].copy()

    @property
    def rotation(self) -> np.ndarray:
        """``(3, 3)``: the trunk's axes in the world, as columns."""
        matrix = np.zeros(9)
        mujoco.mju_quat2Mat(matrix, self.data.qpos[3:7])
        return matrix.reshape(3, 3)

    @property
    def velocity_m_s(self) -> np.ndarray:
        """Of the trunk in its own frame ``(3,)``."""
        return self.rotation.T @ self.data.qvel[:3]

    @property
    def gravity(self) -> np.ndarray:
        """Unit vector of gravity in the trunk's frame; (0, 0, -1) when level."""
        return -self.rotation[2]

    @property
    def heading_rad(self) -> float:
        return float(np.arctan2(self.rotation[1, 0], self.rotation[0, 0]))

    def observe(self) -> np.ndarray:
        """float32 as in `OBSERVATION_SPEC`."""
        heading = self.heading_rad
        return np.concatenate(
            [
                self.joints_rad - NOMINAL_RAD,
                self.data.qvel[6:],
                self.gravity,
                self.data.qvel[3:6],
                self._estimate,
                [np.sin(heading), np.cos(heading)],
                self._action,
                self._error,
                self._slow,
            ]
        ).astype(np.float32)

    def fallen(self) -> bool:
        return bool(-self.gravity[2] < FALLEN_UPRIGHT or self.data.qpos[2] < FALLEN_HEIGHT_M)

    def reward(self) -> float:
        """In [0, 1]: speed along the world's x axis up to `TARGET_SPEED_M_S`, times how upright the trunk is; 0 when it
        has fallen (after Smith et al. 2022, A Walk in the Park: a linear rise to a target speed)."""
        return walking_reward(self.data.qvel[0], -self.gravity[2], self.fallen())

    def render(self, height: int, width: int, camera: str = "follow") -> np.ndarray:
        """uint8 RGB ``(height, width, 3)``; the camera moves with the robot."""
        if self._pictures is None:
            self._pictures = Pictures(self.model)
        return self._pictures.draw(self.data, camera, height, width, beauty=True)

    def close(self) -> None:
        if self._pictures is not None:
            self._pictures.close()
            self._pictures = None


def walking_reward(speed_m_s: float, upright: float, fallen: bool) -> float:
    """``clip(speed / TARGET_SPEED_M_S, 0, 1) · clip(upright, 0, 1)²``; `upright` is the cosine of the trunk's tilt."""
    if fallen:
        return 0.0
    return float(np.clip(speed_m_s / TARGET_SPEED_M_S, 0.0, 1.0) * np.clip(upright, 0.0, 1.0) ** 2)
