"""PAINT in the learner: labels beside rows, the classifier, what targets become, and the probability on the robot."""

from __future__ import annotations

import itertools

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import ACTION, STATE_ONLY, random_batch, segment, small_recipe

from etude.config import HelpConfig
from etude.status import StuckLabels
from learner import export
from learner.help import irreversibility
from learner.help.labels import StuckStates, labelled_states
from learner.recipe import Agent
from learner.replay.mixing import BatchSampler
from learner.replay.ring import UNLABELLED, Ring

KEY = np.array([0, 1], np.uint32)


def paint_recipe(**changes):
    recipe = small_recipe(critic={"pessimistic_reward": -0.1, "discount": 0.99, **changes})
    return recipe.model_copy(update={"help": HelpConfig(kind="paint", classifier_updates=500)})


def practice(segments=3, length=6, actor="a"):
    """A ring with some segments of one actor, 1, 2, …"""
    ring, rng = Ring(200, STATE_ONLY, ACTION), np.random.default_rng(0)
    for number in range(1, segments + 1):
        for step in segment(rng, STATE_ONLY, length, actor=actor, number=number, terminal=False):
            ring.add(step)
    return ring


# --- labels ---------------------------------------------------------------------------------------------------------


def test_labels_reach_the_rows_they_name_and_those_of_other_actors_stay():
    ring = practice()
    rng = np.random.default_rng(1)
    for step in segment(rng, STATE_ONLY, 6, actor="b", number=2):
        ring.add(step)
    known = StuckStates(ring).label("a", StuckLabels((1, 2), (3, 1), (2, 4)))
    places = list(itertools.product((1, 2, 3), range(6)))
    expected = [UNLABELLED if not (1, 2) <= place <= (3, 1) else float(place >= (2, 4)) for place in places]
    assert ring.stuck[:18].tolist() == expected
    assert (ring.stuck[18:] == UNLABELLED).all() and known == sum(value != UNLABELLED for value in expected)


def test_where_no_state_was_stuck_all_are_free_and_an_overwritten_row_forgets():
    ring = practice()
    StuckStates(ring).label("a", StuckLabels((1, 0), (3, 5), None))
    assert (ring.stuck[:18] == 0).all()
    ring.cursor = 0
    ring.add(segment(np.random.default_rng(0), STATE_ONLY, 3, actor="a", number=4)[0])
    assert ring.stuck[0] == UNLABELLED


def test_steps_that_came_after_their_labels_get_them_with_the_next_ones():
    ring = practice(segments=1)
    stuck = StuckStates(ring)
    stuck.label("a", StuckLabels((1, 0), (2, 5), (2, 0)))
    rng = np.random.default_rng(2)
    for number in (2, 3):
        for step in segment(rng, STATE_ONLY, 6, actor="a", number=number):
            ring.add(step)
    stuck.label("a", StuckLabels((3, 0), (3, 5), None))
    assert ring.stuck[:18].tolist() == [0.0] * 6 + [1.0] * 6 + [0.0] * 6


def test_a_batch_has_the_label_of_the_state_that_is_reached():
    ring = practice(segments=1)
    StuckStates(ring).label("a", StuckLabels((1, 0), (1, 5), (1, 3)))
    sampler = BatchSampler(paint_recipe(), Ring(1, STATE_ONLY, ACTION), ring, 0)
    batch = sampler._by_phase(1)
    sampler._fill(batch, (0, 0), "forward", 4, False, [])
    for state, reached, label in zip(
        batch["observation"]["state"][0, 0], batch["next_observation"]["state"][0, 0], batch["stuck"][0, 0], strict=True
    ):
        row = int(np.flatnonzero((ring.observation["state"][:6] == state).all(1))[0])
        assert (ring.observation["state"][row + 1] == reached).all()
        assert label == float(row + 1 >= 3), "from index first - 1 on"


def test_the_training_set_holds_every_labelled_state_of_all_rings():
    demonstrations, ring = practice(segments=2, actor="d"), practice()
    demonstrations.stuck[:12] = 0.0
    StuckStates(ring).label("a", StuckLabels((1, 0), (2, 5), (2, 2)))
    rng = np.random.default_rng(0)
    stuck, free = (labelled_states((demonstrations, ring), which, rng)["state"] for which in (True, False))
    assert np.array_equal(stuck, ring.observation["state"][8:12])
    assert np.array_equal(free, np.concatenate([demonstrations.observation["state"][:12], ring.observation["state"][:8]]))


# --- the classifier -------------------------------------------------------------------------------------------------


def test_it_learns_a_rare_class_as_well_as_a_common_one():
    rng = np.random.default_rng(0)
    stuck, free = rng.normal(2.0, 0.5, (20, 3)).astype(np.float32), rng.normal(-2.0, 0.5, (3000, 3)).astype(np.float32)
    params = irreversibility.fit(jnp.asarray(KEY), stuck, free, 500, rng)
    assert (irreversibility.probability(params, stuck) > 0.9).all()
    assert (irreversibility.probability(params, free) < 0.1).all()


def test_before_anybody_labelled_a_stuck_state_nothing_is_irreversible():
    agent, state = paint_agent()
    z = np.ones((5, 2), np.float32)
    unchanged = agent.learn_irreversible(state, {"state": z[:0]}, {"state": z}, np.random.default_rng(0))
    assert not irreversibility.probability(unchanged.irreversibility, z).any()


# --- in the agent ---------------------------------------------------------------------------------------------------


def paint_agent(**changes):
    agent = Agent(paint_recipe(**changes), STATE_ONLY, ACTION)
    return agent, agent.init(jnp.asarray(KEY), jnp.zeros(2), jnp.ones(2))


def trained(agent, state):
    """The agent's state after a person labelled states with x > 0 as stuck."""
    rng = np.random.default_rng(0)
    states = rng.uniform(-2, 2, (400, 2)).astype(np.float32)
    stuck = states[:, 0] > 0
    return agent.learn_irreversible(state, {"state": states[stuck]}, {"state": states[~stuck]}, rng)


@pytest.mark.parametrize("scale", [1.0, 10.0])
def test_a_state_labelled_stuck_is_worth_minus_ten_and_one_labelled_free_its_own_target(scale):
    """Conformance: p = 1, R_min = -0.1, discount 0.99 give y = -10 exactly, whatever rewards are multiplied by."""
    agent, state = paint_agent()
    batch = random_batch(np.random.default_rng(0), STATE_ONLY, 8)
    batch["reward"], batch["terminal"] = scale * np.ones((2, 8), np.float32), np.ones((2, 8), np.float32)
    for label, target in ((1.0, -10.0), (0.0, scale)):
        _, metrics = jax.jit(agent.update)(state, {**batch, "stuck": np.full((2, 8), label, np.float32)})
        np.testing.assert_allclose(metrics["critic/target_mean"], target, rtol=1e-6)


def test_an_unlabelled_state_counts_by_its_probability_and_a_label_comes_first():
    agent, state = paint_agent()
    state = trained(agent, state)
    z = np.array([[[2.0, 0.0], [-2.0, 0.0], [2.0, 0.0], [-2.0, 0.0]]], np.float32)
    batch = {"reward": np.zeros((1, 4)), "stuck": np.array([[UNLABELLED, UNLABELLED, 0.0, 1.0]], np.float32)}
    p = np.asarray(agent._irreversible_next(state, batch, jnp.asarray(z)))[0]
    assert p[0] > 0.9 and p[1] < 0.1 and p[2] == 0.0 and p[3] == 1.0
    np.testing.assert_allclose(p[:2], irreversibility.probability(state.irreversibility, z[0, :2]), rtol=1e-6)


def test_the_exported_program_tells_the_robot_the_probability_beside_the_action():
    agent, state = paint_agent()
    program = export.export_program(agent, state)
    state = trained(agent, state)
    call = jax.export.deserialize(bytearray(program.serialized)).call
    parameters = export.host_parameters(agent, state)
    for x, stuck in ((2.0, True), (-2.0, False)):
        observation = {"state": np.array([x, 0.0], np.float32), "phase": np.array([1.0, 0.0], np.float32)}
        action, irreversible = call(parameters, observation, KEY, np.float32(0))
        assert action.shape == (2,) and (float(irreversible) > 0.5) == stuck
        np.testing.assert_allclose(action, agent.act(agent.policy_parameters(state), observation, KEY, np.float32(0)), rtol=1e-4)


@pytest.mark.parametrize(
    ("axes", "extra", "shape"),
    [
        (
            {"policy": {"kind": "external", "distil_batch": 8}, "improvement": {"kind": "bc", "candidates": 3}},
            np.full((3, 2), 0.5, np.float32),
            (2,),
        ),
        ({"policy": {"chunk": 4}}, None, (4, 2)),
    ],
    ids=["candidates of a policy server", "action chunks"],
)
def test_the_probability_stands_beside_whatever_the_policy_gives(axes, extra, shape):
    recipe = small_recipe(**axes).model_copy(update={"help": HelpConfig(kind="paint", classifier_updates=500)})
    agent = Agent(recipe, STATE_ONLY, ACTION)
    state = trained(agent, agent.init(jnp.asarray(KEY), jnp.zeros(2), jnp.ones(2)))
    program = export.export_program(agent, state)
    call, parameters = jax.export.deserialize(bytearray(program.serialized)).call, export.host_parameters(agent, state)
    rest = () if extra is None else (extra,)
    for x, stuck in ((2.0, True), (-2.0, False)):
        observation = {"state": np.array([x, 0.0], np.float32), "phase": np.array([1.0, 0.0], np.float32)}
        action, irreversible = call(parameters, observation, KEY, np.float32(0), *rest)
        assert action.shape == shape and (float(irreversible) > 0.5) == stuck
        if extra is not None:
            np.testing.assert_array_equal(action, extra[0])


def test_labels_count_beside_learned_rewards_and_where_only_one_direction_is_trained():
    discriminator = {"rows": 8, "hidden": (8,), "period_updates": 2}
    recipe = small_recipe(
        critic={"pessimistic_reward": -0.1, "discount": 0.99},
        reset={"kind": "medal", "discriminator": discriminator},
        data={"train_only_acting": True},
    ).model_copy(update={"help": HelpConfig(kind="paint", classifier_updates=500)})
    agent, rng = Agent(recipe, STATE_ONLY, ACTION), np.random.default_rng(0)
    demonstrations, online = Ring(100, STATE_ONLY, ACTION), Ring(100, STATE_ONLY, ACTION)
    for ring in (demonstrations, online):
        for number, phase in enumerate(("forward", "backward"), 1):
            for step in segment(rng, STATE_ONLY, 8, phase, number=number, terminal=False):
                ring.add(step)
        ring.stuck[:16] = 1.0
    state = agent.init(jnp.asarray(KEY), jnp.zeros(2), jnp.ones(2))
    batch = BatchSampler(recipe, demonstrations, online, 0).sample(2)
    assert batch["stuck"].min() == 1.0 and batch["trained"].tolist() == [[0.0, 1.0]] * 2
    state, metrics = agent.update_block("online")(state, jax.tree.map(jnp.asarray, batch))
    np.testing.assert_allclose(metrics["critic/target_mean"], -10.0, rtol=1e-5)
    assert "reward/discriminator_loss" in metrics and set(state.irreversibility) == {"network", "trained"}


def test_without_paint_nothing_is_learned_or_exported():
    agent = Agent(small_recipe(), STATE_ONLY, ACTION)
    state = agent.init(jnp.asarray(KEY), jnp.zeros(2), jnp.ones(2))
    assert state.irreversibility == {} and "irreversibility" not in agent.policy_parameters(state)
    assert "stuck" not in BatchSampler(small_recipe(), Ring(1, STATE_ONLY, ACTION), practice(), 0).example(1)
