"""A library of behaviours with a value each, and the choice among them (ROAM: Chen et al. 2023, arXiv 2311.01059).

N behaviours act in one life. V_i(s) is what behaviour i will earn from s on, learned from the states in which i itself acted. The
choice is random with probabilities ``softmax_i(β' · V_i(s))``. So that a behaviour is not chosen for its values in states that it
never saw, a cross-entropy term makes V_i the highest on the states of its own buffer. Pure functions; the caller has the buffers.
"""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import flax.struct
import jax
import jax.numpy as jnp
import optax

from etude.config.behaviours import BehavioursConfig
from learner.networks.mlp import MLP, apply_stacked, init_stacked

Params = Any
Metrics = dict[str, jax.Array]


class OwnRows(NamedTuple):
    """Transitions of every behaviour, each from its own buffer: leading axes ``(N, B)``.

    Attributes:
        state, next_state: ``(N, B, d)``.
        reward: ``(N, B)``.
        terminal: ``(N, B)`` 1 where nothing can be earned afterwards (a fall); the end of a turn is not terminal.
    """

    state: jax.Array
    next_state: jax.Array
    reward: jax.Array
    terminal: jax.Array


@flax.struct.dataclass
class BehaviourValues:
    """Everything that learning changes, and how states are normalised. Leaves of `params` and `target` are ``(N, …)``."""

    params: Params
    target: Params
    optimiser: optax.OptState
    mean: jax.Array
    std: jax.Array


def init(config: BehavioursConfig, key: jax.Array, count: int, mean: jax.Array, std: jax.Array) -> BehaviourValues:
    """Fresh values of `count` behaviours; `mean`, `std` ``(d,)`` of the states of all of them."""
    params = init_stacked(_network(config), key, count, jnp.zeros((1, mean.shape[0])))
    optimiser = _optimiser(config).init(params)
    return BehaviourValues(params, jax.tree.map(jnp.copy, params), optimiser, jnp.asarray(mean), jnp.maximum(std, 1e-2))


def values(config: BehavioursConfig, learned: BehaviourValues, state: jax.Array) -> jax.Array:
    """``(N, ...)``: the value of every behaviour in states ``(..., d)``."""
    return _values(config, learned.params, _normalise(learned, state))


def probabilities(config: BehavioursConfig, learned: BehaviourValues, state: jax.Array) -> jax.Array:
    """``(N,)``: with which probability each behaviour is chosen in one state ``(d,)``."""
    return jax.nn.softmax(config.inverse_temperature * values(config, learned, state))


def loss(config: BehavioursConfig, learned: BehaviourValues, params: Params, rows: OwnRows) -> tuple[jax.Array, Metrics]:
    """``(1 − β) · L_TD + β · CE(softmax(V_1..V_N)(s), own index)``, each a mean over behaviours and rows.

    ``L_TD = (V_i(s) − r − discount · (1 − terminal) · V̄_i(s'))²`` on behaviour i's rows.
    """
    states, following = _normalise(learned, rows.state), _normalise(learned, rows.next_state)
    network = _network(config)
    own_values = jax.vmap(lambda p, s: network.apply({"params": p}, s)[..., 0])
    after = own_values(learned.target, following)
    y = jax.lax.stop_gradient(rows.reward + config.discount * (1.0 - rows.terminal) * after)
    own = own_values(params, states)
    td = ((own - y) ** 2).mean()
    metrics = {"values/td_loss": td, "values/mean": own.mean()}
    if config.cross_entropy == 0.0:  # N times cheaper: nobody else's value is asked
        return td, metrics
    everyone = _values(config, params, states)  # (N values, N buffers, B)
    cross_entropy = -jnp.einsum("iib->ib", jax.nn.log_softmax(everyone, axis=0)).mean()
    total = (1.0 - config.cross_entropy) * td + config.cross_entropy * cross_entropy
    return total, metrics | {"values/cross_entropy": cross_entropy}


def update(config: BehavioursConfig, learned: BehaviourValues, rows: OwnRows) -> tuple[BehaviourValues, Metrics]:
    """One gradient step on `loss`, then the targets follow."""
    gradients, metrics = jax.grad(lambda p: loss(config, learned, p, rows), has_aux=True)(learned.params)
    changes, optimiser = _optimiser(config).update(gradients, learned.optimiser)
    params = optax.apply_updates(learned.params, changes)
    target = optax.incremental_update(params, learned.target, config.tau)
    return dataclasses.replace(learned, params=params, target=target, optimiser=optimiser), metrics


def _values(config: BehavioursConfig, params: Params, normalised: jax.Array) -> jax.Array:
    return apply_stacked(_network(config), params, normalised)[..., 0]


def _normalise(learned: BehaviourValues, state: jax.Array) -> jax.Array:
    return jnp.clip((state - learned.mean) / learned.std, -5.0, 5.0)


def _network(config: BehavioursConfig) -> MLP:
    return MLP(config.hidden, 1)


def _optimiser(config: BehavioursConfig) -> optax.GradientTransformation:
    return optax.adam(config.learning_rate)
