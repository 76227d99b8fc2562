"""Optimisers of a recipe's parts and one step of them."""

from __future__ import annotations

from typing import Any

import jax
import optax

from learner.directions import only

Params = Any


def adam(learning_rate: float, warmup_steps: int = 0) -> optax.GradientTransformation:
    """Adam whose rate rises linearly from 0 over `warmup_steps` of its own steps and then stays; fresh state begins anew."""
    return optax.adam(optax.linear_schedule(0.0, learning_rate, warmup_steps) if warmup_steps else learning_rate)


def apply(
    optimiser: optax.GradientTransformation,
    gradients: Params,
    state: optax.OptState,
    params: Params,
    trained: jax.Array | None = None,
    directed: Any = True,
) -> tuple[Params, optax.OptState]:
    """Parameters and optimiser state after one step.

    Args:
        trained: ``(D,)``, 0 for a direction that rests: its parameters and moments stay as they are, only the count of steps is
            of all directions. None: none rests.
        directed: a prefix of `params`, True where leaves have a leading axis of directions.
    """
    updates, after = optimiser.update(gradients, state, params)
    moved = optax.apply_updates(params, updates)
    if trained is None:
        return moved, after

    def choose(mark: bool, a: jax.Array, b: jax.Array) -> jax.Array:
        chosen: jax.Array = only(trained, a, b) if mark else a
        return chosen

    of_params = jax.tree.broadcast(directed, params)
    of_state = optax.tree_utils.tree_map_params(
        optimiser, lambda _, mark: mark, state, of_params, transform_non_params=lambda _: False
    )
    return jax.tree.map(choose, of_params, moved, params), jax.tree.map(choose, of_state, after, state)
