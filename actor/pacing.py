"""Keeping time: absolute deadlines for the control loop, and honest numbers about how well they were kept.

Separate from the loop so that lateness, skipping and the reported rate can be tested with a clock of the test's own.
"""

from __future__ import annotations

import math
from collections import deque

RATE_WINDOW_S = 10.0
PERIODS_FOR_P99 = 600


class Pacer:
    """Deadlines at ``start + n * period``. A late loop skips deadlines; it never runs two ticks close together to catch up."""

    def __init__(self, rate_hz: float) -> None:
        self.period_s = 1.0 / rate_hz
        self.missed = 0
        self._deadline_s: float | None = None

    def next_deadline(self, now_s: float) -> float:
        """Monotonic time at which the next tick starts; call once per tick, when the work of the last one is done.

        Up to half a period late, the tick starts at once and the grid stays; later, it waits for the next point of the grid.
        """
        if self._deadline_s is None:
            self._deadline_s = now_s
            return now_s
        self._deadline_s += self.period_s
        late_s = now_s - self._deadline_s
        if late_s > 0:
            self.missed += 1
        if late_s > 0.5 * self.period_s:
            self._deadline_s += math.ceil(late_s / self.period_s) * self.period_s
        return max(now_s, self._deadline_s)

    def reset(self) -> None:
        """Forget the grid after a pause, so that the pause is not lateness."""
        self._deadline_s = None


class RateMeter:
    """Achieved control rate over the last 10 s and p99 of the last 600 periods, of uninterrupted practice only."""

    def __init__(self) -> None:
        self._last_s: float | None = None
        self._window: deque[float] = deque()
        self._window_s = 0.0
        self._periods: deque[float] = deque(maxlen=PERIODS_FOR_P99)

    def tick(self, now_s: float) -> float:
        """Note a control step at `now_s`; returns the period since the last one, 0 after a break."""
        if self._last_s is None:
            self._last_s = now_s
            return 0.0
        period_s, self._last_s = now_s - self._last_s, now_s
        self._periods.append(period_s)
        self._window.append(period_s)
        self._window_s += period_s
        while self._window_s > RATE_WINDOW_S and len(self._window) > 1:
            self._window_s -= self._window.popleft()
        return period_s

    def interrupt(self) -> None:
        """Practice pauses: the gap until the next tick is no control period."""
        self._last_s = None

    @property
    def rate_hz(self) -> float:
        return len(self._window) / self._window_s if self._window_s > 0 else 0.0

    @property
    def p99_ms(self) -> float:
        if not self._periods:
            return 0.0
        ordered = sorted(self._periods)
        return 1000.0 * ordered[min(len(ordered) - 1, math.ceil(0.99 * len(ordered)) - 1)]
