"""Q-weighted positives (QWALE, Chen et al. 2022, "You Only Live Once: Single-Life Reinforcement Learning").

A single life does not begin where demonstrations do, so that not all of their states are worth being drawn to: each one counts
``exp(Q(s, a) − b)`` with Q the critic of prior data, scaled to [0, 1] over the positives, and b its value where the robot is.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp


def weights(q: jax.Array, q_now: jax.Array) -> jax.Array:
    """Weights ``(P,)`` of positives with values `q` ``(P,)``; `q_now` is the value of the present state, a scalar."""
    low, high = q.min(), q.max()
    span = jnp.maximum(high - low, 1e-6)
    return jax.lax.stop_gradient(jnp.exp((q - low) / span - jnp.clip((q_now - low) / span, 0.0, 1.0)))
