"""Meta-World's tasks through the Gymnasium robot: scripted policies, success, seeds, demonstrations of one direction."""

from __future__ import annotations

import contextlib

import numpy as np
import pytest

from actor.demonstrations import DemonstrationError, record_demonstrations
from actor.robots import make_robot
from actor.robots.gymnasium import GymnasiumRobot
from etude.config import ConfigError, RobotConfig, RunConfig, TaskConfig, read_named
from etude.episodes.store import EpisodeStore

pytest.importorskip("metaworld", reason="Meta-World is not installed: it is in the extra 'bench', in an environment of its own")

TASKS = ("metaworld_drawer_close", "metaworld_door_open", "metaworld_pick_place")


def config(name: str, reset: str = "human") -> RunConfig:
    return RunConfig(
        task=read_named("tasks", name),
        robot=read_named("robots", name),
        recipe={"name": "test", "reward": {"kind": "environment"}, "reset": {"kind": reset}},
        observation="state",
    )


@pytest.fixture(scope="module")
def drawer() -> GymnasiumRobot:
    return make_robot(config("metaworld_drawer_close"), seed=0)


@pytest.mark.parametrize("name", TASKS)
def test_the_scripted_policy_solves_the_task_within_its_time(name):
    robot = make_robot(config(name), seed=0)
    rng = np.random.default_rng(0)
    successes = 0
    for _ in range(4):
        robot.hard_reset("forward", rng)
        assert robot.read().success_truth == {"forward": False, "backward": True}
        for _ in range(config(name).task.forward.max_steps):
            robot.act(robot.expert_action("forward", rng))
            if robot.read().success_truth["forward"]:
                successes += 1
                break
    assert successes >= 3


@pytest.mark.parametrize("name", ["metaworld_door_open", "metaworld_pick_place"])
def test_the_goal_is_in_the_observation(name):
    robot = make_robot(config(name), seed=0)
    assert robot.observation_spec.state_dim == (45 if "pick" in name else 39) and robot.action_spec.scale == (1.0,) * 4
    np.testing.assert_allclose(robot.read().observation["state"][36:39], robot._env.unwrapped._target_pos, atol=1e-6)


def test_starts_differ_and_depend_on_the_seed_alone():
    one, other = (make_robot(config("metaworld_pick_place"), seed=seed) for seed in (1, 2))
    starts = []
    for robot in (one, other):
        rng = np.random.default_rng(5)
        robot.act(np.ones(4, np.float32))
        for _ in range(3):
            robot.hard_reset("forward", rng)
            starts.append(robot.read().observation["state"])
    np.testing.assert_allclose(starts[:3], starts[3:], atol=1e-5)
    assert np.abs(starts[0] - starts[1]).max() > 1e-3


def test_an_episode_ends_at_meta_worlds_own_limit(drawer):
    drawer.hard_reset("forward", np.random.default_rng(0))
    for _ in range(500):
        assert not drawer.read().episode_over
        drawer.act(np.array([1.0, 1.0, 1.0, 0.0], np.float32))
    assert drawer.read().episode_over
    drawer.act(np.zeros(4, np.float32))  # does nothing, and does not raise
    drawer.hard_reset("forward", np.random.default_rng(0))
    assert not drawer.read().episode_over


def test_only_forward_demonstrations_can_be_recorded(drawer, tmp_path):
    with contextlib.closing(EpisodeStore.create(tmp_path / "demos", drawer.observation_spec, drawer.action_spec)) as store:
        record_demonstrations(config("metaworld_drawer_close"), drawer, store, 2, seed=0)
        assert [segment.phase for segment in store.segments()] == ["forward"] * 2
        with pytest.raises(DemonstrationError, match="no scripted expert for phase 'backward'"):
            record_demonstrations(config("metaworld_drawer_close", "backward_policy"), drawer, store, 1, seed=0)


def test_a_task_that_meta_world_does_not_have_is_refused():
    task = TaskConfig(name="any", forward={"instruction": "go"}, backward={"instruction": "come back"})
    robot = RobotConfig(
        name="gym",
        kind="gymnasium",
        environment_id="metaworld:Meta-World/MT1",
        environment_options={"env_name": "open-door-v3"},
    )
    with pytest.raises(ConfigError, match=r"cannot be made with robot\.environment_options.*open-door-v3"):
        GymnasiumRobot(task, robot, "state", seed=0)
