"""Autoregressive policy over one action: a categorical distribution per dimension, given the dimensions before it.

Action tokens as in RT-1 (Brohan et al. 2022) and OpenVLA (Kim et al. 2024), with the small causal transformer of PA-RL (Mark et
al. 2024). Many modes; not reparameterised, so no gradient through samples.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from etude.config import RecipeConfig
from learner.networks.transformer import ActionTransformer

Params = Any


def init(recipe: RecipeConfig, key: jax.Array, features: jax.Array, action_dim: int) -> Params:
    """Parameters for features ``(1, f)``. Raises ValueError when the heads do not divide the width."""
    return _net(recipe, action_dim).init(key, features, jnp.zeros((1, action_dim), jnp.int32))["params"]


def to_bins(action: jax.Array, bins: int) -> jax.Array:
    """Index of the nearest of `bins` values spread evenly over [-1, 1], same shape, int32; outside values go to the ends."""
    return jnp.round((jnp.clip(action, -1.0, 1.0) + 1.0) * (0.5 * (bins - 1))).astype(jnp.int32)


def from_bins(index: jax.Array, bins: int) -> jax.Array:
    """The value in [-1, 1] of each bin, float32."""
    return index.astype(jnp.float32) * (2.0 / (bins - 1)) - 1.0


def draw(
    recipe: RecipeConfig, params: Params, features: jax.Array, action_dim: int, key: jax.Array, n: int, explore: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Bins ``(n, B, d)`` chosen left to right, and the logits ``(n, B, d, bins)`` that each was chosen by.

    The largest of logits + `explore` · Gumbel noise is chosen: greedy at 0, a draw of the distribution at 1, and in between one
    at that softmax temperature. The observation's token is computed once for all `n`.
    """
    net = _net(recipe, action_dim)
    keys = jax.random.split(key, action_dim)
    logits, past = net.apply({"params": params}, features, method="begin")
    logits, past = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (n, *leaf.shape)), (logits, past))
    chosen_by, chosen = [logits], [_choose(logits, keys[0], explore)]
    for dim in range(1, action_dim):
        logits, past = net.apply({"params": params}, chosen[-1], dim, past, method="proceed")
        chosen_by.append(logits)
        chosen.append(_choose(logits, keys[dim], explore))
    return jnp.stack(chosen, axis=-1), jnp.stack(chosen_by, axis=-2)


def sample(
    recipe: RecipeConfig, params: Params, features: jax.Array, action_dim: int, key: jax.Array, n: int
) -> tuple[jax.Array, jax.Array | None]:
    """`n` actions per row ``(n, B, d)`` in [-1, 1], each on the grid of bins; no densities."""
    index, _ = draw(recipe, params, features, action_dim, key, n, jnp.ones(()))
    return from_bins(index, recipe.policy.bins), None


def act(
    recipe: RecipeConfig, params: Params, features: jax.Array, action_dim: int, key: jax.Array, explore: jax.Array
) -> jax.Array:
    """One action per row ``(B, d)``: greedy when `explore` is 0, a sample when it is 1."""
    index, _ = draw(recipe, params, features, action_dim, key, 1, explore)
    return from_bins(index[0], recipe.policy.bins)


def supervised_loss(recipe: RecipeConfig, params: Params, features: jax.Array, action: jax.Array, key: jax.Array) -> jax.Array:
    """Minus the log probability of the action's bins, summed over dimensions: ``(B, d)`` actions → ``(B,)``."""
    index = to_bins(action, recipe.policy.bins)
    logits = _net(recipe, action.shape[-1]).apply({"params": params}, features, index, train=True, rngs={"dropout": key})
    return -jnp.take_along_axis(jax.nn.log_softmax(logits), index[..., None], axis=-1)[..., 0].sum(-1)


def _choose(logits: jax.Array, key: jax.Array, explore: jax.Array) -> jax.Array:
    return jnp.argmax(logits + explore * jax.random.gumbel(key, logits.shape), axis=-1)


def _net(recipe: RecipeConfig, action_dim: int) -> ActionTransformer:
    policy = recipe.policy
    return ActionTransformer(action_dim, policy.bins, policy.width, policy.heads, policy.blocks, policy.dropout)
