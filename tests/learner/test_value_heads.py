"""Value heads: a histogram of returns keeps the return that it was made from (HL-Gauss)."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from etude.config import CriticConfig
from learner.critics import heads

PAPER = CriticConfig(head="hl_gauss", value_min=-100.0, value_max=0.0, value_bins=128, value_sigma_bins=0.75)


def _mean(config: CriticConfig, y: float) -> float:
    """Mean of the target histogram, in double precision outside the code under test."""
    edges = np.linspace(config.value_min, config.value_max, config.value_bins + 1)
    return float(np.asarray(heads.histogram(config, jnp.array(y)), np.float64) @ (0.5 * (edges[1:] + edges[:-1])))


def _reference(config: CriticConfig, y: float) -> np.ndarray:
    edges = np.linspace(config.value_min, config.value_max, config.value_bins + 1)
    sigma = config.value_sigma_bins * (edges[1] - edges[0])
    cdf = np.array([0.5 * math.erfc((y - e) / (sigma * math.sqrt(2.0))) for e in edges])
    return np.diff(cdf) / (cdf[-1] - cdf[0])


def test_a_return_inside_the_support_survives_the_round_trip() -> None:
    y = np.linspace(-95.0, -5.0, 1801)
    p = heads.histogram(PAPER, jnp.asarray(y, jnp.float32))
    decoded = heads.decode(PAPER, jnp.log(jnp.maximum(p, 1e-37)))
    assert np.abs(np.asarray(decoded) - y).max() < 1e-4


@pytest.mark.parametrize(("sigma_bins", "mean"), [(0.75, -0.54), (0.75 * math.sqrt(2.0), -0.71)])
def test_a_return_at_the_end_of_the_support_has_the_bias_of_the_truncated_gaussian(sigma_bins: float, mean: float) -> None:
    config = PAPER.model_copy(update={"value_sigma_bins": sigma_bins})
    assert abs(_mean(config, 0.0) - mean) < 0.005
    assert abs(_mean(config, -100.0) - (-100.0 - mean)) < 0.005


@pytest.mark.parametrize("y", [-100.0, -99.7, -50.123, -3.0, -0.4, 0.0])
def test_the_target_is_the_gaussian_mass_of_each_bin(y: float) -> None:
    p = heads.histogram(PAPER, jnp.array(y))
    np.testing.assert_allclose(p, _reference(PAPER, y), rtol=1e-3, atol=3e-7)
    np.testing.assert_allclose(float(p.sum()), 1.0, rtol=1e-5)


def test_narrow_and_far_targets_stay_finite() -> None:
    config = PAPER.model_copy(update={"value_sigma_bins": 0.01})
    y = jnp.array([-1e30, -1e6, -100.0, -50.0, 0.0, 1e6, 1e30])
    outputs = 1e4 * jax.random.normal(jax.random.key(0), (2, 7, 128))
    for c in (PAPER, config):
        loss, gradient = jax.value_and_grad(lambda o, c=c: heads.fit_loss(c, o, y).sum())(outputs)
        assert bool(jnp.isfinite(loss)) and bool(jnp.isfinite(gradient).all())
    clipped = heads.histogram(PAPER, jnp.array([-1e6, 1e6]))
    np.testing.assert_allclose(clipped, heads.histogram(PAPER, jnp.array([-100.0, 0.0])), atol=1e-7)


def test_cross_entropy_is_smallest_at_the_target_and_its_gradient_is_p_minus_target() -> None:
    y = jnp.array([-42.0])
    outputs = jax.random.normal(jax.random.key(0), (3, 1, 128))
    gradient = jax.grad(lambda o: heads.fit_loss(PAPER, o, y).sum())(outputs)
    expected = np.asarray(jax.nn.softmax(outputs)) - _reference(PAPER, -42.0)
    np.testing.assert_allclose(gradient, expected, atol=1e-5)


def test_a_scalar_head_is_the_squared_error() -> None:
    config = CriticConfig(head="scalar")
    assert heads.outputs(config) == 1 and heads.outputs(PAPER) == 128
    outputs, y = jnp.array([[[1.0], [2.0]], [[3.0], [-1.0]]]), jnp.array([0.5, 2.0])
    np.testing.assert_allclose(heads.fit_loss(config, outputs, y), [[0.25, 0.0], [6.25, 9.0]])
    np.testing.assert_allclose(heads.decode(config, outputs), [[1.0, 2.0], [3.0, -1.0]])


def test_targets_carry_no_gradient() -> None:
    for config in (PAPER, CriticConfig(head="scalar")):
        outputs = jnp.ones((1, 1, heads.outputs(config)))
        gradient = jax.grad(lambda y, config=config, outputs=outputs: heads.fit_loss(config, outputs, y).sum())(jnp.array([-3.0]))
        assert float(jnp.abs(gradient).max()) == 0.0


def test_a_uniform_histogram_decodes_to_the_middle() -> None:
    np.testing.assert_allclose(heads.decode(PAPER, jnp.zeros((4, 2, 128))), -50.0, rtol=1e-5)
