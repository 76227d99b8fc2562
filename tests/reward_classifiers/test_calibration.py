"""Thresholds, rates and the decision over consecutive frames."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from reward_classifiers.calibration import (
    HIGHEST_THRESHOLD,
    LOWEST_THRESHOLD,
    Calibration,
    Confusion,
    Rate,
    calibrate,
    choose_threshold,
    combine,
    expected_calibration_error,
    first_success,
    fit_temperature,
    interval_by_segment,
    reliability,
)
from reward_classifiers.measure import outcome

PROBABILITIES = arrays(np.float64, st.integers(1, 200), elements=st.floats(0, 0.98))


@given(PROBABILITIES, st.floats(0.001, 0.3), st.integers(0, 1000))
def test_the_threshold_keeps_the_wanted_false_positive_rate(probability: np.ndarray, rate: float, seed: int) -> None:
    label = np.random.default_rng(seed).integers(0, 2, len(probability))
    threshold = choose_threshold(probability, label, rate)
    assert LOWEST_THRESHOLD <= threshold <= HIGHEST_THRESHOLD
    negatives = probability[label == 0]
    assert (negatives >= threshold).sum() <= np.floor(rate * len(negatives))


def test_separable_scores_get_a_threshold_between_them() -> None:
    probability = np.array([0.1, 0.55, 0.6, 0.9, 0.95])
    assert choose_threshold(probability, np.array([0, 0, 0, 1, 1]), 0.01) == pytest.approx(0.75)


def test_without_negatives_nothing_is_known_and_the_threshold_is_as_high_as_it_gets() -> None:
    assert choose_threshold(np.array([0.9]), np.array([1]), 0.01) == HIGHEST_THRESHOLD


def test_confusion_counts_and_rates() -> None:
    confusion = Confusion.of(np.array([1, 1, 0, 0, 1]), np.array([1, 0, 0, 1, 1]))
    assert confusion == Confusion(true_positives=2, false_positives=1, true_negatives=1, false_negatives=1)
    assert (confusion.precision.value, confusion.recall.value) == (2 / 3, 2 / 3)
    assert confusion.false_positive_rate == Rate(1, 2)


def test_a_rate_says_how_sure_it_is() -> None:
    low, high = Rate(8, 10).interval
    assert (round(low, 3), round(high, 3)) == (0.490, 0.943)  # Wilson's interval of 8 in 10
    assert "0.800 [0.490, 0.943] (8/10)" in str(Rate(8, 10))
    assert Rate(0, 0).to_json()["value"] is None


@pytest.mark.parametrize(
    ("probability", "k", "expected"),
    [
        ([0.9, 0.1, 0.9, 0.9], 2, 3),
        ([0.9, 0.1, 0.9, 0.1], 2, None),
        ([0.9, 0.9, 0.9], 1, 0),
        ([0.7], 1, 0),  # at the threshold counts
        ([], 1, None),
        ([float("nan"), 0.9], 2, None),
    ],
)
def test_success_needs_consecutive_frames(probability: list[float], k: int, expected: int | None) -> None:
    assert first_success(np.array(probability), 0.7, k) == expected


def test_a_decision_is_right_if_the_truth_holds_where_it_was_made() -> None:
    early = outcome(np.array([0.1, 0.9, 0.9, 0.9]), np.array([0, 0, 0, 1]), 0.5, 2)
    right = outcome(np.array([0.1, 0.1, 0.9, 0.9]), np.array([0, 0, 1, 1]), 0.5, 2)
    missed = outcome(np.array([0.1, 0.1, 0.1, 0.1]), np.array([0, 1, 1, 0]), 0.5, 2)
    rightly_silent = outcome(np.array([0.1, 0.9, 0.1, 0.1]), np.array([0, 1, 0, 0]), 0.5, 2)
    assert (early, right, missed, rightly_silent) == ((True, False), (True, True), (False, True), (False, False))


def test_k_of_n_forgives_a_frame_and_no_answer_is_no_vote() -> None:
    scores = np.array([0.9, 0.1, 0.9, 0.9])
    assert first_success(scores, 0.5, 2, window=3) == 2
    assert first_success(scores, 0.5, 2) == 3
    assert first_success(np.array([0.9, np.nan, 0.9]), 0.5, 2) == 2


def test_temperature_takes_back_an_overconfident_judge() -> None:
    """Labels drawn from σ(z), logits stated three times as large: the temperature is 3, and the error nearly gone."""
    rng = np.random.default_rng(0)
    z = 2.0 * rng.normal(size=20_000)
    label = (rng.random(20_000) < 1.0 / (1.0 + np.exp(-z))).astype(int)
    stated = 3.0 * z[None]
    temperature = fit_temperature(stated, label, (1.0,))
    assert temperature == pytest.approx(3.0, rel=0.06)
    before = expected_calibration_error(combine(stated, 1.0, (1.0,)), label)
    after = expected_calibration_error(combine(stated, temperature, (1.0,)), label)
    assert after < 0.01 < 0.05 < before
    assert fit_temperature(stated, np.ones(20_000), (1.0,)) == 1.0, "labels of one kind say nothing"


def test_calibration_leaves_unknown_labels_out_and_decides_per_direction() -> None:
    logits = np.array([[[4.0, -4.0], [-4.0, 4.0], [9.0, 9.0]]])
    labels = np.array([[1, -1], [0, -1], [-1, 0]])
    temperature, thresholds = calibrate(logits, labels, Calibration.uniform(1).weights, 0.01)
    assert temperature["backward"] == 1.0 and 0.5 <= thresholds["forward"] < 1.0
    assert thresholds["backward"] > combine(logits[:, 2:, 1], 1.0, (1.0,))[0] or thresholds["backward"] == HIGHEST_THRESHOLD


def test_frames_of_one_segment_fail_together_and_the_interval_knows() -> None:
    wrong = np.repeat([1, 0, 0, 0, 0, 0, 0, 0, 0, 0], 100)
    together = interval_by_segment(wrong, np.repeat(np.arange(10), 100), np.random.default_rng(0))
    alone = interval_by_segment(wrong, np.arange(1000), np.random.default_rng(0))
    assert together[0] == 0.0 and together[1] >= 0.3
    assert 0.08 < alone[0] < 0.1 < alone[1] < 0.12
    assert all(np.isnan(interval_by_segment(np.zeros(0), np.zeros(0), np.random.default_rng(0))))


def test_reliability_bins_hold_every_frame_once() -> None:
    bins = reliability(np.array([0.0, 0.05, 0.95, 1.0]), np.array([0, 1, 1, 1]))
    assert bins == [(0.025, 0.5, 2), (0.975, 1.0, 2)]
    assert expected_calibration_error(np.array([0.0, 0.05, 0.95, 1.0]), np.array([0, 1, 1, 1])) == pytest.approx(0.25)


def test_calibration_survives_json() -> None:
    import json

    calibration = Calibration.uniform(3, 0.7)
    assert Calibration.from_json(json.loads(json.dumps(calibration.to_json()))) == calibration
