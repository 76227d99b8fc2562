"""Rigid motions: rotations, poses, twists and what changes when they are seen from another frame. NumPy alone, no ROS.

Separate so that one order of quaternions and of twists holds everywhere. Quaternions are those of ROS messages, (x, y, z, w),
unit length. A pose is a homogeneous matrix ``(4, 4)`` that takes points of its own frame to the base frame. A twist is
(vx, vy, vz, wx, wy, wz): linear first, m/s and rad/s. Rotation vectors are axis times angle, rad.

Source: Murray, Li and Sastry 1994, chapter 2; their adjoint has the same order (linear first).
"""

from __future__ import annotations

import numpy as np

SMALL_ANGLE_RAD = 1e-8


def skew(vector: np.ndarray) -> np.ndarray:
    """The matrix ``(3, 3)`` with ``skew(a) @ b == cross(a, b)``."""
    x, y, z = vector
    return np.array([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]])


# --- rotations ----------------------------------------------------------------------------------------------------------


def rotation_from_vector(vector: np.ndarray) -> np.ndarray:
    """Rotation matrix ``(3, 3)`` of a rotation vector ``(3,)`` (Rodrigues)."""
    angle = float(np.linalg.norm(vector))
    if angle < SMALL_ANGLE_RAD:
        return np.eye(3) + skew(vector)
    k = skew(np.asarray(vector) / angle)
    return np.eye(3) + np.sin(angle) * k + (1.0 - np.cos(angle)) * (k @ k)


def vector_from_rotation(rotation: np.ndarray) -> np.ndarray:
    """Rotation vector ``(3,)`` of a rotation matrix, at most pi long. By way of the quaternion, which is exact near 0 and pi."""
    return vector_from_quaternion(quaternion_from_rotation(rotation))


def vector_from_quaternion(quaternion: np.ndarray) -> np.ndarray:
    """Rotation vector ``(3,)`` of a unit quaternion (x, y, z, w), at most pi long."""
    quaternion = np.asarray(quaternion, float)
    if quaternion[3] < 0:
        quaternion = -quaternion
    sine = float(np.linalg.norm(quaternion[:3]))
    if sine < SMALL_ANGLE_RAD:
        return 2.0 * quaternion[:3]
    return quaternion[:3] * (2.0 * np.arctan2(sine, quaternion[3]) / sine)


def rotation_from_quaternion(quaternion: np.ndarray) -> np.ndarray:
    """Rotation matrix of a quaternion (x, y, z, w). It is brought to unit length first.

    Raises:
        ValueError: it is not finite, or too short to mean a rotation (a message that was never filled is all zeros).
    """
    quaternion = np.asarray(quaternion, float)
    length = float(np.linalg.norm(quaternion))
    if not np.isfinite(length) or length < 1e-6:
        raise ValueError(f"quaternion {quaternion} is not a rotation: was the message filled? The order is x, y, z, w")
    x, y, z, w = quaternion / length
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
    )


def quaternion_from_rotation(rotation: np.ndarray) -> np.ndarray:
    """Unit quaternion (x, y, z, w), w >= 0, of a rotation matrix: from its largest component (Shepperd 1978)."""
    xx, yy, zz = np.diagonal(rotation)
    squares = np.array([1 + xx - yy - zz, 1 - xx + yy - zz, 1 - xx - yy + zz, 1 + xx + yy + zz])  # 4 times each component's
    largest = int(np.argmax(squares))
    sums = {
        (0, 1): rotation[1, 0] + rotation[0, 1],
        (0, 2): rotation[0, 2] + rotation[2, 0],
        (1, 2): rotation[2, 1] + rotation[1, 2],
        (0, 3): rotation[2, 1] - rotation[1, 2],
        (1, 3): rotation[0, 2] - rotation[2, 0],
        (2, 3): rotation[1, 0] - rotation[0, 1],
    }
    quaternion = np.array([squares[i] if i == largest else sums[min(i, largest), max(i, largest)] for i in range(4)])
    quaternion /= np.linalg.norm(quaternion)
    return -quaternion if quaternion[3] < 0 else quaternion


# --- poses --------------------------------------------------------------------------------------------------------------


def pose(position_m: np.ndarray, rotation: np.ndarray | None = None) -> np.ndarray:
    """Pose ``(4, 4)`` from a position ``(3,)`` and a rotation matrix; None is no rotation."""
    matrix = np.eye(4)
    matrix[:3, 3] = position_m
    if rotation is not None:
        matrix[:3, :3] = rotation
    return matrix


def pose_from_ros(position_m: np.ndarray, quaternion: np.ndarray) -> np.ndarray:
    """Pose of the numbers of a geometry_msgs/Pose: position ``(3,)`` and orientation (x, y, z, w). Raises ValueError."""
    if not np.isfinite(position_m).all():
        raise ValueError(f"position {position_m} is not finite")
    return pose(position_m, rotation_from_quaternion(quaternion))


def inverse(matrix: np.ndarray) -> np.ndarray:
    """Inverse of a pose."""
    rotation = matrix[:3, :3].T
    return pose(-rotation @ matrix[:3, 3], rotation)


# --- twists and wrenches ------------------------------------------------------------------------------------------------


def adjoint(matrix: np.ndarray) -> np.ndarray:
    """The ``(6, 6)`` that takes a twist (linear, angular) of the pose's own frame to the base frame.

    The blocks are ``[[R, skew(p) R], [0, R]]``: a pure translation stays one. The linear part of the result is the velocity of
    the point of the moving body that is at the base's origin, *not* of the tool; for that one use `turn_twist`.
    """
    rotation = matrix[:3, :3]
    result = np.zeros((6, 6))
    result[:3, :3] = result[3:, 3:] = rotation
    result[:3, 3:] = skew(matrix[:3, 3]) @ rotation
    return result


def turn_twist(rotation: np.ndarray, twist: np.ndarray) -> np.ndarray:
    """A twist of one point, e.g. of the tool centre point, along other axes: ``rotation`` takes the old axes to the new ones."""
    return np.concatenate((rotation @ twist[:3], rotation @ twist[3:]))


def turn_wrench(rotation: np.ndarray, wrench: np.ndarray) -> np.ndarray:
    """A wrench (force, torque) about one point along other axes; as `turn_twist`."""
    return turn_twist(rotation, wrench)


# --- actions and observations relative to the tool ----------------------------------------------------------------------


def moved_in_base(target: np.ndarray, displacement_m: np.ndarray, turn: np.ndarray) -> np.ndarray:
    """`target` displaced along the base axes, and turned about base axes through the tool by the rotation vector `turn`."""
    return pose(target[:3, 3] + displacement_m, rotation_from_vector(turn) @ target[:3, :3])


def moved_in_tool(target: np.ndarray, displacement_m: np.ndarray, turn: np.ndarray) -> np.ndarray:
    """`target` displaced along its own axes as they are before the turn, and turned about them through the tool."""
    return target @ pose(displacement_m, rotation_from_vector(turn))


def relative_to(reference: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """`matrix` as seen from the pose `reference`: with the start of an attempt as reference, observations do not depend on
    where the base stands (Luo et al. 2024, SERL, section III)."""
    return inverse(reference) @ matrix


def angle_between(first: np.ndarray, second: np.ndarray) -> float:
    """Angle of the rotation between two rotation matrices, rad, in [0, pi]."""
    return float(np.linalg.norm(vector_from_rotation(first.T @ second)))


def turned_towards(start: np.ndarray, goal: np.ndarray, share: float) -> np.ndarray:
    """The rotation at `share` in [0, 1] of the shortest way from `start` to `goal`."""
    return start @ rotation_from_vector(share * vector_from_rotation(start.T @ goal))
