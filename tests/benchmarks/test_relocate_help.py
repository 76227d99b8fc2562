"""Practice on `relocate` by ways to ask for help: what is known before, and what the arm does between attempts."""

from __future__ import annotations

import jax
import numpy as np
import pytest

from benchmarks import autonomous, in_process, relocate
from benchmarks.autonomous import Budget, practise
from benchmarks.interventions import RELOCATE
from benchmarks.scripted import demonstrate

TINY = (
    "recipe.critic.hidden=[8]",
    "recipe.policy.hidden=[8]",
    "recipe.data.batch_size=16",
    "recipe.data.utd=0.1",
    "recipe.data.pretrain_bc_steps=0",
    "recipe.data.min_online_steps=0",
    "recipe.help.classifier_updates=250",
    "task.demonstrations_per_direction=1",
)


@pytest.fixture(autouse=True, scope="module")
def _compile_quickly():
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


def test_methods_differ_in_help_alone():
    recipes = {method: relocate.configuration(method, 3).recipe for method in RELOCATE.methods}
    plain = recipes["relocate_told"]
    assert plain.help.lost_is_told and not recipes["relocate_timeouts"].help.lost_is_told
    for method, recipe in recipes.items():
        same = recipe.model_copy(update={"help": plain.help})
        if method == RELOCATE.paint:  # part of PAINT: what cannot be undone is worth little for ever
            same = same.model_copy(update={"critic": plain.critic})
        assert same == plain, method


def test_a_known_stuck_block_is_off_the_table():
    states = relocate.known_stuck(0)
    config = relocate.configuration("relocate_paint", 0)
    from actor.robots import make_robot

    robot = make_robot(config, 0)
    try:
        names = robot.observation_spec.state_names
        assert states.shape == (relocate.KNOWN_STUCK, len(names)) and states.dtype == np.float32
        assert names[-3:] == ("block_x_m", "block_y_m", "block_z_m")
        for x, y, z in states[:20, -3:]:
            robot.tabletop.scene.put(robot.tabletop.data, float(x), float(y), 0.0)
            robot.tabletop.scene.object_m(robot.tabletop.data)[2] = z
            assert robot.tabletop.object_lost()
    finally:
        robot.close()


def test_the_arm_wanders_between_attempts_and_these_steps_do_not_count(tmp_path, monkeypatch):
    monkeypatch.setattr(in_process.Actor, "act", lambda *_: np.array([0.0, 0.0, 0.0, 1.0], np.float32))
    moved = []
    wander = autonomous.Wander.next

    def watched(self, tcp_m=None):
        action = wander(self, tcp_m)
        moved.append(action is not None)
        return action

    monkeypatch.setattr(autonomous.Wander, "next", watched)
    settings = (*TINY, "task.forward.max_steps=10", "task.backward.max_steps=10", "recipe.reset.wander_steps=4")
    config = relocate.configuration("relocate_timeouts", 0, settings)
    demonstrate(relocate.configuration("relocate_timeouts", 0, TINY), tmp_path / "demonstrations")
    outcome = practise(config, tmp_path / "demonstrations", Budget(40, 40, 0), lambda _: None)
    assert outcome.steps == 40 and len(outcome.practice) == 4
    assert sum(moved) >= 3 * 3, "the retreat alone has three steps"


def test_paint_practises_and_its_row_says_what_was_done(monkeypatch):
    monkeypatch.setattr(relocate, "EPISODES", 1)
    row = relocate.perform("relocate_paint", 0, 60, lambda _: None, TINY)
    assert row["steps"] == 60 and row["interventions"] >= 1 and row["updates"]["irreversible"] >= 250
    assert row["budget"]["enough"] == RELOCATE.level and set(TINY) <= set(row["overrides"])
