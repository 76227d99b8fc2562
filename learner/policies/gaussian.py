"""Tanh-squashed diagonal Gaussian policy (SAC, Haarnoja et al. 2018) over encoder features: one mode, exact densities.

The only class here whose samples carry a gradient and a log density, so the only one for policy gradients and entropy terms.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from etude.config import RecipeConfig
from learner.networks.mlp import MLP

Params = Any


LARGEST_ACTION = 0.99999  # executed actions are clipped to this before their density is asked: atanh(±1) is infinite


def init(recipe: RecipeConfig, key: jax.Array, features: jax.Array, action_dim: int) -> Params:
    """Parameters for features ``(1, f)``."""
    return _head(recipe, action_dim).init(key, features)["params"]


def distribution(
    recipe: RecipeConfig, params: Params, features: jax.Array, action_dim: int, dropout_key: jax.Array | None = None
) -> tuple[jax.Array, jax.Array]:
    """Mean and log standard deviation before the tanh, each ``(..., d)``; log std is squashed smoothly into its bounds.

    With `dropout_key` hidden units are left out (``policy.dropout``).
    """
    low, high = recipe.policy.log_std_min, recipe.policy.log_std_max
    train = {} if dropout_key is None else {"train": True, "rngs": {"dropout": dropout_key}}
    mean, raw = jnp.split(_head(recipe, action_dim).apply({"params": params}, features, **train), 2, axis=-1)
    # centred so that an untrained head has a standard deviation of about 0.4
    return mean, jnp.clip(low + 0.5 * (high - low) * (jnp.tanh(raw + 0.55) + 1.0), low, high)


def log_prob_of_pre_tanh(pre_tanh: jax.Array, mean: jax.Array, log_std: jax.Array) -> jax.Array:
    """Log density of ``tanh(pre_tanh)``: Gaussian log density minus the log-determinant of tanh, in its stable form."""
    gaussian = -0.5 * ((pre_tanh - mean) * jnp.exp(-log_std)) ** 2 - log_std - 0.5 * jnp.log(2 * jnp.pi)
    correction = 2.0 * (jnp.log(2.0) - pre_tanh - jax.nn.softplus(-2.0 * pre_tanh))
    return (gaussian - correction).sum(-1)


def sample(
    recipe: RecipeConfig, params: Params, features: jax.Array, action_dim: int, key: jax.Array, n: int
) -> tuple[jax.Array, jax.Array | None]:
    """`n` reparameterised actions per row: ``(n, B, d)`` in (-1, 1) and their log densities ``(n, B)``."""
    mean, log_std = distribution(recipe, params, features, action_dim)
    noise = jax.random.normal(key, (n, *mean.shape))
    pre_tanh = mean + noise * jnp.exp(log_std)
    return jnp.tanh(pre_tanh), log_prob_of_pre_tanh(pre_tanh, mean, log_std)


def act(
    recipe: RecipeConfig, params: Params, features: jax.Array, action_dim: int, key: jax.Array, explore: jax.Array
) -> jax.Array:
    """One action per row ``(B, d)``: the tanh of the mean, plus noise scaled by `explore` (0 deterministic, 1 a sample)."""
    mean, log_std = distribution(recipe, params, features, action_dim)
    return jnp.tanh(mean + explore * jax.random.normal(key, mean.shape) * jnp.exp(log_std))


def supervised_loss(recipe: RecipeConfig, params: Params, features: jax.Array, action: jax.Array, key: jax.Array) -> jax.Array:
    """Behaviour cloning of ``(B, d)`` actions, loss ``(B,)``; `key` chooses what ``policy.dropout`` leaves out.

    ``squared_error``: of the deterministic action, summed over dimensions, which is the likelihood of a fixed-width Gaussian.
    The width is left to the entropy term: fitting it to nearly deterministic demonstrations would end exploration.
    ``log_likelihood``: minus the log density of the action (PA-RL's distillation, Mark et al. 2024).
    """
    mean, log_std = distribution(recipe, params, features, action.shape[-1], key)
    if recipe.policy.cloning == "squared_error":
        return ((jnp.tanh(mean) - action) ** 2).sum(-1)
    return -log_prob_of_pre_tanh(jnp.arctanh(jnp.clip(action, -LARGEST_ACTION, LARGEST_ACTION)), mean, log_std)


def _head(recipe: RecipeConfig, action_dim: int) -> MLP:
    """Features → (mean, raw log standard deviation)."""
    return MLP(recipe.policy.hidden, 2 * action_dim, recipe.policy.layer_norm, output_scale=0.01, dropout=recipe.policy.dropout)
