"""Weighted behaviour cloning: the policy imitates the executed actions, each row by its weight (Sirius, Liu et al. 2023).

The rows' weights come from the data axis (learner/replay/interventions.py), or are 1. No critic is asked.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from learner.parts import Improver, Metrics, Params, Rows

ACTS_WITH_CRITIC = False
LEARNS_OFFLINE = True


def propose(improver: Improver, policy: Params, features: jax.Array, key: jax.Array, n: int) -> Any:
    """Samples of the policy, see `learner.parts.Propose`."""
    return improver.policy.sample(improver.recipe, policy, features, improver.action_dim, key, n)


def act(improver: Improver, policy: Params, features: jax.Array, key: jax.Array, explore: jax.Array) -> jax.Array:
    """One action per row ``(B, d)``, as the policy class acts."""
    return improver.policy.act(improver.recipe, policy, features, improver.action_dim, key, explore)


def targets(improver: Improver, policy: Params, features: jax.Array, action: jax.Array, key: jax.Array) -> jax.Array:
    """What an external policy imitates: the executed `action` ``(B, d)``."""
    return action


def cloning_loss(improver: Improver, policy: Params, rows: Rows, weight: jax.Array, key: jax.Array) -> jax.Array:
    """Weighted mean of the supervised loss of each row, ``Σ w·l / Σ w``; 0 when no row weighs anything. `weight` ``(B,)``."""
    losses = improver.policy.supervised_loss(improver.recipe, policy, rows.z, rows.action, key)
    return (weight * losses).sum() / jnp.maximum(weight.sum(), 1e-6)


def loss(
    improver: Improver,
    policy: Params,
    average: Params,
    rows: Rows,
    log_temperature: jax.Array,
    advantage: Callable[[jax.Array], jax.Array],
    step: jax.Array,
    key: jax.Array,
) -> tuple[jax.Array, Metrics]:
    """Cloning of all rows, weighted by ``rows.weight``."""
    cloning = cloning_loss(improver, policy, rows, rows.weight, key)
    return cloning, {"policy/bc_loss": cloning}
