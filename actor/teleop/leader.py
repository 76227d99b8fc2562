"""A leader arm (GELLO and the like) as a device: its joint states move the robot's tool as its own tool moves.

The leader has the kinematics of the follower, a Franka arm. Only its motion counts, not where it is: velocities of its tool
become velocities of the robot's, so that taking over from another pose does not jump.
"""

from __future__ import annotations

import math

import numpy as np

from actor.teleop.command import TeleopError
from actor.teleop.mapping import Sample
from etude.config import TeleopMapping

# Denavit-Hartenberg parameters of the Panda and the FR3 in Craig's convention (Franka's documentation): a, d, alpha
LINKS = (
    (0.0, 0.333, 0.0),
    (0.0, 0.0, -math.pi / 2),
    (0.0, 0.316, math.pi / 2),
    (0.0825, 0.0, math.pi / 2),
    (-0.0825, 0.384, -math.pi / 2),
    (0.0, 0.0, math.pi / 2),
    (0.088, 0.0, math.pi / 2),
)
FLANGE_TO_TOOL_M = 0.107 + 0.1034
LONGEST_STEP_S = 0.2
"""A longer gap between two joint states says nothing about velocity."""


def tool_pose(joints_rad: np.ndarray) -> np.ndarray:
    """Pose of the tool centre point in the base frame, ``(4, 4)``, for seven joint angles."""
    pose = np.eye(4)
    for (a, d, alpha), angle in zip(LINKS, joints_rad, strict=True):
        ca, sa, cq, sq = math.cos(alpha), math.sin(alpha), math.cos(angle), math.sin(angle)
        pose = pose @ np.array(
            [[cq, -sq, 0.0, a], [sq * ca, cq * ca, -sa, -d * sa], [sq * sa, cq * sa, ca, d * ca], [0.0, 0.0, 0.0, 1.0]]
        )
    return pose @ np.block([[np.eye(3), np.array([[0.0], [0.0], [FLANGE_TO_TOOL_M]])], [np.zeros((1, 3)), np.ones((1, 1))]])


class Leader:
    """Joint states -> samples. Axes ``linear_x`` … ``angular_z`` in m/s and rad/s, base frame, and ``gripper`` as it is."""

    def __init__(self, mapping: TeleopMapping) -> None:
        self._names = mapping.leader_joints
        self._offsets = np.asarray(mapping.leader_offsets_rad or (0.0,) * 7)
        self._last: tuple[float, np.ndarray] | None = None

    def sample(self, names: list[str], positions: list[float], stamp_s: float, buttons: frozenset[str]) -> Sample:
        """The motion since the joint state before; none for the first one and after a gap.

        Raises:
            TeleopError: a joint of the mapping is not in the message.
        """
        angles = dict(zip(names, positions, strict=False))
        missing = [name for name in self._names if name not in angles]
        if missing:
            raise TeleopError(
                f"the leader's joint states lack {', '.join(missing)}; leader_joints in the mapping file names them"
            )
        pose = tool_pose(np.array([angles[name] for name in self._names[:7]]) + self._offsets)
        before, self._last = self._last, (stamp_s, pose)
        axes = {"gripper": float(np.clip(angles[self._names[7]], -1.0, 1.0))}
        if before is not None and 0.0 < stamp_s - before[0] <= LONGEST_STEP_S:
            step_s = stamp_s - before[0]
            turn = pose[:3, :3] @ before[1][:3, :3].T
            # small turns: the axis times the angle is half the antisymmetric part
            angular = np.array([turn[2, 1] - turn[1, 2], turn[0, 2] - turn[2, 0], turn[1, 0] - turn[0, 1]]) / (2 * step_s)
            linear = (pose[:3, 3] - before[1][:3, 3]) / step_s
            for kind, vector in (("linear", linear), ("angular", angular)):
                axes |= {f"{kind}_{axis}": float(value) for axis, value in zip("xyz", vector, strict=True)}
        return Sample(axes, buttons)
