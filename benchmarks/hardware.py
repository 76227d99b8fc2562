"""What a recording of an arm's commands and a log of faults say: violated limits, detection times, reactions. Plain arrays.

The judge of the hardware proof. It imports nothing of the filters that it judges, and counts limits with its own sums.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np

TOLERANCE_M, TOLERANCE_RAD = 0.005, 0.02
POSES_BACK_S = 0.4
"""A target is compared with where the arm was in the last moments: messages of two topics do not arrive in order."""
SETTLED_S, STANDS_M, POSES_TO_JUDGE = 0.5, 0.01, 5
"""After this time a held arm must stay within this distance, in at least so many poses."""


@dataclass(frozen=True)
class Limits:
    """What a target must keep, SI units, base frame."""

    low_m: tuple[float, float, float]
    high_m: tuple[float, float, float]
    step_m: float
    lag_m: float
    tilt_rad: float

    @classmethod
    def of(cls, limits: dict[str, Any]) -> "Limits":
        """Of ``franka.limits`` as they are written in a robot's YAML."""
        keys = ("workspace_min_m", "workspace_max_m", "max_step_m", "max_lag_m", "max_tilt_rad")
        low, high, *others = (limits[key] for key in keys)
        return cls(tuple(low), tuple(high), *map(float, others))


@dataclass(frozen=True)
class Moment:
    """One pose or target on the wire: monotonic seconds, metres, and the orientation ``(x, y, z, w)``."""

    time_s: float
    position_m: tuple[float, float, float]
    quaternion: tuple[float, float, float, float]

    @property
    def tilt_rad(self) -> float:
        """Of the tool's z axis from straight down; NaN for what is no rotation."""
        x, y, z, w = self.quaternion
        if not abs(math.hypot(x, y, z, w) - 1.0) < 1e-3:
            return math.nan
        return math.acos(float(np.clip(-(1 - 2 * (x * x + y * y)), -1.0, 1.0)))


def violations(targets: Sequence[Moment], poses: Sequence[Moment], limits: Limits) -> list[str]:
    """A sentence per target that breaks a limit. A hold, a target at a recent pose of the arm, may be any step away."""
    found = []
    times = np.array([pose.time_s for pose in poses])
    places = np.array([pose.position_m for pose in poses]).reshape(-1, 3)
    tilts = np.array([pose.tilt_rad for pose in poses])
    before: np.ndarray | None = None
    for target in targets:
        here = np.array(target.position_m)
        if not np.isfinite(here).all() or not math.isfinite(target.tilt_rad):
            found.append(f"at {target.time_s:.2f} s a target is not finite")
            before = None
            continue
        recent = np.searchsorted(times, [target.time_s - POSES_BACK_S, target.time_s + 0.05])
        near = slice(*(recent if recent[0] < recent[1] else (max(0, recent[0] - 1), recent[0])))
        arm = places[near] if len(places[near]) else here[None]
        tilt = float(tilts[near].max()) if len(tilts[near]) else 0.0
        distance = float(np.linalg.norm(arm - here, axis=1).min())
        outside = (here < np.minimum(limits.low_m, arm.min(0)) - TOLERANCE_M) | (
            here > np.maximum(limits.high_m, arm.max(0)) + TOLERANCE_M
        )
        if outside.any():
            found.append(f"at {target.time_s:.2f} s a target is outside the box: {here.round(3).tolist()}")
        if target.tilt_rad > max(limits.tilt_rad, tilt) + TOLERANCE_RAD:
            found.append(f"at {target.time_s:.2f} s a target is tilted by {target.tilt_rad:.3f} rad")
        if distance > limits.lag_m + TOLERANCE_M:
            found.append(f"at {target.time_s:.2f} s a target is {distance:.3f} m from the arm")
        step = 0.0 if before is None else float(np.linalg.norm(here - before))
        # going on from where the arm is, is no jump of the arm: then the step counts from the arm
        if min(step, distance) > limits.step_m + TOLERANCE_M:
            found.append(f"at {target.time_s:.2f} s a target jumps by {step:.3f} m")
        before = here
    return found


LINE = re.compile(r"^(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3}) \S+ etude\.arm \([^)]*\): the arm: (.*)$", re.MULTILINE)


def told(log: str) -> list[tuple[float, str]]:
    """(seconds since the epoch, faults) of every line in which the driver says how the arm is; ``""`` when all is well."""
    return [
        (datetime.strptime(stamp, "%Y-%m-%d %H:%M:%S,%f").timestamp(), "" if text == "all is well" else text)
        for stamp, text in LINE.findall(log)
    ]


def first_after(moments: Sequence[tuple[float, str]], since_s: float, pattern: str) -> float | None:
    """The first moment at or after `since_s` whose text matches `pattern` (``""``: all is well)."""
    for moment, text in moments:
        if moment >= since_s and (re.search(pattern, text) if pattern else not text):
            return moment
    return None


def strayed_m(poses: Sequence[Moment], since_s: float, until_s: float) -> float | None:
    """How far the arm went between two moments while it should stand; None when too few poses were recorded to say."""
    inside = np.array([pose.position_m for pose in poses if since_s <= pose.time_s <= until_s])
    return float(np.linalg.norm(inside - inside[0], axis=1).max()) if len(inside) >= POSES_TO_JUDGE else None


def periods(stamps_s: np.ndarray, faults: Sequence[tuple[float, float]]) -> list[float]:
    """Seconds between neighbouring `stamps_s`, ascending, without those that touch one of `faults` (from, until)."""
    return [
        float(later - earlier)
        for earlier, later in itertools.pairwise(stamps_s)
        if not any(earlier <= until and since <= later for since, until in faults)
    ]


def percentiles(values: Sequence[float]) -> dict[str, float]:
    """Of seconds, as whole milliseconds; with few values p99 is the largest."""
    array = 1000 * np.array(values)
    return {
        "n": len(values),
        "p50_ms": round(float(np.percentile(array, 50))),
        "p99_ms": round(float(np.percentile(array, 99, method="higher"))),
    }


def table(injections: Sequence[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Per fault: how often, how often told, held and recovered, and detection times.

    Held and not held may be fewer than injected: a hold that was too short to measure is neither.
    """
    rows: dict[str, dict[str, Any]] = {}
    for name in dict.fromkeys(one["fault"] for one in injections):
        mine = [one for one in injections if one["fault"] == name]
        seen = [one["detected_s"] for one in mine if one["detected_s"] is not None]
        rows[name] = {
            "injected": len(mine),
            "detected": len(seen),
            "held": sum(one["held"] is True for one in mine),
            "not_held": sum(one["held"] is False for one in mine),
            "recovered": sum(one["recovered_s"] is not None for one in mine),
            "detection": percentiles(seen) if seen else None,
            "reaction": mine[0]["reaction"],
        }
    return rows


def missed(faults: dict[str, dict[str, Any]], not_injected: Sequence[str]) -> list[str]:
    """What of a `table` does not pass: not held, not recovered from, or never put in because the time was over."""
    bad = [name for name, row in faults.items() if row["not_held"] or row["recovered"] < row["injected"]]
    return bad + [f"{name} (not put in: out of time)" for name in not_injected]
