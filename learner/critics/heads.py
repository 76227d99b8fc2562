"""What the output of one ensemble member means: a number, or a histogram of returns (HL-Gauss, Farebrother et al. 2024, §3.1).

HL-Gauss: K bins of equal width on ``[value_min, value_max]``. A target y becomes the mass that a Gaussian at y puts in each
bin, over its mass on the support; the loss is the cross-entropy, the value is ``Σ_i p_i · centre_i``.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.scipy.special import ndtr

from etude.config import CriticConfig


def outputs(config: CriticConfig) -> int:
    """How many numbers a member gives."""
    return config.value_bins if config.head == "hl_gauss" else 1


def decode(config: CriticConfig, outputs: jax.Array) -> jax.Array:
    """Expected return ``(...)`` of outputs ``(..., k)``."""
    if config.head == "scalar":
        return outputs[..., 0]
    edges = _edges(config)
    return jax.nn.softmax(outputs, axis=-1) @ (0.5 * (edges[1:] + edges[:-1]))


def fit_loss(config: CriticConfig, outputs: jax.Array, y: jax.Array) -> jax.Array:
    """Loss of each row ``(E, B)`` for outputs ``(E, B, k)`` and targets y ``(B,)``, which carry no gradient.

    Squared error for a number, cross-entropy for a histogram.
    """
    y = jax.lax.stop_gradient(y)
    if config.head == "scalar":
        return (outputs[..., 0] - y) ** 2
    return -(histogram(config, y) * jax.nn.log_softmax(outputs, axis=-1)).sum(-1)


def histogram(config: CriticConfig, y: jax.Array) -> jax.Array:
    """Target probabilities ``(..., k)`` of returns y ``(...)``; a return outside the support counts as its nearest end.

    A return at an end keeps one half of its Gaussian, so its histogram has its mean 0.8 standard deviations inside the support.
    """
    sigma = config.value_sigma_bins * (config.value_max - config.value_min) / config.value_bins
    y = jnp.clip(y, config.value_min, config.value_max)
    x = (_edges(config) - y[..., None]) / sigma
    below, above = ndtr(x), ndtr(-x)
    # right of y, differences of the upper tail keep the digits that differences of the CDF near 1 lose
    mass = jnp.where(x[..., :-1] > 0.0, above[..., :-1] - above[..., 1:], below[..., 1:] - below[..., :-1])
    # at least about one half (y is on the support), so the division is safe
    return mass / mass.sum(-1, keepdims=True)


def _edges(config: CriticConfig) -> jax.Array:
    return jnp.linspace(config.value_min, config.value_max, config.value_bins + 1)
