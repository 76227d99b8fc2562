"""From held-out logits to temperature, threshold and decisions, and how sure one can be of them. Pure numpy, no network in sight.

Held-out always means: other *segments* (episodes), never other frames of the same ones.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from etude.specs import PHASES
from etude.status import wilson_interval

LOWEST_THRESHOLD = 0.5
HIGHEST_THRESHOLD = 0.999
_TEMPERATURES = np.geomspace(0.1, 20.0, 107)


@dataclass(frozen=True)
class Calibration:
    """How the logits of a backend's members become a probability and a decision, per direction.

    Attributes:
        temperature: logits are divided by it (Guo et al. 2017).
        thresholds: probability at and above which a frame counts as success.
        weights: of the K members, summing to 1.
    """

    temperature: dict[str, float]
    thresholds: dict[str, float]
    weights: dict[str, tuple[float, ...]]

    @classmethod
    def uniform(cls, members: int, threshold: float = LOWEST_THRESHOLD) -> Calibration:
        return cls(
            dict.fromkeys(PHASES, 1.0), dict.fromkeys(PHASES, threshold), dict.fromkeys(PHASES, (1.0 / members,) * members)
        )

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Calibration:
        """Inverse of `to_json`. Raises KeyError, TypeError or ValueError on anything else."""
        return cls(
            {phase: float(data["temperature"][phase]) for phase in PHASES},
            {phase: float(data["thresholds"][phase]) for phase in PHASES},
            {phase: tuple(float(weight) for weight in data["weights"][phase]) for phase in PHASES},
        )

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def combine(member_logits: np.ndarray, temperature: float, weights: Sequence[float]) -> np.ndarray:
    """Logits ``(K, N)`` → float64 ``(N,)``: the weighted mean of the members' probabilities at that temperature."""
    return np.asarray(weights) @ sigmoid(np.asarray(member_logits, np.float64) / temperature)


def disagreement(member_logits: np.ndarray, calibration: Calibration, phase: str) -> np.ndarray:
    """Logits ``(K, N)`` → float64 ``(N,)``: weighted standard deviation of the members' probabilities, 0 to 0.5."""
    weights = np.asarray(calibration.weights[phase])
    probability = sigmoid(np.asarray(member_logits, np.float64) / calibration.temperature[phase])
    return np.sqrt(np.maximum(weights @ np.square(probability) - np.square(weights @ probability), 0.0))


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 0.5 * (1.0 + np.tanh(0.5 * x))


def negative_log_likelihood(probability: np.ndarray, label: np.ndarray) -> float:
    """Mean over ``(N,)``; probabilities are kept 1e-7 away from 0 and 1."""
    p = np.clip(probability, 1e-7, 1.0 - 1e-7)
    return float(-np.mean(np.where(label == 1, np.log(p), np.log1p(-p))))


def fit_temperature(member_logits: np.ndarray, label: np.ndarray, weights: Sequence[float]) -> float:
    """The temperature in [0.1, 20] under which held-out labels ``(N,)`` are likeliest; 1 without labels of both kinds."""
    if len(np.unique(label)) < 2:
        return 1.0
    losses = [negative_log_likelihood(combine(member_logits, t, weights), label) for t in _TEMPERATURES]
    return float(_TEMPERATURES[int(np.argmin(losses))])


def calibrate(
    member_logits: np.ndarray, labels: np.ndarray, weights: Mapping[str, Sequence[float]], max_false_positive_rate: float
) -> tuple[dict[str, float], dict[str, float]]:
    """(temperature, thresholds) per direction from held-out logits ``(K, N, 2)`` and labels ``(N, 2)``; below 0: unknown."""
    temperature, thresholds = {}, {}
    for column, phase in enumerate(PHASES):
        known = labels[:, column] >= 0
        logits, label = member_logits[:, known, column], labels[known, column]
        temperature[phase] = fit_temperature(logits, label, weights[phase])
        probability = combine(logits, temperature[phase], weights[phase])
        thresholds[phase] = choose_threshold(probability, label, max_false_positive_rate)
    return temperature, thresholds


@dataclass(frozen=True)
class Rate:
    """A proportion with its 95% Wilson interval."""

    successes: int
    trials: int

    @property
    def value(self) -> float:
        return self.successes / self.trials if self.trials else float("nan")

    @property
    def interval(self) -> tuple[float, float]:
        return wilson_interval(self.successes, self.trials)

    def to_json(self) -> dict[str, object]:
        return {"value": None if not self.trials else self.value, "interval": list(self.interval), **asdict(self)}

    def __str__(self) -> str:
        low, high = self.interval
        return f"{self.value:.3f} [{low:.3f}, {high:.3f}] ({self.successes}/{self.trials})"


@dataclass(frozen=True)
class Confusion:
    """Counts of yes/no answers against labels."""

    true_positives: int
    false_positives: int
    true_negatives: int
    false_negatives: int

    @classmethod
    def of(cls, said_yes: np.ndarray, is_yes: np.ndarray) -> Confusion:
        """From two boolean ``(N,)`` arrays."""
        said_yes, is_yes = np.asarray(said_yes, bool), np.asarray(is_yes, bool)
        both = (said_yes & is_yes, said_yes & ~is_yes, ~said_yes & ~is_yes, ~said_yes & is_yes)
        return cls(*(int(part.sum()) for part in both))

    @property
    def precision(self) -> Rate:
        return Rate(self.true_positives, self.true_positives + self.false_positives)

    @property
    def recall(self) -> Rate:
        return Rate(self.true_positives, self.true_positives + self.false_negatives)

    @property
    def false_positive_rate(self) -> Rate:
        return Rate(self.false_positives, self.false_positives + self.true_negatives)

    def to_json(self) -> dict[str, object]:
        return {name: getattr(self, name).to_json() for name in ("precision", "recall", "false_positive_rate")}


def choose_threshold(probability: np.ndarray, label: np.ndarray, max_false_positive_rate: float) -> float:
    """The lowest threshold in [0.5, 0.999] at which at most the wanted share of held-out negatives is called a success.

    Args:
        probability: float ``(N,)``. label: ``(N,)`` of 0 and 1.
    """
    negatives = np.sort(probability[label == 0])[::-1]
    if len(negatives) == 0:
        return HIGHEST_THRESHOLD
    allowed = int(np.floor(max_false_positive_rate * len(negatives)))
    # the first negative that must stay below decides; halfway to the next higher score there is nothing to lose
    first_refused = float(negatives[allowed]) if allowed < len(negatives) else 0.0
    higher = probability[probability > first_refused]
    middle = 0.5 * (first_refused + float(higher.min())) if len(higher) else 1.0
    return float(np.clip(middle, LOWEST_THRESHOLD, HIGHEST_THRESHOLD))


def interval_by_segment(
    wrong: np.ndarray, group: np.ndarray, rng: np.random.Generator, resamples: int = 1000
) -> tuple[float, float]:
    """95% bootstrap interval of the mean of `wrong` ``(N,)`` that draws whole segments (`group`, ``(N,)``).

    Frames of one segment fail together, so an interval that counts frames as independent is too narrow. (NaN, NaN) without any.
    """
    if not len(wrong):
        return float("nan"), float("nan")
    _, inverse = np.unique(group, return_inverse=True)
    frames = np.bincount(inverse).astype(float)
    errors = np.bincount(inverse, weights=np.asarray(wrong, float))
    drawn = rng.integers(0, len(frames), (resamples, len(frames)))
    low, high = np.quantile(errors[drawn].sum(axis=1) / frames[drawn].sum(axis=1), (0.025, 0.975))
    return float(low), float(high)


def expected_calibration_error(probability: np.ndarray, label: np.ndarray, bins: int = 10) -> float:
    """Mean of |confidence − accuracy| over bins of equal width, weighted by their size (Guo et al. 2017, eq. 3)."""
    return float(sum(count * abs(said - was) for said, was, count in reliability(probability, label, bins)) / max(1, len(label)))


def reliability(probability: np.ndarray, label: np.ndarray, bins: int = 10) -> list[tuple[float, float, int]]:
    """Per bin that is not empty: (mean probability, share of successes, frames)."""
    number = np.minimum((np.asarray(probability) * bins).astype(int), bins - 1)
    rows = [number == b for b in range(bins)]
    return [(float(probability[r].mean()), float((label[r] == 1).mean()), int(r.sum())) for r in rows if r.any()]


def first_success(probability: np.ndarray, threshold: float, needed: int, window: int | None = None) -> int | None:
    """Index of the frame at which `needed` of the last `window` frames (None: `needed`, so all in a row) have reached the
    threshold, as the control loop decides; None if never. NaN is no vote and takes no place in the window."""
    votes: list[bool] = []
    for index, value in enumerate(probability):
        if not np.isnan(value):
            votes = [*votes, bool(value >= threshold)][-(window or needed) :]
            if votes[-1] and sum(votes) >= needed:
                return index
    return None
