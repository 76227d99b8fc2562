"""Frame maths against SciPy and against derivations that share no code with it, on 10,000 random cases."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy.linalg import expm
from scipy.spatial.transform import Rotation

from etude import frames

CASES = 10_000
RNG = np.random.default_rng(7)
ROTATIONS = Rotation.random(CASES, random_state=7)
POSITIONS = RNG.uniform(-2, 2, (CASES, 3))
TWISTS = RNG.normal(size=(CASES, 6))


def poses() -> list[np.ndarray]:
    return [frames.pose(p, r) for p, r in zip(POSITIONS, ROTATIONS.as_matrix(), strict=True)]


def test_rotations_agree_with_scipy_in_every_form():
    for matrix, quaternion, vector in zip(
        ROTATIONS.as_matrix(), ROTATIONS.as_quat(canonical=True), ROTATIONS.as_rotvec(), strict=True
    ):
        np.testing.assert_allclose(frames.rotation_from_quaternion(quaternion), matrix, atol=1e-12)
        np.testing.assert_allclose(frames.quaternion_from_rotation(matrix), quaternion, atol=1e-12)
        np.testing.assert_allclose(frames.rotation_from_vector(vector), matrix, atol=1e-12)
        np.testing.assert_allclose(frames.vector_from_rotation(matrix), vector, atol=1e-9)


@pytest.mark.parametrize("angle", [0.0, 1e-12, 1e-7, 1e-3, np.pi - 1e-9, np.pi])
def test_tiny_and_half_turns_come_back(angle: float):
    for axis in (*np.eye(3), np.array([0.6, -0.64, 0.48])):
        matrix = frames.rotation_from_vector(angle * axis)
        np.testing.assert_allclose(matrix, Rotation.from_rotvec(angle * axis).as_matrix(), atol=1e-12)
        again = frames.rotation_from_vector(frames.vector_from_rotation(matrix))
        np.testing.assert_allclose(again, matrix, atol=1e-9)


def test_the_order_is_that_of_ros():
    quarter = np.sqrt(0.5)
    np.testing.assert_allclose(
        frames.rotation_from_quaternion(np.array([0, 0, quarter, quarter])) @ [1, 0, 0], [0, 1, 0], atol=1e-12
    )


@pytest.mark.parametrize("numbers", [[0, 0, 0, 0], [np.nan, 0, 0, 1], [np.inf, 0, 0, 1]])
def test_a_message_that_was_never_filled_is_refused(numbers):
    with pytest.raises(ValueError, match="x, y, z, w"):
        frames.rotation_from_quaternion(np.array(numbers, float))


def test_a_position_that_is_not_finite_is_refused():
    with pytest.raises(ValueError, match="not finite"):
        frames.pose_from_ros(np.array([0.5, np.nan, 0.2]), np.array([1.0, 0.0, 0.0, 0.0]))


def test_inverse_and_relative_poses():
    all_poses = poses()
    for matrix, other in itertools.pairwise(all_poses):
        np.testing.assert_allclose(frames.inverse(matrix), np.linalg.inv(matrix), atol=1e-10)
        np.testing.assert_allclose(matrix @ frames.relative_to(matrix, other), other, atol=1e-10)


def hat(twist: np.ndarray) -> np.ndarray:
    """The ``(4, 4)`` matrix of a twist, element by element."""
    (vx, vy, vz), (wx, wy, wz) = twist[:3], twist[3:]
    return np.array([[0, -wz, wy, vx], [wz, 0, -wx, vy], [-wy, wx, 0, vz], [0, 0, 0, 0]])


def test_the_adjoint_is_conjugation_by_the_pose():
    """Independent derivation: hat(Ad_T xi) = T hat(xi) T^-1, with a numerical inverse."""
    for matrix, twist in zip(poses(), TWISTS, strict=True):
        np.testing.assert_allclose(hat(frames.adjoint(matrix) @ twist), matrix @ hat(twist) @ np.linalg.inv(matrix), atol=1e-9)


def test_the_adjoint_moves_a_body_as_its_own_twist_does():
    """exp(Ad_T xi) T = T exp(xi), with SciPy's matrix exponential."""
    for matrix, twist in list(zip(poses(), TWISTS, strict=True))[:300]:
        left = expm(hat(frames.adjoint(matrix) @ twist)) @ matrix
        np.testing.assert_allclose(left, matrix @ expm(hat(twist)), atol=1e-8)


def test_a_pure_y_command_in_the_tool_frame_stays_a_pure_translation():
    command = np.array([0, 1.0, 0, 0, 0, 0])
    for matrix in poses():
        seen = frames.adjoint(matrix) @ command
        assert not seen[3:].any(), "no rotation"
        np.testing.assert_allclose(seen[:3], matrix[:3, 1], atol=1e-12)
        moved = frames.moved_in_tool(matrix, 0.03 * command[:3], np.zeros(3))
        np.testing.assert_allclose(moved[:3, :3], matrix[:3, :3], atol=1e-12)
        np.testing.assert_allclose(frames.relative_to(matrix, moved)[:3, 3], [0, 0.03, 0], atol=1e-10)


def test_moves_in_tool_and_base_frame_agree_through_the_rotation():
    for matrix, twist in zip(poses(), TWISTS, strict=True):
        turned = frames.turn_twist(matrix[:3, :3], twist)
        in_base = frames.moved_in_base(matrix, turned[:3], turned[3:])
        np.testing.assert_allclose(frames.moved_in_tool(matrix, twist[:3], twist[3:]), in_base, atol=1e-9)


def test_power_does_not_depend_on_the_axes():
    for rotation, twist, wrench in zip(ROTATIONS.as_matrix(), TWISTS, TWISTS[::-1], strict=True):
        seen = frames.turn_wrench(rotation, wrench) @ frames.turn_twist(rotation, twist)
        assert seen == pytest.approx(wrench @ twist, abs=1e-9)


def test_turning_part_of_the_way_is_part_of_the_angle():
    matrices = ROTATIONS.as_matrix()
    for start, goal, share in zip(matrices[:500], matrices[500:1000], RNG.uniform(0, 1, 500), strict=True):
        way = frames.angle_between(start, goal)
        assert way == pytest.approx((Rotation.from_matrix(start).inv() * Rotation.from_matrix(goal)).magnitude(), abs=1e-9)
        assert frames.angle_between(start, frames.turned_towards(start, goal, share)) == pytest.approx(share * way, abs=1e-6)
