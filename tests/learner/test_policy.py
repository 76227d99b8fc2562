"""The tanh-Gaussian policy against its density, and what one mode cannot do."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from etude.config import RecipeConfig
from learner.policies import gaussian

FEATURES = np.random.default_rng(1).normal(size=(32, 5)).astype(np.float32)


def recipe(**policy: object) -> RecipeConfig:
    return RecipeConfig(name="test", policy={"hidden": (16,)} | policy, reward={"kind": "environment"})  # type: ignore[arg-type]


def parameters(action_dim: int) -> dict:
    return jax.jit(lambda key: gaussian.init(recipe(), key, FEATURES[:1], action_dim))(jax.random.key(0))


def test_the_density_of_a_squashed_sample_integrates_to_one() -> None:
    mean, log_std = jnp.array([0.3]), jnp.array([-0.5])
    action = jnp.linspace(-1 + 1e-5, 1 - 1e-5, 200_001)
    log_prob = jax.vmap(lambda a: gaussian.log_prob_of_pre_tanh(jnp.arctanh(a)[None], mean, log_std))(action)
    np.testing.assert_allclose(
        np.trapezoid(np.exp(np.asarray(log_prob, np.float64)), np.asarray(action, np.float64)), 1.0, atol=2e-3
    )


def test_the_density_stays_finite_far_from_zero() -> None:
    log_prob = gaussian.log_prob_of_pre_tanh(jnp.array([[30.0], [-30.0]]), jnp.zeros(1), jnp.zeros(1))
    # log N(30) - log(1 - tanh²(30)), and 1 - tanh²(x) → 4 exp(-2x)
    np.testing.assert_allclose(log_prob, -450.0 - 0.5 * np.log(2 * np.pi) - np.log(4.0) + 60.0, rtol=1e-6)


def test_an_untrained_policy_is_centred_and_explores_moderately() -> None:
    params = parameters(3)
    mean, log_std = gaussian.distribution(recipe(), params, FEATURES, 3)
    assert float(jnp.abs(mean).max()) < 0.1
    assert 0.2 < float(jnp.exp(log_std).mean()) < 0.9
    actions, log_prob = gaussian.sample(recipe(), params, FEATURES, 3, jax.random.key(2), 4)
    assert actions.shape == (4, 32, 3) and float(jnp.abs(actions).max()) <= 1.0
    assert log_prob is not None and log_prob.shape == (4, 32)


def test_the_log_density_of_samples_matches_the_change_of_variables() -> None:
    params = parameters(2)
    mean, log_std = (np.asarray(x, np.float64) for x in gaussian.distribution(recipe(), params, FEATURES, 2))
    actions, log_prob = gaussian.sample(recipe(), params, FEATURES, 2, jax.random.key(2), 3)
    a = np.asarray(actions, np.float64)
    standard = (np.arctanh(a) - mean) / np.exp(log_std)
    expected = (-0.5 * standard**2 - log_std - 0.5 * np.log(2 * np.pi) - np.log(1 - a**2)).sum(-1)
    assert log_prob is not None
    np.testing.assert_allclose(log_prob, expected, rtol=1e-3, atol=1e-3)


def test_zero_exploration_is_the_squashed_mean() -> None:
    params = parameters(2)
    actions = [gaussian.act(recipe(), params, FEATURES, 2, jax.random.key(k), jnp.float32(0.0)) for k in range(2)]
    np.testing.assert_array_equal(*actions)
    np.testing.assert_allclose(actions[0], np.tanh(gaussian.distribution(recipe(), params, FEATURES, 2)[0]), rtol=1e-6)
    sampled = [gaussian.act(recipe(), params, FEATURES, 2, jax.random.key(k), jnp.float32(1.0)) for k in range(2)]
    assert float(jnp.abs(sampled[0] - sampled[1]).min()) > 0.0


def test_cloning_by_squared_error_is_the_distance_of_the_deterministic_action_per_row() -> None:
    params, action = parameters(2), jax.random.uniform(jax.random.key(3), (32, 2), minval=-1.0)
    loss = gaussian.supervised_loss(recipe(), params, FEATURES, action, jax.random.key(0))
    mean, _ = gaussian.distribution(recipe(), params, FEATURES, 2)
    np.testing.assert_allclose(loss, ((np.tanh(mean) - np.asarray(action)) ** 2).sum(-1), rtol=1e-5)


def test_cloning_by_likelihood_is_minus_the_log_density_and_finite_at_the_bounds() -> None:
    config, params = recipe(cloning="log_likelihood"), parameters(2)
    action = jax.random.uniform(jax.random.key(3), (32, 2), minval=-0.99, maxval=0.99)
    loss = gaussian.supervised_loss(config, params, FEATURES, action, jax.random.key(0))
    mean, log_std = (np.asarray(x, np.float64) for x in gaussian.distribution(config, params, FEATURES, 2))
    a = np.asarray(action, np.float64)
    standard = (np.arctanh(a) - mean) / np.exp(log_std)
    expected = -(-0.5 * standard**2 - log_std - 0.5 * np.log(2 * np.pi) - np.log(1 - a**2)).sum(-1)
    np.testing.assert_allclose(loss, expected, rtol=1e-4, atol=1e-4)
    value, gradient = jax.value_and_grad(
        lambda p: gaussian.supervised_loss(config, p, FEATURES, jnp.ones((32, 2)), jax.random.key(0)).mean()
    )(params)
    assert np.isfinite(value) and all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))


@pytest.mark.parametrize("cloning", ["squared_error", "log_likelihood"])
def test_one_mode_falls_between_two(cloning: str) -> None:
    """A Gaussian cannot hold both of two ways to act: it answers with their mean, which nobody demonstrated."""
    config = recipe(cloning=cloning, hidden=(32,))
    features = jnp.zeros((128, 5))
    optimiser = optax.adam(1e-3)

    def step(carry: tuple, key: jax.Array) -> tuple[tuple, jax.Array]:
        params, state = carry
        action = 0.6 * jnp.where(jax.random.bernoulli(key, 0.5, (128, 1)), 1.0, -1.0) * jnp.ones((1, 2))
        loss, gradient = jax.value_and_grad(lambda p: gaussian.supervised_loss(config, p, features, action, key).mean())(params)
        update, state = optimiser.update(gradient, state)
        return (optax.apply_updates(params, update), state), loss

    @jax.jit
    def train(key: jax.Array) -> dict:
        params = gaussian.init(config, key, features[:1], 2)
        return jax.lax.scan(step, (params, optimiser.init(params)), jax.random.split(key, 300))[0][0]

    params = train(jax.random.key(0))
    assert float(jnp.abs(gaussian.act(config, params, features[:1], 2, jax.random.key(0), jnp.float32(0.0))).max()) < 0.15
    samples, _ = gaussian.sample(config, params, features[:1], 2, jax.random.key(2), 2000)
    distance = jnp.minimum(jnp.abs(samples - 0.6).max(-1), jnp.abs(samples + 0.6).max(-1))
    assert float((distance < 0.25).mean()) < 0.5
