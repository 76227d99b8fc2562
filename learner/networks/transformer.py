"""A small causal transformer over the dimensions of one action (GPT-2 layout, Radford et al. 2019; as PA-RL, Mark et al. 2024).

The first token is the observation; token j tells the bin that dimension j - 1 took. Token j gives the logits of dimension j.
"""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp

from learner.networks.mlp import MLP

Past = tuple[jax.Array, jax.Array]
"""Keys and values of the tokens so far in one layer, each ``(..., tokens, heads, width / heads)``."""

OBSERVATION_HIDDEN = 128


class Block(nn.Module):
    """Causal self-attention and a perceptron, each behind a LayerNorm and added to its input ``(..., T, width)``."""

    width: int
    heads: int
    dropout: float

    @nn.compact
    def __call__(self, x: jax.Array, past: Past | None, train: bool) -> tuple[jax.Array, Past]:
        """New tokens attend to those of `past`, to themselves and to the new ones before them."""
        tokens = x.shape[-2]
        projected = nn.Dense(3 * self.width, name="query_key_value")(nn.LayerNorm(name="norm_attention")(x))
        split = projected.reshape(*x.shape[:-1], 3, self.heads, self.width // self.heads)
        query, key, value = (split[..., i, :, :] for i in range(3))
        if past is not None:
            key, value = jnp.concatenate([past[0], key], axis=-3), jnp.concatenate([past[1], value], axis=-3)
        seen = jnp.tril(jnp.ones((tokens, key.shape[-3]), bool), key.shape[-3] - tokens)
        scores = jnp.einsum("...qhc,...khc->...hqk", query, key) / jnp.sqrt(self.width / self.heads)
        weights = nn.softmax(jnp.where(seen, scores, -1e9))
        mixed = jnp.einsum("...hqk,...khc->...qhc", weights, value).reshape(x.shape)
        x = x + self._drop(nn.Dense(self.width, name="attention")(mixed), train)
        y = nn.gelu(nn.Dense(4 * self.width, name="expand")(nn.LayerNorm(name="norm_perceptron")(x)))
        return x + self._drop(nn.Dense(self.width, name="contract")(y), train), (key, value)

    def _drop(self, x: jax.Array, train: bool) -> jax.Array:
        return nn.Dropout(self.dropout, deterministic=not train)(x)


class ActionTransformer(nn.Module):
    """Logits of the bins of every action dimension given the features and the bins of the dimensions before it."""

    action_dim: int
    bins: int
    width: int
    heads: int
    blocks: int
    dropout: float = 0.0

    def setup(self) -> None:
        if self.width % self.heads:
            raise ValueError(
                f"recipe.policy.width is {self.width}, which recipe.policy.heads = {self.heads} does not divide: "
                "choose a width that is a multiple of the heads"
            )
        self.observation_hidden = nn.Dense(OBSERVATION_HIDDEN)
        self.observation = nn.Dense(self.width)
        # the last dimension is nobody's past; its own place tells a token's position
        shape = (max(self.action_dim - 1, 1), self.bins, self.width)
        self.embedding = self.param("embedding", nn.initializers.normal(0.02), shape)
        self.layers = [Block(self.width, self.heads, self.dropout) for _ in range(self.blocks)]
        self.norm = nn.LayerNorm()
        self.head = [MLP((self.width,), self.bins, layer_norm=False, output_scale=0.01) for _ in range(self.action_dim)]

    def __call__(self, features: jax.Array, chosen: jax.Array, train: bool = False) -> jax.Array:
        """All logits ``(B, d, bins)`` at once for features ``(B, f)`` and bins ``(B, d)``; the last dimension's is not read."""
        past_dims = self.action_dim - 1
        x = jnp.concatenate(
            [self._observe(features)[..., None, :], jnp.asarray(self.embedding)[jnp.arange(past_dims), chosen[..., :past_dims]]],
            axis=-2,
        )
        for layer in self.layers:
            x, _ = layer(x, None, train)
        x = self.norm(x)
        return jnp.stack([head(x[..., j, :]) for j, head in enumerate(self.head)], axis=-2)

    def begin(self, features: jax.Array) -> tuple[jax.Array, list[Past]]:
        """Logits ``(..., bins)`` of dimension 0 for features ``(..., f)``, and what the next dimensions need to know."""
        return self._advance(self._observe(features), 0, None)

    def proceed(self, chosen: jax.Array, dim: int, past: list[Past]) -> tuple[jax.Array, list[Past]]:
        """Logits ``(..., bins)`` of dimension `dim` after dimension ``dim - 1`` took the bin `chosen` ``(...)``."""
        return self._advance(jnp.take(self.embedding[dim - 1], chosen, axis=0), dim, past)

    def _observe(self, features: jax.Array) -> jax.Array:
        return self.observation(nn.elu(self.observation_hidden(features)))

    def _advance(self, token: jax.Array, dim: int, past: list[Past] | None) -> tuple[jax.Array, list[Past]]:
        x, new = token[..., None, :], []
        for i, layer in enumerate(self.layers):
            x, pair = layer(x, None if past is None else past[i], False)
            new.append(pair)
        return self.head[dim](self.norm(x[..., 0, :])), new
