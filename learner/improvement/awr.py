"""Advantage-weighted cloning (AWR, Peng et al. 2019; as in IQL, Kostrikov et al. 2022): imitate what the critic calls good.

For policy classes that have a supervised loss and nothing else: no gradient goes through the critic or through samples.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

from etude.config import ImprovementConfig
from learner.improvement.bc import act, propose
from learner.parts import Improver, Metrics, Params, Rows

__all__ = ["ACTS_WITH_CRITIC", "act", "loss", "propose", "weights"]

ACTS_WITH_CRITIC = False
LEARNS_OFFLINE = True


def weights(config: ImprovementConfig, advantage: jax.Array) -> jax.Array:
    """``min(exp(β · A), max_weight)`` for advantages ``(B,)``, without gradient and not normalised over the batch."""
    return jax.lax.stop_gradient(jnp.minimum(jnp.exp(config.inverse_temperature * advantage), config.max_weight))


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
    """Mean over all rows of advantage weight times row weight times supervised loss."""
    advantage_key, cloning_key = jax.random.split(key)
    gain = advantage(advantage_key)
    weight = weights(improver.recipe.improvement, gain)
    losses = improver.policy.supervised_loss(improver.recipe, policy, rows.z, rows.action, cloning_key)
    metrics = {"policy/bc_loss": losses.mean(), "policy/advantage": gain.mean(), "policy/advantage_weight": weight.mean()}
    return (weight * rows.weight * losses).mean(), metrics
