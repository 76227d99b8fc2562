"""The composed agent: what a step trains, what it leaves alone, and that the exported program is the same policy."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import ACTION, OBSERVATION, STATE_ONLY, random_batch, small_recipe

from etude.policy_file import PolicyProgram
from learner import export
from learner.recipe import Agent


@functools.cache
def _agent(pixels: bool = True, kind: str = "td"):
    """One agent per kind for all tests: compiling its update is what takes the time."""
    agent = Agent(small_recipe(kind=kind, cql_samples=3, tau=0.25), OBSERVATION if pixels else STATE_ONLY, ACTION)
    state = agent.init(jax.random.key_data(jax.random.key(0)), np.zeros(2), np.ones(2))
    return agent, state, jax.jit(agent.update, static_argnames="pretrain")


def _moved(before, after) -> bool:
    return any(not np.array_equal(a, b) for a, b in zip(jax.tree.leaves(before), jax.tree.leaves(after), strict=True))


@pytest.mark.parametrize("kind", ["td", "cal_ql"])
def test_an_update_moves_critic_policy_and_encoder_but_never_the_statistics(kind: str) -> None:
    _, state, update = _agent(kind=kind)
    after, metrics = update(state, random_batch(np.random.default_rng(0), OBSERVATION, 4))
    for name in ("encoder", "critic", "target_critic", "policy", "log_temperature"):
        assert _moved(getattr(state, name), getattr(after, name)), name
    assert not _moved(state.statistics, after.statistics)
    assert all(np.isfinite(value).all() for value in metrics.values())


def test_the_target_follows_by_tau() -> None:
    _, state, update = _agent()
    after, _ = update(state, random_batch(np.random.default_rng(0), OBSERVATION, 4))
    for old, online, target in zip(
        *(jax.tree.leaves(t) for t in (state.target_critic, after.critic, after.target_critic)), strict=True
    ):
        np.testing.assert_allclose(target, 0.75 * old + 0.25 * online, atol=1e-6)


def test_the_directions_do_not_share_heads() -> None:
    """A batch whose backward rows change must leave the forward heads' update as it was (state only: no shared encoder)."""
    _, state, update = _agent(pixels=False)
    batch = random_batch(np.random.default_rng(0), STATE_ONLY, 4)
    other = {**batch, "reward": batch["reward"].copy()}
    other["reward"][1] += 5.0
    first, second = update(state, batch)[0], update(state, other)[0]
    for a, b in zip(jax.tree.leaves((first.critic, first.policy)), jax.tree.leaves((second.critic, second.policy)), strict=True):
        np.testing.assert_allclose(a[0], b[0], atol=1e-7)
    assert _moved(jax.tree.map(lambda x: x[1], first.critic), jax.tree.map(lambda x: x[1], second.critic))


def test_practice_trains_the_encoder_by_the_critic_only() -> None:
    """With a critic that already fits (zero error) the encoder rests, though the policy learns."""
    _, state, update = _agent()
    state = dataclasses.replace(
        state, critic=jax.tree.map(jnp.zeros_like, state.critic), target_critic=jax.tree.map(jnp.zeros_like, state.target_critic)
    )
    batch = random_batch(np.random.default_rng(0), OBSERVATION, 4)
    batch["reward"][:] = 0.0
    after, _ = update(state, batch)
    assert not _moved(state.encoder, after.encoder)
    assert _moved(state.policy, after.policy)
    pretrained, _ = update(state, batch, pretrain=True)
    assert _moved(state.encoder, pretrained.encoder)


def test_a_block_is_the_same_as_its_updates_one_by_one() -> None:
    agent, state, update = _agent()
    batches = random_batch(np.random.default_rng(0), OBSERVATION, 4, lead=(3, 2))
    expected = state
    for k in range(3):
        expected, _ = update(expected, jax.tree.map(lambda x, k=k: x[k], batches))
    block, _ = agent.update_block(False)(jax.tree.map(jnp.copy, state), batches)  # the block donates its state
    for a, b in zip(jax.tree.leaves(expected), jax.tree.leaves(block), strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-3, atol=2e-5)


def test_the_moving_average_acts_and_begins_anew_with_practice() -> None:
    recipe = small_recipe()
    recipe = recipe.model_copy(update={"policy": recipe.policy.model_copy(update={"average_rate": 0.25})})
    agent = Agent(recipe, STATE_ONLY, ACTION)
    before = agent.init(jax.random.key_data(jax.random.key(0)), np.zeros(2), np.ones(2))
    after, _ = jax.jit(agent.update)(before, random_batch(np.random.default_rng(0), STATE_ONLY, 4))
    for old, new, average in zip(*(jax.tree.leaves(x) for x in (before.policy, after.policy, after.policy_average)), strict=True):
        np.testing.assert_allclose(average, 0.75 * old + 0.25 * new, rtol=1e-5, atol=1e-7)
    assert agent.policy_parameters(after)["policy"] is after.policy_average
    begun = agent.reset_optimisers(after)
    assert all(
        np.array_equal(a, b) for a, b in zip(jax.tree.leaves(begun.policy_average), jax.tree.leaves(after.policy), strict=True)
    )


def test_behaviour_cloning_fits_the_demonstrations() -> None:
    _, state, update = _agent(pixels=False)
    batch = random_batch(np.random.default_rng(0), STATE_ONLY, 8)
    losses = []
    for _ in range(300):
        state, metrics = update(state, batch, pretrain=True)
        losses.append(float(metrics["policy/bc_loss"].mean()))
    assert losses[-1] < 0.3 * losses[0]


@pytest.mark.parametrize("pixels", [True, False])
def test_the_exported_program_and_the_policy_agree_bit_for_bit(pixels: bool) -> None:
    spec = OBSERVATION if pixels else STATE_ONLY
    agent, state, _update = _agent(pixels)
    program = PolicyProgram.from_bytes(export.export_program(agent, state).to_bytes())
    run = jax.jit(jax.export.deserialize(bytearray(program.serialized)).call)
    parameters = export.host_parameters(agent, state)
    rng = np.random.default_rng(0)
    act = jax.jit(agent.act)
    for k in range(6):
        observation = {name: array[0, 0] for name, array in random_batch(rng, spec, 1)["observation"].items()}
        observation["phase"] = np.eye(2, dtype=np.float32)[k % 2]
        key, explore = np.array([7, k], np.uint32), np.float32(k % 3 > 0)
        here = act(agent.policy_parameters(state), observation, key, explore)
        np.testing.assert_array_equal(run(parameters, observation, key, explore), here)
        assert here.shape == (2,)


def test_the_two_directions_act_differently() -> None:
    agent, state, _update = _agent()
    observation = OBSERVATION.zeros()
    observation["state"][:] = 1.0
    actions = [
        agent.act(agent.policy_parameters(state), {**observation, "phase": phase}, np.zeros(2, np.uint32), np.float32(0))
        for phase in np.eye(2, dtype=np.float32)
    ]
    assert not np.array_equal(*actions)
