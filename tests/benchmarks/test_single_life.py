"""One life in small: steps belong to who acted, the perturbation begins when it should, and the same seed lives again."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.single_life import Fixed, Guess, OwnSteps, Roam, collect, live, pretrain
from etude.config import build, read_named
from etude.config.behaviours import BehavioursConfig
from simulation.go1 import Go1, Perturbation
from simulation.go1_library import LIBRARY

TWO = {name: LIBRARY[name] for name in ("trot", "payload")}
SMALL = BehavioursConfig(name="test", hidden=(16,), batch_size=8, pretraining_updates=5, dwell_steps=10)


def test_the_recipe_on_disk_is_a_behaviours_configuration():
    assert build(BehavioursConfig, read_named("behaviours", "roam"), "roam").name == "roam"


def test_own_steps_keep_everything_and_draw_the_newest():
    own, rng = OwnSteps(), np.random.default_rng(0)
    width = own.states().shape[1]
    for index in range(600):
        own.add(np.full(width, index), np.full(width, index + 1), float(index), index % 7 == 0)
    assert own.count == 600
    np.testing.assert_array_equal(own.states()[:, 0], np.arange(600))
    rows = own.draw(rng, 200, newest=50)
    assert rows.reward.min() >= 550
    np.testing.assert_array_equal(rows.next_state[:, 0], rows.reward + 1)
    np.testing.assert_array_equal(rows.terminal, rows.reward % 7 == 0)


def test_prior_steps_belong_to_the_behaviour_that_acted():
    own, table = collect(TWO, 400, seed=0, episode_s=6.0)
    for index in range(2):
        mine = table[table[:, 0] == index]
        assert own[index].count == len(mine)
        np.testing.assert_allclose(own[index].draw(np.random.default_rng(0), 5).reward.max(), mine[:, 2].max(), atol=1.0)
    assert set(np.unique(table[:, 1])) == {0.0, 1.0}


def test_the_perturbation_begins_in_mid_life_and_the_robot_is_never_moved_by_hand():
    seen: list[float] = []
    trouble = Perturbation(pull_n=(0.0, 10.0, 0.0))
    positions = []

    def watch(robot: Go1, step: int, acting: int) -> None:
        seen.append(float(robot.data.body("trunk").xfrc_applied[1]))
        positions.append(robot.position_m)

    life = live(TWO, Fixed(0), trouble, seed=0, normal_s=1.0, perturbed_s=1.0, watch=watch)
    assert seen == [0.0] * 20 + [10.0] * 20
    assert set(life.behaviour) == {0} and len(life.x_m) == 40
    assert np.linalg.norm(np.diff(positions, axis=0), axis=1).max() < 0.2
    assert life.speed_m_s(0.0, 1.0) == pytest.approx((life.x_m[19] - life.x_m[0]) / 0.95)


def test_a_fall_is_followed_by_standing_up_which_earns_nothing():
    # a pull of three quarters of its weight tips the robot over
    life = live(TWO, Fixed(0), Perturbation(pull_n=(0.0, 95.0, 0.0)), seed=0, normal_s=1.0, perturbed_s=4.0)
    assert life.falls and life.behaviour[life.falls[0]] == -1
    assert all(reward == 0.0 for reward, acting in zip(life.reward[21:], life.behaviour[20:], strict=False) if acting == -1)


def test_a_life_changes_the_values_and_the_same_seed_lives_it_again():
    prior, _ = collect(TWO, 200, seed=0, episode_s=4.0)
    learned, metrics = pretrain(SMALL, prior, seed=0)
    assert np.isfinite(list(metrics.values())).all()
    lives = [live(TWO, Roam(SMALL, learned, prior, 0), Perturbation(), seed=0, normal_s=2.0, perturbed_s=1.0) for _ in range(2)]
    assert lives[0].x_m == lives[1].x_m and lives[0].values == lives[1].values
    still = SMALL.model_copy(update={"updates_per_step": 0})
    unchanged = live(TWO, Roam(still, learned, prior, 0), Perturbation(), seed=0, normal_s=2.0, perturbed_s=1.0)
    assert unchanged.values[0] == lives[0].values[0] and unchanged.values[-1] != lives[0].values[-1]


def test_guessing_uses_every_behaviour():
    guess = Guess(4, seed=0)
    assert {guess.choose(np.zeros(1)) for _ in range(60)} == {0, 1, 2, 3}
