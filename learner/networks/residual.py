"""The network of the diffusion and flow policies: a residual multilayer perceptron that knows the time.

Layout of IDQL (Hansen-Estruch et al. 2023, appendix), which PA-RL (Mark et al. 2024) uses too.
"""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp

TIME_FEATURES = 128
TIME_HIDDEN = 256
FREQUENCY_STD = 0.2


class TimeEmbedding(nn.Module):
    """``(...)`` times → ``(..., 128)``: Fourier features with learnt frequencies, then a small perceptron."""

    @nn.compact
    def __call__(self, time: jax.Array) -> jax.Array:
        frequencies = self.param("frequencies", nn.initializers.normal(FREQUENCY_STD), (TIME_FEATURES // 2,))
        phase = 2.0 * jnp.pi * time[..., None] * frequencies
        x = jnp.concatenate([jnp.cos(phase), jnp.sin(phase)], axis=-1)
        return nn.Dense(TIME_FEATURES, name="output")(nn.swish(nn.Dense(TIME_HIDDEN, name="hidden")(x)))


class ResidualBlock(nn.Module):
    """Dropout → LayerNorm → Dense(4·width) → swish → Dense(width), added to its input ``(..., width)``."""

    width: int
    dropout: float

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        y = nn.LayerNorm(name="norm")(nn.Dropout(self.dropout, deterministic=not train)(x))
        y = nn.swish(nn.Dense(4 * self.width, name="expand")(y))
        return x + nn.Dense(self.width, name="contract")(y)


class ResidualNet(nn.Module):
    """``(features (..., f), x (..., d), time (...)) → (..., outputs)``.

    Leading axes of features and time broadcast to those of x; a time shared by all rows is embedded once.
    With `train`, dropout is on and wants the random stream ``dropout``.
    """

    width: int
    blocks: int
    outputs: int
    dropout: float = 0.0

    @nn.compact
    def __call__(self, features: jax.Array, x: jax.Array, time: jax.Array, train: bool = False) -> jax.Array:
        inputs = (features, x, TimeEmbedding(name="time")(time))
        lead = x.shape[:-1]
        y = jnp.concatenate([jnp.broadcast_to(part, (*lead, part.shape[-1])) for part in inputs], axis=-1)
        y = nn.Dense(self.width, name="input")(y)
        for i in range(self.blocks):
            y = ResidualBlock(self.width, self.dropout, name=f"block_{i}")(y, train)
        return nn.Dense(self.outputs, name="output")(nn.swish(y))
