"""Any Gymnasium environment by id is a robot."""

import contextlib

import gymnasium
import numpy as np
import pytest

from actor.demonstrations import record_demonstrations
from actor.robots import make_robot
from actor.robots.gymnasium import GymnasiumRobot
from etude.config import ConfigError, RobotConfig, RunConfig, TaskConfig, read_named
from etude.episodes.store import EpisodeStore

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


class Quiet(Walk):
    """Reports success on steps only, takes its seed by a method of its own and knows how to walk."""

    def __init__(self, render_mode: str | None = None, goal: float = 1.0) -> None:
        super().__init__(render_mode)
        self.goal, self.walker, self.told = goal, np.random.default_rng(0), None

    def seed(self, seed):
        self.walker = np.random.default_rng(seed)

    def reset(self, *, seed=None, options=None):
        self.told = options
        self.x = float(self.walker.uniform(-0.1, 0.1))
        return np.array([[self.x, 0.0]]), {}

    def step(self, action):
        self.x += float(action[0])
        return np.array([[self.x, 1.0]]), 0.0, False, False, {"success": self.x > self.goal}

    def expert_action(self, phase, rng):
        return np.array([0.25 if phase == "forward" else -7.0, 0.5])


gymnasium.register("EtudeQuiet-v0", entry_point=Quiet, disable_env_checker=True)
gymnasium.register("EtudeWalk-v0", entry_point=Walk, disable_env_checker=True)
gymnasium.register("EtudeDiscrete-v0", entry_point=Discrete, disable_env_checker=True)


EARL = "simulation.earl_tabletop:EarlTabletop-v0"


def robot(
    environment_id: str | None, observation: str = "state", task: TaskConfig = TASK, seed: int = 0, **options
) -> GymnasiumRobot:
    config = RobotConfig(name="gym", kind="gymnasium", environment_id=environment_id, environment_options=options)
    return GymnasiumRobot(task, config, observation, seed)


def noiseless(**changes) -> TaskConfig:
    return TASK.model_copy(update={"expert_noise": 0.0, **changes})


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


def earl(**positions: tuple[int, int]) -> GymnasiumRobot:
    config = RobotConfig(name="gym", kind="gymnasium", environment_id=EARL, relative_positions=positions)
    return GymnasiumRobot(TASK, config, "state", 0)


def test_relative_positions_are_appended_to_the_state():
    tabletop = earl(there=(0, 2), back=(2, 0))
    state = tabletop.read().observation["state"]
    plain = state[:-6]
    assert tabletop.observation_spec.state_names[-6:] == ("there_x", "there_y", "there_z", "back_x", "back_y", "back_z")
    np.testing.assert_allclose(state[-6:-3], plain[2:5] - plain[:3])
    np.testing.assert_allclose(state[-3:], plain[:3] - plain[2:5])
    tabletop.observation_spec.check(tabletop.read().observation)


@pytest.mark.parametrize("pair", [(0, 10), (-1, 0)])
def test_relative_positions_of_elements_that_are_not_there_are_refused(pair):
    with pytest.raises(ConfigError, match=r"relative_positions 'there' is .* has 12 elements: a position begins at 0 to 9"):
        earl(there=pair)


def test_only_a_gymnasium_environment_has_relative_positions():
    with pytest.raises(ValueError, match="relative_positions is for kind gymnasium, and kind is 'mujoco'"):
        RobotConfig(name="arm", relative_positions={"there": (0, 3)})


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
    with pytest.raises(ConfigError, match=r"cannot be made with robot\.environment_options.*wings"):
        robot("EtudeQuiet-v0", wings=2)
    with pytest.raises(ConfigError, match=r"package that is not installed.*no_such_module"):
        robot("no_such_module:Thing-v0")


def test_a_reset_of_an_environment_that_reports_success_on_steps_only_has_not_succeeded():
    quiet = robot("EtudeQuiet-v0")
    assert quiet.read().success_truth == {"forward": False, "backward": True}
    for _ in range(3):
        quiet.act(np.array([1.0, 0.0], np.float32))
    assert quiet.read().success_truth == {"forward": True, "backward": False}


def test_options_reach_the_environment():
    quiet = robot("EtudeQuiet-v0", goal=0.3)
    quiet.act(np.array([1.0, 0.0], np.float32))
    assert quiet.read().success_truth["forward"]


def test_a_start_depends_on_the_seed_alone_also_where_reset_ignores_it():
    quiet, other = robot("EtudeQuiet-v0", seed=1), robot("EtudeQuiet-v0", seed=2)
    other.act(np.array([1.0, 0.0], np.float32))
    starts = []
    for one in (quiet, other):
        one.hard_reset("backward", np.random.default_rng(7))
        assert one._env.unwrapped.told == {"phase": "backward"}
        starts.append(float(one.read().observation["state"][0]))
    assert starts[0] == starts[1]


def test_the_environments_own_expert_is_normalised_clipped_and_disturbed():
    rng = np.random.default_rng(0)
    quiet = robot("EtudeQuiet-v0", task=noiseless())
    np.testing.assert_allclose(quiet.expert_action("forward", rng), [0.5, -0.5])  # of [-0.5, 0.5] and [0, 2]
    np.testing.assert_allclose(quiet.expert_action("backward", rng), [-1.0, -0.5])
    noisy = robot("EtudeQuiet-v0", task=noiseless(expert_noise=0.1))
    actions = np.array([noisy.expert_action("forward", rng) for _ in range(2000)])
    np.testing.assert_allclose(actions.mean(axis=0), [0.5, -0.5], atol=0.01)
    np.testing.assert_allclose(actions.std(axis=0), 0.1, atol=0.01)
    noisy.action_spec.check(noisy.expert_action("backward", rng))


def test_earls_tabletop_has_two_directions_and_an_expert_of_both():
    tabletop = robot(EARL)
    rng = np.random.default_rng(0)
    for phase, other in (("forward", "backward"), ("backward", "forward")):
        tabletop.hard_reset(phase, rng)
        assert tabletop.read().success_truth == {phase: False, other: True}
        for _ in range(150):
            tabletop.act(tabletop.expert_action(phase, rng))
            if tabletop.read().success_truth[phase]:
                break
        assert tabletop.read().success_truth == {phase: True, other: False}
        assert not tabletop.read().episode_over


def test_a_new_phase_changes_the_goal_that_is_seen_and_nothing_else():
    tabletop = robot(EARL)
    before = tabletop.read()
    tabletop.begin_phase("backward", np.random.default_rng(0))
    after = tabletop.read()
    np.testing.assert_array_equal(after.observation["state"][:6], before.observation["state"][:6])
    np.testing.assert_array_equal(after.observation["state"][8:10], [2.5, 0.0])
    assert after.success_truth == before.success_truth
    walk = robot("EtudeWalk-v0")
    reading = walk.read()
    walk.begin_phase("backward", np.random.default_rng(0))  # shows no goal: nothing happens
    assert walk.read() is reading


@pytest.mark.parametrize(("reset", "phases"), [("backward_policy", {"forward", "backward"}), ("human", {"forward"})])
def test_the_tabletops_expert_demonstrates_what_the_recipe_practises(tmp_path, reset, phases):
    config = RunConfig(
        task=read_named("tasks", "earl_tabletop"),
        robot=read_named("robots", "earl_tabletop"),
        recipe={"name": "test", "reward": {"kind": "environment"}, "reset": {"kind": reset}},
        observation="state",
    )
    tabletop = make_robot(config, seed=0)
    with contextlib.closing(EpisodeStore.create(tmp_path / "demos", tabletop.observation_spec, tabletop.action_spec)) as store:
        record_demonstrations(config, tabletop, store, 4, seed=0)
        segments = store.segments()
        assert len(segments) == 4 * len(phases) and {segment.phase for segment in segments} == phases
        assert all(segment.success and segment.length < 120 for segment in segments)
