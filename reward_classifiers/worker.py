"""A slow judge off the control loop: a thread looks at the newest frame, the loop takes what is ready and never waits.

For vision-language models and large encoders without a GPU. The small networks answer within the control period and need none of
this.
"""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import dataclass

from etude.robot import Judge
from etude.specs import Observation

log = logging.getLogger(__name__)
NO_ANSWER = float("nan")


@dataclass(frozen=True)
class _Answer:
    phase: str
    attempt: int
    asked_s: float
    probability: float
    doubt: float


class DeadlineJudge:
    """`etude.robot.Judge` that answers at once, with what another judge said about a frame of the last `deadline_s` seconds.

    Every frame that was looked at is answered once, so that votes count looks and not control steps. In all other steps, and when
    the look took longer than the deadline or failed, the answer is `missed`: NaN (no vote, the default) or 0 (failure).

    Attributes:
        answered, missed_deadlines, failures: counts since the start. problem: the newest failure in words, empty when it works.
    """

    def __init__(self, judge: Judge, deadline_s: float, missed: float = NO_ANSWER) -> None:
        self.name = judge.name
        self.answered = self.missed_deadlines = self.failures = 0
        self.problem = ""
        self._judge, self._deadline_s, self._missed = judge, deadline_s, missed
        self._wake = threading.Condition()
        self._asked: tuple[Observation, str, int, float] | None = None
        self._ready: _Answer | None = None
        self._doubt = 0.0
        self._attempt = 0
        self._closed = False
        self._thread = threading.Thread(target=self._work, name="slow-judge", daemon=True)
        self._thread.start()

    def probability(self, observation: Observation, phase: str) -> float:
        now = time.monotonic()
        with self._wake:
            self._asked = ({key: array.copy() for key, array in observation.items()}, phase, self._attempt, now)
            self._wake.notify()
            ready, self._ready = self._ready, None
            if ready is None or (ready.phase, ready.attempt) != (phase, self._attempt):
                return self._missed
            if now - ready.asked_s > self._deadline_s:
                self.missed_deadlines += 1
                return self._missed
            self.answered += 1
            self._doubt = ready.doubt
            return ready.probability

    def doubt(self, observation: Observation, phase: str) -> float:
        """Of the last answer that was given."""
        return self._doubt

    def threshold(self, phase: str) -> float:
        return self._judge.threshold(phase)

    def forget(self) -> None:
        """Answers about frames of the attempt before, also those that are still being looked at, are dropped when they come."""
        with self._wake:
            self._attempt += 1
            self._asked = None
            self._doubt = 0.0

    def close(self) -> None:
        """End the thread after the look that it is at."""
        with self._wake:
            self._closed = True
            self._wake.notify()
        self._thread.join(timeout=1.0)

    def _work(self) -> None:
        looked_at = 0
        while True:
            with self._wake:
                self._wake.wait_for(lambda: self._closed or self._asked is not None)
                if self._closed or self._asked is None:
                    return
                (observation, phase, attempt, asked_s), self._asked = self._asked, None
            try:
                if attempt != looked_at:
                    self._judge.forget()
                    looked_at = attempt
                probability = self._judge.probability(observation, phase)
                answer = _Answer(phase, attempt, asked_s, probability, self._judge.doubt(observation, phase))
            except Exception as error:  # a thread that dies would leave the robot without a judge, silently
                if str(error) != self.problem:
                    log.warning("judge %s: %s", self.name, error)
                self.problem = str(error)
                self.failures += 1  # last: who sees it counted may read why
                time.sleep(min(1.0, self._deadline_s))  # an endpoint that is down is not asked a hundred times a second
                continue
            if self.problem:
                log.warning("judge %s answers again", self.name)
            self.problem = ""
            with self._wake:
                self._ready = answer
