"""Learned rewards inside the agent: which direction has one, what it says about a batch, and when it learns.

A transition's reward is computed when it is sampled, of the state it led to, with the discriminator of that moment;
demonstrations are no exception. Nothing ends a task that is rewarded so: a policy under log D would seek the end, one under
−log(1 − D) flee it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from etude.config import RecipeConfig
from etude.specs import ObservationSpec
from learner.parts import Params
from learner.rewards import q_weighted
from learner.rewards.discriminator import Discriminator, DiscriminatorState

States = dict[str, DiscriminatorState]


class LearnedRewards:
    """The discriminators of a recipe, by direction; holds no arrays. Without any of them every method does nothing."""

    def __init__(self, recipe: RecipeConfig, spec: ObservationSpec) -> None:
        self._recipe = recipe
        self._directions = recipe.directions
        self._parts = {
            direction: Discriminator(config, recipe.encoder, spec) for direction, config in recipe.learned_rewards.items()
        }

    def __bool__(self) -> bool:
        return bool(self._parts)

    def init(self, key: jax.Array, statistics: Params, prior: Params) -> States:
        """Fresh discriminators. `prior` has the shapes of the encoder and critic that value-weighted positives ask."""
        keys = jax.random.split(key, len(self._directions))
        states = {d: part.init(keys[self._directions.index(d)], statistics) for d, part in self._parts.items()}
        return self.begin_practice(states, prior)

    def begin_practice(self, states: States, prior: Params) -> States:
        """Positives are weighed by the values of prior data from now on: `prior` stays as it is while the critic goes on.

        Each discriminator has a copy of its own: an update takes the memory of the state that it is given.
        """
        if self._recipe.reward.kind != "q_weighted":
            return states
        return {d: dataclasses.replace(state, prior=jax.tree.map(jnp.copy, prior)) for d, state in states.items()}

    def relabel(self, states: States, statistics: Params, batch: dict[str, Any]) -> tuple[jax.Array, jax.Array]:
        """Rewards and terminal flags ``(D, B)`` of a batch with leaves ``(D, B, …)``."""
        reward, terminal = batch["reward"], batch["terminal"]
        for direction, part in self._parts.items():
            index = self._directions.index(direction)
            following = {name: array[index] for name, array in batch["next_observation"].items()}
            reward = reward.at[index].set(part.reward(states[direction], statistics, following))
            if self._recipe.data.bootstrap_through_timeouts:
                terminal = terminal.at[index].set(0.0)
        return reward, terminal

    def learn(
        self,
        states: States,
        statistics: Params,
        contrast: dict[str, Any],
        value: Callable[[Params, dict[str, jax.Array], jax.Array], jax.Array],
        updates: jax.Array,
        length: int,
        key: jax.Array,
    ) -> tuple[States, dict[str, jax.Array]]:
        """The discriminators after a block of `length` updates that ends with number `updates`, and the losses of the steps.

        A discriminator whose period ended within the block takes one step; its loss is 0 when it took none.

        Args:
            contrast: of `learner.replay.contrast`.
            value: ``(prior, observation (B, …), action (B, d)) -> (B,)``, the critic that `DiscriminatorState.prior` holds.
        """
        stepped, losses = dict(states), {}
        for number, (direction, part) in enumerate(self._parts.items()):
            rows = contrast[direction]
            period = part.config.period_updates
            due = (updates // period > (updates - length) // period) & (rows["ready"] > 0)

            def step(state: DiscriminatorState, part: Discriminator = part, rows: Any = rows, number: int = number) -> Any:
                weights = jnp.ones(part.config.rows)
                if self._recipe.reward.kind == "q_weighted":
                    q = value(state.prior, rows["positive"], rows["positive_action"])
                    weights = q_weighted.weights(q, value(state.prior, rows["now"], rows["now_action"])[0])
                return part.update(
                    state, statistics, rows["positive"], rows["negative"], weights, jax.random.fold_in(key, number)
                )

            stepped[direction], losses[direction] = jax.lax.cond(
                due, step, lambda state: (state, jnp.zeros(())), states[direction]
            )
        return stepped, losses
