"""The arm's Jacobian against MuJoCo's, and what the filter does near a singularity."""

from __future__ import annotations

import numpy as np
import pytest

from actor.arm_jacobian import jacobian, singularity_margin
from actor.command_filter import CommandFilter, Measured
from actor.robots.franka import TOOL_DOWN
from etude import frames
from etude.config import ConfigError, RobotConfig, build, load_run_config, read_named
from etude.config.hardware import CommandLimits
from simulation.panda import HOME_RAD, LOWER_RAD, UPPER_RAD


def test_it_is_mujocos_jacobian_in_random_poses():
    from actor.robots import make_robot

    robot = make_robot(load_run_config("robot_configs/runs/demo_state.yaml", ["robot=sim_panda"]), 0)
    import mujoco

    model, data = robot.tabletop.model, mujoco.MjData(robot.tabletop.model)
    body = model.body("link7").id
    rng = np.random.default_rng(0)
    try:
        for _ in range(100):
            joints = rng.uniform(LOWER_RAD, UPPER_RAD)
            data.qpos[:7] = joints
            mujoco.mj_kinematics(model, data)
            mujoco.mj_comPos(model, data)
            tip = data.xpos[body] + data.xmat[body].reshape(3, 3) @ [0.0, 0.0, 0.15]
            linear, angular = np.zeros((3, model.nv)), np.zeros((3, model.nv))
            mujoco.mj_jac(model, data, linear, angular, tip, body)
            np.testing.assert_allclose(jacobian(joints, 0.15), np.vstack([linear, angular])[:, :7], atol=1e-6)
    finally:
        robot.close()


def test_the_margin_vanishes_where_a_direction_is_lost():
    assert singularity_margin(HOME_RAD) > 0.1
    folded_wrist = HOME_RAD.copy()
    folded_wrist[[1, 3]] = 0.0, -1e-9
    folded_wrist[5] = 0.0
    assert singularity_margin(folded_wrist) < 1e-3
    turned = HOME_RAD.copy()
    turned[0] = 1.3  # about the base's axis nothing changes
    assert singularity_margin(turned) == pytest.approx(singularity_margin(HOME_RAD))


@pytest.mark.parametrize("robot", ["franka_fr3", "franka_panda", "franka_sim"])
def test_near_a_singularity_only_the_way_back_is_open(robot):
    limits = build(RobotConfig, read_named("robots", robot), robot).franka.limits
    assert limits.min_singularity_margin_m > 0
    near = HOME_RAD.copy()
    near[3] = -0.4  # the wrist above the shoulder
    near = np.clip(near, np.array(limits.joint_min_rad) + 0.2, np.array(limits.joint_max_rad) - 0.2)
    assert singularity_margin(near) < limits.min_singularity_margin_m
    command_filter = CommandFilter(limits, 0.1)

    def go(y_m: float, steps: int, joints: np.ndarray) -> tuple[float, tuple[str, ...]]:
        reasons: tuple[str, ...] = ()
        for _ in range(steps):
            wanted = frames.pose(np.array([0.5, y_m, 0.2]), TOOL_DOWN)
            here = command_filter.pose if command_filter.pose is not None else frames.pose(np.array([0.5, 0.0, 0.2]), TOOL_DOWN)
            if command_filter.pose is None:
                command_filter.restart(here)
            command, reasons = command_filter.next(wanted, Measured(here, None, joints))
        return float(command[1, 3]), reasons

    middle = np.clip(HOME_RAD, np.array(limits.joint_min_rad) + 0.2, np.array(limits.joint_max_rad) - 0.2)
    go(0.1, 10, middle)
    there, _ = go(0.15, 5, middle)
    onwards, reasons = go(0.3, 10, near)
    assert onwards < there + 0.06 and any("singularity" in reason for reason in reasons)
    assert go(0.3, 5, near)[0] == pytest.approx(onwards), "it stays"
    assert go(0.0, 10, near)[0] < onwards - 0.02, "back is open"


def test_a_margin_without_seven_joints_is_refused():
    with pytest.raises(ConfigError, match="seven joints"):
        build(
            CommandLimits, {"workspace_min_m": (0, 0, 0), "workspace_max_m": (1, 1, 1), "min_singularity_margin_m": 0.02}, "arm"
        )
