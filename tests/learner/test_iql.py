"""Implicit Q-learning: expectiles, the target of Q and the fixed point of a small chain."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from etude.config import CriticConfig, RecipeConfig
from learner.critics import ensemble, iql
from learner.parts import Rows


def _recipe(**critic: Any) -> RecipeConfig:
    return RecipeConfig(name="test", critic=CriticConfig(**{"kind": "iql", "hidden": (16,), "discount": 0.9, **critic}))


def _rows(b: int = 6) -> Rows:
    keys = jax.random.split(jax.random.key(0), 4)
    zeros = jnp.zeros(b)
    return Rows(
        z=jax.random.normal(keys[0], (b, 3)),
        z_next=jax.random.normal(keys[1], (b, 3)),
        action=jax.random.uniform(keys[2], (b, 2), minval=-1.0),
        reward=jax.random.normal(keys[3], (b,)),
        terminal=zeros.at[1].set(1.0),
        discount=jnp.full(b, 0.9),
        monte_carlo_return=zeros,
        demonstration=zeros,
        weight=jnp.ones(b),
        irreversible=zeros,
        temperature=jnp.zeros(()),
    )


def _init(recipe: RecipeConfig, seed: int) -> Any:
    random = np.random.default_rng(seed)
    shapes = jax.eval_shape(lambda k: iql.init(recipe, k, jnp.zeros((1, 3)), jnp.zeros((1, 2))), jax.random.key(0))
    return jax.tree.map(lambda leaf: jnp.asarray(0.5 * random.normal(size=leaf.shape), jnp.float32), shapes)


def _never(features: jax.Array, key: jax.Array, n: int) -> Any:
    raise AssertionError("IQL does not ask the policy")


def _uniform_expectile(tau: float) -> float:
    """On U[0, 1]: τ · ∫_{x>e} (x − e) = (1 − τ) · ∫_{x<e} (e − x), that is τ (1 − e)² = (1 − τ) e²."""
    return float(np.sqrt(tau) / (np.sqrt(tau) + np.sqrt(1.0 - tau)))


@pytest.mark.parametrize("tau", [0.1, 0.5, 0.7, 0.9])
def test_expectile_regression_finds_the_expectile_of_a_distribution(tau: float) -> None:
    samples = (jnp.arange(2000) + 0.5) / 2000
    slope = jax.grad(lambda v: iql.expectile_loss(samples - v, tau).mean())
    v = jax.lax.fori_loop(0, 300, lambda _, v: v - 0.5 * slope(v), jnp.zeros(()))
    np.testing.assert_allclose(float(v), _uniform_expectile(tau), atol=1e-4)


def test_the_loss_equals_its_equations() -> None:
    recipe = _recipe(ensemble=4, subset_min=2, expectile=0.8)
    rows, key = _rows(), jax.random.key(5)
    params, target = _init(recipe, 0), _init(recipe, 1)
    loss, metrics = iql.loss(recipe, params, target, rows, _never, key)

    members = np.asarray(ensemble.draw(recipe.critic, key))
    slow = np.asarray(iql.values(recipe, target, rows.z, rows.action))[members].min(0)
    v, v_next = (np.asarray(iql.state_value(recipe, params, z)) for z in (rows.z, rows.z_next))
    u = slow - v
    value_loss = (np.where(u < 0, 0.2, 0.8) * u**2).mean()
    y = np.asarray(rows.reward) + 0.9 * (1.0 - np.asarray(rows.terminal)) * v_next
    q = np.asarray(iql.values(recipe, params, rows.z, rows.action))
    td_loss = ((q - y) ** 2).mean(1).sum()
    np.testing.assert_allclose(float(metrics["critic/value_loss"]), value_loss, rtol=1e-5)
    np.testing.assert_allclose(float(metrics["critic/td_loss"]), td_loss, rtol=1e-5)
    np.testing.assert_allclose(float(loss), td_loss + value_loss, rtol=1e-5)
    advantage = iql.advantage(recipe, params, target, rows, _never, key)
    np.testing.assert_allclose(advantage, slow - v, atol=1e-6)


def test_v_follows_the_slow_q_and_q_follows_v_without_gradients_between_them() -> None:
    recipe = _recipe()
    rows, key = _rows(), jax.random.key(5)
    params, target = _init(recipe, 0), _init(recipe, 1)

    def metrics(params: Any) -> tuple[jax.Array, jax.Array]:
        values = iql.loss(recipe, params, target, rows, _never, key)[1]
        return values["critic/value_loss"], values["critic/td_loss"]

    of_v, of_q = jax.jit(jax.jacrev(metrics))(params)
    assert all(float(jnp.abs(leaf).max()) == 0.0 for leaf in jax.tree.leaves(of_v["q"]))
    assert all(float(jnp.abs(leaf).max()) == 0.0 for leaf in jax.tree.leaves(of_q["v"]))
    assert float(jnp.abs(of_v["v"]["Dense_0"]["kernel"]).max()) > 0.0
    assert float(jnp.abs(of_q["q"]["kernel"]).max()) > 0.0


@pytest.mark.parametrize("head", ["scalar", "hl_gauss"])
def test_iql_learns_the_expectile_values_of_a_chain(head: str) -> None:
    """Three states, each action as often in the data; +1 goes on (0 and the end from the last state), −1 stays."""
    tau, discount = 0.9, 0.9
    recipe = _recipe(head=head, value_min=-5.0, value_max=5.0, value_bins=64, hidden=(32,), expectile=tau, discount=discount)
    state, step = np.repeat(np.arange(3), 2), np.tile([1.0, -1.0], 3)
    after = np.where(step > 0, np.minimum(state + 1, 2), state)
    reward = np.where((state == 2) & (step > 0), 0.0, -1.0)
    terminal = ((state == 2) & (step > 0)).astype(float)
    rows = _rows()._replace(
        z=jnp.eye(3)[state],
        z_next=jnp.eye(3)[after],
        action=jnp.asarray(step, jnp.float32)[:, None],
        reward=jnp.asarray(reward, jnp.float32),
        terminal=jnp.asarray(terminal, jnp.float32),
    )
    params = iql.init(recipe, jax.random.key(0), rows.z[:1], rows.action[:1])
    optimiser = optax.adam(optax.exponential_decay(1e-2, 2000, 0.05))

    def update(carry: Any, key: jax.Array) -> Any:
        params, target, memory = carry
        gradient = jax.grad(lambda p: iql.loss(recipe, p, target, rows, _never, key)[0])(params)
        change, memory = optimiser.update(gradient, memory)
        params = optax.apply_updates(params, change)
        return (params, jax.tree.map(lambda t, p: t + 0.1 * (p - t), target, params), memory), None

    keys = jax.random.split(jax.random.key(1), 2000)
    (params, _, _), _ = jax.jit(lambda c: jax.lax.scan(update, c, keys))((params, params, optimiser.init(params)))

    # the fixed point: of two equally frequent values the τ-expectile is τ · larger + (1 − τ) · smaller
    v = np.zeros(3)
    for _ in range(500):
        q = (reward + discount * (1.0 - terminal) * v[after]).reshape(3, 2)
        v = tau * q.max(1) + (1.0 - tau) * q.min(1)
    learned = np.asarray(iql.values(recipe, params, rows.z, rows.action))
    np.testing.assert_allclose(learned, np.tile(q.reshape(-1), (2, 1)), atol=0.05)
    np.testing.assert_allclose(iql.state_value(recipe, params, jnp.eye(3)), v, atol=0.05)
