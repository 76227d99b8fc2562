"""VaPRL on EARL's tabletop: what `learner.resets.vaprl` leaves to the environment, goals as they stand in its observations."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from etude.config import RecipeConfig
from etude.step import Step
from learner.recipe import Agent, AgentState
from learner.replay.demonstrations import fill_returns
from learner.replay.ring import Ring
from learner.resets import vaprl
from simulation.earl_tabletop import GOALS, goal_vector, reaches, with_goal_vector


class Curriculum:
    """Chooses the states to go to, and teaches the online ring every attempt under other goals too.

    Goals are drawn from the states of the demonstrations and from the task's. Vectors of goals are ``(6,)``.
    """

    def __init__(self, recipe: RecipeConfig, agent: Agent, demonstrations: Ring, online: Ring, rng: np.random.Generator) -> None:
        self._recipe, self._online, self._rng = recipe, online, rng
        rows, self._distance = vaprl.candidates(demonstrations)
        self._states = demonstrations.observation["state"][rows]
        self._goals = np.concatenate([self._states[:, :6], np.stack([goal_vector(goal) for goal in GOALS])])
        self._segments = 0

        def value(parameters: Any, critic: Any, states: jax.Array) -> jax.Array:
            features = agent.encode(parameters["encoder"], parameters["statistics"], {"state": states})
            policy, critic = jax.tree.map(lambda leaf: leaf[0], (parameters["policy"], critic))
            action = agent.policy.act(recipe, policy, features, agent.action_dim, jax.random.key(0), jnp.zeros(()))
            return agent.critic.values(recipe, critic, features, action).min(0)

        self._value = jax.jit(value)
        self._parameters = agent.policy_parameters

    def next_state(self, state: AgentState, task_goal: np.ndarray) -> np.ndarray:
        """The goal vector ``(6,)`` of the state from which the attempt at `task_goal` ``(6,)`` is to begin."""
        shown = with_goal_vector(self._states, task_goal)
        values = np.asarray(self._value(self._parameters(state), state.critic, shown))
        threshold = self._recipe.reset.value_threshold * self._recipe.reward.success
        return self._states[vaprl.choose(values, self._distance, threshold), :6]

    def teach(self, steps: list[Step]) -> None:
        """Add the steps of one attempt, or of one demonstration, under some goals drawn at random."""
        for goal in self._goals[self._rng.integers(len(self._goals), size=self._recipe.reset.relabelled_goals)]:
            self._segments += 1
            shows, reached = partial(with_goal_vector, goal=goal), partial(reaches, goal=goal)
            copy = vaprl.relabel(steps, self._recipe.reward, self._segments, shows, reached)
            for step in copy:
                row = self._online.add(step)
            fill_returns(self._online, row, self._recipe)
