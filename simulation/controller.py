"""Ten-hertz end-effector control: displacements of the tool centre point become joint targets (damped least squares).

Separate from the scenes because it is the same for all of them, and because it is the hot path of a control step.
"""

from __future__ import annotations

import mujoco
import numpy as np

from simulation import panda

LEAD_M = 0.05
"""The commanded target never leads the actual tool centre point by more than this."""
LEAD_RAD = 0.3
FINGER_LEAD_M = 0.012
"""How far a finger's target leads the finger: bounds its speed (0.12 m/s) and the force of a grasp (14 N)."""
_DAMPING = 0.02
_NULLSPACE_GAIN = 0.1
_CHUNKS = 5


class EndEffectorController:
    """Moves the arm of `model` in `data` one control period per `step`.

    The target is clipped to the workspace box (base frame, metres); the gripper always points down, turned by `yaw`.
    """

    def __init__(
        self,
        model: mujoco.MjModel,
        data: mujoco.MjData,
        workspace_min_m: np.ndarray,
        workspace_max_m: np.ndarray,
        control_period_s: float,
    ) -> None:
        self.model, self.data = model, data
        self.workspace_min_m, self.workspace_max_m = np.asarray(workspace_min_m, float), np.asarray(workspace_max_m, float)
        self._period_s = control_period_s
        self._substeps = max(_CHUNKS, round(control_period_s / model.opt.timestep))
        self._site = model.site("tcp").id
        self._arm_qpos = np.array([model.joint(f"joint{i}").qposadr[0] for i in range(1, 8)])
        self._arm_dof = np.array([model.joint(f"joint{i}").dofadr[0] for i in range(1, 8)])
        self._finger_qpos = np.array([model.joint(name).qposadr[0] for name in ("finger_left", "finger_right")])
        self._scratch = mujoco.MjData(model)
        self._jacp, self._jacr = np.zeros((3, model.nv)), np.zeros((3, model.nv))
        self.target_m = np.zeros(3)
        self.target_yaw_rad = 0.0
        self._joint_target = panda.HOME_RAD.copy()

    # --- what the arm is doing ------------------------------------------------------------------------------------

    @property
    def tcp_m(self) -> np.ndarray:
        """Tool centre point, base frame, metres ``(3,)``; a copy."""
        return self.data.site_xpos[self._site].copy()

    @property
    def yaw_rad(self) -> float:
        rotation = self.data.site_xmat[self._site]
        return float(np.arctan2(rotation[3], rotation[0]))

    @property
    def opening_m(self) -> float:
        """Distance between the finger pads, metres."""
        return float(self.data.qpos[self._finger_qpos].sum())

    @property
    def joints_rad(self) -> np.ndarray:
        return self.data.qpos[self._arm_qpos]

    def tcp_velocity_m_s(self) -> np.ndarray:
        mujoco.mj_jacSite(self.model, self.data, self._jacp, None, self._site)
        return self._jacp[:, self._arm_dof] @ self.data.qvel[self._arm_dof]

    def tool_wrench(self) -> np.ndarray:
        """What contacts exert on the tool centre point, base frame: force N and torque N m ``(6,)``, as joint torques show it."""
        mujoco.mj_jacSite(self.model, self.data, self._jacp, self._jacr, self._site)
        jacobian = np.vstack((self._jacp, self._jacr))[:, self._arm_dof]
        return np.linalg.lstsq(jacobian.T, self.data.qfrc_constraint[self._arm_dof], rcond=None)[0]

    # --- commands -------------------------------------------------------------------------------------------------

    def place(self, tcp_m: np.ndarray, yaw_rad: float, opening_m: float) -> None:
        """Put the arm, at rest, where its tool centre point is at `tcp_m`. For resets."""
        self._joint_target = self._solve(panda.HOME_RAD.copy(), np.asarray(tcp_m, float), yaw_rad, iterations=60, step_limit=0.3)
        self.data.qpos[self._arm_qpos] = self._joint_target
        self.data.qpos[self._finger_qpos] = opening_m / 2
        self.data.qvel[self._arm_dof] = 0.0
        self.data.ctrl[:7] = self._joint_target
        self.data.ctrl[7:9] = opening_m / 2
        mujoco.mj_forward(self.model, self.data)
        self.target_m, self.target_yaw_rad = np.asarray(tcp_m, float).copy(), float(yaw_rad)

    def hold(self) -> None:
        """The target becomes the current pose."""
        self.target_m, self.target_yaw_rad = self.tcp_m, self.yaw_rad
        self._joint_target = self.data.qpos[self._arm_qpos].copy()
        self.data.ctrl[:7] = self._joint_target

    def step(self, displacement_m: np.ndarray, yaw_rad: float, opening_m: float) -> None:
        """Advance one control period: move the target by `displacement_m` ``(3,)`` and `yaw_rad`, fingers towards `opening_m`."""
        actual = self.data.site_xpos[self._site]
        wanted = self.target_m + displacement_m
        wanted = actual + np.clip(wanted - actual, -LEAD_M, LEAD_M)
        self.target_m = np.clip(wanted, self.workspace_min_m, self.workspace_max_m)
        actual_yaw = self.yaw_rad
        self.target_yaw_rad = actual_yaw + np.clip(_wrap(self.target_yaw_rad + yaw_rad - actual_yaw), -LEAD_RAD, LEAD_RAD)

        before = self._joint_target
        limit = panda.MAX_VELOCITY_RAD_S * self._period_s
        solved = self._solve(before.copy(), self.target_m, self.target_yaw_rad, iterations=2, step_limit=0.2)
        after = before + np.clip(solved - before, -limit, limit)
        self._joint_target = after

        ctrl, data = self.data.ctrl, self.data
        lead = (after - before) / self._period_s * (panda.DAMPING / panda.STIFFNESS)
        fingers = data.qpos[self._finger_qpos]
        finger_before = ctrl[7:9].copy()
        finger_after = np.clip(np.clip(opening_m / 2, fingers - FINGER_LEAD_M, fingers + FINGER_LEAD_M), 0.0, panda.MAX_FINGER_M)
        done = 0
        for chunk in range(1, _CHUNKS + 1):
            share = chunk / _CHUNKS
            ctrl[:7] = before + (after - before) * share + lead
            ctrl[7:9] = finger_before + (finger_after - finger_before) * share
            until = round(self._substeps * share)
            mujoco.mj_step(self.model, data, until - done)
            done = until
        ctrl[:7] = after
        mujoco.mj_forward(self.model, data)

    def _solve(self, joints: np.ndarray, position: np.ndarray, yaw: float, iterations: int, step_limit: float) -> np.ndarray:
        """Joint angles near `joints` that bring the tool centre point to `position`, pointing down at `yaw`."""
        scratch, model = self._scratch, self.model
        cos, sin = np.cos(yaw), np.sin(yaw)
        goal = np.array([[cos, sin, 0.0], [sin, -cos, 0.0], [0.0, 0.0, -1.0]])  # Rz(yaw) @ Rx(pi)
        jacobian, error = np.empty((6, 7)), np.empty(6)
        for _ in range(iterations):
            scratch.qpos[self._arm_qpos] = joints
            mujoco.mj_kinematics(model, scratch)
            mujoco.mj_comPos(model, scratch)
            mujoco.mj_jacSite(model, scratch, self._jacp, self._jacr, self._site)
            jacobian[:3], jacobian[3:] = self._jacp[:, self._arm_dof], self._jacr[:, self._arm_dof]
            current = scratch.site_xmat[self._site].reshape(3, 3)
            error[:3] = position - scratch.site_xpos[self._site]
            error[3:] = 0.5 * _cross_columns(current, goal)
            inverse = np.linalg.solve(jacobian @ jacobian.T + _DAMPING**2 * np.eye(6), np.column_stack((error, jacobian)))
            towards_home = _NULLSPACE_GAIN * (panda.HOME_RAD - joints)
            change = jacobian.T @ inverse[:, 0] + towards_home - jacobian.T @ (inverse[:, 1:] @ towards_home)
            joints = np.clip(joints + np.clip(change, -step_limit, step_limit), panda.LOWER_RAD + 0.02, panda.UPPER_RAD - 0.02)
        return joints


def _cross_columns(current: np.ndarray, goal: np.ndarray) -> np.ndarray:
    """Sum over columns of current × goal: twice the sine of the rotation between them, along its axis."""
    skew = goal @ current.T
    return np.array([skew[2, 1] - skew[1, 2], skew[0, 2] - skew[2, 0], skew[1, 0] - skew[0, 1]])


def _wrap(angle: float) -> float:
    return float((angle + np.pi) % (2 * np.pi) - np.pi)
