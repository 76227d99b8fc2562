"""What a run has achieved so far: attempts, successes, the judge against the truth, help, interventions, practice time.

Separate from the loop so that the counts can be saved and taken up again after a restart (`to_json`, `from_json`).
"""

from __future__ import annotations

from collections import deque
from dataclasses import asdict, dataclass, field
from typing import Any

from etude.specs import PHASES
from etude.status import SuccessRate
from etude.step import UNKNOWN

RECENT = 20
"""Attempts in a `SuccessRate`."""
REMEMBERED = 200
"""Finished attempts that a person may still label."""


@dataclass
class Attempt:
    """One finished segment. `label` is a person's correction of the judge, UNKNOWN until given."""

    segment: int
    phase: str
    judged: int
    truth: int
    label: int = UNKNOWN

    @property
    def success(self) -> int:
        return self.judged if self.label == UNKNOWN else self.label


@dataclass
class Progress:
    """Counters of a run, and the `speed_limit` that a person asked for (share of the configured one); owned by the control loop's
    thread."""

    env_steps: int = 0
    practice_time_s: float = 0.0
    help_requests: int = 0
    hard_resets: int = 0
    interventions: int = 0
    speed_limit: float = 1.0
    total: dict[str, int] = field(default_factory=lambda: dict.fromkeys(PHASES, 0))
    true_positives: int = 0
    false_positives: int = 0
    true_negatives: int = 0
    false_negatives: int = 0
    attempts: deque[Attempt] = field(default_factory=lambda: deque(maxlen=REMEMBERED))

    def finished(self, segment: int, phase: str, judged: int, truth: int) -> None:
        """Count an attempt that ran to its end (success or time-out); `judged` and `truth` are 1, 0 or UNKNOWN."""
        self.attempts.append(Attempt(segment, phase, judged, truth))
        self.total[phase] += 1
        if UNKNOWN not in (judged, truth):
            self._confuse(bool(judged), bool(truth))

    def label(self, segment: int, success: bool) -> bool:
        """A person corrects a finished attempt; False when it is not among the remembered ones.

        It changes the success rate that is shown, nothing else: the step keeps its judgement and the learner is not told.
        """
        for attempt in self.attempts:
            if attempt.segment == segment:
                attempt.label = int(success)
                return True
        return False

    def success(self, truth: bool = False) -> dict[str, SuccessRate]:
        """Success of the most recent attempts per phase, as judged (with labels), or by ground truth."""
        rates = {}
        for phase in PHASES:
            outcomes = [a.truth if truth else a.success for a in self.attempts if a.phase == phase]
            known = [outcome for outcome in outcomes[-RECENT:] if outcome != UNKNOWN]
            total = self.total[phase] if known or not truth else 0
            rates[phase] = SuccessRate(sum(known), len(known), total)
        return rates

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "attempts": [asdict(attempt) for attempt in self.attempts]}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "Progress":
        """Inverse of `to_json`. Raises TypeError on unknown keys."""
        attempts = deque((Attempt(**item) for item in data.get("attempts", ())), maxlen=REMEMBERED)
        return cls(**{**data, "attempts": attempts})

    def _confuse(self, judged: bool, truth: bool) -> None:
        name = ("true" if judged == truth else "false") + ("_positives" if judged else "_negatives")
        setattr(self, name, getattr(self, name) + 1)
