"""Random network distillation: what was seen becomes dull, what is new stays interesting."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np

from learner.exploration import rnd

DIM = 4
update = jax.jit(rnd.update)
bonus = jax.jit(rnd.bonus)


@functools.cache
def fresh() -> rnd.RndState:
    return jax.jit(rnd.init, static_argnums=1)(jax.random.key(0), DIM)


def seen_rows(key: jax.Array, count: int = 64) -> jax.Array:
    return 0.3 * jax.random.normal(key, (count, DIM)) + jnp.array([1.0, -2.0, 0.0, 5.0])


def test_the_bonus_falls_on_seen_points_and_stays_high_on_new_ones() -> None:
    state = fresh()
    old, new = seen_rows(jax.random.key(1)), seen_rows(jax.random.key(1)) + jnp.array([0.0, 3.0, -3.0, 0.0])
    state = update(state, old, jax.random.key(2))
    error = jax.jit(lambda state: rnd._error(state, state.predictor, rnd._normalised(state.inputs, old)).max(-1).mean())
    first = error(state)
    keys = jax.random.split(jax.random.key(3), 300)
    state, _ = jax.jit(lambda s: jax.lax.scan(lambda s, key: (rnd.update(s, seen_rows(key), key), None), s, keys))(state)
    later = error(state)
    assert float(later) < 0.2 * float(first)
    assert float(bonus(state, new).min()) > 3.0 * float(bonus(state, old).mean())


def test_the_bonus_is_the_largest_squared_error_over_the_running_deviation() -> None:
    state = fresh()
    batches = [np.asarray(seen_rows(key, 16), np.float64) for key in jax.random.split(jax.random.key(1), 3)]
    raw = []
    for number, batch in enumerate(batches):
        everything = np.concatenate(batches[: number + 1])
        rows = np.clip((batch - everything.mean(0)) / everything.std(0), -5.0, 5.0)
        raw.append(largest_error(state, rows))
        state = update(state, jnp.asarray(batch, jnp.float32), jax.random.key(number))
        np.testing.assert_allclose(state.inputs.mean, everything.mean(0), rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(state.inputs.variance, everything.var(0), rtol=1e-3)
        np.testing.assert_allclose(state.errors.variance, np.concatenate(raw).var(), rtol=1e-3)
    probe = np.asarray(seen_rows(jax.random.key(7), 8), np.float64)
    probe[0] += 100.0  # clipped at five standard deviations
    rows = np.clip((probe - everything.mean(0)) / everything.std(0), -5.0, 5.0)
    expected = largest_error(state, rows) / np.concatenate(raw).std()
    np.testing.assert_allclose(bonus(state, jnp.asarray(probe, jnp.float32)), expected, rtol=2e-3)


def largest_error(state: rnd.RndState, rows: np.ndarray) -> np.ndarray:
    """The predictor's largest squared error per normalised row, by hand."""

    def outputs(params: dict) -> np.ndarray:
        first, second = params["Dense_0"], params["Dense_1"]
        hidden = np.maximum(rows @ np.asarray(first["kernel"], np.float64) + np.asarray(first["bias"]), 0.0)
        return hidden @ np.asarray(second["kernel"], np.float64) + np.asarray(second["bias"])

    return ((outputs(state.predictor) - outputs(state.target)) ** 2).max(-1)


def test_an_update_learns_from_a_quarter_of_the_rows_and_leaves_the_target_alone() -> None:
    state = fresh()
    x = seen_rows(jax.random.key(1), 8)
    after = update(state, x, jax.random.key(2))
    for one, other in zip(jax.tree.leaves(state.target), jax.tree.leaves(after.target), strict=True):
        np.testing.assert_array_equal(one, other)
    inputs = rnd._observe(state.inputs, x)
    chosen = rnd._normalised(inputs, x)[jax.random.permutation(jax.random.key(2), 8)[:2]]
    slope = jax.jit(jax.grad(lambda p: rnd._error(state, p, chosen).mean()))(state.predictor)
    # the first step of Adam has the size of the learning rate, against the sign of the gradient
    for before, now, direction in zip(*map(jax.tree.leaves, (state.predictor, after.predictor, slope)), strict=True):
        large = np.abs(np.asarray(direction)) > 1e-5
        expected = -1e-4 * np.sign(np.asarray(direction))[large]
        np.testing.assert_allclose((np.asarray(now) - np.asarray(before))[large], expected, rtol=2e-2)


def test_features_get_no_gradient_from_the_bonus() -> None:
    state = fresh()
    slope = jax.jit(jax.grad(lambda x: rnd.bonus(state, x).sum()))(seen_rows(jax.random.key(1), 4))
    np.testing.assert_array_equal(slope, 0.0)


def test_two_directions_are_one_map() -> None:
    states = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), fresh())
    rows = jnp.stack([seen_rows(jax.random.key(1), 8), -seen_rows(jax.random.key(2), 8)])
    states = jax.jit(jax.vmap(rnd.update))(states, rows, jax.random.split(jax.random.key(3), 2))
    assert jax.jit(jax.vmap(rnd.bonus))(states, rows).shape == (2, 8)
    np.testing.assert_allclose(states.inputs.mean, rows.mean(1), rtol=1e-5)
