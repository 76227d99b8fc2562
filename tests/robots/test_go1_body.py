"""The Go1's geometry against the simulated one, which has it from the robot's description."""

from __future__ import annotations

from dataclasses import replace

import mujoco
import numpy as np
import pytest

from actor.robots.go1_body import LegOdometry, feet_m, leg_jacobians, trunk_velocity
from simulation.go1 import ACTION_SCALE_RAD, TIMESTEP_S, Go1
from simulation.go1_gaits import action
from simulation.go1_library import LIBRARY
from simulation.go1_model import LEGS, LOWER_RAD, NOMINAL_RAD, UPPER_RAD


def test_feet_are_where_the_simulation_has_them():
    robot, rng = Go1(seed=0), np.random.default_rng(0)
    for _ in range(50):
        joints = rng.uniform(LOWER_RAD, UPPER_RAD)
        robot.data.qpos[:7], robot.data.qpos[7:] = (0, 0, 0, 1, 0, 0, 0), joints
        mujoco.mj_kinematics(robot.model, robot.data)
        expected = [robot.data.site(f"{leg}_foot").xpos for leg in LEGS]
        np.testing.assert_allclose(feet_m(joints), expected, atol=1e-9)


def test_foot_velocities_are_the_derivative_of_the_positions():
    rng = np.random.default_rng(1)
    for _ in range(20):
        joints, speeds = rng.uniform(LOWER_RAD, UPPER_RAD), rng.normal(size=12)
        by_difference = (feet_m(joints + 1e-6 * speeds) - feet_m(joints - 1e-6 * speeds)) / 2e-6
        np.testing.assert_allclose((leg_jacobians(joints) @ speeds.reshape(4, 3, 1))[:, :, 0], by_difference, atol=1e-7)


def test_a_trunk_that_moves_over_feet_that_stand_is_seen_by_its_legs():
    """Feet are held in place while the trunk moves and turns; the joint speeds that this takes tell the trunk's velocity."""
    joints, rng = np.tile([0.1, 0.9, -1.8], 4), np.random.default_rng(2)
    jacobians, push = leg_jacobians(joints), np.array([0.0, 0.0, 30.0])
    torques = np.concatenate([-jacobian.T @ push for jacobian in jacobians])
    for _ in range(20):
        velocity = rng.normal(size=3)
        speeds = np.concatenate([np.linalg.solve(jacobian, -velocity) for jacobian in jacobians])
        seen = trunk_velocity(joints, speeds, torques, np.eye(3), np.zeros(3))
        rolling = 0.023 * np.abs(speeds.reshape(4, 3)).sum(axis=1).max()
        np.testing.assert_allclose(seen, velocity, atol=rolling + 1e-9)
    assert trunk_velocity(joints, speeds, np.zeros(12), np.eye(3), np.zeros(3)) is None, "no foot carries weight"


@pytest.mark.parametrize("stride_m", [0.16, -0.16])
def test_leg_odometry_sees_at_least_half_of_the_way_of_a_trot_that_slips(stride_m):
    robot, odometry = Go1(seed=0, control_rate_hz=20), LegOdometry()
    gait = replace(LIBRARY["trot"], stride_m=stride_m)
    start, now_s = robot.position_m, 0.0
    for step in range(100):
        command = action(gait, step / 20, robot.heading_rad, robot.data.qvel[5])
        robot.data.ctrl[:] = NOMINAL_RAD + ACTION_SCALE_RAD * command
        for _ in range(10):
            mujoco.mj_step(robot.model, robot.data)
            now_s += TIMESTEP_S
            turn, gyroscope = robot.data.qpos[[4, 5, 6, 3]], robot.data.qvel[3:6]
            heading = odometry.update(now_s, robot.joints_rad, robot.data.qvel[6:], robot.data.actuator_force, turn, gyroscope)
    walked = robot.position_m[0] - start[0]
    assert abs(walked) > 0.8
    assert 0.5 < odometry.position_m[0] / walked < 1.1
    assert abs(odometry.position_m[1] - robot.position_m[1] + start[1]) < 0.2
    assert abs(heading) < 0.2


def test_a_long_silence_adds_no_way():
    odometry, joints = LegOdometry(), np.tile([0.0, 0.9, -1.8], 4)
    level, still = np.array([0.0, 0.0, 0.0, 1.0]), np.zeros(3)
    for now_s in (0.0, 5.0):
        odometry.update(now_s, joints, np.full(12, 0.5), np.tile([0.0, 0.0, 6.0], 4), level, still)
    assert not odometry.position_m.any()
