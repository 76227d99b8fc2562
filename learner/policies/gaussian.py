"""Tanh-squashed diagonal Gaussian policy (SAC, Haarnoja et al. 2018) over encoder features.

Pure functions of (module, params); the agent decides which features and which phase's parameters go in.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from etude.config import PolicyConfig
from learner.networks.mlp import MLP

Params = Any


def make(config: PolicyConfig, action_dim: int) -> MLP:
    """The head: features → (mean, raw log standard deviation)."""
    return MLP(config.hidden, 2 * action_dim, config.layer_norm, output_scale=0.01)


def distribution(config: PolicyConfig, head: MLP, params: Params, features: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Mean and log standard deviation before the tanh, each ``(..., d)``; log std is squashed smoothly into its bounds."""
    mean, raw = jnp.split(head.apply({"params": params}, features), 2, axis=-1)
    span = 0.5 * (config.log_std_max - config.log_std_min)
    # centred so that an untrained head has a standard deviation of about 0.4
    return mean, jnp.clip(config.log_std_min + span * (jnp.tanh(raw + 0.55) + 1.0), config.log_std_min, config.log_std_max)


def log_prob_of_pre_tanh(pre_tanh: jax.Array, mean: jax.Array, log_std: jax.Array) -> jax.Array:
    """Log density of ``tanh(pre_tanh)``: Gaussian log density minus the log-determinant of tanh, in its stable form."""
    gaussian = -0.5 * ((pre_tanh - mean) * jnp.exp(-log_std)) ** 2 - log_std - 0.5 * jnp.log(2 * jnp.pi)
    correction = 2.0 * (jnp.log(2.0) - pre_tanh - jax.nn.softplus(-2.0 * pre_tanh))
    return (gaussian - correction).sum(-1)


def sample(
    config: PolicyConfig, head: MLP, params: Params, features: jax.Array, key: jax.Array, n: int
) -> tuple[jax.Array, jax.Array]:
    """`n` reparameterised actions per row: ``(n, ..., d)`` in (-1, 1) and their log densities ``(n, ...)``."""
    mean, log_std = distribution(config, head, params, features)
    noise = jax.random.normal(key, (n, *mean.shape))
    pre_tanh = mean + noise * jnp.exp(log_std)
    return jnp.tanh(pre_tanh), log_prob_of_pre_tanh(pre_tanh, mean, log_std)


def act(config: PolicyConfig, head: MLP, params: Params, features: jax.Array, key: jax.Array, explore: jax.Array) -> jax.Array:
    """One action ``(..., d)``: the tanh of the mean, plus noise scaled by `explore` (0 deterministic, 1 a sample)."""
    mean, log_std = distribution(config, head, params, features)
    return jnp.tanh(mean + explore * jax.random.normal(key, mean.shape) * jnp.exp(log_std))


def supervised_loss(
    config: PolicyConfig, head: MLP, params: Params, features: jax.Array, action: jax.Array, weight: jax.Array
) -> jax.Array:
    """Weighted behaviour cloning: squared error of the deterministic action, which is the likelihood of a fixed-width Gaussian.

    The width is left to the entropy term: fitting it to nearly deterministic demonstrations would end exploration.
    `action` ``(B, d)``, `weight` ``(B,)``.
    """
    mean, _ = distribution(config, head, params, features)
    error = ((jnp.tanh(mean) - action) ** 2).sum(-1)
    return (weight * error).sum() / jnp.maximum(weight.sum(), 1.0)
