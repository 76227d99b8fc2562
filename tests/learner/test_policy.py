"""The tanh-Gaussian policy against its density."""

import jax
import jax.numpy as jnp
import numpy as np

from etude.config import PolicyConfig
from learner.policies import gaussian


def test_the_density_of_a_squashed_sample_integrates_to_one() -> None:
    mean, log_std = jnp.array([0.3]), jnp.array([-0.5])
    action = jnp.linspace(-1 + 1e-5, 1 - 1e-5, 200_001)
    log_prob = jax.vmap(lambda a: gaussian.log_prob_of_pre_tanh(jnp.arctanh(a)[None], mean, log_std))(action)
    np.testing.assert_allclose(
        np.trapezoid(np.exp(np.asarray(log_prob, np.float64)), np.asarray(action, np.float64)), 1.0, atol=2e-3
    )


def test_an_untrained_policy_is_centred_and_explores_moderately() -> None:
    config = PolicyConfig(hidden=(16,))
    head = gaussian.make(config, 3)
    params = head.init(jax.random.key(0), jnp.zeros((1, 5)))["params"]
    mean, log_std = gaussian.distribution(config, head, params, jax.random.normal(jax.random.key(1), (32, 5)))
    assert float(jnp.abs(mean).max()) < 0.1
    assert 0.2 < float(jnp.exp(log_std).mean()) < 0.9
    actions, log_prob = gaussian.sample(config, head, params, jnp.zeros((32, 5)), jax.random.key(2), 4)
    assert actions.shape == (4, 32, 3) and log_prob.shape == (4, 32) and float(jnp.abs(actions).max()) <= 1.0


def test_zero_exploration_is_deterministic() -> None:
    config = PolicyConfig(hidden=(16,))
    head = gaussian.make(config, 2)
    params = head.init(jax.random.key(0), jnp.zeros((1, 5)))["params"]
    features = jnp.ones((5,))
    actions = [gaussian.act(config, head, params, features, jax.random.key(k), jnp.float32(0.0)) for k in range(2)]
    np.testing.assert_array_equal(*actions)


def test_supervised_loss_ignores_rows_of_weight_zero() -> None:
    config = PolicyConfig(hidden=(16,))
    head = gaussian.make(config, 2)
    params = head.init(jax.random.key(0), jnp.zeros((1, 5)))["params"]
    features = jax.random.normal(jax.random.key(1), (4, 5))
    action = jnp.full((4, 2), 0.5)
    weight = jnp.array([1.0, 1.0, 0.0, 0.0])
    changed = action.at[2:].set(-0.9)
    args = (config, head, params, features)
    assert float(gaussian.supervised_loss(*args, action, weight)) == float(gaussian.supervised_loss(*args, changed, weight))
