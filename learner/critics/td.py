"""Temporal-difference critic: an ensemble with LayerNorm and a random-subset minimum in the target (SAC / REDQ / RLPD).

Specification: RLPD (Ball et al. 2023) with E members, target = min over `subset_min` random distinct members.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from etude.config import CriticConfig, RewardConfig
from learner.networks.mlp import MLP, apply_stacked

Params = Any


def make(config: CriticConfig) -> MLP:
    """One member: (features, action) → scalar value."""
    return MLP(config.hidden, 1, config.layer_norm)


def values(head: MLP, params: Params, features: jax.Array, action: jax.Array) -> jax.Array:
    """Q of every member: features ``(..., f)`` and action ``(..., d)`` → ``(E, ...)``."""
    return apply_stacked(head, params, jnp.concatenate([features, action], axis=-1))[..., 0]


def subset_minimum(q: jax.Array, key: jax.Array, members: int) -> jax.Array:
    """Minimum over `members` distinct random members of ``(E, ...)``; all of them when `members` is at least E."""
    if members >= q.shape[0]:
        return q.min(0)
    chosen = jax.random.permutation(key, q.shape[0])[:members]
    return q[chosen].min(0)


def target(config: CriticConfig, reward: jax.Array, terminal: jax.Array, next_value: jax.Array) -> jax.Array:
    """``y = r + discount · (1 − terminal) · next_value``; a time-out is not terminal and bootstraps."""
    return reward + config.discount * (1.0 - terminal) * next_value


def return_bounds(config: CriticConfig, reward: RewardConfig) -> tuple[float, float]:
    """Lowest and highest discounted return that rewards of `reward.step` per step and `reward.success` once can make."""
    for_ever = reward.step / (1.0 - config.discount)
    success = reward.success if reward.success_is_terminal else reward.success / (1.0 - config.discount)
    return min(for_ever, reward.step, success), max(for_ever, success)


def loss(q: jax.Array, y: jax.Array) -> jax.Array:
    """Sum over members of the mean squared error: q ``(E, B)``, y ``(B,)``."""
    return ((q - y) ** 2).mean(-1).sum()
