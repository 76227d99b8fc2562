"""HyRe: a few labels move trust between members, without training."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from dot_world import Writer
from test_probe import Stores, probe_config

from reward_classifiers import ClassifierError, load_judge, train_classifier
from reward_classifiers.calibration import Calibration, combine, disagreement
from reward_classifiers.reweighting import adapt_classifier, effective_members, hyre_weights, reweighted


def test_weights_are_the_softmax_of_the_summed_log_likelihood() -> None:
    rng = np.random.default_rng(0)
    logits, label = rng.normal(size=(5, 8)), rng.integers(0, 2, 8)
    p = 1.0 / (1.0 + np.exp(-logits))
    likelihood = np.where(label == 1, p, 1.0 - p).prod(axis=1)
    np.testing.assert_allclose(hyre_weights(logits, label), likelihood / likelihood.sum(), rtol=1e-10)
    assert hyre_weights(np.zeros((4, 0)), np.zeros(0)) == (0.25,) * 4
    assert max(hyre_weights(np.full((2, 1), 1e4), np.ones(1))) == 0.5, "no overflow"


def test_the_member_that_is_right_about_the_new_scene_is_trusted() -> None:
    """Three members agree on the old scene; on the new one only the second is right. Eight labels find it."""
    rng = np.random.default_rng(1)
    truth = rng.integers(0, 2, 400)
    right = 4.0 * (2 * truth - 1) + rng.normal(size=400)
    new = np.stack([-right, right, rng.normal(size=400)])
    weights = hyre_weights(new[:, :8], truth[:8])
    assert weights[1] > 0.99 and effective_members(weights) < 1.1
    rest = slice(8, None)
    before = ((combine(new, 1.0, (1 / 3,) * 3) > 0.5) == truth)[rest].mean()
    after = ((combine(new, 1.0, weights) > 0.5) == truth)[rest].mean()
    assert before < 0.7 < 0.97 < after


def test_disagreement_is_the_weighted_spread() -> None:
    logits = np.array([[50.0], [-50.0]])
    spread = disagreement(logits, Calibration.uniform(2), "forward")
    np.testing.assert_allclose(spread, 0.5)
    one = Calibration({"forward": 1.0, "backward": 1.0}, {}, {"forward": (1.0, 0.0), "backward": (1.0, 0.0)})
    np.testing.assert_allclose(disagreement(logits, one, "forward"), 0.0, atol=1e-12)


def test_a_direction_without_labels_keeps_its_weights() -> None:
    logits = {"forward": np.array([[2.0, 2.0], [-2.0, -2.0]]), "backward": np.zeros((2, 0))}
    labels = {"forward": np.array([1, 1]), "backward": np.zeros(0)}
    held_out = (np.zeros((2, 4, 2)), np.array([[0, 1]] * 4))
    after = reweighted(Calibration.uniform(2), logits, labels, held_out, 0.01)
    assert after.weights["backward"] == (0.5, 0.5) and after.weights["forward"][0] > 0.98


def test_an_adapted_classifier_is_a_new_version(dot_stores: Stores, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ETUDE_DATA", str(tmp_path / "data"))
    train_classifier(dot_stores[0], probe_config(updates=30), tmp_path / "old", 0)
    writer = Writer(tmp_path / "labels")
    writer.play(1, seed=5)
    report = adapt_classifier(tmp_path / "old", writer.done(), tmp_path / "new", most_labels=8)
    assert report["labels"] == {"forward": 8, "backward": 8}
    old, new = load_judge(tmp_path / "old"), load_judge(tmp_path / "new")
    assert old.name != new.name and new.calibration.weights["forward"] != old.calibration.weights["forward"]
    nobody = Writer(tmp_path / "nobody")
    nobody.segment("forward", [0.1, 0.9], terminal=True)
    with pytest.raises(ClassifierError, match="no frames that a person labelled"):
        adapt_classifier(tmp_path / "old", nobody.done(), tmp_path / "x")


def test_without_an_ensemble_there_is_nothing_to_reweight(dot_classifier: tuple[Path, dict], tmp_path: Path) -> None:
    writer = Writer(tmp_path / "labels")
    writer.play(1)
    with pytest.raises(ClassifierError, match="no ensemble to reweight"):
        adapt_classifier(dot_classifier[0], writer.done(), tmp_path / "out")
