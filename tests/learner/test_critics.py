"""The critics against their published equations."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from etude.config import CriticConfig, RewardConfig
from learner.critics import cal_ql, td


def _candidates(key: int, members: int = 2, n: int = 4, rows: int = 3) -> list[jax.Array]:
    keys = jax.random.split(jax.random.key(key), 6)
    q = [jax.random.normal(k, (members, n, rows)) for k in keys[:3]]
    log_probs = [jax.random.normal(k, (n, rows)) for k in keys[3:5]]
    return [*q, *log_probs, jax.random.normal(keys[5], (members, rows))]


def test_a_timeout_bootstraps_and_a_terminal_step_does_not() -> None:
    config = CriticConfig(discount=0.9)
    y = td.target(config, jnp.array([1.0, 1.0]), jnp.array([0.0, 1.0]), jnp.array([2.0, 2.0]))
    np.testing.assert_allclose(y, [1.0 + 0.9 * 2.0, 1.0], rtol=1e-6)


def test_the_subset_minimum_uses_distinct_members() -> None:
    q = jnp.arange(10.0)[:, None]
    smallest = [float(td.subset_minimum(q, jax.random.key(k), 2)[0]) for k in range(200)]
    # the minimum of two distinct members out of 0..9 can be 0..8 but never 9
    assert set(smallest) <= set(range(9)) and len(set(smallest)) > 5


@pytest.mark.parametrize(
    ("step", "success", "bounds"), [(0.0, 1.0, (0.0, 1.0)), (-1.0, 0.0, (-10.0, 0.0)), (-0.1, 1.0, (-1.0, 1.0))]
)
def test_targets_are_bounded_by_the_returns_that_the_rewards_allow(
    step: float, success: float, bounds: tuple[float, float]
) -> None:
    reward = RewardConfig(kind="environment", step=step, success=success)
    np.testing.assert_allclose(td.return_bounds(CriticConfig(discount=0.9), reward), bounds, atol=1e-9)


def test_the_whole_ensemble_is_used_when_the_subset_covers_it() -> None:
    q = jnp.array([[3.0], [1.0], [2.0]])
    assert float(td.subset_minimum(q, jax.random.key(0), 3)[0]) == 1.0


def test_uncalibrated_cal_ql_equals_cql_to_1e_6() -> None:
    config = CriticConfig(kind="cal_ql")
    q_random, q_current, q_next, lp_current, lp_next, q_data = _candidates(0)
    value = cal_ql.out_of_distribution_value(
        config, q_random, q_current, q_next, lp_current, lp_next, q_data, jnp.full(3, -jnp.inf), action_dim=2
    )
    cql = jnp.concatenate([q_random + 2 * np.log(2.0), q_current - lp_current, q_next - lp_next], axis=1)
    np.testing.assert_allclose(value, jnp.log(jnp.exp(cql).sum(1)), atol=1e-6)


def test_calibration_stops_the_gradient_of_policy_actions_and_leaves_random_actions_alone() -> None:
    config = CriticConfig(kind="cal_ql")
    *q, lp_current, lp_next, q_data = _candidates(1)

    def value(q_random: jax.Array, q_current: jax.Array, q_next: jax.Array) -> jax.Array:
        returns = jnp.full(3, 1e3)
        return cal_ql.out_of_distribution_value(
            config, q_random, q_current, q_next, lp_current, lp_next, q_data, returns, 2
        ).sum()

    d_random, d_current, d_next = jax.grad(value, argnums=(0, 1, 2))(*q)
    assert float(jnp.abs(d_current).max()) == 0.0 and float(jnp.abs(d_next).max()) == 0.0
    low = jax.grad(
        lambda r: cal_ql.out_of_distribution_value(config, r, q[1], q[2], lp_current, lp_next, q_data, jnp.full(3, -5.0), 2).sum()
    )
    assert float(jnp.abs(low(q[0])).min()) > 0.0
    del d_random


@pytest.mark.parametrize(("importance_sampling", "entries"), [(True, 3 * 4), (False, 3 * 4 + 1)])
def test_importance_sampling_decides_whether_the_data_action_is_a_candidate(importance_sampling: bool, entries: int) -> None:
    config = CriticConfig(kind="cal_ql", cql_importance_sampling=importance_sampling)
    # all candidates equal to the same corrected value: logsumexp − value = log(number of candidates)
    constant = jnp.zeros((1, 4, 1))
    log_density = 2 * np.log(0.5) if importance_sampling else 0.0
    log_prob = jnp.full((4, 1), log_density)
    value = cal_ql.out_of_distribution_value(
        config, constant, constant, constant, log_prob, log_prob, jnp.zeros((1, 1)), jnp.full(1, -jnp.inf), action_dim=2
    )
    np.testing.assert_allclose(float(value[0, 0]) + log_density, np.log(entries), rtol=1e-6)


def test_the_uniform_density_of_two_dimensions_is_minus_two_ln_two() -> None:
    config = CriticConfig(kind="cal_ql")
    far = jnp.full((1, 1, 1), -1e9)
    value = cal_ql.out_of_distribution_value(
        config, jnp.zeros((1, 1, 1)), far, far, jnp.zeros((1, 1)), jnp.zeros((1, 1)), jnp.zeros((1, 1)), jnp.full(1, -jnp.inf), 2
    )
    np.testing.assert_allclose(float(value[0, 0]), 2 * np.log(2.0), rtol=1e-6)


def test_with_lagrange_both_the_weight_and_the_multiplier_scale_the_loss() -> None:
    config = CriticConfig(kind="cal_ql", cql_weight=5.0, cql_lagrange_gap=0.8)
    ood, q_data = jnp.array([[3.0, 3.0]]), jnp.array([[1.0, 1.0]])
    loss, dual = cal_ql.conservative_loss(config, ood, q_data, jnp.ones(()))
    np.testing.assert_allclose(float(loss), np.e * 5.0 * (2.0 - 0.8), rtol=1e-6)
    np.testing.assert_allclose(float(dual), -0.5 * np.e * 5.0 * (2.0 - 0.8), rtol=1e-6)


def test_a_trajectory_of_failures_is_worth_failing_for_ever() -> None:
    returns = cal_ql.monte_carlo_returns(np.full(20, -1.0), np.zeros(20), 0.99, failure_reward=-1.0)
    np.testing.assert_allclose(returns, -100.0, rtol=1e-6)


def test_failures_are_recognised_in_single_precision() -> None:
    returns = cal_ql.monte_carlo_returns(np.full(5, -0.1, np.float32), np.zeros(5, np.float32), 0.9, failure_reward=-0.1)
    np.testing.assert_allclose(returns, -1.0, rtol=1e-5)


def test_success_at_the_end_gives_the_finite_discounted_sum() -> None:
    n, discount = 10, 0.99
    rewards = np.array([-1.0] * (n - 1) + [0.0])
    terminal = np.array([0.0] * (n - 1) + [1.0])
    returns = cal_ql.monte_carlo_returns(rewards, terminal, discount, failure_reward=-1.0)
    expected = [-sum(discount**i for i in range(n - 1 - t)) for t in range(n)]
    np.testing.assert_allclose(returns, expected, rtol=1e-6)
