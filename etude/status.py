"""What an actor says about itself several times a second: the content of `PracticeStatus` on the wire and of the page."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any


class Mode(StrEnum):
    """States of the practice machine (actor/practice.py)."""

    IDLE = "idle"
    FORWARD = "forward"
    BACKWARD = "backward"
    TAKEOVER = "takeover"
    AWAITING_HELP = "awaiting_help"
    PAUSED = "paused"
    EVALUATING = "evaluating"
    STOPPED = "stopped"


@dataclass(frozen=True)
class SuccessRate:
    """Successes of the most recent attempts (at most 20) of one direction."""

    successes: int = 0
    attempts: int = 0
    total_attempts: int = 0

    @property
    def rate(self) -> float:
        return self.successes / self.attempts if self.attempts else float("nan")

    def wilson(self, z: float = 1.96) -> tuple[float, float]:
        """Wilson score interval at 95% (z = 1.96); (0, 1) without attempts."""
        return wilson_interval(self.successes, self.attempts, z)


def wilson_interval(successes: int, attempts: int, z: float = 1.96) -> tuple[float, float]:
    """Wilson score interval of a binomial proportion (Wilson 1927)."""
    if attempts == 0:
        return 0.0, 1.0
    p = successes / attempts
    centre = p + z * z / (2 * attempts)
    margin = z * math.sqrt(p * (1 - p) / attempts + z * z / (4 * attempts * attempts))
    scale = 1 + z * z / attempts
    # at the ends the bound is exactly 0 or 1; the formula misses it by rounding
    low = 0.0 if successes == 0 else (centre - margin) / scale
    high = 1.0 if successes == attempts else (centre + margin) / scale
    return low, high


def labelled_false_positives(right: int, labelled: int, called: int, attempts: int) -> tuple[float, float, float]:
    """Share of failed attempts that the judge called success, with a 95% interval, by what people said about some of its
    successes and without any ground truth: (share, lowest, highest), NaN where nothing can be said.

    Of `attempts` the judge called `called` success. People looked at `labelled` of these, and `right` were successes. Successes
    that it missed are counted among the failures, so the share is a little too low where it misses many.
    """
    if not labelled or not attempts:
        return math.nan, math.nan, math.nan

    def share(precision: float) -> float:
        wrong = called * (1.0 - precision)
        failures = wrong + attempts - called
        return wrong / failures if failures else 0.0

    low, high = wilson_interval(right, labelled)
    return share(right / labelled), share(high), share(low)


@dataclass(frozen=True)
class PracticeStatus:
    """One snapshot.

    `success` is judged by the run's judge (classifier or environment), `success_truth` by the simulator's ground truth.
    `classifier_true_positives` … count segments' outcomes of the judge against the truth (empty on real robots).
    `authority` is ``policy``, ``human`` or ``hold``; `operator_name` who has taken over, or had when the command was lost.
    `speed_limit` is the share of the configured step limits that a person allows.
    `loop_period_p99_ms` is over the last 600 control periods; `loop_rate_hz` over the last 10 s.
    """

    mode: Mode
    task: str
    env_steps: int
    segment: int
    step_in_segment: int
    success: dict[str, SuccessRate]
    success_truth: dict[str, SuccessRate]
    policy_version: int
    weight_age_s: float
    loop_rate_hz: float
    loop_period_p99_ms: float
    missed_deadlines: int
    outbox_pending: int
    help_requests: int
    hard_resets: int
    interventions: int
    judge_probability: float
    judge_true_positives: int = 0
    judge_false_positives: int = 0
    judge_true_negatives: int = 0
    judge_false_negatives: int = 0
    practice_time_s: float = 0.0
    message: str = ""
    holding: tuple[str, ...] = field(default_factory=tuple)
    authority: str = "policy"
    operator_name: str = ""
    speed_limit: float = 1.0


@dataclass(frozen=True)
class HelpRequest:
    """A question to a person. `reason` is a sentence; `meanwhile` says what the robot does until answered.

    Attributes:
        level: 0 when asked, then one more each time that it is repeated because nobody answered.
        question: a sentence about `image_jpeg` that ``stuck`` and ``not_stuck`` answer; empty when nothing is to be labelled.
        answers: the words that can be answered now.
        image_jpeg: the scene that it is about; empty without cameras. Not kept in JSON files.
    """

    id: int
    reason: str
    phase: str
    stamp_ns: int
    env_steps: int
    meanwhile: str
    open: bool
    level: int = 0
    question: str = ""
    answers: tuple[str, ...] = ()
    image_jpeg: bytes = field(default=b"", repr=False)

    def to_json(self) -> dict[str, Any]:
        """Everything but the picture."""
        return {name: value for name, value in asdict(self).items() if name != "image_jpeg"}


@dataclass(frozen=True)
class StuckLabels:
    """What a person said about the states of one actor between two interventions, each named by (segment, index).

    Attributes:
        first, last: the oldest and the newest labelled state; all between them are labelled too.
        stuck_from: the first state that the robot could not undo, as all after it; None when there is none.
    """

    first: tuple[int, int]
    last: tuple[int, int]
    stuck_from: tuple[int, int] | None
