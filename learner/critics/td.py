"""Temporal-difference critic: an ensemble with a random-subset minimum in the target (SAC, REDQ, RLPD).

``y = r + discount · (1 − terminal) · (min_i Q̄_i(s', a') − temperature · log π(a'|s'))``, the entropy only with
`backup_entropy` (Ball et al. 2023, algorithm 1). PAINT (Xie et al. 2022, §4) makes targets of irreversible states pessimistic.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from etude.config import RecipeConfig
from learner.critics import ensemble, heads
from learner.parts import Metrics, Params, Propose, Rows

ADVANTAGE_SAMPLES = 4  # actions of the policy that make the baseline (Wang et al. 2020, CRR, §3)


def init(recipe: RecipeConfig, key: jax.Array, features: jax.Array, action: jax.Array) -> Params:
    """``{"q": ensemble}`` for features ``(1, f)`` and actions ``(1, d)``."""
    return {"q": ensemble.init(recipe.critic, key, features, action)}


def values(recipe: RecipeConfig, params: Params, features: jax.Array, action: jax.Array) -> jax.Array:
    """Expected return of every member ``(E, ...)``; leading shapes of features and actions are broadcast (`ensemble.values`)."""
    return ensemble.values(recipe.critic, params["q"], features, action)


def loss(
    recipe: RecipeConfig, params: Params, target: Params, rows: Rows, propose: Propose, key: jax.Array
) -> tuple[jax.Array, Metrics]:
    """Loss summed over members, mean over rows.

    Raises:
        ValueError: `backup_entropy` with a policy that has no log densities.
    """
    policy_key, subset_key = jax.random.split(key)
    action, log_prob = propose("next", policy_key, 1)
    y = bellman_target(recipe, rows, next_value(recipe, target, rows, action, log_prob, subset_key))
    value, _, metrics = fit(recipe, params, rows, y)
    return value, metrics


def advantage(recipe: RecipeConfig, params: Params, target: Params, rows: Rows, propose: Propose, key: jax.Array) -> jax.Array:
    """``(B,)``: ``Q(s, a) − mean_j Q(s, a_j)`` over four actions of the policy, no gradient.

    Q is the minimum over one random subset of the target members, the same for both terms. AWAC (Nair et al. 2020) and IQL
    (Kostrikov et al. 2021) take the minimum of two critics too; the slow ones keep the weights of cloning steady, as in IQL.
    """
    policy_key, subset_key = jax.random.split(key)
    action, _ = propose("now", policy_key, ADVANTAGE_SAMPLES)
    q = ensemble.subset_minimum(recipe.critic, target["q"], rows.z, jnp.concatenate([rows.action[None], action]), subset_key)
    return jax.lax.stop_gradient(q[0] - q[1:].mean(0))


# --- the parts of the loss, which other critics share ------------------------------------------------------------------


def next_value(
    recipe: RecipeConfig, target: Params, rows: Rows, action: jax.Array, log_prob: jax.Array | None, key: jax.Array
) -> jax.Array:
    """``(B,)``: the largest value at s' among the actions ``(n, B, d)``, each the minimum over a random subset of members.

    Raises:
        ValueError: `backup_entropy` without log densities ``(n, B)``.
    """
    q = ensemble.subset_minimum(recipe.critic, target["q"], rows.z_next, action, key)
    if recipe.critic.backup_entropy:
        if log_prob is None:
            raise ValueError(
                f"critic.backup_entropy needs log densities, and policy kind {recipe.policy.kind!r} with improvement kind "
                f"{recipe.improvement.kind!r} gives none; set recipe.critic.backup_entropy=false or recipe.policy.kind=gaussian"
            )
        q = q - rows.temperature * log_prob
    return q.max(0)


def bellman_target(recipe: RecipeConfig, rows: Rows, following: jax.Array) -> jax.Array:
    """``y = r + discount · (1 − terminal) · following``, ``(B,)``, no gradient; a time-out is not terminal and bootstraps.

    The discount is each row's own: γ, or with action chunks γ to the power of the steps that were made (Li et al. 2025, §4).

    With `bound_targets` y is clipped to `RecipeConfig.return_bounds`. With `pessimistic_reward` (PAINT) it becomes at last
    ``p · R_min / (1 − discount) + (1 − p) · y`` with p the probability that the next state is irreversible.
    """
    config = recipe.critic
    y = rows.reward + rows.discount * (1.0 - rows.terminal) * following
    if config.bound_targets:
        y = jnp.clip(y, *recipe.return_bounds)
    if config.pessimistic_reward is not None:
        for_ever = config.pessimistic_reward / (1.0 - config.discount)
        y = rows.irreversible * for_ever + (1.0 - rows.irreversible) * y
    return jax.lax.stop_gradient(y)


def fit(recipe: RecipeConfig, params: Params, rows: Rows, y: jax.Array) -> tuple[jax.Array, jax.Array, Metrics]:
    """Fits every member to y ``(B,)`` at the executed action: loss (summed over members), values ``(E, B)``, metrics."""
    outputs = ensemble.outputs(recipe.critic, params["q"], rows.z, rows.action)
    td_loss = heads.fit_loss(recipe.critic, outputs, y).mean(-1).sum()
    q = heads.decode(recipe.critic, outputs)
    return td_loss, q, {"critic/td_loss": td_loss, "critic/q_mean": q.mean(), "critic/target_mean": y.mean()}
