"""When to open and close a real gripper, and whether it obeys: plain state over times, without ROS.

A hand of the Franka kind takes goals, not set points; a goal at every control step would stop the one before it.
"""

from __future__ import annotations

from typing import Literal

from etude.config.hardware import GripperConfig

Wish = Literal["open", "close"]
MOVED_M = 0.002
"""Less is noise of the width."""
OPEN_SHARE = 0.9
"""Of the largest width: wider counts as open."""


class Gripper:
    """`decide` says which goal to send, if any; `problem` says whether the last one came to nothing."""

    def __init__(self, config: GripperConfig, max_width_m: float) -> None:
        self._config, self._max_width_m = config, max_width_m
        self.wish: Wish | None = None
        self._since_s = 0.0
        self._width_m = float("nan")
        self._still_since_s = 0.0

    @property
    def as_it_is(self) -> float:
        """A normalised action that means neither goal."""
        return 0.5 * (self._config.open_above + self._config.close_below)

    def decide(self, value: float, now_s: float) -> Wish | None:
        """The goal to send for the normalised action `value`; None when the gripper shall go on as it is, or `value` is NaN."""
        if value >= self._config.open_above:
            wish: Wish = "open"
        elif value <= self._config.close_below:
            wish = "close"
        else:
            return None
        if wish == self.wish:
            return None
        self.wish, self._since_s, self._still_since_s = wish, now_s, now_s
        return wish

    def problem(self, width_m: float, now_s: float) -> str:
        """A sentence when the gripper is stuck, else ``""``. `width_m` is what is measured, NaN when it is not known.

        Stuck is: told to open and at rest half open; or told to close and at rest where it was open. Closed on something, or on
        nothing, are both success.
        """
        if not abs(width_m - self._width_m) <= MOVED_M:  # also the first time
            self._width_m, self._still_since_s = width_m, now_s
        still_s = now_s - max(self._still_since_s, self._since_s)
        if self.wish is None or width_m != width_m or still_s < self._config.stuck_after_s:
            return ""
        is_open = width_m >= OPEN_SHARE * self._max_width_m
        if is_open == (self.wish == "open"):
            return ""
        share = width_m / self._max_width_m
        return f"gripper stuck: told to {self.wish}, and {100 * share:.0f}% open for {still_s:.1f} s"

    def forget(self) -> None:
        """After a fault was mended: the next wish is sent, also if it is the same."""
        self.wish = None
