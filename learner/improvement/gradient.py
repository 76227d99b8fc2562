"""Policy improvement by the reparameterised gradient of the critic (SAC), with an optional behaviour-cloning term and a learnt
temperature."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from etude.config import ImprovementConfig


def policy_loss(
    config: ImprovementConfig, temperature: jax.Array, log_prob: jax.Array, q: jax.Array, bc_loss: jax.Array
) -> jax.Array:
    """``mean(temperature · log π − mean_E Q) + bc_weight · L_BC``; `log_prob` ``(B,)``, `q` ``(E, B)`` at the sampled action."""
    return (jax.lax.stop_gradient(temperature) * log_prob - q.mean(0)).mean() + config.bc_weight * bc_loss


def temperature_loss(config: ImprovementConfig, log_temperature: jax.Array, log_prob: jax.Array, action_dim: int) -> jax.Array:
    """Raises the temperature while the entropy is below ``target_entropy_per_dim · d`` (dual of the entropy constraint)."""
    if not config.learn_temperature:
        return jnp.zeros(())
    gap = -jax.lax.stop_gradient(log_prob).mean() - config.target_entropy_per_dim * action_dim
    return jnp.exp(log_temperature) * gap
