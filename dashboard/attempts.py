"""Reconstructs single attempts from the status stream, so that the page can show them one by one and offer to relabel them.

Separate because it is inference, not bookkeeping: a status carries only counters (successes among the last 20), and the
outcome of one attempt follows from two consecutive statuses only under conditions that are worth testing.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from etude.specs import PHASES
from etude.status import PracticeStatus, SuccessRate


@dataclass(frozen=True)
class Attempt:
    """One finished attempt. `segment` is None when it could not be told; `success` None when the outcome could not."""

    phase: str
    segment: int | None
    success: bool | None


class AttemptTracker:
    """The last `window` attempts of each direction, oldest first."""

    def __init__(self, window: int = 20) -> None:
        self._attempts: dict[str, deque[Attempt]] = {phase: deque(maxlen=window) for phase in PHASES}
        self._window = window
        self._previous: PracticeStatus | None = None
        self._last_segment = 0

    def update(self, status: PracticeStatus) -> list[Attempt]:
        """Take the next status; returns the attempts that finished since the previous one, as far as they can be told."""
        previous, self._previous = self._previous, status
        restarted = previous is not None and any(self._total(status, p) < self._total(previous, p) for p in PHASES)
        if restarted:
            for attempts in self._attempts.values():
                attempts.clear()
        if previous is None or restarted:
            self._last_segment = 0
            for phase in PHASES:
                self._bootstrap(phase, status.success.get(phase, SuccessRate()))
            return []
        news = {phase: self._total(status, phase) - self._total(previous, phase) for phase in PHASES}
        finished: list[Attempt] = []
        for phase in PHASES:
            if news[phase] == 0:
                continue
            # A segment number belongs to the attempt only if nothing else ended in between.
            alone = sum(news.values()) == 1 and status.segment - previous.segment <= 1 and previous.segment > self._last_segment
            segment = previous.segment if alone else None
            self._last_segment = segment or self._last_segment
            outcomes = self._outcomes(phase, news[phase], previous, status)
            for outcome in outcomes:
                attempt = Attempt(phase, segment, outcome)
                self._attempts[phase].append(attempt)
                finished.append(attempt)
        return finished

    def relabel(self, segment: int, success: bool) -> None:
        """An operator has corrected the outcome of `segment`."""
        for attempts in self._attempts.values():
            for index, attempt in enumerate(attempts):
                if attempt.segment == segment:
                    attempts[index] = Attempt(attempt.phase, segment, success)

    def outcome(self, segment: int) -> bool | None:
        """Of an attempt that is still known; None when it is not, or its outcome cannot be told."""
        found = [attempt.success for attempts in self._attempts.values() for attempt in attempts if attempt.segment == segment]
        return found[0] if found else None

    def recent(self, phase: str) -> list[Attempt]:
        return list(self._attempts[phase])

    def _bootstrap(self, phase: str, rate: SuccessRate) -> None:
        certain = {0: False, rate.attempts: True}.get(rate.successes) if rate.attempts else None
        self._attempts[phase].extend(Attempt(phase, None, certain) for _ in range(rate.attempts))

    def _outcomes(self, phase: str, new: int, previous: PracticeStatus, status: PracticeStatus) -> list[bool | None]:
        before, after = previous.success.get(phase, SuccessRate()), status.success[phase]
        if after.successes in (0, after.attempts):
            return [after.successes > 0] * min(new, after.attempts)
        known = [attempt.success for attempt in self._attempts[phase]]
        dropped = known[: max(0, before.attempts + new - self._window)]
        if new > self._window or None in dropped:
            return [None] * min(new, self._window)
        successes = after.successes - before.successes + sum(bool(outcome) for outcome in dropped)
        if successes in (0, new):
            return [successes > 0] * new
        return [None] * new

    @staticmethod
    def _total(status: PracticeStatus, phase: str) -> int:
        return status.success.get(phase, SuccessRate()).total_attempts
