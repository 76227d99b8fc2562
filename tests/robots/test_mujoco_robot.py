"""The simulated Panda keeps the robot protocol, for every task in robot_configs/tasks."""

import numpy as np
import pytest

from actor.robots import make_robot
from actor.robots.mujoco import MujocoRobot
from etude.config import CONFIG_ROOT, RobotConfig, RunConfig, TaskConfig, build, read_named
from etude.specs import SpecError

TASKS = sorted(path.stem for path in (CONFIG_ROOT / "tasks").glob("*.yaml") if "scene" in read_named("tasks", path.stem))


def run_config(task: str, robot: str = "sim_panda", observation: str = "state") -> RunConfig:
    recipe = {"name": "test", "reward": {"kind": "environment"}}
    data = {"task": read_named("tasks", task), "robot": read_named("robots", robot), "recipe": recipe, "observation": observation}
    return build(RunConfig, data, "test")


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("observation", ["state", "pixels"])
def test_reading_fits_the_spec_and_acting_moves_the_arm(task, observation):
    robot = make_robot(run_config(task, observation=observation), seed=0)
    rng = np.random.default_rng(0)
    first = robot.read()
    robot.observation_spec.check(first.observation)
    assert set(first.success_truth) == {"forward", "backward"} and not first.object_lost
    for _ in range(3):
        robot.act(robot.expert_action("forward", rng))
    second = robot.read()
    assert np.linalg.norm(second.tcp_position_m - first.tcp_position_m) > 0.01
    np.testing.assert_allclose(second.observation["state"][:3], second.tcp_position_m, atol=1e-5)
    assert second.stamp_s > first.stamp_s
    robot.close()


def test_reading_twice_draws_once():
    robot = make_robot(run_config("slide", observation="pixels"), seed=0)
    assert robot.read() is robot.read()
    robot.hard_reset("backward", np.random.default_rng(1))
    assert robot.read().success_truth["backward"] is False
    robot.close()


def test_an_action_outside_the_spec_is_refused():
    robot = make_robot(run_config("slide"), seed=0)
    with pytest.raises(SpecError, match="outside"):
        robot.act(np.array([2.0, 0.0, 0.0], np.float32))
    with pytest.raises(SpecError, match="float32"):
        robot.act(np.zeros(3))


def test_the_same_seed_gives_the_same_start():
    first, second, other = (make_robot(run_config("slide"), seed=seed).read().observation["state"] for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, second)
    assert not np.array_equal(first, other)


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("name", ["sim_panda", "sim_panda_fast"])
def test_the_safety_limits_leave_room_for_the_task(task, name):
    limits = build(RobotConfig, read_named("robots", name), name).safety
    robot = MujocoRobot(
        build(TaskConfig, read_named("tasks", task), task), build(RobotConfig, read_named("robots", name), name), "state", 0
    )
    scene = robot.tabletop.scene
    assert np.all(np.array(limits.workspace_min_m) <= scene.workspace_min_m)
    assert np.all(np.array(limits.workspace_max_m) >= scene.workspace_max_m)
    assert limits.workspace_min_m[2] > 0.01  # the fingertips reach 9 mm below the tool centre point
    assert limits.max_translation_per_step_m > np.linalg.norm(robot.action_spec.scale[:3])
