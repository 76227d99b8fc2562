"""Optimisers of a recipe's parts and one step of them."""

from __future__ import annotations

from typing import Any

import optax

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
