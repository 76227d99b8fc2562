"""Robots, one file per kind. `make_robot` is the only place that knows which kinds there are; it imports them lazily."""

from __future__ import annotations

from etude.config import RunConfig
from etude.robot import Robot


def make_robot(config: RunConfig, seed: int) -> Robot:
    """The robot of a run. Raises ConfigError when the task does not fit it."""
    if config.robot.kind == "gymnasium":
        from actor.robots.gymnasium import GymnasiumRobot

        return GymnasiumRobot(config.task, config.robot, config.observation, seed)
    if config.robot.go1 is not None:
        from actor.robots.go1 import Go1Robot

        return Go1Robot(config.task, config.robot, config.observation, namespace=config.robot_namespace)
    if config.robot.kind == "go1":
        from actor.robots.go1_sim import Go1SimRobot

        return Go1SimRobot(config.task, config.robot, config.observation, seed)
    if config.robot.arms:
        from actor.robots.two_arms import TwoArms

        return TwoArms(config.task, config.robot, config.observation, namespace=config.robot_namespace)
    if config.robot.kind == "franka":
        from actor.robots.franka import FrankaRobot

        return FrankaRobot(config.task, config.robot, config.observation, namespace=config.robot_namespace)
    from actor.robots.mujoco import MujocoRobot

    return MujocoRobot(config.task, config.robot, config.observation, seed)
