"""Any Gymnasium environment by id is a robot."""

import gymnasium
import numpy as np
import pytest

from actor.robots import make_robot
from actor.robots.gymnasium import GymnasiumRobot
from etude.config import ConfigError, RobotConfig, RunConfig, TaskConfig

TASK = TaskConfig(name="any", forward={"instruction": "go"}, backward={"instruction": "come back"}, image_size_px=32)


class Walk(gymnasium.Env):
    """A point on a line; success is being right of 1; it ends at 2."""

    observation_space = gymnasium.spaces.Box(-3.0, 3.0, (1, 2), np.float64)
    action_space = gymnasium.spaces.Box(np.array([-0.5, 0.0]), np.array([0.5, 2.0]), dtype=np.float64)
    metadata = {"render_modes": ["rgb_array"]}  # noqa: RUF012

    def __init__(self, render_mode: str | None = None) -> None:
        self.render_mode, self.x, self.last_action = render_mode, 0.0, None

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.x = float(self.np_random.uniform(-0.1, 0.1))
        return np.array([[self.x, 0.0]]), {"is_success": False}

    def step(self, action):
        self.last_action = action
        self.x += float(action[0])
        return np.array([[self.x, 1.0]]), 0.0, self.x > 2, False, {"is_success": self.x > 1}

    def render(self):
        return np.full((90, 120, 3), 200, np.uint8)


class Discrete(Walk):
    action_space = gymnasium.spaces.Discrete(3)


gymnasium.register("EtudeWalk-v0", entry_point=Walk, disable_env_checker=True)
gymnasium.register("EtudeDiscrete-v0", entry_point=Discrete, disable_env_checker=True)


def robot(environment_id: str | None, observation: str = "state") -> GymnasiumRobot:
    return GymnasiumRobot(TASK, RobotConfig(name="gym", kind="gymnasium", environment_id=environment_id), observation, seed=0)


def test_pendulum_needs_no_extra_package():
    config = RunConfig(
        task=TASK,
        robot=RobotConfig(name="gym", kind="gymnasium", environment_id="Pendulum-v1"),
        recipe={"name": "test", "reward": {"kind": "environment"}},
        observation="state",
    )
    pendulum = make_robot(config, seed=0)
    pendulum.observation_spec.check(pendulum.read().observation)
    assert pendulum.action_spec.scale == (2.0,)
    for _ in range(250):  # beyond its time limit of 200
        pendulum.act(np.ones(1, np.float32))
    pendulum.observation_spec.check(pendulum.read().observation)
    assert pendulum.read().episode_over
    assert pendulum.read().success_truth is None
    pendulum.close()


def test_actions_are_scaled_from_minus_one_one_to_the_box():
    walk = robot("EtudeWalk-v0")
    walk.act(np.array([1.0, -1.0], np.float32))
    np.testing.assert_allclose(walk._env.unwrapped.last_action, [0.5, 0.0])
    assert walk._env.unwrapped.last_action.dtype == np.float64


def test_success_comes_from_info():
    walk = robot("EtudeWalk-v0")
    assert walk.read().success_truth == {"forward": False, "backward": True}
    for _ in range(3):
        walk.act(np.array([1.0, 0.0], np.float32))
    assert walk.read().success_truth == {"forward": True, "backward": False}
    walk.hard_reset("forward", np.random.default_rng(0))
    assert walk.read().success_truth == {"forward": False, "backward": True}


def test_the_end_of_an_episode_stays_to_be_seen_until_the_reset():
    walk = robot("EtudeWalk-v0")
    while walk._env.unwrapped.x <= 2:
        assert not walk.read().episode_over
        walk.act(np.array([1.0, 0.0], np.float32))
    last = walk.read()
    assert last.episode_over and last.observation["state"][0] > 2 and last.success_truth["forward"]
    walk.act(np.array([1.0, 0.0], np.float32))  # nothing leads on from there
    np.testing.assert_array_equal(walk.read().observation["state"], last.observation["state"])
    walk.hard_reset("forward", np.random.default_rng(0))
    assert not walk.read().episode_over and abs(walk.read().observation["state"][0]) < 0.2


def test_pixels_are_the_environments_picture_at_the_tasks_size():
    walk = robot("EtudeWalk-v0", "pixels")
    observation = walk.read().observation
    walk.observation_spec.check(observation)
    assert observation["image/front"].shape == (32, 32, 3) and (observation["image/front"] == 200).all()


def test_what_cannot_be_used_is_refused_with_the_reason():
    with pytest.raises(ConfigError, match=r"needs robot\.environment_id"):
        robot(None)
    with pytest.raises(ConfigError, match="no Gymnasium environment 'Pendulm-v1'"):
        robot("Pendulm-v1")
    with pytest.raises(ConfigError, match="only a bounded Box"):
        robot("EtudeDiscrete-v0")
    with pytest.raises(NotImplementedError, match="no scripted expert"):
        robot("EtudeWalk-v0").expert_action("forward", np.random.default_rng(0))
