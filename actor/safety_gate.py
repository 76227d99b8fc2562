"""What the safety node decides: whether a driver's commands may go on to the arm's controller. Pure functions of times, no ROS.

It runs outside the process that learns and acts, knows nothing of policies, and repeats the plain limits with code of its own: a
bug of `actor/command_filter.py` should not be one here.
"""

from __future__ import annotations

import math

import numpy as np

from etude.config.hardware import CommandLimits

BEAT_LIMIT_S = 0.06
"""Three missed beats at 50 Hz. With a look every 10 ms the arm is held within 100 ms of the last beat."""
LOOP_LIMIT_S = 0.5
"""The driver's thread beats, but its control loop asks nothing of it: it hangs."""
POSE_LIMIT_S = 0.1
DISAGREE_S = 0.08
"""Command and beat travel on topics of their own; so long the one may be ahead of the other."""
CALM_S = 0.2
"""All must be well for so long before commands pass again."""
TOLERANCE_M = 0.002
TOLERANCE_RAD = 0.02


class SafetyGate:
    """`beat`, `pose` and `command` take what arrives; `reasons` says why the arm is held. Times are monotonic seconds."""

    def __init__(self, limits: CommandLimits, digest: str) -> None:
        self._limits, self._digest = limits, digest
        self._low, self._high = np.array(limits.workspace_min_m), np.array(limits.workspace_max_m)
        self._beat_s = self._pose_s = -math.inf
        self._loop_age_s, self._beat_limits = 0.0, ""
        self._said_m: np.ndarray | None = None
        self._pose: tuple[np.ndarray, float] | None = None
        self._last_m: np.ndarray | None = None
        self._agreed_s = -math.inf
        self._bad = ""
        self._bad_s = -math.inf
        self.publishers = 1
        self.passed = self.refused = 0

    def beat(self, now_s: float, loop_age_s: float, limits: str, target_m: np.ndarray | None) -> None:
        self._beat_s, self._loop_age_s, self._beat_limits, self._said_m = now_s, loop_age_s, limits, target_m

    def pose(self, now_s: float, position_m: np.ndarray, tilt_rad: float) -> None:
        """Where the arm is; a pose that is not finite was not heard."""
        if np.isfinite(position_m).all() and math.isfinite(tilt_rad):
            self._pose_s, self._pose = now_s, (position_m, tilt_rad)

    def reasons(self, now_s: float) -> tuple[str, ...]:
        """Why the arm is held at `now_s`; empty when commands pass."""
        found = []
        if not now_s - self._beat_s <= BEAT_LIMIT_S:
            found.append("the actor was never heard" if self._beat_s == -math.inf else "the actor's heartbeat is late")
        elif self._loop_age_s > LOOP_LIMIT_S:
            found.append("the actor lives, but its control loop hangs")
        elif self._beat_limits != self._digest:
            found.append("the actor keeps other limits than the safety node: start both with the same run folder")
        if not now_s - self._pose_s <= POSE_LIMIT_S:
            found.append("the arm's pose is late")
        if self.publishers > 1:
            found.append(f"{self.publishers} programs send commands; there must be one")
        if self._last_m is None or self._said_m is None or np.linalg.norm(self._last_m - self._said_m) <= TOLERANCE_M:
            self._agreed_s = now_s
        elif now_s - self._agreed_s > DISAGREE_S:
            found.append("the actor's heartbeat and its commands disagree")
        if found:
            self._bad, self._bad_s = found[0], now_s
        elif now_s - self._bad_s < CALM_S:
            found.append(self._bad)  # the reason is gone, but only just
        return tuple(found)

    def command(self, now_s: float, position_m: np.ndarray, tilt_rad: float) -> str:
        """``""`` when the command may go on, else why not. A command that breaks a limit also holds the arm for a moment."""
        held = self.reasons(now_s)
        broken = self._broken(position_m, tilt_rad)
        if not broken:
            self._last_m = position_m
        if held or broken:
            self.refused += 1
            if broken:
                self._bad, self._bad_s = broken, now_s
            return held[0] if held else broken
        self.passed += 1
        return ""

    def _broken(self, position_m: np.ndarray, tilt_rad: float) -> str:
        """The first limit that a command breaks, as a sentence, or ``""``. A tilt of NaN means an orientation that is none."""
        if not np.isfinite(position_m).all() or not math.isfinite(tilt_rad):
            return "a command is not finite"
        if self._pose is None:
            return "the arm's pose is unknown"
        here, tilt = self._pose
        # an arm that begins outside a limit may come back
        outside = (position_m < np.minimum(self._low, here) - TOLERANCE_M) | (
            position_m > np.maximum(self._high, here) + TOLERANCE_M
        )
        if outside.any():
            return f"a command leaves the workspace on {'xyz'[int(np.argmax(outside))]}"
        if tilt_rad > max(self._limits.max_tilt_rad, tilt) + TOLERANCE_RAD:
            return f"a command tilts the tool by {tilt_rad:.2f} rad, limit {self._limits.max_tilt_rad:g} rad"
        lead = float(np.linalg.norm(position_m - here))
        if lead > self._limits.max_lag_m + TOLERANCE_M:
            return f"a command is {lead:.2f} m from the tool, limit {self._limits.max_lag_m:g} m"
        longest = min(self._limits.max_step_m, 1.0) + TOLERANCE_M
        if self._last_m is not None and min(float(np.linalg.norm(position_m - self._last_m)), lead) > longest:
            return f"a command jumps by {np.linalg.norm(position_m - self._last_m):.3f} m, limit {self._limits.max_step_m:g} m"
        return ""
