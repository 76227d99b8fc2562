"""Policy improvement by the reparameterised gradient of the critic (SAC, Haarnoja et al. 2018), with a learnt temperature and an
optional behaviour-cloning term on demonstrations: constant, annealed (MEDAL++, Sharma et al. 2023) or balanced (RoboFuME, Yang
et al. 2024).
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

from etude.config import ImprovementConfig
from learner.improvement.bc import act, cloning_loss, propose
from learner.parts import Improver, Metrics, Params, Rows

__all__ = ["ACTS_WITH_CRITIC", "act", "annealed_weight", "combine", "loss", "propose", "temperature_loss"]

ACTS_WITH_CRITIC = False
LEARNS_OFFLINE = True


def annealed_weight(config: ImprovementConfig, step: jax.Array) -> jax.Array:
    """λ after `step` online updates: `bc_weight` up to `bc_anneal_start`, then linear to `bc_end_weight` at `bc_anneal_end`."""
    length = max(config.bc_anneal_end - config.bc_anneal_start, 1)
    progress = jnp.clip((step - config.bc_anneal_start) / length, 0.0, 1.0)
    return config.bc_weight + progress * (config.bc_end_weight - config.bc_weight)


def combine(config: ImprovementConfig, reinforcement: jax.Array, cloning: jax.Array, step: jax.Array) -> jax.Array:
    """The loss of the policy from its two scalar terms.

    - constant: ``L_RL + bc_weight · L_BC``
    - annealed: ``(1 − λ) · L_RL + λ · L_BC``, see `annealed_weight`
    - balanced: ``L_RL + bc_weight · |L_RL| / |L_BC| · L_BC``, the ratio without gradient. It is the ratio of this very batch;
      RoboFuME does not say how it keeps the terms alike, and a moving average would be state that this part does not have.
    """
    if config.bc_schedule == "annealed":
        weight = annealed_weight(config, step)
        return (1.0 - weight) * reinforcement + weight * cloning
    if config.bc_weight == 0.0:
        return reinforcement  # said apart, so that no gradient of the cloning term is computed to be multiplied by 0
    if config.bc_schedule == "balanced":
        ratio = jnp.abs(reinforcement) / jnp.maximum(jnp.abs(cloning), 1e-6)
        return reinforcement + config.bc_weight * jax.lax.stop_gradient(ratio) * cloning
    return reinforcement + config.bc_weight * cloning


def temperature_loss(config: ImprovementConfig, log_temperature: jax.Array, log_prob: jax.Array, action_dim: int) -> jax.Array:
    """Raises the temperature while the entropy is below ``target_entropy_per_dim · d`` (dual of the entropy constraint)."""
    if not config.learn_temperature:
        return jnp.zeros(())
    gap = -jax.lax.stop_gradient(log_prob).mean() - config.target_entropy_per_dim * action_dim
    return jnp.exp(log_temperature) * gap


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
    """``mean(temperature · log π(a|s) − Q(s, a))`` with a ~ π, Q the mean or minimum over members, plus the cloning term on
    demonstration rows and the temperature's own loss.

    Raises:
        ValueError: the policy class has no log densities.
    """
    config = improver.recipe.improvement
    sample_key, cloning_key = jax.random.split(key)
    actions, log_probs = improver.policy.sample(improver.recipe, policy, rows.z, improver.action_dim, sample_key, 1)
    if log_probs is None:
        raise ValueError(
            f"recipe.improvement.kind 'gradient' needs a policy with log densities, and policy kind "
            f"{improver.recipe.policy.kind!r} has none: use policy kind 'gaussian', or improvement kind 'pa_rl' or 'awr'"
        )
    log_prob = log_probs[0]
    q = improver.critic(rows.z, actions[0])
    reduced = q.min(0) if config.q_reduction == "min" else q.mean(0)
    reinforcement = (jax.lax.stop_gradient(rows.temperature) * log_prob - reduced).mean()
    cloning = cloning_loss(improver, policy, rows, rows.demonstration * rows.weight, cloning_key)
    total = combine(config, reinforcement, cloning, step)
    total = total + temperature_loss(config, log_temperature, log_prob, improver.action_dim)
    metrics = {
        "policy/entropy": -log_prob.mean(),
        "policy/q": q.mean(),
        "policy/temperature": jnp.exp(log_temperature),
        "policy/bc_loss": cloning,
    }
    return total, metrics
