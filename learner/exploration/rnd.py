"""Random network distillation (Burda et al. 2018), with the constants of OOO (Mark et al. 2023, offline-to-online-to-offline).

A predictor learns the outputs of a fixed random network on the inputs that were seen; where it is still wrong, the input is new.
Pure functions on an explicit state; two directions are one `jax.vmap`.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import optax

from learner.networks.mlp import MLP

Params = Any

WIDTH = 512
"""Width of both layers, the second of which is the output (OOO)."""
UPDATE_SHARE = 0.25
"""Share of the rows that the predictor learns from in one update (OOO): it must not learn faster than the policy explores."""
LEARNING_RATE = 1e-4
INPUT_LIMIT = 5.0

NETWORK = MLP((WIDTH,), WIDTH, layer_norm=False)
OPTIMISER = optax.adam(LEARNING_RATE)


@flax.struct.dataclass
class Moments:
    """Running mean and variance over all rows so far: `mean` and `variance` ``(...)``, `count` scalar."""

    mean: jax.Array
    variance: jax.Array
    count: jax.Array


@flax.struct.dataclass
class RndState:
    """Everything that the bonus learns, and the random network that it learns from (`target` never changes)."""

    target: Params
    predictor: Params
    optimiser: optax.OptState
    inputs: Moments
    errors: Moments


def init(key: jax.Array, dim: int) -> RndState:
    """A fresh state for inputs ``(B, dim)``."""
    target_key, predictor_key = jax.random.split(key)
    example = jnp.zeros((1, dim))
    predictor = NETWORK.init(predictor_key, example)["params"]
    state = RndState(
        target=NETWORK.init(target_key, example)["params"],
        predictor=predictor,
        optimiser=OPTIMISER.init(predictor),
        inputs=_no_moments((dim,)),
        errors=_no_moments(()),
    )
    # strong types everywhere: a weakly typed leaf would compile the update a second time
    return jax.tree.map(lambda leaf: jax.lax.convert_element_type(leaf, leaf.dtype), state)


def bonus(state: RndState, x: jax.Array) -> jax.Array:
    """How new each row of x ``(B, dim)`` is: largest squared error of the predictor's outputs, divided by the running standard
    deviation of that number. ``(B,)``, at least 0, without gradient."""
    raw = _error(state, state.predictor, _normalised(state.inputs, x)).max(-1)
    return jax.lax.stop_gradient(raw / jnp.sqrt(state.errors.variance + 1e-8))


def update(state: RndState, x: jax.Array, key: jax.Array) -> RndState:
    """Learn from rows x ``(B, dim)``: running moments from all of them, one predictor step on a random quarter."""
    x = jax.lax.stop_gradient(x)
    inputs = _observe(state.inputs, x)
    rows = _normalised(inputs, x)
    errors = _observe(state.errors, _error(state, state.predictor, rows).max(-1))
    chosen = rows[jax.random.permutation(key, rows.shape[0])[: max(1, round(UPDATE_SHARE * rows.shape[0]))]]
    gradient = jax.grad(lambda predictor: _error(state, predictor, chosen).mean())(state.predictor)
    changes, optimiser = OPTIMISER.update(gradient, state.optimiser, state.predictor)
    predictor = optax.apply_updates(state.predictor, changes)
    return dataclasses.replace(state, predictor=predictor, optimiser=optimiser, inputs=inputs, errors=errors)


def _error(state: RndState, predictor: Params, rows: jax.Array) -> jax.Array:
    """Squared error of every output: normalised rows ``(B, dim)`` → ``(B, WIDTH)``."""
    target = jax.lax.stop_gradient(NETWORK.apply({"params": state.target}, rows))
    return (NETWORK.apply({"params": predictor}, rows) - target) ** 2


def _normalised(moments: Moments, x: jax.Array) -> jax.Array:
    return jnp.clip((x - moments.mean) / jnp.sqrt(moments.variance + 1e-8), -INPUT_LIMIT, INPUT_LIMIT)


def _no_moments(shape: tuple[int, ...]) -> Moments:
    # nothing seen: mean 0 and variance 1 until the first rows replace them
    return Moments(jnp.zeros(shape), jnp.ones(shape), jnp.zeros(()))


def _observe(moments: Moments, rows: jax.Array) -> Moments:
    """The moments after `rows` ``(B, ...)`` too (parallel variance, Chan et al. 1979)."""
    count = moments.count + rows.shape[0]
    share = rows.shape[0] / count
    delta = rows.mean(0) - moments.mean
    variance = (1.0 - share) * moments.variance + share * rows.var(0) + share * (1.0 - share) * delta**2
    return Moments(moments.mean + share * delta, variance, count)
