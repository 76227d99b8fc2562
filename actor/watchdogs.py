"""Watchdogs on a robot's inputs: plain functions of times, so that each is tested without waiting and without ROS.

All times are of ``time.monotonic()``, seconds, except where a stamp of another computer is compared with this one's clock.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np


def late_inputs(heard_s: Mapping[str, float | None], max_age_s: Mapping[str, float], now_s: float) -> tuple[str, ...]:
    """A sentence for every input of `max_age_s` that is older than allowed or was never heard (None, or absent)."""
    problems = []
    for name, limit in max_age_s.items():
        heard = heard_s.get(name)
        if heard is None:
            problems.append(f"{name} was never received")
        elif not now_s - heard <= limit:  # also true for NaN
            problems.append(f"{name} is late ({now_s - heard:.2f} s old, limit {limit:.2f} s)")
    return tuple(problems)


def skewed_clock(name: str, stamp_s: float, received_s: float, limit_s: float) -> str:
    """A sentence when a message's stamp and time of arrival, both since the epoch, differ by more than `limit_s`, else ``""``.

    A delay on the network looks the same, and is as bad: either way the data is not of the time that it says.
    """
    skew = received_s - stamp_s
    if abs(skew) <= limit_s:
        return ""
    return f"{name} is stamped {abs(skew):.2f} s {'before' if skew > 0 else 'after'} it arrived (limit {limit_s:.2f} s)"


def frozen_picture(name: str, changed_s: float | None, now_s: float, limit_s: float) -> str:
    """A sentence when a camera's pictures have been the same since `changed_s` for longer than `limit_s`; else ``""``.

    Real sensors have noise: two pictures that agree in every bit are one picture sent twice.
    """
    if changed_s is None or now_s - changed_s <= limit_s:
        return ""
    return f"camera {name} is frozen (the same picture for {now_s - changed_s:.1f} s)"


def lost_messages(name: str, arrivals_s: Sequence[float], now_s: float, rate_hz: float, share: float = 0.5) -> str:
    """A sentence when fewer than `share` of a second's messages at `rate_hz` arrived in the last second; else ``""``.

    `arrivals_s` must reach back a second; before that nothing is said.
    """
    if not arrivals_s or now_s - arrivals_s[0] < 1.0:
        return ""
    arrived = int(np.count_nonzero(np.asarray(arrivals_s) > now_s - 1.0))
    if arrived >= share * rate_hz:
        return ""
    return f"{name} arrives {arrived} times a second instead of {rate_hz:g}: the network loses it, or its sender is overloaded"
