"""Who says "done": turns readings into verdicts, by the environment's truth or by a judge with hysteresis.

Separate from the control loop because reward correctness lives here: consecutive frames, thresholds, and what counts at the
start of a phase.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Collection
from dataclasses import dataclass

from etude.robot import Judge, Reading
from etude.step import UNKNOWN

ENVIRONMENT = "environment"


class ScoringError(RuntimeError):
    """Nobody can judge this robot's observations."""


@dataclass(frozen=True)
class Verdict:
    """Score of one observation in one phase.

    Attributes:
        met: this frame alone looks like success.
        success: success is declared (hysteresis passed); ends the segment.
        probability: the judge's probability.
        truth: the simulator's ground truth, 1, 0 or UNKNOWN.
        known: False where nobody can say whether it is a success (see `Scorer`).
    """

    met: bool
    success: bool
    probability: float
    truth: int
    known: bool = True

    @property
    def label(self) -> int:
        """`success` as 1 or 0, UNKNOWN when nobody can say."""
        return int(self.success) if self.known else UNKNOWN


class Scorer:
    """Scores the frames of one segment after another.

    With a judge, `needed` of the last `window` frames (None: `needed`, so all in a row), the newest among them, at or above the
    threshold make a success; the environment's truth needs 1. A frame of NaN probability has no vote and no place in the window.
    Phases in `learned` are rewarded by what the learner learns: they need nobody who says when they succeed.
    """

    def __init__(self, judge: Judge | None, needed: int = 1, window: int | None = None, learned: Collection[str] = ()) -> None:
        self._judge = judge
        self._learned = learned
        self._needed = needed if judge is not None else 1
        self._votes: deque[bool] = deque(maxlen=(window or needed) if judge is not None else 1)
        self._armed = True
        self._answered = True

    @property
    def name(self) -> str:
        """Goes into `Step.judged_by`."""
        return ENVIRONMENT if self._judge is None else self._judge.name

    def forget(self) -> None:
        """Another attempt begins: call before its first frame is looked at."""
        if self._judge is not None:
            self._judge.forget()

    def start(self, armed: bool = True) -> None:
        """Begin a segment. Unarmed, success needs a frame that does not look like success first: the start itself did, or a slow
        judge had not said anything about it yet."""
        self._votes.clear()
        self._armed = armed and self._answered

    def look(self, reading: Reading, phase: str) -> tuple[bool, float]:
        """(this frame alone looks like success, probability), without touching the hysteresis."""
        if self._judge is None:
            truth = truth_of(reading, phase)
            if truth == UNKNOWN and phase in self._learned:
                return False, math.nan
            if truth == UNKNOWN:
                raise ScoringError(
                    f"the reward is the environment's, but this robot reports no ground truth for phase {phase!r}: "
                    "use recipe.reward.kind=classifier"
                )
            return bool(truth), float(truth)
        probability = float(self._judge.probability(reading.observation, phase))
        self._answered = not math.isnan(probability)
        # A NaN probability compares false: a broken judge never grants a success.
        return probability >= self._judge.threshold(phase), probability

    def score(self, reading: Reading, phase: str) -> Verdict:
        """Verdict of the next frame of the segment."""
        met, probability = self.look(reading, phase)
        if not math.isnan(probability):
            self._armed = self._armed or not met
            self._votes.append(met and self._armed)
        success = met and sum(self._votes) >= self._needed
        truth = truth_of(reading, phase)
        return Verdict(met, success, probability, truth, self._judge is not None or truth != UNKNOWN)

    def doubt(self, reading: Reading, phase: str) -> float:
        """How far the judge's members disagree about this frame, 0 to 0.5; 0 for the environment's truth."""
        return 0.0 if self._judge is None else float(self._judge.doubt(reading.observation, phase))


def truth_of(reading: Reading, phase: str) -> int:
    """The simulator's ground truth of `phase`: 1, 0, or UNKNOWN where there is none."""
    truth = (reading.success_truth or {}).get(phase)
    return UNKNOWN if truth is None or (isinstance(truth, float) and math.isnan(truth)) else int(truth)
