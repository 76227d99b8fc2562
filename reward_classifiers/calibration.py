"""From held-out probabilities to a threshold, and how sure one can be of it. Pure numpy, no network in sight."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np

from etude.status import wilson_interval

LOWEST_THRESHOLD = 0.5
HIGHEST_THRESHOLD = 0.99


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
    """The lowest threshold in [0.5, 0.99] at which at most the wanted share of held-out negatives is called a success.

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


def first_success(probability: np.ndarray, threshold: float, consecutive_frames: int) -> int | None:
    """Index of the frame at which `consecutive_frames` in a row have reached the threshold, as the control loop decides;
    None if never."""
    run = 0
    for index, value in enumerate(probability):
        run = run + 1 if value >= threshold else 0
        if run >= consecutive_frames:
            return index
    return None
