"""The classifier of irreversible states (PAINT, Xie et al. 2022, §4 and its released code): features in, probability out.

It is trained from scratch after every labelled intervention, on as many stuck as free states in each batch, so that a rare class
counts as much as a common one. Pure functions on explicit parameters; the features carry no gradient.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from etude.specs import Observation
from learner.networks.mlp import MLP

Params = Any

HIDDEN = (128, 128)
LEARNING_RATE = 1e-3
ROWS = 32
"""Stuck states in a batch, and as many free ones (the release's batch of 64)."""
BLOCK = 250
"""Updates per jitted call."""
ENCODED_AT_ONCE = 256
"""Observations per jitted call."""

NETWORK = MLP(HIDDEN, 1, layer_norm=False)
OPTIMISER = optax.adam(LEARNING_RATE)


def init(key: jax.Array, dim: int) -> Params:
    """Parameters for features ``(..., dim)`` that call nothing irreversible until they are trained (`trained` is 0)."""
    return {"network": NETWORK.init(key, jnp.zeros((1, dim)))["params"], "trained": jnp.zeros(())}


def probability(params: Params, features: jax.Array) -> jax.Array:
    """Features ``(..., f)`` → ``(...)``, probability that the state cannot be undone; 0 before the first training."""
    logit = NETWORK.apply({"params": params["network"]}, features)[..., 0]
    return params["trained"] * jax.nn.sigmoid(logit)


def learn(
    encode: Callable[[dict[str, np.ndarray]], jax.Array],
    stuck: Observation,
    free: Observation,
    updates: int,
    rng: np.random.Generator,
) -> Params:
    """`fit` to the features that `encode` makes of observations ``(n, …)``, at least one of each."""

    def features(observations: Observation) -> np.ndarray:
        last = len(observations["state"]) - 1
        encoded = []
        for start in range(0, last + 1, ENCODED_AT_ONCE):
            rows = np.minimum(np.arange(start, start + ENCODED_AT_ONCE), last)  # equal blocks compile once
            encoded.append(np.asarray(encode({name: array[rows] for name, array in observations.items()})))
        return np.concatenate(encoded)[: last + 1]

    key = jnp.asarray(rng.integers(2**32, size=2, dtype=np.uint32))
    return fit(key, features(stuck), features(free), updates, rng)


def fit(key: jax.Array, stuck: np.ndarray, free: np.ndarray, updates: int, rng: np.random.Generator) -> Params:
    """Fresh parameters trained to tell features `stuck` ``(n, f)`` from `free` ``(m, f)``, at least one of each.

    `updates` is rounded up to whole blocks of `BLOCK`. The loss is the binary cross-entropy, the optimiser Adam.
    """
    network = init(key, stuck.shape[-1])["network"]
    optimiser = OPTIMISER.init(network)
    for _ in range(-(-updates // BLOCK)):
        parts = [states[rng.integers(len(states), size=(BLOCK, ROWS))] for states in (stuck, free)]
        network, optimiser = _block(network, optimiser, jnp.asarray(np.concatenate(parts, axis=1)))
    return {"network": network, "trained": jnp.ones(())}


@partial(jax.jit, donate_argnums=(0, 1))
def _block(network: Params, optimiser: optax.OptState, batches: jax.Array) -> tuple[Params, optax.OptState]:
    """One update for each of the batches ``(K, 2 · ROWS, f)``, stuck states first."""
    labels = jnp.concatenate([jnp.ones(ROWS), jnp.zeros(ROWS)])

    def loss(network: Params, features: jax.Array) -> jax.Array:
        logits = NETWORK.apply({"params": network}, features)[..., 0]
        return optax.sigmoid_binary_cross_entropy(logits, labels).mean()

    def update(carry: tuple[Params, optax.OptState], features: jax.Array) -> tuple[tuple[Params, optax.OptState], None]:
        network, optimiser = carry
        changes, optimiser = OPTIMISER.update(jax.grad(loss)(network, features), optimiser)
        return (optax.apply_updates(network, changes), optimiser), None

    carry, _ = jax.lax.scan(update, (network, optimiser), batches)
    return carry
