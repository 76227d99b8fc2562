"""The simulated Go1 keeps the robot protocol, its actions pass the safety filter, and it gets up by itself."""

from __future__ import annotations

import time

import numpy as np
import pytest

from actor.robots import make_robot
from actor.robots.go1_sim import Go1SimRobot
from actor.safety import filter_action
from etude.config import ConfigError, RunConfig, build, read_named


def run_config(observation: str = "state", **task: object) -> RunConfig:
    recipe = {"name": "test", "reward": {"kind": "environment"}}
    data = {"task": read_named("tasks", "go1_walk") | task, "robot": read_named("robots", "sim_go1"), "recipe": recipe}
    return build(RunConfig, data | {"observation": observation}, "test")


def test_the_expert_walks_there_and_back_through_the_safety_filter():
    config = run_config()
    robot, rng, previous = make_robot(config, seed=0), np.random.default_rng(0), None
    assert isinstance(robot, Go1SimRobot)
    for phase in ("forward", "backward"):
        for _ in range(config.task.forward.max_steps):
            reading = robot.read()
            robot.observation_spec.check(reading.observation)
            if reading.success_truth[phase]:
                break
            previous, reasons = filter_action(
                robot.expert_action(phase, rng),
                reading,
                config.robot.safety,
                robot.action_spec,
                time.monotonic(),
                observation_spec=robot.observation_spec,
                previous=previous,
            )
            assert not reasons
            robot.act(previous)
        assert robot.read().success_truth[phase]
    robot.close()


def test_pixels_show_the_robot_from_a_camera_that_follows():
    robot = make_robot(run_config("pixels"), seed=0)
    reading = robot.read()
    robot.observation_spec.check(reading.observation)
    assert reading.observation["image/follow"].std() > 10
    robot.close()


def test_a_robot_that_falls_stands_up_in_the_same_act():
    robot = make_robot(run_config(), seed=0)
    half = np.deg2rad(100) / 2
    robot.go1.data.qpos[3:7] = (np.cos(half), np.sin(half), 0, 0)
    robot.act(robot.action_spec.zeros())
    assert not robot.read().faults and -robot.go1.gravity[2] > 0.9
    robot.close()


def test_a_reset_begins_where_the_phase_begins():
    robot, rng = make_robot(run_config(), seed=0), np.random.default_rng(0)
    robot.hard_reset("backward", rng)
    assert not robot.read().success_truth["backward"] and robot.read().observation["state"][-1] == pytest.approx(1.0, abs=0.1)
    robot.hard_reset("forward", rng)
    assert not robot.read().success_truth["forward"]
    robot.close()


def test_what_it_does_not_know_is_refused():
    with pytest.raises(ConfigError, match="distance_m"):
        make_robot(run_config(options={"speed": 1.0}), seed=0)
    with pytest.raises(ConfigError, match="follow and side"):
        make_robot(run_config("pixels", cameras=["wrist"]), seed=0)
