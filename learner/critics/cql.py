"""Conservative critic (CQL(H), Kumar et al. 2020, §3 and appendix F): Cal-QL without its calibration, that is with G = −∞."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from etude.config import RecipeConfig
from learner.critics import cal_ql
from learner.critics.cal_ql import advantage, init, values
from learner.parts import Metrics, Params, Propose, Rows

__all__ = ["advantage", "init", "loss", "values"]


def loss(
    recipe: RecipeConfig, params: Params, target: Params, rows: Rows, propose: Propose, key: jax.Array
) -> tuple[jax.Array, Metrics]:
    """See `cal_ql.loss`; Monte-Carlo returns are not used.

    Raises:
        ValueError: importance sampling (or `backup_entropy`) with a policy that has no log densities.
    """
    uncalibrated = rows._replace(monte_carlo_return=jnp.full_like(rows.monte_carlo_return, -jnp.inf))
    return cal_ql.loss(recipe, params, target, uncalibrated, propose, key)
