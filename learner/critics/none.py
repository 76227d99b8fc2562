"""No critic, for recipes that only imitate (behaviour cloning). Nothing is learned and nothing can be asked."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from etude.config import RecipeConfig
from learner.parts import Metrics, Params, Propose, Rows


def init(recipe: RecipeConfig, key: jax.Array, features: jax.Array, action: jax.Array) -> Params:
    """No parameters."""
    return {}


def values(recipe: RecipeConfig, params: Params, features: jax.Array, action: jax.Array) -> jax.Array:
    """Raises ValueError: there is nothing to ask."""
    raise _no_critic(recipe)


def loss(
    recipe: RecipeConfig, params: Params, target: Params, rows: Rows, propose: Propose, key: jax.Array
) -> tuple[jax.Array, Metrics]:
    """Zero, without metrics."""
    return jnp.zeros(()), {}


def advantage(recipe: RecipeConfig, params: Params, target: Params, rows: Rows, propose: Propose, key: jax.Array) -> jax.Array:
    """Raises ValueError: there is nothing to ask."""
    raise _no_critic(recipe)


def _no_critic(recipe: RecipeConfig) -> ValueError:
    return ValueError(
        f"recipe {recipe.name!r} has no critic (critic.kind=none), but improvement kind {recipe.improvement.kind!r} asks one; "
        "set recipe.improvement.kind=bc or choose a critic, e.g. recipe.critic.kind=td"
    )
