"""The improvement parts against their equations, on a stub policy and hand-made critics."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from etude.config import ImprovementConfig, RecipeConfig
from learner.improvement import awr, bc, gradient, pa_rl
from learner.parts import Improver, Rows

DIM = 2
HALF_LOG_TAU = 0.5 * np.log(2 * np.pi)


def _sample(
    recipe: RecipeConfig, params: Any, features: jax.Array, action_dim: int, key: jax.Array, n: int
) -> tuple[jax.Array, jax.Array | None]:
    """A Gaussian of mean ``features @ params["w"]``, width ``exp(params["s"])``, clipped to the box."""
    mean = features @ params["w"]
    noise = jax.random.normal(key, (n, features.shape[0], action_dim))
    log_prob = (-0.5 * noise**2 - params["s"] - HALF_LOG_TAU).sum(-1)
    return jnp.clip(mean + noise * jnp.exp(params["s"]), -1.0, 1.0), log_prob


def _act(
    recipe: RecipeConfig, params: Any, features: jax.Array, action_dim: int, key: jax.Array, explore: jax.Array
) -> jax.Array:
    return features @ params["w"]


def _supervised_loss(recipe: RecipeConfig, params: Any, features: jax.Array, action: jax.Array, key: jax.Array) -> jax.Array:
    return ((features @ params["w"] - action) ** 2).sum(-1)


POLICY: Any = SimpleNamespace(sample=_sample, act=_act, supervised_loss=_supervised_loss)
PARAMS = {"w": jnp.array([[0.3, -0.2], [0.1, 0.4], [-0.5, 0.2]]), "s": jnp.float32(-1.0)}


def make(critic: Any, **settings: Any) -> Improver:
    recipe = RecipeConfig(name="test", improvement=ImprovementConfig(**settings))
    return Improver(recipe, POLICY, critic, DIM)


def make_rows(count: int = 6, seed: int = 0, **changes: Any) -> Rows:
    rng = np.random.default_rng(seed)
    values: dict[str, Any] = {
        "z": rng.normal(size=(count, 3)),
        "z_next": rng.normal(size=(count, 3)),
        "action": rng.uniform(-1, 1, (count, DIM)),
        "reward": np.zeros(count),
        "terminal": np.zeros(count),
        "discount": np.full(count, 0.96),
        "monte_carlo_return": np.zeros(count),
        "demonstration": np.arange(count) % 2,
        "weight": np.ones(count),
        "irreversible": np.zeros(count),
        "temperature": 0.2,
    }
    return Rows(**{name: jnp.asarray(value, jnp.float32) for name, value in (values | changes).items()})


def no_advantage(key: jax.Array) -> jax.Array:
    raise AssertionError("this part does not ask for advantages")


def run(part: Any, improver: Improver, rows: Rows, params: Any = PARAMS, step: int = 0, advantage: Any = no_advantage) -> Any:
    loss = jax.jit(lambda params, *rest: part.loss(improver, params, PARAMS, rows, rest[0], advantage, *rest[1:]))
    return loss(params, jnp.log(jnp.float32(0.2)), jnp.int32(step), jax.random.key(3))


def optimise(improver: Improver, z: jax.Array, key: jax.Array, params: Any = PARAMS, **options: Any) -> Any:
    return jax.jit(lambda params, z, key: pa_rl.optimise(improver, params, z, key, **options))(params, z, key)


def sampled_actions(z: jax.Array, key: jax.Array, count: int) -> jax.Array:
    """The candidates ``(count, B, d)`` that `pa_rl.optimise` draws from the stub policy for this key."""
    return _sample(make(None).recipe, PARAMS, z, DIM, jax.random.split(key)[0], count)[0]


def bowl(features: jax.Array, actions: jax.Array) -> jax.Array:
    """``Q = −‖a − a*‖²`` with a* the first features, two members that differ by a constant."""
    q = -((actions - 0.5 * jnp.tanh(features[..., :DIM])) ** 2).sum(-1)
    return jnp.stack([q - 1.0, q + 1.0])


def random_critic(key: jax.Array) -> Any:
    """Two random one-layer networks with steep, wavy values."""
    keys = jax.random.split(key)
    inner = 6.0 * jax.random.normal(keys[0], (2, 3 + DIM, 16))
    outer = jax.random.normal(keys[1], (2, 16))

    def critic(features: jax.Array, actions: jax.Array) -> jax.Array:
        x = jnp.concatenate([jnp.broadcast_to(features, (*actions.shape[:-1], features.shape[-1])), actions], -1)
        return jnp.einsum("e...h,eh->e...", jnp.sin(jnp.einsum("...i,eih->e...h", x, inner)), outer)

    return critic


# --- PA-RL -----------------------------------------------------------------------------------------------------------


def test_ascent_on_a_concave_critic_shrinks_every_distance_by_the_geometric_factor() -> None:
    improver = make(bowl, candidates=1, keep=1, ascent_steps=10, ascent_step_size=3e-4)
    z, key = make_rows().z, jax.random.key(1)
    sampled = sampled_actions(z, key, 1)
    best = 0.5 * np.tanh(np.asarray(z)[:, :DIM])
    action, q = optimise(improver, z, key)
    before = np.linalg.norm(np.asarray(sampled[0]) - best, axis=-1)
    after = np.linalg.norm(np.asarray(action) - best, axis=-1)
    np.testing.assert_allclose(after / before, 0.99402, atol=1e-5)
    np.testing.assert_allclose(after / before, (1 - 2 * 3e-4) ** 10, atol=1e-5)
    np.testing.assert_allclose(q, -(after**2), atol=1e-5)


def test_the_optimised_action_on_a_concave_critic_is_the_best_sample_moved_uphill() -> None:
    improver = make(bowl, candidates=8, keep=3, ascent_steps=10)
    z, key = make_rows().z, jax.random.key(2)
    sampled = np.asarray(sampled_actions(z, key, 8))
    best = 0.5 * np.tanh(np.asarray(z)[:, :DIM])
    distance = np.linalg.norm(sampled - best, axis=-1).min(0)
    action, _ = optimise(improver, z, key)
    np.testing.assert_allclose(np.linalg.norm(np.asarray(action) - best, axis=-1), 0.99402 * distance, rtol=1e-4)


@pytest.mark.parametrize(("step_size", "reduction"), [(3e-4, "mean"), (0.5, "mean"), (0.5, "min")])
def test_the_optimised_action_never_scores_below_the_best_sample(step_size: float, reduction: str) -> None:
    # with steps of 0.5 on steep wavy values almost every ascent overshoots
    def one(key: jax.Array, z: jax.Array) -> tuple[jax.Array, ...]:
        options = {"ascent_steps": 4, "ascent_step_size": step_size, "q_reduction": reduction}
        improver = make(random_critic(key), candidates=7, keep=3, **options)
        action, q = pa_rl.optimise(improver, PARAMS, z, key)
        again, samples = improver.critic(z, action), improver.critic(z, sampled_actions(z, key, 7))
        reduce = jnp.min if reduction == "min" else jnp.mean
        return action, q, reduce(again, axis=0), reduce(samples, axis=0).max(0)

    keys = jax.random.split(jax.random.key(0), 20)
    action, q, again, best_sample = jax.jit(jax.vmap(one, in_axes=(0, None)))(keys, make_rows().z)
    np.testing.assert_allclose(q, again, rtol=1e-4, atol=1e-4)
    assert (np.asarray(q) >= np.asarray(best_sample) - 1e-5).all()
    assert (np.asarray(q) > np.asarray(best_sample) + 1e-3).mean() > 0.3, "the ascent finds better actions than the samples"
    assert np.abs(action).max() <= 1.0


def test_the_best_iterate_of_the_way_is_kept_and_not_the_last() -> None:
    # a ridge at a = 0.3 in the first dimension, with a lying gradient that always points up
    @jax.custom_jvp
    def spurious(a: jax.Array) -> jax.Array:
        return -jnp.abs(a - 0.3)

    spurious.defjvp(lambda primals, tangents: (spurious(primals[0]), jnp.ones_like(primals[0]) * tangents[0]))
    improver = make(
        lambda features, actions: spurious(actions[..., 0])[None],
        candidates=1,
        keep=1,
        ascent_steps=20,
        ascent_step_size=0.1,
    )
    start, params = -0.5, {"w": jnp.zeros((3, DIM)).at[0, 0].set(-0.5), "s": jnp.float32(-30.0)}
    action, q = optimise(improver, jnp.ones((2, 3)), jax.random.key(0), params)
    # the way is −0.5, −0.4, …, 1 (clipped) and its best place 0.3
    np.testing.assert_allclose(action[:, 0], 0.3, atol=1e-5)
    np.testing.assert_allclose(q, 0.0, atol=1e-5)
    above = {"w": params["w"] / start * 0.5, "s": params["s"]}
    action, _ = optimise(improver, jnp.ones((2, 3)), jax.random.key(0), above)
    np.testing.assert_allclose(action[:, 0], 0.5, atol=1e-5, err_msg="from beyond the ridge the start is the best")


def test_scores_are_the_mean_of_the_members() -> None:
    # member 0 likes +1 in the first dimension and member 1 likes −1, twice as much; their minimum would be highest between
    improver = make(
        lambda features, actions: jnp.stack([actions[..., 0], -2.0 * actions[..., 0]]), candidates=16, keep=4, ascent_steps=0
    )
    key, z = jax.random.key(5), make_rows().z
    sampled = sampled_actions(z, key, 16)
    action, _ = optimise(improver, z, key)
    np.testing.assert_allclose(action[:, 0], sampled[..., 0].min(0))


def test_the_stored_action_replaces_the_worst_kept_candidate_and_only_when_given() -> None:
    improver = make(bowl, candidates=6, keep=3, ascent_steps=0)
    rows, key = make_rows(), jax.random.key(4)
    z = rows.z
    sampled = np.asarray(sampled_actions(z, key, 6))
    scores = np.asarray(improver.critic(jnp.broadcast_to(z, (6, *z.shape)), sampled).mean(0))
    kept = np.sort(scores, axis=0)[::-1][:3]
    for stored, expected in (
        (0.5 * jnp.tanh(z[:, :DIM]), np.zeros(len(z))),  # the best action there is wins
        (jnp.full((len(z), DIM), -1.0), kept[0]),  # a bad one leaves the best candidate alone
    ):
        _, q = optimise(improver, z, key, stored=stored)
        stored_q = np.asarray(improver.critic(z, stored).mean(0))
        np.testing.assert_allclose(q, np.maximum(expected, stored_q), atol=1e-6)
    # which candidate was replaced shows when it is the only one that could have been drawn
    only = make(bowl, candidates=6, keep=1, ascent_steps=0)
    action, _ = optimise(only, z, key, stored=rows.action)
    np.testing.assert_allclose(action, rows.action)
    proposed, density = jax.jit(lambda z, key: pa_rl.propose(only, PARAMS, z, key, 5))(z, key)
    assert proposed.shape == (1, len(z), DIM) and density is None
    np.testing.assert_allclose(improver.critic(z, proposed[0]).mean(0), kept[0], atol=1e-6)
    acted = jax.jit(lambda z, key: pa_rl.act(only, PARAMS, z, key, jnp.float32(0.0)))(z, key)
    np.testing.assert_array_equal(acted, proposed[0])


def test_the_softmax_choice_follows_the_scores() -> None:
    def critic(features: jax.Array, actions: jax.Array) -> jax.Array:
        return 3.0 * actions[None, ..., 0]

    # every draw has the same candidates; the last of the kept three gives way to the stored action
    candidates = jnp.array([[-0.5, 0.1], [0.6, 0.2], [0.2, 0.3], [-0.8, 0.4], [0.4, 0.5]])
    kept = np.array([[0.6, 0.2], [0.4, 0.5], [0.1, 0.9]])
    policy: Any = SimpleNamespace(sample=lambda *a: (candidates[:, None], None))
    improver = make(critic, candidates=5, keep=3, ascent_steps=0)._replace(policy=policy)
    stored, count = jnp.asarray(kept[2:], jnp.float32), 4000
    draw = jax.jit(jax.vmap(lambda k: pa_rl.optimise(improver, {}, jnp.ones((1, 3)), k, stored=stored, softmax=True)[0][0]))
    actions = draw(jax.random.split(jax.random.key(9), count))
    expected = np.exp(3.0 * kept[:, 0]) / np.exp(3.0 * kept[:, 0]).sum()
    found = [(np.abs(np.asarray(actions) - one).max(-1) < 1e-6).mean() for one in kept]
    np.testing.assert_allclose(sum(found), 1.0)
    np.testing.assert_allclose(found, expected, atol=4 * np.sqrt(0.25 / count))


def test_distillation_pulls_the_policy_towards_actions_of_the_average_policy() -> None:
    improver = make(bowl, candidates=4, keep=2, ascent_steps=2, distil="argmax")
    rows = make_rows()
    trained = {"w": jnp.zeros((3, DIM)), "s": jnp.float32(0.5)}
    target, _ = optimise(improver, rows.z, jax.random.split(jax.random.key(3), 3)[0], stored=rows.action)
    arguments = (PARAMS, rows, jnp.zeros(()), no_advantage, jnp.int32(0), jax.random.key(3))
    differentiate = jax.jit(jax.value_and_grad(lambda params: pa_rl.loss(improver, params, *arguments), has_aux=True))
    (loss, metrics), gradients = differentiate(trained)
    np.testing.assert_allclose(loss, (np.asarray(target) ** 2).sum(-1).mean(), rtol=1e-5)
    assert set(metrics) == {"policy/distillation_loss", "policy/q"}
    np.testing.assert_allclose(gradients["w"], -2 * np.asarray(rows.z).T @ np.asarray(target) / len(rows.z), rtol=1e-4)
    assert float(gradients["s"]) == 0.0, "no gradient goes through the sampling"


def test_distillation_may_clone_the_demonstration_rows_too() -> None:
    rows = make_rows(demonstration=jnp.array([1.0, 0.0, 1.0, 0.0, 0.0, 0.0]))
    plain, _ = run(pa_rl, make(bowl, candidates=4, keep=2, ascent_steps=2), rows)
    both, metrics = run(pa_rl, make(bowl, candidates=4, keep=2, ascent_steps=2, bc_weight=3.0), rows)
    shown = ((np.asarray(rows.z @ PARAMS["w"]) - np.asarray(rows.action)) ** 2).sum(-1)[[0, 2]].mean()
    np.testing.assert_allclose(metrics["policy/bc_loss"], shown, rtol=1e-5)
    np.testing.assert_allclose(both, plain + 3.0 * shown, rtol=1e-5)


# --- gradient --------------------------------------------------------------------------------------------------------


def test_the_gradient_loss_is_entropy_and_value_as_written() -> None:
    rows = make_rows()
    actions, log_prob = _sample(make(bowl).recipe, PARAMS, rows.z, DIM, jax.random.split(jax.random.key(3))[0], 1)
    assert log_prob is not None
    tilted = lambda features, a: jnp.stack([a[..., 0], -a[..., 0]])  # noqa: E731
    for reduction, q in (("mean", jnp.zeros(len(rows.z))), ("min", -jnp.abs(actions[0, :, 0]))):
        improver = make(tilted, q_reduction=reduction, learn_temperature=False)
        loss, metrics = run(gradient, improver, rows)
        np.testing.assert_allclose(loss, (0.2 * log_prob[0] - q).mean(), rtol=1e-5)
        np.testing.assert_allclose(metrics["policy/entropy"], -log_prob.mean(), rtol=1e-6)
        assert set(metrics) == {"policy/entropy", "policy/q", "policy/temperature", "policy/bc_loss"}


def test_the_temperature_gets_only_its_own_gradient_and_gives_none_to_the_policy() -> None:
    rows = make_rows()

    def differentiate(improver: Improver) -> Any:
        def loss(params: Any, log_temperature: jax.Array) -> jax.Array:
            arguments = (PARAMS, rows, log_temperature, no_advantage, jnp.int32(0), jax.random.key(3))
            return gradient.loss(improver, params, *arguments)[0]

        return jax.jit(jax.grad(loss, argnums=(0, 1)))(PARAMS, jnp.log(jnp.float32(0.2)))

    learnt, fixed = make(bowl), make(bowl, learn_temperature=False)
    policy_learnt, temperature = differentiate(learnt)
    policy_fixed, nothing = differentiate(fixed)
    for one, other in zip(jax.tree.leaves(policy_learnt), jax.tree.leaves(policy_fixed), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6)
    _, log_prob = _sample(learnt.recipe, PARAMS, rows.z, DIM, jax.random.split(jax.random.key(3))[0], 1)
    assert log_prob is not None
    # d/d log T of T · (H − H*) with H* = −0.5 per dimension
    np.testing.assert_allclose(temperature, 0.2 * (-log_prob.mean() + 0.5 * DIM), rtol=1e-5)
    assert float(nothing) == 0.0


@pytest.mark.parametrize(("step", "expected"), [(0, 1.0), (10_000, 1.0), (30_000, 0.55), (50_000, 0.1), (90_000, 0.1)])
def test_the_annealed_weight_of_medal_plus_plus(step: int, expected: float) -> None:
    config = ImprovementConfig(
        bc_schedule="annealed", bc_weight=1.0, bc_end_weight=0.1, bc_anneal_start=10_000, bc_anneal_end=50_000
    )
    np.testing.assert_allclose(gradient.annealed_weight(config, jnp.int32(step)), expected, rtol=1e-6)
    total = gradient.combine(config, jnp.float32(-3.0), jnp.float32(2.0), jnp.int32(step))
    np.testing.assert_allclose(total, (1 - expected) * -3.0 + expected * 2.0, rtol=1e-5, atol=1e-6)


def test_the_balanced_term_has_the_size_of_the_other_one_and_its_own_direction() -> None:
    config = ImprovementConfig(bc_schedule="balanced", bc_weight=0.5)
    value, slopes = jax.value_and_grad(lambda both: gradient.combine(config, both[0], both[1], jnp.int32(0)))(
        jnp.array([-8.0, 2.0])
    )
    np.testing.assert_allclose(value, -8.0 + 0.5 * 8.0)
    np.testing.assert_allclose(slopes, [1.0, 0.5 * 8.0 / 2.0])
    assert bool(jnp.isfinite(gradient.combine(config, jnp.float32(-8.0), jnp.float32(0.0), jnp.int32(0))))


def test_the_cloning_term_is_the_weighted_mean_over_demonstration_rows() -> None:
    weight = np.array([1.0, 0.5, 1.0, 2.0, 1.0, 0.0])
    rows = make_rows(weight=weight)
    improver = make(bowl, bc_weight=0.7, learn_temperature=False)
    error = ((np.asarray(rows.z @ PARAMS["w"]) - np.asarray(rows.action)) ** 2).sum(-1)
    expected = (0.5 * error[1] + 2.0 * error[3]) / 2.5
    with_term, metrics = run(gradient, improver, rows)
    without, _ = run(gradient, make(bowl, learn_temperature=False), rows)
    np.testing.assert_allclose(metrics["policy/bc_loss"], expected, rtol=1e-5)
    np.testing.assert_allclose(with_term - without, 0.7 * expected, rtol=1e-4)
    none, metrics = run(gradient, improver, rows._replace(demonstration=jnp.zeros(6)))
    assert float(metrics["policy/bc_loss"]) == 0.0
    np.testing.assert_allclose(none, without, rtol=1e-6)


def test_a_policy_without_densities_is_refused_by_name() -> None:
    silent = SimpleNamespace(**vars(POLICY) | {"sample": lambda *a: (_sample(*a)[0], None)})
    with pytest.raises(ValueError, match="log densities"):
        run(gradient, make(bowl)._replace(policy=silent), make_rows())


# --- cloning ---------------------------------------------------------------------------------------------------------


def test_advantage_weights_grow_exponentially_up_to_their_cap() -> None:
    advantage = np.array([-1.0, 0.0, 0.5, 1.0, 10.0, 1000.0])
    config = ImprovementConfig(kind="awr", inverse_temperature=3.0, max_weight=100.0)
    expected = [np.exp(-3.0), 1.0, np.exp(1.5), np.exp(3.0), 100.0, 100.0]
    np.testing.assert_allclose(awr.weights(config, jnp.asarray(advantage, jnp.float32)), expected, rtol=1e-5)
    rows = make_rows(weight=np.array([1.0, 2.0, 1.0, 0.0, 1.0, 1.0]))
    improver = make(None, kind="awr", inverse_temperature=3.0, max_weight=100.0)
    error = ((np.asarray(rows.z @ PARAMS["w"]) - np.asarray(rows.action)) ** 2).sum(-1)
    loss, _ = run(awr, improver, rows, advantage=lambda key: jnp.asarray(advantage, jnp.float32))
    np.testing.assert_allclose(loss, (np.array(expected) * np.asarray(rows.weight) * error).mean(), rtol=1e-5)


def test_cloning_ignores_rows_of_weight_zero_and_is_normalised_by_the_weights() -> None:
    weight = np.array([1.0, 3.0, 0.0, 0.0, 0.5, 0.0])
    rows = make_rows(weight=weight)
    improver = make(None, kind="bc")
    error = ((np.asarray(rows.z @ PARAMS["w"]) - np.asarray(rows.action)) ** 2).sum(-1)
    loss, _ = run(bc, improver, rows)
    np.testing.assert_allclose(loss, (weight * error).sum() / 4.5, rtol=1e-5)
    changed = rows._replace(action=rows.action.at[jnp.array([2, 3, 5])].set(0.9))
    assert float(run(bc, improver, changed)[0]) == float(loss)


@pytest.mark.parametrize("part", [awr, bc, gradient])
def test_parts_without_action_optimisation_act_as_the_policy_does(part: Any) -> None:
    improver, z, key = make(None), make_rows().z, jax.random.key(0)
    assert not part.ACTS_WITH_CRITIC
    np.testing.assert_array_equal(part.act(improver, PARAMS, z, key, jnp.float32(0.0)), z @ PARAMS["w"])
    actions, log_prob = part.propose(improver, PARAMS, z, key, 4)
    assert actions.shape == (4, 6, DIM) and log_prob.shape == (4, 6)
