"""Implicit Q-learning (Kostrikov et al. 2021, §4.2): values of the best actions in the data, without asking the policy.

V(s) is an upper expectile of Q̄(s, a) over the actions of the data (equation 5); Q is fitted to ``r + discount · V(s')``
(equation 6).
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from etude.config import RecipeConfig
from learner.critics import ensemble, td
from learner.critics.td import values
from learner.networks.mlp import MLP
from learner.parts import Metrics, Params, Propose, Rows

__all__ = ["advantage", "init", "loss", "values"]


def init(recipe: RecipeConfig, key: jax.Array, features: jax.Array, action: jax.Array) -> Params:
    """``{"q": ensemble, "v": one network}``. V gives a number under every head: an expectile has no cross-entropy."""
    q_key, v_key = jax.random.split(key)
    v = _state_network(recipe).init(v_key, features)["params"]
    return {"q": ensemble.init(recipe.critic, q_key, features, action), "v": v}


def state_value(recipe: RecipeConfig, params: Params, features: jax.Array) -> jax.Array:
    """V ``(...)`` of features ``(..., f)``."""
    value: jax.Array = _state_network(recipe).apply({"params": params["v"]}, features)
    return value[..., 0]


def expectile_loss(difference: jax.Array, expectile: float) -> jax.Array:
    """``|τ − 1(u < 0)| · u²`` elementwise (equation 4); its minimiser over a constant is the τ-expectile."""
    return jnp.where(difference < 0.0, 1.0 - expectile, expectile) * difference**2


def loss(
    recipe: RecipeConfig, params: Params, target: Params, rows: Rows, propose: Propose, key: jax.Array
) -> tuple[jax.Array, Metrics]:
    """Loss of Q (summed over members) and of V (mean over rows), for one step of both; `propose` is not asked.

    V follows the minimum over a random subset of the target members; Q follows the newest V, without gradient.
    """
    q = ensemble.subset_minimum(recipe.critic, target["q"], rows.z, rows.action, key)
    v = state_value(recipe, params, rows.z)
    value_loss = expectile_loss(jax.lax.stop_gradient(q) - v, recipe.critic.expectile).mean()
    y = td.bellman_target(recipe, rows, state_value(recipe, params, rows.z_next))
    td_loss, _, metrics = td.fit(recipe, params, rows, y)
    return td_loss + value_loss, {**metrics, "critic/value_loss": value_loss, "critic/v_mean": v.mean()}


def advantage(recipe: RecipeConfig, params: Params, target: Params, rows: Rows, propose: Propose, key: jax.Array) -> jax.Array:
    """``(B,)``: the minimum over a random subset of the target members at (s, a), minus V(s); no gradient."""
    q = ensemble.subset_minimum(recipe.critic, target["q"], rows.z, rows.action, key)
    return jax.lax.stop_gradient(q - state_value(recipe, params, rows.z))


def _state_network(recipe: RecipeConfig) -> MLP:
    return MLP(recipe.critic.hidden, 1, recipe.critic.layer_norm)
