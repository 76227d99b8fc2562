"""Flow-matching policy over one action (Lipman et al. 2023, straight paths; Liu et al. 2023).

A residual network gives the velocity that carries noise (time 0) to actions (time 1); a sample is `sampling_steps` Euler steps.
Many modes, no densities.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from etude.config import RecipeConfig
from learner.networks.residual import ResidualNet

Params = Any


def init(recipe: RecipeConfig, key: jax.Array, features: jax.Array, action_dim: int) -> Params:
    """Parameters for features ``(1, f)``."""
    return _net(recipe, action_dim).init(key, features, jnp.zeros((1, action_dim)), jnp.zeros(1))["params"]


def integrate(velocity: Callable[[jax.Array, jax.Array], jax.Array], start: jax.Array, steps: int) -> jax.Array:
    """Euler's method from time 0 to 1: ``velocity(x (..., d), time ()) -> (..., d)``."""
    times = jnp.arange(steps, dtype=jnp.float32) / steps
    end, _ = jax.lax.scan(lambda x, t: (x + velocity(x, t) / steps, None), start, times)
    return end


def sample(
    recipe: RecipeConfig, params: Params, features: jax.Array, action_dim: int, key: jax.Array, n: int
) -> tuple[jax.Array, jax.Array | None]:
    """`n` actions per row ``(n, B, d)`` in [-1, 1]; no densities. The start noise is scaled by ``policy.sampling_noise``."""
    noise = jax.random.normal(key, (n, *features.shape[:-1], action_dim))
    return _generate(recipe, params, features, recipe.policy.sampling_noise * noise), None


def act(
    recipe: RecipeConfig, params: Params, features: jax.Array, action_dim: int, key: jax.Array, explore: jax.Array
) -> jax.Array:
    """One action per row ``(B, d)``: the start noise is scaled by `explore` (0 deterministic, 1 as `sample`).

    At 0 one mode gives its middle, but two modes of equal weight may give an action between them.
    """
    scale = explore * recipe.policy.sampling_noise
    return _generate(recipe, params, features, scale * jax.random.normal(key, (*features.shape[:-1], action_dim)))


def supervised_loss(recipe: RecipeConfig, params: Params, features: jax.Array, action: jax.Array, key: jax.Array) -> jax.Array:
    """``‖v(x_t, t) - (action - noise)‖²`` at ``x_t = (1 - t) · noise + t · action``, t ~ U[0, 1]: ``(B, d)`` → ``(B,)``.

    Lipman et al. 2023, §4.1, with σ_min = 0.
    """
    time_key, noise_key, dropout_key = jax.random.split(key, 3)
    time = jax.random.uniform(time_key, action.shape[:-1])
    noise = jax.random.normal(noise_key, action.shape)
    x = (1.0 - time[..., None]) * noise + time[..., None] * action
    velocity = _net(recipe, action.shape[-1]).apply(
        {"params": params}, features, x, time, train=True, rngs={"dropout": dropout_key}
    )
    return ((velocity - (action - noise)) ** 2).sum(-1)


def _generate(recipe: RecipeConfig, params: Params, features: jax.Array, start: jax.Array) -> jax.Array:
    net = _net(recipe, start.shape[-1])
    end = integrate(lambda x, t: net.apply({"params": params}, features, x, t), start, recipe.policy.sampling_steps)
    return jnp.clip(end, -1.0, 1.0)


def _net(recipe: RecipeConfig, action_dim: int) -> ResidualNet:
    return ResidualNet(recipe.policy.width, recipe.policy.blocks, action_dim, recipe.policy.dropout)
