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
    optimiser: optax.GradientTransformation, gradients: Params, state: optax.OptState, params: Params
) -> tuple[Params, optax.OptState]:
    """Parameters and optimiser state after one step."""
    updates, state = optimiser.update(gradients, state, params)
    return optax.apply_updates(params, updates), state


def resting(
    trained: jax.Array,
    optimiser: optax.GradientTransformation,
    after: optax.OptState,
    before: optax.OptState,
    params: Params,
    directed: Any = True,
) -> optax.OptState:
    """`after` with the moments of the directions that rest as they were `before`; the count of steps is of all directions.

    Args:
        trained: ``(D,)``, 0 for a direction that rests.
        params: what the optimiser is of.
        directed: a prefix of `params`, True where leaves have a leading axis of directions.
    """
    of_params = jax.tree.broadcast(directed, params)
    marks = optax.tree_utils.tree_map_params(
        optimiser, lambda _, mark: mark, after, of_params, transform_non_params=lambda _: False
    )
    return jax.tree.map(lambda mark, a, b: only(trained, a, b) if mark else a, marks, after, before)
