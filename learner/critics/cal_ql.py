"""Calibrated conservative critic (Cal-QL, Nakamoto et al. 2023, §4 and appendix; official release for the order of operations).

Adds to the temporal-difference loss, per member: ``w · (T · logsumexp(v / T) − Q(s, a_data))``. v holds N uniform actions,
N policy actions from s and N from s', all scored at s. Policy actions, never uniform ones, are lifted to the Monte-Carlo return
G (calibration), and then every entry is corrected for its sampling density.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from etude.config import CriticConfig, RecipeConfig
from learner.critics import ensemble, td
from learner.critics.td import advantage, values
from learner.parts import Metrics, Params, Propose, Rows

__all__ = ["advantage", "init", "loss", "monte_carlo_returns", "values"]


def init(recipe: RecipeConfig, key: jax.Array, features: jax.Array, action: jax.Array) -> Params:
    """``{"q": ensemble}``, and with a Lagrange gap ``"log_alpha"``: the logarithm of its multiplier, 1 at first."""
    params = td.init(recipe, key, features, action)
    return params if recipe.critic.cql_lagrange_gap is None else {**params, "log_alpha": jnp.ones(())}


def loss(
    recipe: RecipeConfig, params: Params, target: Params, rows: Rows, propose: Propose, key: jax.Array
) -> tuple[jax.Array, Metrics]:
    """Temporal-difference loss, conservative term and, with a Lagrange gap, the multiplier's own loss.

    The policy's actions at s' are drawn once and serve the max-target backup and the conservative set: a deliberate economy,
    since neither is differentiated. The conservative term is taken on a random subset of members (as PA-RL does), scaled by
    E / subset, so that its expectation is the sum over all of them.

    Raises:
        ValueError: importance sampling (or `backup_entropy`) with a policy that has no log densities.
    """
    config = recipe.critic
    next_key, current_key, random_key, target_key, subset_key = jax.random.split(key, 5)
    following, log_prob_next = propose("next", next_key, config.cql_samples)
    current, log_prob_current = propose("now", current_key, config.cql_samples)

    backup = following.shape[0] if config.cql_max_target_backup else 1
    backup_log_prob = None if log_prob_next is None else log_prob_next[:backup]
    y = td.bellman_target(recipe, rows, td.next_value(recipe, target, rows, following[:backup], backup_log_prob, target_key))
    td_loss, q_data, metrics = td.fit(recipe, params, rows, y)

    # one wide evaluation of every candidate
    uniform = jax.random.uniform(random_key, (config.cql_samples, *rows.action.shape), minval=-1.0, maxval=1.0)
    candidates = jax.lax.stop_gradient(jnp.concatenate([uniform, current, following]))
    members = ensemble.draw(config, subset_key)
    q = ensemble.values(config, ensemble.take(params["q"], members), rows.z, candidates)
    q_random, q_current, q_next = jnp.split(q, [config.cql_samples, config.cql_samples + current.shape[0]], axis=1)
    # an improvement whose N proposals are all the same action (pa_rl) is asked for it once, and it counts N times
    q_current, q_next = (jnp.repeat(q, config.cql_samples // q.shape[1], axis=1) for q in (q_current, q_next))
    q_data = ensemble.take(q_data, members)
    ood = out_of_distribution_value(
        config,
        q_random,
        q_current,
        q_next,
        log_prob_current,
        log_prob_next,
        q_data,
        rows.monte_carlo_return,
        rows.action.shape[-1],
    )
    conservative, dual = conservative_loss(config, ood, q_data, params.get("log_alpha"))
    calibrated = (jnp.concatenate([q_current, q_next], axis=1) < rows.monte_carlo_return).mean()
    metrics |= {"critic/conservative_loss": conservative, "critic/calibrated_share": calibrated}
    if dual is not None:
        metrics["critic/alpha"] = _alpha(params["log_alpha"])
        conservative = conservative + dual
    return td_loss + conservative, metrics


def out_of_distribution_value(
    config: CriticConfig,
    q_random: jax.Array,
    q_current: jax.Array,
    q_next: jax.Array,
    log_prob_current: jax.Array | None,
    log_prob_next: jax.Array | None,
    q_data: jax.Array,
    monte_carlo_return: jax.Array,
    action_dim: int,
) -> jax.Array:
    """``T · logsumexp(v / T)`` over the candidate actions, ``(E, B)``.

    The logarithm of the number of entries is not subtracted, as in the official release: it is constant.

    Args:
        q_random, q_current, q_next: ``(E, n, B)``: uniform actions, policy actions at s, policy actions at s' scored at s.
        log_prob_current, log_prob_next: ``(n, B)``, treated as constants; used by importance sampling only.
        q_data: ``(E, B)``, enters the set only without importance sampling.
        monte_carlo_return: ``(B,)`` G on transformed rewards; −inf switches calibration off for a row (plain CQL).

    Raises:
        ValueError: importance sampling without log densities.
    """
    q_current, q_next = jnp.maximum(q_current, monte_carlo_return), jnp.maximum(q_next, monte_carlo_return)
    if config.cql_importance_sampling:
        if log_prob_current is None or log_prob_next is None:
            raise ValueError(
                "critic.cql_importance_sampling needs the log densities of the policy's actions, and this policy gives none; "
                "set recipe.critic.cql_importance_sampling=false"
            )
        q_random = q_random - action_dim * np.log(0.5)
        q_current = q_current - jax.lax.stop_gradient(log_prob_current)
        q_next = q_next - jax.lax.stop_gradient(log_prob_next)
        entries = [q_random, q_current, q_next]
    else:
        entries = [q_random, q_current, q_next, q_data[:, None]]
    t = config.cql_temperature
    return t * jax.nn.logsumexp(jnp.concatenate(entries, axis=1) / t, axis=1)


def conservative_loss(
    config: CriticConfig, ood_value: jax.Array, q_data: jax.Array, log_alpha: jax.Array | None
) -> tuple[jax.Array, jax.Array | None]:
    """The conservative term and the loss of the Lagrange multiplier (None without a gap).

    `ood_value` and `q_data` are ``(k, B)``, of k members that stand for all E: the term is E times their mean. With
    ``cql_lagrange_gap`` both the weight and α' = clip(exp(log_alpha), 0, 1e6) multiply, as in the official release. The
    multiplier rises while the mean difference is above the gap; its loss is a mean over members, the release's half sum for two.
    """
    difference = (ood_value - q_data).mean()
    if config.cql_lagrange_gap is None or log_alpha is None:
        return config.ensemble * config.cql_weight * difference, None
    alpha = _alpha(log_alpha)
    violation = config.cql_weight * (difference - config.cql_lagrange_gap)
    return config.ensemble * jax.lax.stop_gradient(alpha) * violation, -alpha * jax.lax.stop_gradient(violation)


def _alpha(log_alpha: jax.Array) -> jax.Array:
    return jnp.clip(jnp.exp(log_alpha), 0.0, 1e6)


def monte_carlo_returns(reward: np.ndarray, terminal: np.ndarray, discount: float, failure_reward: float | None) -> np.ndarray:
    """``G_t = r_t + discount · (1 − terminal_t) · G_{t+1}`` over one segment's transitions ``(T,)``, transformed rewards.

    Sparse case: when every reward equals `failure_reward`, the value of failing for ever, ``failure_reward / (1 − discount)``,
    at every step.
    """
    reward, terminal = np.asarray(reward, np.float64), np.asarray(terminal, np.float64)
    if failure_reward is not None and len(reward) and np.allclose(reward, failure_reward, atol=1e-6):
        return np.full(len(reward), failure_reward / (1.0 - discount), np.float32)
    returns = np.zeros(len(reward))
    following = 0.0
    for t in reversed(range(len(reward))):
        following = reward[t] + discount * (1.0 - terminal[t]) * following
        returns[t] = following
    return returns.astype(np.float32)
