"""Parts of plain JAX networks that are used in more than one place; parameters are a flat dict of arrays."""

from __future__ import annotations

import jax
import jax.numpy as jnp

Params = dict[str, jax.Array]


def dense(params: Params, name: str, x: jax.Array) -> jax.Array:
    return x @ params[f"{name}/w"] + params[f"{name}/b"]


def normalise(x: jax.Array) -> jax.Array:
    """LayerNorm without parameters."""
    mean = x.mean(-1, keepdims=True)
    return (x - mean) * jax.lax.rsqrt(jnp.square(x - mean).mean(-1, keepdims=True) + 1e-5)


def blocks(x: jax.Array, size: int) -> jax.Array:
    """``(B, h, w, c)`` → ``(B, h/size, w/size, size·size·c)``: every size×size square becomes one vector."""
    batch, height, width, channels = x.shape
    x = x.reshape(batch, height // size, size, width // size, size, channels).transpose(0, 1, 3, 2, 4, 5)
    return x.reshape(batch, height // size, width // size, size * size * channels)
