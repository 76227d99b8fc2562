"""The critics against their published equations."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from etude.config import CriticConfig, ImprovementConfig, RecipeConfig, RewardConfig
from learner.critics import cal_ql, cql, ensemble, none, td
from learner.parts import Propose, Rows, part

F, D, B = 3, 2, 5


def _recipe(**critic: Any) -> RecipeConfig:
    defaults = {"hidden": (16,), "discount": 0.9, "cql_samples": 4}
    improvement = ImprovementConfig(kind="bc" if critic.get("kind") == "none" else "gradient")
    config = CriticConfig(**{**defaults, **critic})
    reward = RewardConfig(kind="environment", success=config.value_max if config.head == "hl_gauss" else 1.0)
    return RecipeConfig(name="test", critic=config, improvement=improvement, reward=reward)


def _rows(key: int = 0, **changes: Any) -> Rows:
    keys = jax.random.split(jax.random.key(key), 5)
    rows = Rows(
        z=jax.random.normal(keys[0], (B, F)),
        z_next=jax.random.normal(keys[1], (B, F)),
        action=jax.random.uniform(keys[2], (B, D), minval=-1.0),
        reward=jax.random.normal(keys[3], (B,)),
        terminal=jnp.array([0.0, 1.0, 0.0, 0.0, 1.0]),
        discount=jnp.full(B, 0.9),
        monte_carlo_return=jax.random.normal(keys[4], (B,)),
        demonstration=jnp.ones(B),
        weight=jnp.ones(B),
        irreversible=jnp.zeros(B),
        temperature=jnp.array(0.3),
    )
    return rows._replace(**changes)


def _propose(features: jax.Array, key: jax.Array, n: int) -> tuple[jax.Array, jax.Array]:
    """Uniform actions whose stated log density is the sum of their entries: wrong, but easy to follow."""
    action = jax.random.uniform(key, (n, features.shape[0], D), minval=-1.0)
    return action, action.sum(-1)


def _of(rows: Rows, answer: Callable[..., Any] = _propose) -> Propose:
    """`answer` for the features of the place that is asked about."""
    return lambda place, key, n: answer(rows.z if place == "now" else rows.z_next, key, n)


def _one(features: jax.Array, key: jax.Array, n: int) -> tuple[jax.Array, jax.Array | None]:
    """A deterministic policy: one action whatever was asked, no density."""
    return jnp.tanh(features[None, :, :D]), None


def _init(module: ModuleType, recipe: RecipeConfig, key: int = 0) -> Any:
    """Random parameters of the right shapes, LayerNorm and biases too, so that a test cannot pass by symmetry."""
    random = np.random.default_rng(key)
    shapes = jax.eval_shape(lambda k: module.init(recipe, k, jnp.zeros((1, F)), jnp.zeros((1, D))), jax.random.key(0))
    return jax.tree.map(lambda leaf: jnp.asarray(0.5 * random.normal(size=leaf.shape), jnp.float32), shapes)


def _numpy_q(params: Any, z: np.ndarray, action: np.ndarray) -> np.ndarray:
    """One hidden layer with LayerNorm, member by member."""
    q = []
    x = np.concatenate([z, action], -1)
    p = jax.tree.map(np.asarray, params["q"])
    for e in range(p["kernel"].shape[0]):
        h = x @ p["kernel"][e] + p["bias"][e]
        h = (h - h.mean(-1, keepdims=True)) / np.sqrt(h.var(-1, keepdims=True) + 1e-6)
        h = np.maximum(h * p["LayerNorm_0"]["scale"][e] + p["LayerNorm_0"]["bias"][e], 0.0)
        q.append((h @ p["Dense_0"]["kernel"][e] + p["Dense_0"]["bias"][e])[..., 0])
    return np.stack(q)


# --- ensemble -----------------------------------------------------------------------------------------------------------


def test_values_are_those_of_the_network_for_any_leading_shape() -> None:
    recipe = _recipe(ensemble=3)
    params, rows = _init(td, recipe), _rows()
    expected = _numpy_q(params, np.asarray(rows.z), np.asarray(rows.action))
    np.testing.assert_allclose(td.values(recipe, params, rows.z, rows.action), expected, atol=1e-5)
    np.testing.assert_allclose(td.values(recipe, params, rows.z[0], rows.action[0]), expected[:, 0], atol=1e-5)
    candidates = jax.random.uniform(jax.random.key(1), (4, B, D))
    repeated = jnp.broadcast_to(rows.z, (4, B, F))
    expected = _numpy_q(params, np.asarray(repeated), np.asarray(candidates))
    np.testing.assert_allclose(td.values(recipe, params, repeated, candidates), expected, atol=1e-5)
    np.testing.assert_allclose(td.values(recipe, params, rows.z, candidates), expected, atol=1e-5)


@pytest.mark.parametrize("hidden", [(), (8,), (8, 8, 8)])
@pytest.mark.parametrize("head", ["scalar", "hl_gauss"])
def test_every_depth_and_head_gives_one_value_per_member(hidden: tuple[int, ...], head: str) -> None:
    recipe = _recipe(ensemble=3, hidden=hidden, head=head)
    assert td.values(recipe, _init(td, recipe), jnp.zeros((7, B, F)), jnp.zeros((7, B, D))).shape == (3, 7, B)


def test_the_subset_has_distinct_members_unless_it_is_drawn_with_replacement() -> None:
    def draws(config: CriticConfig) -> np.ndarray:
        return np.asarray(jax.vmap(lambda k: ensemble.draw(config, k))(jax.random.split(jax.random.key(0), 400)))

    distinct = draws(CriticConfig(ensemble=10, subset_min=2))
    assert (distinct[:, 0] != distinct[:, 1]).all() and set(distinct.ravel()) == set(range(10))
    repeated = draws(CriticConfig(ensemble=10, subset_min=2, subset_with_replacement=True))
    assert 0.05 < (repeated[:, 0] == repeated[:, 1]).mean() < 0.16
    assert set(repeated.ravel()) == set(range(10))


def test_the_subset_minimum_is_that_of_the_drawn_members() -> None:
    recipe = _recipe(ensemble=5, subset_min=2)
    params, rows = _init(td, recipe), _rows()
    q = _numpy_q(params, np.asarray(rows.z), np.asarray(rows.action))
    key = jax.random.key(3)
    members = np.asarray(ensemble.draw(recipe.critic, key))
    minimum = ensemble.subset_minimum(recipe.critic, params["q"], rows.z, rows.action, key)
    np.testing.assert_allclose(minimum, q[members].min(0), atol=1e-5)
    everyone = _recipe(ensemble=5, subset_min=5).critic
    np.testing.assert_allclose(ensemble.subset_minimum(everyone, params["q"], rows.z, rows.action, key), q.min(0), atol=1e-5)


# --- targets ------------------------------------------------------------------------------------------------------------


def test_a_timeout_bootstraps_and_a_terminal_step_does_not() -> None:
    rows = _rows(reward=jnp.ones(B))
    y = td.bellman_target(_recipe(), rows, jnp.full(B, 2.0))
    np.testing.assert_allclose(y, 1.0 + 0.9 * 2.0 * (1.0 - np.asarray(rows.terminal)), rtol=1e-6)


def test_the_backup_takes_the_largest_minimum_and_its_entropy() -> None:
    recipe = _recipe(ensemble=2, backup_entropy=True)
    target, rows = _init(td, recipe), _rows()
    action, log_prob = _propose(rows.z_next, jax.random.key(1), 6)
    z_next = np.broadcast_to(rows.z_next, (6, B, F))
    expected = (_numpy_q(target, z_next, np.asarray(action)).min(0) - 0.3 * np.asarray(log_prob)).max(0)
    np.testing.assert_allclose(td.next_value(recipe, target, rows, action, log_prob, jax.random.key(0)), expected, atol=1e-5)
    with pytest.raises(ValueError, match="backup_entropy=false"):
        td.next_value(recipe, target, rows, action, None, jax.random.key(0))


@pytest.mark.parametrize("bound", [False, True])
def test_an_irreversible_state_is_worth_minus_ten(bound: bool) -> None:
    reward = RewardConfig(kind="environment", step=-1.0, success=0.0)
    recipe = _recipe(discount=0.99, pessimistic_reward=-0.1, bound_targets=bound).model_copy(update={"reward": reward})
    for scale in (1.0, 10.0):
        irreversible = jnp.array([1.0, 1.0, 0.0, 0.5, 0.5])
        rows = _rows(reward=jnp.full(B, scale), discount=jnp.full(B, 0.99), irreversible=irreversible)
        y = np.asarray(td.bellman_target(recipe, rows, jnp.full(B, -7.0)))
        soft = scale + 0.99 * -7.0 * (1.0 - np.asarray(rows.terminal))
        soft = np.clip(soft, -100.0, 0.0) if bound else soft
        np.testing.assert_allclose(y[:2], -10.0, rtol=1e-5)
        np.testing.assert_allclose(y[2:], [soft[2], 0.5 * -10 + 0.5 * soft[3], 0.5 * -10 + 0.5 * soft[4]], rtol=1e-5)


@pytest.mark.parametrize(
    ("step", "success", "bounds"), [(0.0, 1.0, (0.0, 1.0)), (-1.0, 0.0, (-10.0, 0.0)), (-0.1, 1.0, (-1.0, 1.0))]
)
def test_targets_are_bounded_by_the_returns_that_the_rewards_allow(
    step: float, success: float, bounds: tuple[float, float]
) -> None:
    reward = RewardConfig(kind="environment", step=step, success=success)
    recipe = _recipe(bound_targets=True).model_copy(update={"reward": reward})
    np.testing.assert_allclose(recipe.return_bounds, bounds, atol=1e-9)
    for extreme, bound in ((-1e4, bounds[0]), (1e4, bounds[1])):
        y = td.bellman_target(recipe, _rows(terminal=jnp.zeros(B)), jnp.full(B, extreme))
        np.testing.assert_allclose(y, bound, atol=1e-6)


def test_the_bounds_leave_room_for_what_follows_an_irreversible_state() -> None:
    """Or the state before it would be worth as much as one from which nothing comes."""
    recipe = _recipe(bound_targets=True, discount=0.9, pessimistic_reward=-0.1)
    np.testing.assert_allclose(recipe.return_bounds, (-1.0, 1.0), atol=1e-9)
    rows = _rows(reward=jnp.zeros(B), terminal=jnp.zeros(B), discount=jnp.full(B, 0.9))
    np.testing.assert_allclose(td.bellman_target(recipe, rows, jnp.full(B, -1.0)), -0.9, atol=1e-6)


def test_take_overs_bound_the_returns_of_rlif() -> None:
    """The recipe's own rewards are 0 there; what is relabelled is not."""
    recipe = _recipe(bound_targets=True, discount=0.9).model_copy(
        update={"reward": RewardConfig(kind="intervention", success=0.0)}
    )
    np.testing.assert_allclose(recipe.return_bounds, (-10.0, 0.0), atol=1e-9)


# --- temporal differences -----------------------------------------------------------------------------------------------


def test_the_td_loss_is_the_squared_error_summed_over_members() -> None:
    recipe = _recipe(ensemble=3, subset_min=3)
    params, target, rows = _init(td, recipe), _init(td, recipe, 1), _rows()
    loss, metrics = td.loss(recipe, params, target, rows, _of(rows, _one), jax.random.key(0))
    action = np.tanh(np.asarray(rows.z_next)[:, :D])
    following = _numpy_q(target, np.asarray(rows.z_next), action).min(0)
    y = np.asarray(rows.reward) + 0.9 * (1.0 - np.asarray(rows.terminal)) * following
    q = _numpy_q(params, np.asarray(rows.z), np.asarray(rows.action))
    np.testing.assert_allclose(float(loss), ((q - y) ** 2).mean(1).sum(), rtol=1e-5)
    np.testing.assert_allclose(float(metrics["critic/target_mean"]), y.mean(), rtol=1e-5)


def test_the_advantage_compares_with_the_policy_under_the_slow_critic() -> None:
    recipe = _recipe(ensemble=2)
    params, target, rows = _init(td, recipe), _init(td, recipe, 1), _rows()
    advantage = td.advantage(recipe, params, target, rows, _of(rows, _one), jax.random.key(0))
    z = np.asarray(rows.z)
    expected = _numpy_q(target, z, np.asarray(rows.action)).min(0) - _numpy_q(target, z, np.tanh(z[:, :D])).min(0)
    np.testing.assert_allclose(advantage, expected, atol=1e-5)

    def itself(features: jax.Array, key: jax.Array, n: int) -> tuple[jax.Array, None]:
        return jnp.broadcast_to(rows.action, (n, B, D)), None

    np.testing.assert_allclose(td.advantage(recipe, params, target, rows, itself, jax.random.key(0)), 0.0, atol=1e-6)


@pytest.mark.parametrize(("kind", "head"), [("td", "hl_gauss"), ("cal_ql", "scalar"), ("iql", "hl_gauss")])
def test_gradients_reach_the_critic_and_the_features_and_nothing_else(kind: str, head: str) -> None:
    module = part("critics", kind)
    recipe = _recipe(kind=kind, head=head, ensemble=3)
    params, target, rows = _init(module, recipe), _init(module, recipe, 1), _rows()

    def loss(params: Any, target: Any, z: jax.Array, z_next: jax.Array, temperature: jax.Array) -> jax.Array:
        changed = rows._replace(z=z, z_next=z_next, temperature=temperature)
        return module.loss(recipe, params, target, changed, _of(changed), jax.random.key(0))[0]

    def advantage(params: Any, target: Any, z: jax.Array) -> jax.Array:
        changed = rows._replace(z=z)
        return module.advantage(recipe, params, target, changed, _of(changed), jax.random.key(0)).sum()

    @jax.jit
    @jax.vmap
    def gradients(*x: Any) -> Any:
        return jax.value_and_grad(loss, argnums=(0, 1, 2, 3, 4))(*x), jax.grad(advantage, argnums=(0, 1, 2))(*x[:3])

    # two directions at once, as the learner has them: the second one is the first with the parameters exchanged
    arguments = (params, target, rows.z, rows.z_next, rows.temperature)
    pairs = jax.tree.map(lambda *x: jnp.stack(x), arguments, (target, params, *arguments[2:]))
    (losses, (to_params, to_target, to_z, to_next, to_temperature)), of_advantage = gradients(*pairs)
    assert losses.shape == (2,) and float(losses[0]) != float(losses[1])
    assert all(float(jnp.abs(leaf).max(axis=tuple(range(1, leaf.ndim))).min()) > 0.0 for leaf in jax.tree.leaves(to_params))
    assert float(jnp.abs(to_z).max()) > 0.0
    for silent in jax.tree.leaves((to_target, to_next, to_temperature, of_advantage)):
        assert float(jnp.abs(silent).max()) == 0.0


# --- conservatism -------------------------------------------------------------------------------------------------------


def _record(calls: list[Any]) -> Callable[..., Any]:
    def propose(features: jax.Array, key: jax.Array, n: int) -> tuple[jax.Array, jax.Array]:
        calls.append((np.asarray(features), *(np.asarray(x) for x in _propose(features, key, n))))
        return jnp.asarray(calls[-1][1]), jnp.asarray(calls[-1][2])

    return propose


@pytest.mark.parametrize("kind", ["cal_ql", "cql"])
@pytest.mark.parametrize("max_backup", [True, False])
@pytest.mark.parametrize("temperature", [1.0, 0.5])
@pytest.mark.parametrize("importance_sampling", [True, False])
def test_the_conservative_losses_equal_their_equations(
    importance_sampling: bool, temperature: float, max_backup: bool, kind: str
) -> None:
    recipe = _recipe(
        kind=kind,
        cql_importance_sampling=importance_sampling,
        cql_temperature=temperature,
        cql_max_target_backup=max_backup,
        cql_weight=5.0,
    )
    params, target, rows = _init(cal_ql, recipe), _init(cal_ql, recipe, 1), _rows()
    calls: list[Any] = []
    key = jax.random.key(7)
    loss, metrics = {"cal_ql": cal_ql, "cql": cql}[kind].loss(recipe, params, target, rows, _of(rows, _record(calls)), key)
    (next_z, b, log_b), (z, a, log_a) = calls
    np.testing.assert_array_equal(next_z, rows.z_next)
    np.testing.assert_array_equal(z, rows.z)
    uniform = np.asarray(jax.random.uniform(jax.random.split(key, 5)[2], (4, B, D), minval=-1.0, maxval=1.0))

    r, g, terminal = (np.asarray(x, np.float64) for x in (rows.reward, rows.monte_carlo_return, rows.terminal))
    g = g if kind == "cal_ql" else np.full_like(g, -np.inf)  # CQL takes no entry's maximum with a return
    wide_z, wide_next = (np.broadcast_to(x, (4, B, F)) for x in (z, next_z))
    following = _numpy_q(target, wide_next, b).min(0)
    y = r + 0.9 * (1.0 - terminal) * (following.max(0) if max_backup else following[0])
    q_data = _numpy_q(params, z, np.asarray(rows.action))
    v_random = _numpy_q(params, wide_z, uniform)
    v_current = np.maximum(_numpy_q(params, wide_z, a), g)
    v_next = np.maximum(_numpy_q(params, wide_z, b), g)
    if importance_sampling:
        entries = [v_random + 2.0 * np.log(2.0), v_current - log_a, v_next - log_b]
    else:
        entries = [v_random, v_current, v_next, q_data[:, None]]
    v = np.concatenate(entries, axis=1)
    assert v.shape[1] == (12 if importance_sampling else 13)
    ood = temperature * np.log(np.exp(v / temperature).sum(1))
    conservative = 5.0 * (ood - q_data).mean(1).sum()
    np.testing.assert_allclose(float(metrics["critic/conservative_loss"]), conservative, rtol=1e-4)
    np.testing.assert_allclose(float(loss), ((q_data - y) ** 2).mean(1).sum() + conservative, rtol=1e-4)


def test_uncalibrated_cal_ql_equals_cql_in_loss_and_gradient() -> None:
    recipe = _recipe(kind="cal_ql", ensemble=4)
    params, target, key = _init(cal_ql, recipe), _init(cal_ql, recipe, 1), jax.random.key(2)
    uncalibrated = _rows(monte_carlo_return=jnp.full(B, -jnp.inf))

    def value(module: ModuleType, params: Any, rows: Rows) -> Any:
        return jax.value_and_grad(lambda p: module.loss(recipe, p, target, rows, _of(rows), key)[0])(params)

    (a, gradient_a), (b, gradient_b) = jax.jit(lambda p: (value(cal_ql, p, uncalibrated), value(cql, p, _rows())))(params)
    np.testing.assert_allclose(float(a), float(b), atol=1e-6)
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, atol=1e-6), gradient_a, gradient_b)


def _ood(recipe: RecipeConfig, q: list[jax.Array], returns: float, log_prob: float = 0.0) -> jax.Array:
    n = q[1].shape[1]
    log_probs = jnp.full((n, q[1].shape[2]), log_prob)
    g = jnp.full(q[1].shape[2], returns)
    return cal_ql.out_of_distribution_value(recipe.critic, q[0], q[1], q[2], log_probs, log_probs, q[3], g, D)


def test_calibration_stops_the_gradient_of_policy_actions_and_leaves_random_actions_alone() -> None:
    keys = jax.random.split(jax.random.key(1), 4)
    q = [jax.random.normal(k, (2, 4, B)) for k in keys[:3]] + [jax.random.normal(keys[3], (2, B))]
    for importance_sampling in (True, False):
        recipe = _recipe(kind="cal_ql", cql_importance_sampling=importance_sampling)
        above = jax.grad(lambda q, recipe=recipe: _ood(recipe, q, 6.0).sum())(q)
        assert float(jnp.abs(above[1]).max()) == 0.0 and float(jnp.abs(above[2]).max()) == 0.0
        assert float(jnp.abs(above[0]).min()) > 0.0
        assert (float(jnp.abs(above[3]).max()) == 0.0) == importance_sampling
        below = jax.grad(lambda q, recipe=recipe: _ood(recipe, q, -6.0).sum())(q)
        assert all(float(jnp.abs(share).min()) > 0.0 for share in below[:3])


def test_calibration_comes_before_the_importance_correction() -> None:
    q = [jnp.full((1, 1, 1), -1e9), jnp.zeros((1, 1, 1)), jnp.full((1, 1, 1), -1e9), jnp.zeros((1, 1))]
    # two policy entries lifted to 1, then divided by a density of e^3: ln 2 + 1 − 3, where the wrong order would give ln 2 + 1
    np.testing.assert_allclose(float(_ood(_recipe(kind="cal_ql"), q, 1.0, 3.0)[0, 0]), np.log(2.0) + 1.0 - 3.0, rtol=1e-5)


@pytest.mark.parametrize(("importance_sampling", "entries"), [(True, 12), (False, 13)])
def test_importance_sampling_decides_whether_the_data_action_is_a_candidate(importance_sampling: bool, entries: int) -> None:
    recipe = _recipe(kind="cal_ql", cql_importance_sampling=importance_sampling)
    log_density = -2.0 * np.log(2.0) if importance_sampling else 0.0
    q = [jnp.zeros((1, 4, 1))] * 3 + [jnp.zeros((1, 1))]
    # every entry has the same corrected value, so the logsumexp counts them
    value = float(_ood(recipe, q, -np.inf, log_density)[0, 0])
    np.testing.assert_allclose(value + log_density, np.log(entries), rtol=1e-5)


def test_the_uniform_log_density_of_two_dimensions_is_minus_two_ln_two() -> None:
    far = jnp.full((1, 1, 1), -1e9)
    value = _ood(_recipe(kind="cal_ql"), [jnp.zeros((1, 1, 1)), far, far, jnp.zeros((1, 1))], -np.inf)
    np.testing.assert_allclose(float(value[0, 0]), 2.0 * np.log(2.0), rtol=1e-6)


def test_the_one_action_of_a_policy_without_densities_stands_for_all_its_samples() -> None:
    recipe = _recipe(kind="cal_ql", cql_importance_sampling=False)
    params, rows = _init(cal_ql, recipe), _rows()
    loss, metrics = cal_ql.loss(recipe, params, params, rows, _of(rows, _one), jax.random.key(0))
    z = np.asarray(rows.z)
    uniform = np.asarray(jax.random.uniform(jax.random.split(jax.random.key(0), 5)[2], (4, B, D), minval=-1.0, maxval=1.0))
    g, q_data = np.asarray(rows.monte_carlo_return), _numpy_q(params, z, np.asarray(rows.action))
    v = np.concatenate(
        [
            _numpy_q(params, np.broadcast_to(z, (4, B, F)), uniform),
            np.maximum(_numpy_q(params, z, np.tanh(z[:, :D])), g)[:, None].repeat(4, 1),
            np.maximum(_numpy_q(params, z, np.tanh(np.asarray(rows.z_next)[:, :D])), g)[:, None].repeat(4, 1),
            q_data[:, None],
        ],
        axis=1,
    )
    expected = (np.log(np.exp(v).sum(1)) - q_data).mean(1).sum()
    np.testing.assert_allclose(float(metrics["critic/conservative_loss"]), expected, rtol=1e-4)
    assert bool(jnp.isfinite(loss))
    with pytest.raises(ValueError, match="cql_importance_sampling=false"):
        cal_ql.loss(_recipe(kind="cal_ql"), params, params, rows, _of(rows, _one), jax.random.key(0))


def test_the_term_on_a_subset_of_members_is_an_unbiased_estimate_of_the_sum() -> None:
    recipe = _recipe(kind="cal_ql", ensemble=5, subset_min=2, cql_weight=0.5)
    q, ood = np.random.default_rng(0).normal(size=(2, 5, B)).astype(np.float32)
    pairs = [
        float(cal_ql.conservative_loss(recipe.critic, jnp.asarray(ood[[i, j]]), jnp.asarray(q[[i, j]]), None)[0])
        for i in range(5)
        for j in range(5)
        if i != j
    ]
    np.testing.assert_allclose(np.mean(pairs), 0.5 * (ood - q).mean(1).sum(), rtol=1e-4, atol=1e-5)


def test_with_lagrange_the_weight_and_the_multiplier_scale_and_the_multiplier_follows_the_gap() -> None:
    recipe = _recipe(kind="cal_ql", ensemble=2, cql_weight=5.0, cql_lagrange_gap=0.8)
    q_data = jnp.array([[1.0, 1.0], [0.0, 0.0]])

    def terms(difference: float, log_alpha: jax.Array) -> tuple[jax.Array, jax.Array | None]:
        return cal_ql.conservative_loss(recipe.critic, q_data + difference, q_data, log_alpha)

    term, dual = terms(2.0, jnp.ones(()))
    np.testing.assert_allclose(float(term), 2 * np.e * 5.0 * (2.0 - 0.8), rtol=1e-6)
    # −½ Σ over the two members of α' · w · (difference − gap)
    np.testing.assert_allclose(float(dual), -0.5 * 2 * np.e * 5.0 * (2.0 - 0.8), rtol=1e-6)  # type: ignore[arg-type]
    np.testing.assert_allclose(float(terms(2.0, jnp.array(100.0))[0]), 2 * 1e6 * 5.0 * 1.2, rtol=1e-5)
    above = jax.grad(lambda x: sum(terms(2.0, x)))(jnp.ones(()))
    below = jax.grad(lambda x: sum(terms(0.1, x)))(jnp.ones(()))
    assert float(above) < 0.0 < float(below)  # descent raises the multiplier above the gap, lowers it below


def test_the_multiplier_exists_only_with_a_gap_and_is_trained_by_the_same_loss() -> None:
    assert set(_init(cal_ql, _recipe(kind="cal_ql"))) == {"q"}
    recipe = _recipe(kind="cal_ql", cql_lagrange_gap=0.8, hidden=())
    params = cal_ql.init(recipe, jax.random.key(0), jnp.zeros((1, F)), jnp.zeros((1, D)))
    assert params["log_alpha"].shape == () and float(params["log_alpha"]) == 1.0
    rows, key = _rows(), jax.random.key(0)
    loss = jax.jit(jax.value_and_grad(lambda p: cal_ql.loss(recipe, p, params, rows, _of(rows), key), has_aux=True))
    (_, metrics), gradient = loss(params)
    np.testing.assert_allclose(float(metrics["critic/alpha"]), np.e, rtol=1e-6)
    # d/d log α' of −½ Σ L_i is −½ Σ L_i itself
    np.testing.assert_allclose(float(gradient["log_alpha"]), -0.5 * float(metrics["critic/conservative_loss"]), rtol=1e-5)


# --- no critic ----------------------------------------------------------------------------------------------------------


def test_no_critic_costs_nothing_and_cannot_be_asked() -> None:
    recipe, rows = _recipe(kind="none"), _rows()
    assert none.init(recipe, jax.random.key(0), rows.z[:1], rows.action[:1]) == {}
    loss, metrics = none.loss(recipe, {}, {}, rows, _of(rows), jax.random.key(0))
    assert float(loss) == 0.0 and metrics == {}
    with pytest.raises(ValueError, match=r"improvement\.kind=bc"):
        none.values(recipe, {}, rows.z, rows.action)
    with pytest.raises(ValueError, match="has no critic"):
        none.advantage(recipe, {}, {}, rows, _of(rows), jax.random.key(0))


# --- Monte-Carlo returns ------------------------------------------------------------------------------------------------


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


# --- learning -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("head", ["scalar", "hl_gauss"])
def test_the_td_critic_learns_the_values_of_a_chain(head: str) -> None:
    """Three states; +1 goes on (reward −1, 0 and the end from the last state), −1 stays (−1). The policy goes on."""
    recipe = _recipe(head=head, value_min=-5.0, value_max=5.0, value_bins=64, hidden=(32,))
    state, step = np.repeat(np.arange(3), 2), np.tile([1.0, -1.0], 3)
    after = np.where(step > 0, np.minimum(state + 1, 2), state)
    rows = Rows(
        z=jnp.eye(3)[state],
        z_next=jnp.eye(3)[after],
        action=jnp.asarray(step, jnp.float32)[:, None],
        reward=jnp.asarray(np.where((state == 2) & (step > 0), 0.0, -1.0), jnp.float32),
        terminal=jnp.asarray((state == 2) & (step > 0), jnp.float32),
        discount=jnp.full(6, recipe.critic.discount),
        **{name: jnp.zeros(6) for name in ("monte_carlo_return", "demonstration", "weight", "irreversible")},
        temperature=jnp.zeros(()),
    )
    params = td.init(recipe, jax.random.key(0), rows.z[:1], rows.action[:1])
    optimiser = optax.adam(1e-2)

    def onward(place: str, key: jax.Array, n: int) -> tuple[jax.Array, None]:
        return jnp.ones((n, len(state), 1)), None

    def update(carry: Any, key: jax.Array) -> Any:
        params, target, memory = carry
        gradient = jax.grad(lambda p: td.loss(recipe, p, target, rows, onward, key)[0])(params)
        change, memory = optimiser.update(gradient, memory)
        params = optax.apply_updates(params, change)
        return (params, jax.tree.map(lambda t, p: t + 0.1 * (p - t), target, params), memory), None

    keys = jax.random.split(jax.random.key(1), 1000)
    (params, _, _), _ = jax.jit(lambda c: jax.lax.scan(update, c, keys))((params, params, optimiser.init(params)))
    v = np.array([-1.9, -1.0, 0.0])
    expected = np.where(step > 0, v[state], -1.0 + 0.9 * v[state])
    np.testing.assert_allclose(td.values(recipe, params, rows.z, rows.action), np.tile(expected, (2, 1)), atol=0.03)
