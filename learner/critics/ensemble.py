"""The networks of a critic: E independent members, stacked on the leading axis of each leaf, and random subsets of them.

REDQ (Chen et al. 2021) takes the minimum over a random subset of members; RLPD (Ball et al. 2023) adds LayerNorm. Only the
members of the subset are evaluated, so a target costs as much for ten members as for two.
"""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax

from etude.config import CriticConfig
from learner.critics import heads

Params = Any


class Member(nn.Module):
    """One member: features ``(..., f)``, action ``(..., d)`` → ``(..., outputs)``; Dense → LayerNorm → ReLU, then a linear layer.

    The first layer is that of the joined input. It is computed in two parts, so that features ``(B, f)`` beside actions
    ``(n, B, d)`` pass through their larger part once and not n times.
    """

    hidden: tuple[int, ...]
    outputs: int
    layer_norm: bool = True
    output_scale: float = 1.0

    @nn.compact
    def __call__(self, features: jax.Array, action: jax.Array) -> jax.Array:
        widths = (*self.hidden, self.outputs)
        scales = (*(2.0**0.5 for _ in self.hidden), self.output_scale)
        f, d = features.shape[-1], action.shape[-1]
        kernel = self.param("kernel", nn.initializers.orthogonal(scales[0]), (f + d, widths[0]))
        bias = self.param("bias", nn.initializers.zeros_init(), (widths[0],))
        x = features @ kernel[:f] + action @ kernel[f:] + bias
        for width, scale in zip(widths[1:], scales[1:], strict=True):
            if self.layer_norm:
                x = nn.LayerNorm()(x)
            x = nn.Dense(width, kernel_init=nn.initializers.orthogonal(scale))(nn.relu(x))
        return x


def make(config: CriticConfig) -> Member:
    """One member of the recipe's ensemble. A histogram starts almost uniform, that is in the middle of its support."""
    return Member(config.hidden, heads.outputs(config), config.layer_norm, 1.0 if config.head == "scalar" else 0.01)


def init(config: CriticConfig, key: jax.Array, features: jax.Array, action: jax.Array) -> Params:
    """Parameters of E members for features ``(1, f)`` and actions ``(1, d)``."""
    member = make(config)
    return jax.vmap(lambda k: member.init(k, features, action)["params"])(jax.random.split(key, config.ensemble))


def outputs(config: CriticConfig, params: Params, features: jax.Array, action: jax.Array) -> jax.Array:
    """Raw outputs ``(E, ..., k)`` (see `heads`); the leading shapes of features and actions are broadcast."""
    member = make(config)
    return jax.vmap(lambda p: member.apply({"params": p}, features, action))(params)


def values(config: CriticConfig, params: Params, features: jax.Array, action: jax.Array) -> jax.Array:
    """Expected returns of every member ``(E, ...)`` for features ``(..., f)`` and actions ``(..., d)``.

    The leading shapes are broadcast: ``(B, f)`` beside ``(n, B, d)`` scores n candidates per row and costs less than repeated
    features.
    """
    return heads.decode(config, outputs(config, params, features, action))


def draw(config: CriticConfig, key: jax.Array) -> jax.Array | None:
    """Indices ``(subset_min,)`` of random members, distinct unless ``subset_with_replacement``; None when it is all of them."""
    if config.subset_with_replacement:
        return jax.random.randint(key, (config.subset_min,), 0, config.ensemble)
    if config.subset_min >= config.ensemble:
        return None
    return jax.random.permutation(key, config.ensemble)[: config.subset_min]


def take(stacked: Params, members: jax.Array | None) -> Params:
    """The members (or their values, ``(E, ...)``) that `draw` chose."""
    return stacked if members is None else jax.tree.map(lambda leaf: leaf[members], stacked)


def subset_minimum(config: CriticConfig, params: Params, features: jax.Array, action: jax.Array, key: jax.Array) -> jax.Array:
    """Minimum ``(...)`` of the values of a random subset of members, the same one for every row."""
    return values(config, take(params, draw(config, key)), features, action).min(0)
