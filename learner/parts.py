"""What the axes of a recipe say to each other: rows in, actions proposed, values asked. Parts know these types, not each other.

A part is a module named like its recipe setting: ``learner/critics/<kind>.py``, ``learner/policies/<kind>.py``,
``learner/improvement/<kind>.py``. It is imported by that name, so a new part is a new file and its name in the recipe's schema
(docs/extending.md). Every function is pure and takes the whole recipe first.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from types import ModuleType
from typing import Any, Literal, NamedTuple, Protocol

import jax
import jax.numpy as jnp

from etude.config import RecipeConfig

Params = Any
Metrics = dict[str, jax.Array]

Propose = Callable[[Literal["now", "next"], jax.Array, int], tuple[jax.Array, jax.Array | None]]
"""What the acting policy would do: ``(place, key, n) -> (actions (n, B, d), log densities (n, B) or None)``.

`place` is the observation of the rows, or their next one. Without gradient. Deterministic improvement (PA-RL) may answer with one
action, n = 1, whatever was asked. Densities are None for policy classes that have none.
"""

Values = Callable[[jax.Array, jax.Array], jax.Array]
"""The critic, frozen: ``(features (..., f), actions (..., d)) -> (E, ...)`` expected returns of every member.

Leading shapes are broadcast: ``(B, f)`` beside ``(n, B, d)`` scores n candidates per row.
"""


class Rows(NamedTuple):
    """The transitions of one direction in one batch. Features are the encoder's output; each frame was encoded once.

    Attributes:
        z, z_next: ``(B, f)`` features of the observation and of the next one; `z_next` carries no gradient.
        action: ``(B, d)`` executed, normalised. With ``policy.chunk`` h it is h actions, the first step's first, and d is h times
            the robot's.
        reward, terminal, monte_carlo_return: ``(B,)``, after the recipe's reward transform; a time-out is not terminal.
        discount: ``(B,)`` of the value at `z_next`: γ to the power of the steps between `z` and `z_next`.
        demonstration: ``(B,)`` 1 for rows of demonstrations.
        weight: ``(B,)`` weight in supervised losses (Sirius), 1 unless the recipe weighs interventions.
        irreversible: ``(B,)`` probability that the next state cannot be undone (PAINT), 0 unless a help rule learns it.
        temperature: scalar, of the entropy term; no gradient.
    """

    z: jax.Array
    z_next: jax.Array
    action: jax.Array
    reward: jax.Array
    terminal: jax.Array
    discount: jax.Array
    monte_carlo_return: jax.Array
    demonstration: jax.Array
    weight: jax.Array
    irreversible: jax.Array
    temperature: jax.Array


class CriticPart(Protocol):
    """A module in learner/critics. `Params` is a dict; what belongs in it is the part's business."""

    def init(self, recipe: RecipeConfig, key: jax.Array, features: jax.Array, action: jax.Array) -> Params:
        """Parameters for features ``(1, f)`` and actions ``(1, d)``."""

    def values(self, recipe: RecipeConfig, params: Params, features: jax.Array, action: jax.Array) -> jax.Array:
        """Expected return of every member: features ``(..., f)``, action ``(..., d)`` → ``(E, ...)``."""

    def loss(
        self, recipe: RecipeConfig, params: Params, target: Params, rows: Rows, propose: Propose, key: jax.Array
    ) -> tuple[jax.Array, Metrics]:
        """Scalar loss (summed over members) and metrics ``critic/...``; `target` are the slowly following parameters."""

    def advantage(
        self, recipe: RecipeConfig, params: Params, target: Params, rows: Rows, propose: Propose, key: jax.Array
    ) -> jax.Array:
        """``(B,)`` how much better `rows.action` is than what the policy does at `rows.z`; no gradient. For weighted cloning."""


class PolicyPart(Protocol):
    """A module in learner/policies, named in `etude.config.axes`: under `WithDensity` when its `sample` is reparameterised and
    gives log densities (needed by `gradient`, importance sampling and entropy), or else under `WithoutDensity`."""

    def init(self, recipe: RecipeConfig, key: jax.Array, features: jax.Array, action_dim: int) -> Params: ...

    def sample(
        self, recipe: RecipeConfig, params: Params, features: jax.Array, action_dim: int, key: jax.Array, n: int
    ) -> tuple[jax.Array, jax.Array | None]:
        """`n` actions per row ``(n, B, d)`` in [-1, 1], and their log densities ``(n, B)`` or None."""

    def act(
        self, recipe: RecipeConfig, params: Params, features: jax.Array, action_dim: int, key: jax.Array, explore: jax.Array
    ) -> jax.Array:
        """One action per row ``(B, d)`` for the robot; `explore` 0 is deterministic where the class allows, 1 a sample."""

    def supervised_loss(
        self, recipe: RecipeConfig, params: Params, features: jax.Array, action: jax.Array, key: jax.Array
    ) -> jax.Array:
        """Loss of each row ``(B,)`` for features ``(B, f)`` and the action ``(B, d)`` to imitate."""


def candidate_features(features: jax.Array, candidates: jax.Array | None) -> jax.Array:
    """What an external policy sees: features ``(..., f)`` and behind them its flattened candidates ``(..., K, d)``.

    Other policy classes have no candidates (None) and see the features as they are.
    """
    if candidates is None:
        return features
    return jnp.concatenate([features, candidates.reshape(*candidates.shape[:-2], -1)], axis=-1)


class Improver(NamedTuple):
    """What an improvement part may use: everything frozen but the parameters that it is asked to differentiate."""

    recipe: RecipeConfig
    policy: PolicyPart
    critic: Values
    action_dim: int


class ImprovementPart(Protocol):
    """A module in learner/improvement."""

    ACTS_WITH_CRITIC: bool
    """Whether the exported program carries the critic."""
    LEARNS_OFFLINE: bool
    """Whether the policy learns in the offline stage too, or rests until practice (PA-RL)."""

    def propose(self, improver: Improver, policy: Params, features: jax.Array, key: jax.Array, n: int) -> Any:
        """See `Propose`."""

    def act(self, improver: Improver, policy: Params, features: jax.Array, key: jax.Array, explore: jax.Array) -> jax.Array:
        """One action per row ``(B, d)``."""

    def loss(
        self,
        improver: Improver,
        policy: Params,
        average: Params,
        rows: Rows,
        log_temperature: jax.Array,
        advantage: Callable[[jax.Array], jax.Array],
        step: jax.Array,
        key: jax.Array,
    ) -> tuple[jax.Array, Metrics]:
        """Loss of the policy parameters `policy` and of `log_temperature`.

        `average` is the slowly averaged policy that acts; `rows.z` carries no gradient here. `advantage(key)` asks the critic
        for ``(B,)``; `step` counts online updates.
        """


def part(axis: str, kind: str) -> ModuleType:
    """The module of one part: ``part("critics", "cal_ql")``."""
    return importlib.import_module(f"learner.{axis}.{kind}")
