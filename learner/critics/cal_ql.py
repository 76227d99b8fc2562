"""Calibrated conservative critic (Cal-QL, Nakamoto et al. 2023, §4 and appendix; official release for the order of operations).

Adds to the temporal-difference loss, per member: ``w · (T · logsumexp(v / T) − Q(s, a_data))`` where v holds N uniform actions
(never calibrated)
and 2N policy actions (from s and from s', all scored at s), each lifted to the Monte-Carlo return G before the importance
correction.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from etude.config import CriticConfig


def out_of_distribution_value(
    config: CriticConfig,
    q_random: jax.Array,
    q_current: jax.Array,
    q_next: jax.Array,
    log_prob_current: jax.Array,
    log_prob_next: jax.Array,
    q_data: jax.Array,
    monte_carlo_return: jax.Array,
    action_dim: int,
) -> jax.Array:
    """``T · logsumexp(v / T)`` over the candidate actions, ``(E, B)``.

    Args:
        q_random, q_current, q_next: ``(E, N, B)``: N uniform actions, N policy actions at s, N policy actions at s' scored at s.
        log_prob_current, log_prob_next: ``(N, B)``, treated as constants.
        q_data: ``(E, B)``, enters the set only without importance sampling.
        monte_carlo_return: ``(B,)`` G on transformed rewards; −inf switches calibration off for a row (plain CQL).
    """
    lower = monte_carlo_return[None, None]
    q_current, q_next = jnp.maximum(q_current, lower), jnp.maximum(q_next, lower)
    t = config.cql_temperature
    if config.cql_importance_sampling:
        uniform_log_density = action_dim * jnp.log(0.5)
        candidates = [
            q_random - uniform_log_density,
            q_current - jax.lax.stop_gradient(log_prob_current)[None],
            q_next - jax.lax.stop_gradient(log_prob_next)[None],
        ]
        return t * jax.nn.logsumexp(jnp.concatenate(candidates, axis=1) / t, axis=1)
    candidates = [q_random, q_current, q_next, q_data[:, None]]
    return t * jax.nn.logsumexp(jnp.concatenate(candidates, axis=1) / t, axis=1)


def conservative_loss(
    config: CriticConfig, ood_value: jax.Array, q_data: jax.Array, log_alpha: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """The conservative term summed over members, and the loss of the Lagrange multiplier (0 when it is off).

    With ``cql_lagrange_gap`` both the weight and α' = clip(exp(log_alpha), 0, 1e6) multiply, as in the official release.
    """
    difference = (ood_value - q_data).mean(-1)
    if config.cql_lagrange_gap is None:
        return (config.cql_weight * difference).sum(), jnp.zeros(())
    alpha = jnp.clip(jnp.exp(log_alpha), 0.0, 1e6)
    violation = config.cql_weight * (difference - config.cql_lagrange_gap)
    return (jax.lax.stop_gradient(alpha) * violation).sum(), -0.5 * (alpha * jax.lax.stop_gradient(violation)).sum()


def monte_carlo_returns(reward: jax.Array, terminal: jax.Array, discount: float, failure_reward: float | None) -> jax.Array:
    """``G_t = r_t + discount · (1 − terminal_t) · G_{t+1}`` over one segment's transitions (numpy or jax ``(T,)``),
    transformed rewards.

    Sparse case: when every reward equals `failure_reward`, the value of failing for ever, ``failure_reward / (1 − discount)``,
    at every step.
    """
    import numpy as np

    reward, terminal = np.asarray(reward, np.float64), np.asarray(terminal, np.float64)
    if failure_reward is not None and len(reward) and np.allclose(reward, failure_reward, atol=1e-6):
        return np.full(len(reward), failure_reward / (1.0 - discount), np.float32)
    returns = np.zeros(len(reward))
    following = 0.0
    for t in reversed(range(len(reward))):
        following = reward[t] + discount * (1.0 - terminal[t]) * following
        returns[t] = following
    return returns.astype(np.float32)
