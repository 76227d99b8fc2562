"""EARL's tabletop: the official demonstrations replayed, its constants, both directions, and the expert."""

from __future__ import annotations

import os
from pathlib import Path

import gymnasium
import numpy as np
import pytest

from etude.config import REPOSITORY
from simulation import earl_tabletop
from simulation.earl_tabletop import (
    GOALS,
    HOME,
    START,
    EarlTabletop,
    Scene,
    advance,
    expert,
    goal_vector,
    reached,
    reaches,
    stuck,
    with_goal_vector,
)

ID = "simulation.earl_tabletop:EarlTabletop-v0"
PLACES = (REPOSITORY / "data" / "earl_tabletop", REPOSITORY.parent / "shared" / "data" / "earl_tabletop")


def official(name: str) -> dict[str, np.ndarray]:
    """Arrays of the official demonstrations, converted from the pickles of architsharma97/earl_benchmark (Apache-2.0)."""
    given = os.environ.get("ETUDE_EARL_DEMONSTRATIONS")
    folders = (Path(given),) if given else PLACES
    path = next((folder / f"{name}.npz" for folder in folders if (folder / f"{name}.npz").is_file()), None)
    if path is None:
        pytest.skip(f"EARL's demonstrations ({name}.npz) are in none of {[str(folder) for folder in folders]}")
    with np.load(path, allow_pickle=False) as arrays:
        return {key: arrays[key] for key in arrays.files}


def scene_of(observation: np.ndarray) -> Scene:
    x, y, mug_x, mug_y, attached = (float(value) for value in observation[:5])
    return Scene((x, y), (mug_x, mug_y), attached > -0.5)


@pytest.mark.parametrize(("name", "transitions"), [("forward", 1278), ("reverse", 1256)])
def test_every_official_transition_and_reward_is_reproduced(name, transitions):
    data = official(name)
    assert len(data["actions"]) == transitions
    error, wrong = 0.0, 0
    for observation, action, reward, following in zip(
        data["observations"], data["actions"], data["rewards"], data["next_observations"], strict=True
    ):
        after = advance(scene_of(observation), action)
        predicted = (*after.gripper, *after.mug, *((0.0, 0.0) if after.held else (-1.0, -1.0)), *observation[6:])
        error = max(error, float(np.abs(np.asarray(predicted) - following).max()))
        wrong += float(reached(after, (float(observation[8]), float(observation[9])))) != reward[0]
    assert error < 1e-5 and wrong == 0


def test_the_environment_replays_whole_official_episodes_from_its_own_reset():
    data = official("forward")
    ends = np.flatnonzero(data["terminals"].reshape(-1)) + 1
    for start, end in zip([0, *ends[:-1]], ends, strict=True):
        environment = EarlTabletop()
        goal = GOALS.index(tuple(float(value) for value in data["observations"][start][8:10]))
        observation, _ = environment.reset(seed=0, options={"goal": goal})
        np.testing.assert_array_equal(observation, data["observations"][start])
        for index in range(start, end):
            observation, reward, terminated, truncated, info = environment.step(data["actions"][index])
            np.testing.assert_allclose(observation, data["next_observations"][index], atol=1e-5)
            assert reward == float(info["success"]) == data["rewards"][index][0]
            assert not terminated and not truncated


def test_a_grip_holds_a_near_mug_judged_before_the_move():
    near, far = Scene(HOME, (0.39, 0.0)), Scene(HOME, (0.41, 0.0))
    assert advance(near, np.array([-1.0, 0.0, 1.0])) == Scene((-0.2, 0.0), pytest.approx((0.19, 0.0)), True)
    assert advance(far, np.array([1.0, 0.0, 1.0])) == Scene((0.2, 0.0), (0.41, 0.0), False)
    assert not advance(near, np.array([0.0, 0.0, 0.0])).held  # the grip has to be above zero


def test_a_held_mug_follows_until_the_grip_opens_however_far_it_is():
    held = Scene((0.0, 0.0), (1.0, 1.0), True)
    assert advance(held, np.array([1.0, -1.0, 0.5])).mug == pytest.approx((1.2, 0.8))
    assert advance(held, np.array([1.0, -1.0, -0.5])) == Scene((0.2, -0.2), (1.0, 1.0), False)


@pytest.mark.parametrize("bound", [2.8, 3.8])
def test_the_walls_stop_the_gripper_and_with_it_the_mug(bound):
    scene = advance(Scene((bound - 0.1, 0.0), (bound - 0.5, 0.0), True), np.array([1.0, 0.0, 1.0]), bound)
    assert scene.gripper[0] == bound and scene.mug[0] == pytest.approx(bound - 0.4)


def test_actions_beyond_their_range_are_clipped():
    assert advance(Scene(), np.array([7.0, -7.0, -7.0])) == advance(Scene(), np.array([1.0, -1.0, -1.0]))


def test_success_needs_the_gripper_at_home_too():
    goal = GOALS[2]
    assert reached(Scene(HOME, goal), goal)
    assert reached(Scene((0.1, 0.0), (goal[0], goal[1] + 0.17)), goal)  # hypot(0.1, 0.17) = 0.197
    assert not reached(Scene((0.12, 0.0), (goal[0], goal[1] + 0.17)), goal)  # 0.208
    assert not reached(Scene((0.3, 0.0), goal), goal)


def test_a_seed_fixes_the_goal_and_all_four_goals_occur():
    environment = EarlTabletop()
    goals = [tuple(environment.reset(seed=seed)[0][8:10]) for seed in range(40)]
    assert goals == [tuple(environment.reset(seed=seed)[0][8:10]) for seed in range(40)]
    assert set(goals) == {tuple(np.float32(goal)) for goal in GOALS}


def test_each_direction_starts_where_the_other_one_ends():
    environment = EarlTabletop()
    observation, info = environment.reset(seed=0, options={"goal": 1})
    np.testing.assert_array_equal(observation, np.float32([0, 0, *START, -1, -1, 0, 0, *GOALS[1], -1, -1]))
    assert info == {"success": False, "success_forward": False, "success_backward": True, "stuck": False}
    observation, info = environment.reset(seed=0, options={"goal": 1, "phase": "backward"})
    np.testing.assert_array_equal(observation, np.float32([0, 0, *GOALS[1], -1, -1, 0, 0, *START, -1, -1]))
    assert info == {"success": False, "success_forward": True, "success_backward": False, "stuck": False}


def test_a_new_phase_moves_nothing_and_shows_its_goal():
    environment = EarlTabletop()
    before, _ = environment.reset(seed=3)
    rng = np.random.default_rng(0)
    observation, info = environment.begin_phase("backward", rng)
    np.testing.assert_array_equal(observation[:6], before[:6])
    np.testing.assert_array_equal(observation[6:], np.float32([*HOME, *START, -1, -1]))
    assert info["success"] and info["success_backward"]
    goals = {tuple(environment.begin_phase("forward", rng)[0][8:10]) for _ in range(40)}
    assert len(goals) == 4


def test_what_does_not_exist_is_refused():
    environment = EarlTabletop()
    with pytest.raises(ValueError, match="goal is 4"):
        environment.reset(options={"goal": 4})
    with pytest.raises(ValueError, match="phase is 'sideways'"):
        environment.reset(options={"phase": "sideways"})
    with pytest.raises(ValueError, match="render_mode is 'human'"):
        EarlTabletop(render_mode="human")


def test_wide_starts_are_spread_over_the_table():
    environment = EarlTabletop()
    starts = np.array([environment.reset(seed=seed, options={"wide_start": True})[0][:4] for seed in range(60)])
    assert (np.abs(starts) <= 2.8).all() and (starts.std(axis=0) > 1.2).all()


@pytest.mark.parametrize("phase", ["forward", "backward"])
@pytest.mark.parametrize("noise", [0.0, 0.5])
def test_the_expert_reaches_every_goal_and_stays(phase, noise):
    environment = EarlTabletop()
    rng = np.random.default_rng(1)
    for goal in range(4):
        environment.reset(seed=0, options={"phase": phase, "goal": goal})
        rewards = []
        for _ in range(120):
            action = environment.expert_action(phase, rng)
            assert environment.action_space.contains(action)
            rewards.append(environment.step(np.clip(action + noise * rng.normal(size=3), -1, 1))[1])
        assert 1.0 in rewards
        if not noise:
            assert rewards.index(1.0) < 60 and all(rewards[rewards.index(1.0) :])


def test_the_expert_recovers_from_anywhere():
    rng = np.random.default_rng(2)
    for _ in range(50):
        gripper, mug = (tuple(point) for point in rng.uniform(-2.8, 2.8, (2, 2)).tolist())
        scene, goal = Scene(gripper, mug), GOALS[int(rng.integers(4))]
        for _ in range(120):
            scene = advance(scene, expert(scene, goal))
        assert reached(scene, goal)


def test_gymnasium_makes_it_by_id_with_the_benchmarks_horizon():
    environment = gymnasium.make(ID)
    assert environment.spec.max_episode_steps == 200_000
    short = gymnasium.make(ID, max_episode_steps=3)
    short.reset(seed=0)
    assert [short.step(np.zeros(3, np.float32))[3] for _ in range(3)] == [False, False, True]


def test_pictures_show_the_mug_and_the_goal():
    environment = gymnasium.make(ID, render_mode="rgb_array", image_size=120)
    environment.reset(seed=0, options={"goal": 0})
    at_start = environment.render()
    assert at_start.shape == (120, 120, 3) and at_start.dtype == np.uint8
    environment.unwrapped.scene = Scene(HOME, (2.5, 2.0))
    changed = np.argwhere(np.abs(environment.render().astype(int) - at_start).max(axis=2) > 40)
    assert (changed[:, 1] > 100).all() and changed[:, 0].min() < 30  # right edge, from the middle to the top
    assert gymnasium.make(ID).render_mode is None


def test_without_walls_a_mug_that_is_let_go_beyond_the_edge_is_lost():
    scene = Scene((3.0, 0.0), (3.0, 0.0), held=True)
    carried = advance(scene, np.array([0.0, 0.0, 1.0]), bound=3.8)
    assert carried.held and not stuck(carried)
    dropped = advance(carried, np.array([0.0, 0.0, -1.0]), bound=3.8)
    assert stuck(dropped) and not advance(dropped, np.array([0.0, 0.0, 1.0]), bound=3.8).held
    on_the_table = Scene((2.7, 0.0), (2.7, 0.0))
    assert not stuck(on_the_table) and advance(on_the_table, np.array([0.0, 0.0, 1.0]), bound=3.8).held
    environment = EarlTabletop(bound=3.8)
    environment.reset(seed=0)
    environment.scene = dropped
    assert environment.step(np.array([0.0, 0.0, 1.0]))[-1]["stuck"]


def test_the_next_goal_can_be_shown_while_going_back():
    environment, rng = EarlTabletop(backward_shows="next_goal"), np.random.default_rng(0)
    environment.reset(seed=0)
    announced = set()
    for _ in range(20):
        backward, info = environment.begin_phase("backward", rng)
        forward, _ = environment.begin_phase("forward", rng)
        np.testing.assert_array_equal(backward, forward)
        assert tuple(backward[8:10]) in GOALS and info["success_backward"]  # the mug is where it started
        announced.add(tuple(backward[8:10]))
    assert announced == set(GOALS)
    with pytest.raises(ValueError, match="backward_shows is 'home'"):
        EarlTabletop(backward_shows="home")


def test_in_the_continuing_setting_only_time_changes_the_goal():
    environment, rng = EarlTabletop(goal_change_steps=5), np.random.default_rng(0)
    environment.reset(seed=0)
    goals = []
    for _ in range(40):
        for phase in ("backward", "forward"):
            environment.begin_phase(phase, rng)
        goals.append(environment.goal)
        environment.step(np.zeros(3))
    changes = [i for i in range(1, 40) if goals[i] != goals[i - 1]]
    assert changes and all(i % 5 == 0 for i in changes)


def test_a_state_can_be_the_goal_until_the_next_phase():
    environment, rng = EarlTabletop(), np.random.default_rng(0)
    before, _ = environment.reset(seed=0)
    observation, info = environment.show_state(before[:6])
    np.testing.assert_array_equal(observation[6:], before[:6])
    assert info["success"] and info["success_forward"]
    after, info = environment.show_state(None)
    np.testing.assert_array_equal(after, before)
    assert not info["success"]
    environment.show_state(before[:6])
    assert tuple(environment.begin_phase("forward", rng)[0][8:10]) in GOALS


def test_goals_on_arrays_agree_with_those_of_scenes():
    rng = np.random.default_rng(0)
    goal = GOALS[2]
    near = np.array((*HOME, *goal, -1, -1, *([0.0] * 6)), np.float32) + rng.normal(0, 0.1, (200, 12)).astype(np.float32)
    shown = with_goal_vector(near, goal_vector(goal))
    assert (shown[:, 6:] == goal_vector(goal)).all() and (shown[:, :6] == near[:, :6]).all()
    expected = [reached(Scene((x[0], x[1]), (x[2], x[3])), goal) for x in near.tolist()]
    assert reaches(shown, goal_vector(goal)).tolist() == expected and 20 < sum(expected) < 180


def test_sampled_stuck_states_are_stuck_and_nothing_else():
    states = earl_tabletop.stuck_states(500, 3.8, np.random.default_rng(0))
    assert states.shape == (500, 12) and states.dtype == np.float32 and np.abs(states[:, :4]).max() <= 3.8
    for state in states:
        assert earl_tabletop.stuck(earl_tabletop.Scene(tuple(state[:2]), tuple(state[2:4]), held=bool(state[4] == 0.0)))
    assert len(np.unique(states[:, 6:], axis=0)) == 5
