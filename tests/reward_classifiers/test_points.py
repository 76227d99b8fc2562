"""The network `points`: it finds a thing wherever it is, and is trained, kept and read like the other one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from dot_world import SIZE, dot

from etude.config import RunConfig
from etude.episodes.store import EpisodeStore
from reward_classifiers import load_judge, train_classifier
from reward_classifiers.cnn_training import TrainingSettings
from reward_classifiers.layers import Params
from reward_classifiers.network import Architecture, augment, initialise, logits
from reward_classifiers.points import FEATURES, point_features, point_layers

POINTS = Architecture({"top": (SIZE, SIZE)}, layout="points")


def passing_light_on() -> Params:
    """A network that lets brightness through from convolution to convolution; its first point is the brightest place."""
    params = {}
    for name, shape in point_layers("top", 3):
        weights = np.zeros(shape, np.float32)
        weights[shape[0] // 2, shape[1] // 2, : 3 if shape[2] == 3 else 1, 0] = 20.0
        weights[shape[0] // 2, shape[1] // 2, : 3 if shape[2] == 3 else 1, 1] = -20.0
        params |= {f"{name}/w": jnp.asarray(weights), f"{name}/b": jnp.zeros(shape[-1])}
    return params


def test_a_point_is_where_the_bright_thing_is() -> None:
    def point(row: int, column: int) -> np.ndarray:
        view = jnp.full((1, 32, 32, 3), -1.0).at[:, row : row + 4, column : column + 4].set(1.0)
        features = point_features(passing_light_on(), "top", view)
        assert features.shape == (1, FEATURES)
        return np.asarray(features)[0, :2]

    cell = 2.0 * 2.0 / 7.0  # 8 cells of 4 pixels from -2 to 2
    np.testing.assert_allclose(point(8, 24) - point(8, 8), [0.0, 4 * cell], atol=0.01)
    np.testing.assert_allclose(point(20, 8) - point(8, 8), [3 * cell, 0.0], atol=0.01)


def test_the_network_is_known_by_its_parameters() -> None:
    out = logits(initialise(POINTS, jax.random.key(0)), {"top": jnp.zeros((3, SIZE, SIZE, 3))}, jnp.zeros((3, 0)))
    assert out.shape == (3, 2)


def test_a_classifier_on_points_is_trained_and_read_back(
    dot_stores: tuple[EpisodeStore, EpisodeStore], config: RunConfig, tmp_path: Path
) -> None:
    demonstrations, play = dot_stores
    settings = replace(TrainingSettings.of("points"), members=2, updates=120, evaluate_every=60, batch_size=32, shift_px=1)
    train_classifier(demonstrations, config, tmp_path / "points", 0, play=play, settings=settings)
    judge = load_judge(tmp_path / "points")
    assert judge.probability(dot(0.97), "forward") > judge.probability(dot(0.4), "forward") + 0.3
    assert judge.probability(dot(0.03), "backward") > judge.probability(dot(0.6), "backward") + 0.3


def test_light_and_tint_change_colours_alone() -> None:
    image = jnp.full((4, SIZE, SIZE, 3), 60, jnp.uint8)
    changed = augment({"top": image}, jax.random.key(1), shift_px=0, jitter=0.0, light=0.5, tint=0.1)["top"]
    assert float(jnp.ptp(changed, axis=(1, 2)).max()) == 0.0  # every pixel of a picture alike
    factor = np.asarray(changed[:, 0, 0]) / (60 / 255)
    assert factor.std() > 0.02 and factor.min() > np.exp(-0.5 - 0.5) and factor.max() < np.exp(0.5 + 0.5)
    assert (factor.max(axis=1) - factor.min(axis=1)).min() > 0.0  # each colour by its own
