"""A Go1's legs as geometry: where its feet are, and how fast the trunk moves by the legs that stand (leg odometry).

Separate from `simulation`, which a robot's computer does not have. Trunk frame: x ahead, y left, z up; legs FR, FL, RR, RL.
Lengths: Unitree's robot description of the Go1.
"""

from __future__ import annotations

import numpy as np

from etude import frames

HIPS_M = np.array([[0.1881, -0.04675, 0.0], [0.1881, 0.04675, 0.0], [-0.1881, -0.04675, 0.0], [-0.1881, 0.04675, 0.0]])
SIDE = np.array([-1.0, 1.0, -1.0, 1.0])
HIP_M, THIGH_M, SHANK_M, FOOT_RADIUS_M = 0.08, 0.213, 0.213, 0.023
STANDING_N = 20.0
"""A foot that pushes down with more than this stands; the robot weighs 120 N."""
LONGEST_GAP_S = 0.2
"""After a longer silence nothing is known of the way meanwhile."""


def feet_m(joints_rad: np.ndarray) -> np.ndarray:
    """Feet in the trunk's frame ``(4, 3)`` of joint angles ``(12,)``."""
    return _legs(joints_rad)[0]


def leg_jacobians(joints_rad: np.ndarray) -> np.ndarray:
    """``(4, 3, 3)``: foot velocity (rows x, y, z, trunk frame) per joint speed (columns hip, thigh, calf)."""
    feet, thighs, knees, axes = _legs(joints_rad)
    ahead = np.array([1.0, 0.0, 0.0])
    return np.stack([np.cross(ahead, feet - HIPS_M), np.cross(axes, feet - thighs), np.cross(axes, feet - knees)], axis=2)


def _legs(joints_rad: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Feet, thigh joints, knees, and the common axis of thigh and knee, ``(4, 3)`` each."""
    hip, thigh, knee = np.asarray(joints_rad, float).reshape(4, 3).T
    cos, sin = np.cos(hip), np.sin(hip)
    zero = np.zeros(4)
    across = np.stack([zero, cos, sin], 1)  # the trunk's y axis, turned by the hip
    up = np.stack([zero, -sin, cos], 1)
    ahead = np.array([1.0, 0.0, 0.0])
    thighs = HIPS_M + (SIDE * HIP_M)[:, None] * across

    def down(angle: np.ndarray) -> np.ndarray:
        return -np.sin(angle)[:, None] * ahead - np.cos(angle)[:, None] * up

    knees = thighs + THIGH_M * down(thigh)
    return knees + SHANK_M * down(thigh + knee), thighs, knees, across


def trunk_velocity(
    joints_rad: np.ndarray,
    speeds_rad_s: np.ndarray,
    torques_nm: np.ndarray,
    rotation: np.ndarray,
    gyroscope_rad_s: np.ndarray,
) -> np.ndarray | None:
    """Of the trunk in its own frame, m/s ``(3,)``: where feet that push down touch the floor, nothing moves. None in the air.

    `rotation` ``(3, 3)`` is trunk to world. Feet are balls that roll: what stands still is their lowest point.
    """
    feet, jacobians, axes = feet_m(joints_rad), leg_jacobians(joints_rad), _legs(joints_rad)[3]
    speeds = np.asarray(speeds_rad_s, float).reshape(4, 3)
    # the pseudo-inverse, because a straight leg tells nothing of the push along it
    pushes = -(np.linalg.pinv(jacobians.transpose(0, 2, 1)) @ np.asarray(torques_nm, float).reshape(4, 3, 1))[:, :, 0]
    standing = (pushes @ rotation.T)[:, 2] > STANDING_N
    if not standing.any():
        return None
    shank_turns = gyroscope_rad_s + np.array([1.0, 0.0, 0.0]) * speeds[:, :1] + axes * speeds[:, 1:].sum(axis=1, keepdims=True)
    moving = (jacobians @ speeds[:, :, None])[:, :, 0] + np.cross(gyroscope_rad_s, feet)
    moving += np.cross(shank_turns, -FOOT_RADIUS_M * rotation[2])
    return -moving[standing].mean(axis=0)


class LegOdometry:
    """Integrates `trunk_velocity` to a position since the first `update`; x points where the trunk pointed then.

    It drifts, and where feet slip it sees less of the way than there is.
    """

    def __init__(self) -> None:
        self.velocity_m_s = np.zeros(3)
        self.position_m = np.zeros(2)
        self._start_yaw_rad: float | None = None
        self._last_s = -np.inf

    def update(
        self,
        now_s: float,
        joints_rad: np.ndarray,
        speeds_rad_s: np.ndarray,
        torques_nm: np.ndarray,
        quaternion_xyzw: np.ndarray,
        gyroscope_rad_s: np.ndarray,
    ) -> float:
        """Take in one state; the heading since the start, rad in [-pi, pi]."""
        rotation = frames.rotation_from_quaternion(quaternion_xyzw)
        yaw = float(np.arctan2(rotation[1, 0], rotation[0, 0]))
        if self._start_yaw_rad is None:
            self._start_yaw_rad = yaw
        velocity = trunk_velocity(joints_rad, speeds_rad_s, torques_nm, rotation, gyroscope_rad_s)
        if velocity is not None:
            self.velocity_m_s = velocity
        gap_s = now_s - self._last_s
        if 0.0 < gap_s <= LONGEST_GAP_S:
            self.position_m = self.position_m + gap_s * self._turned(rotation @ self.velocity_m_s)[:2]
        self._last_s = now_s
        return float(np.angle(np.exp(1j * (yaw - self._start_yaw_rad))))

    def _turned(self, vector: np.ndarray) -> np.ndarray:
        assert self._start_yaw_rad is not None
        return frames.rotation_from_vector(np.array([0.0, 0.0, -self._start_yaw_rad])) @ vector
