"""Multilayer perceptrons with optional LayerNorm, the trunk of every head, and the stacking of many heads in one array."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

Params = Any


class MLP(nn.Module):
    """Dense → LayerNorm (RLPD: after each Dense, before the activation) → ReLU, then a linear output layer.

    Input ``(..., d_in)``, output ``(..., outputs)``. With `train`, `dropout` of the hidden units are left out (rng ``dropout``).
    """

    hidden: tuple[int, ...]
    outputs: int
    layer_norm: bool = True
    output_scale: float = 1.0
    dropout: float = 0.0

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        for width in self.hidden:
            x = nn.Dense(width, kernel_init=nn.initializers.orthogonal(jnp.sqrt(2.0)))(x)
            if self.layer_norm:
                x = nn.LayerNorm()(x)
            x = nn.relu(x)
            if self.dropout > 0:
                x = nn.Dropout(self.dropout)(x, deterministic=not train)
        return nn.Dense(self.outputs, kernel_init=nn.initializers.orthogonal(self.output_scale))(x)


def init_stacked(module: nn.Module, key: jax.Array, count: int, example: jax.Array) -> Params:
    """Parameters of `count` independent copies of `module`, stacked on a leading axis of each leaf."""
    return jax.vmap(lambda k: module.init(k, example)["params"])(jax.random.split(key, count))


def apply_stacked(module: nn.Module, params: Params, x: jax.Array) -> jax.Array:
    """All copies on the same input: ``(..., d_in)`` → ``(count, ..., d_out)``."""
    return jax.vmap(lambda p: module.apply({"params": p}, x))(params)
