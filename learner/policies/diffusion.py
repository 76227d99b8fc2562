"""Diffusion policy over one action (DDPM, Ho et al. 2020; as IDQL, Hansen-Estruch et al. 2023, and PA-RL, Mark et al. 2024).

A residual network predicts the noise in a noisy action; a sample starts from noise and removes it in `sampling_steps` steps.
Many modes, no densities. It acts with averaged parameters (recipe.policy.average_rate), which the agent keeps.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from etude.config import RecipeConfig
from learner.networks.residual import ResidualNet

Params = Any


COSINE_OFFSET = 0.008  # Nichol & Dhariwal 2021, equation 17
LARGEST_BETA = 0.999


class Schedule(NamedTuple):
    """Constants of the forward process for steps t = 0 … T-1, each ``(T,)``: beta, alpha = 1 - beta, its running product."""

    beta: np.ndarray
    alpha: np.ndarray
    alpha_product: np.ndarray


def cosine_schedule(steps: int) -> Schedule:
    """Noise schedule whose signal falls like a squared cosine (Nichol & Dhariwal 2021, §3.2)."""
    time = np.arange(steps + 1) / steps
    signal = np.cos((time + COSINE_OFFSET) / (1.0 + COSINE_OFFSET) * np.pi / 2) ** 2
    beta = np.clip(1.0 - signal[1:] / signal[:-1], 0.0, LARGEST_BETA)
    return Schedule(*(array.astype(np.float32) for array in (beta, 1.0 - beta, np.cumprod(1.0 - beta))))


def init(recipe: RecipeConfig, key: jax.Array, features: jax.Array, action_dim: int) -> Params:
    """Parameters for features ``(1, f)``."""
    return _net(recipe, action_dim).init(key, features, jnp.zeros((1, action_dim)), jnp.zeros(1))["params"]


def denoise(predict: Callable[[jax.Array, jax.Array], jax.Array], noise: jax.Array) -> jax.Array:
    """Ancestral sampling (Ho et al. 2020, algorithm 2, σ_t² = β_t), clipped to [-1, 1] after every step.

    Args:
        predict: noise in ``(..., d)`` at step t, a scalar counted from 0.
        noise: ``(T, ..., d)`` standard normal: the start, then what the steps T-1 … 1 add; step 0 adds none.
    """
    steps = noise.shape[0]
    schedule = cosine_schedule(steps)
    scale = 1.0 / np.sqrt(schedule.alpha)
    share = schedule.beta / np.sqrt(1.0 - schedule.alpha_product)
    deviation = np.sqrt(schedule.beta)

    def step(x: jax.Array, constants: tuple[jax.Array, ...]) -> tuple[jax.Array, None]:
        t, scale_t, share_t, deviation_t, added = constants
        mean = scale_t * (x - share_t * predict(x, t))
        return jnp.clip(mean + deviation_t * added, -1.0, 1.0), None

    times = np.arange(steps, dtype=np.float32)
    added = jnp.concatenate([noise[1:], jnp.zeros_like(noise[:1])])
    x, _ = jax.lax.scan(step, noise[0], (*(jnp.asarray(v[::-1]) for v in (times, scale, share, deviation)), added))
    return x


def sample(
    recipe: RecipeConfig, params: Params, features: jax.Array, action_dim: int, key: jax.Array, n: int
) -> tuple[jax.Array, jax.Array | None]:
    """`n` actions per row ``(n, B, d)`` in [-1, 1]; no densities.

    All noise is scaled by ``policy.sampling_noise`` (low-temperature sampling, Ajay et al. 2023): at 1 samples repeat the
    scatter of the demonstrations, below it less of that and fewer rare actions.
    """
    noise = jax.random.normal(key, (recipe.policy.sampling_steps, n, *features.shape[:-1], action_dim))
    return denoise(_predictor(recipe, params, features, action_dim), recipe.policy.sampling_noise * noise), None


def act(
    recipe: RecipeConfig, params: Params, features: jax.Array, action_dim: int, key: jax.Array, explore: jax.Array
) -> jax.Array:
    """One action per row ``(B, d)``: all noise is scaled by `explore` (0 deterministic, 1 as `sample`).

    At 0 one mode gives its middle, but two modes of equal weight may give an action between them.
    """
    noise = jax.random.normal(key, (recipe.policy.sampling_steps, *features.shape[:-1], action_dim))
    return denoise(_predictor(recipe, params, features, action_dim), explore * recipe.policy.sampling_noise * noise)


def supervised_loss(recipe: RecipeConfig, params: Params, features: jax.Array, action: jax.Array, key: jax.Array) -> jax.Array:
    """``Σ_dims (ε - ε̂(x_t, t))²`` with uniform t per row (Ho et al. 2020, equation 14): ``(B, d)`` actions → ``(B,)``."""
    step_key, noise_key, dropout_key = jax.random.split(key, 3)
    step = jax.random.randint(step_key, action.shape[:-1], 0, recipe.policy.sampling_steps)
    noise = jax.random.normal(noise_key, action.shape)
    product = jnp.asarray(cosine_schedule(recipe.policy.sampling_steps).alpha_product)[step][..., None]
    noisy = jnp.sqrt(product) * action + jnp.sqrt(1.0 - product) * noise
    predicted = _net(recipe, action.shape[-1]).apply(
        {"params": params}, features, noisy, step.astype(jnp.float32), train=True, rngs={"dropout": dropout_key}
    )
    return ((noise - predicted) ** 2).sum(-1)


def _predictor(
    recipe: RecipeConfig, params: Params, features: jax.Array, action_dim: int
) -> Callable[[jax.Array, jax.Array], jax.Array]:
    net = _net(recipe, action_dim)
    return lambda x, t: net.apply({"params": params}, features, x, t)


def _net(recipe: RecipeConfig, action_dim: int) -> ResidualNet:
    return ResidualNet(recipe.policy.width, recipe.policy.blocks, action_dim, recipe.policy.dropout)
