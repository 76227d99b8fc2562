"""Pytrees with a leading axis of directions ``(D, …)``, one entry per set of parameters (`RecipeConfig.directions`)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from learner.parts import Params


def map_directions(function: Callable[..., Any], *arguments: Any) -> Any:
    """`function` for every direction, the leading axis of each leaf of `arguments`.

    A single direction is not mapped: XLA reduces arrays with a leading axis of 1 several times slower on a CPU.
    """
    if jax.tree.leaves(arguments)[0].shape[0] > 1:
        return jax.vmap(function)(*arguments)
    single = jax.tree.map(lambda leaf: leaf[0], arguments)
    return jax.tree.map(lambda leaf: jnp.asarray(leaf)[None], function(*single))


def only(trained: jax.Array, after: Params, before: Params) -> Params:
    """`after` for directions whose entry in `trained` ``(D,)`` is 1, `before` for the others; leaves ``(D, …)``."""
    return jax.tree.map(lambda a, b: jnp.where(trained.reshape(-1, *(1 for _ in a.shape[1:])) > 0, a, b), after, before)
