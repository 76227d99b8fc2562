"""How often an arm may be brought back from a fault: an act of its own, logged, and limited. Plain times, without ROS.

A driver that recovers before every command hides that the arm hits something all the time.
"""

from __future__ import annotations

from etude.config.hardware import RecoveryConfig

HOUR_S = 3600.0


class RecoveryLimit:
    """`refusal` says why not now; `began` counts one."""

    def __init__(self, config: RecoveryConfig) -> None:
        self._config = config
        self._times_s: list[float] = []

    def refusal(self, now_s: float, automatic: bool) -> str:
        """A sentence when the arm must not be recovered at `now_s` (monotonic seconds), else ``""``.

        A person may do it as often as the interval allows; the driver by itself only so many times within an hour.
        """
        recent = [moment for moment in self._times_s if now_s - moment < HOUR_S]
        if automatic and len(recent) >= self._config.max_per_hour:
            return (
                f"the arm was recovered {len(recent)} times within an hour, the limit (recovery.max_per_hour): look at what it "
                "hits, then recover it by hand"
            )
        if recent and now_s - recent[-1] < self._config.min_interval_s:
            left = self._config.min_interval_s - (now_s - recent[-1])
            return f"the arm was recovered a moment ago: wait {left:.0f} s more (recovery.min_interval_s)"
        return ""

    def began(self, now_s: float) -> None:
        self._times_s = [*(m for m in self._times_s if now_s - m < HOUR_S), now_s]
