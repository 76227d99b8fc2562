"""External policy: any model behind a policy server (etude/policy_server.py). It has no parameters here.

Its K candidates of each frame come with the batch (learner/replay/candidates.py) and stand behind the features
(`learner.parts.candidate_features`). The server imitates; what it imitates is `Agent.distillation_targets`.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from etude.config import RecipeConfig

Params = Any


def init(recipe: RecipeConfig, key: jax.Array, features: jax.Array, action_dim: int) -> Params:
    """No parameters."""
    return {}


def sample(
    recipe: RecipeConfig, params: Params, features: jax.Array, action_dim: int, key: jax.Array, n: int
) -> tuple[jax.Array, jax.Array | None]:
    """The first `n` candidates of each row ``(n, B, d)``, for features ``(B, f + K·d)``; no densities.

    Raises:
        ValueError: more than K are asked.
    """
    count = recipe.candidates_per_frame
    if n > count:
        raise ValueError(f"{n} actions are asked of an external policy that has {count} candidates: raise improvement.candidates")
    candidates = features[..., -count * action_dim :].reshape(*features.shape[:-1], count, action_dim)
    return jnp.moveaxis(candidates, -2, 0)[:n], None


def act(
    recipe: RecipeConfig, params: Params, features: jax.Array, action_dim: int, key: jax.Array, explore: jax.Array
) -> jax.Array:
    """The first candidate ``(B, d)``, whatever `explore`: how much a server's samples vary is the server's setting."""
    return sample(recipe, params, features, action_dim, key, 1)[0][0]


def supervised_loss(recipe: RecipeConfig, params: Params, features: jax.Array, action: jax.Array, key: jax.Array) -> jax.Array:
    """Zeros ``(B,)``: imitation happens at the server."""
    return jnp.zeros(action.shape[:-1])
