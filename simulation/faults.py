"""Faults of a simulated robot or camera, by the clock or on demand: what a driver must survive, as plain data over times.

A script is words separated by spaces: ``name``, ``name=value``, with ``@start`` and ``+duration`` in seconds. Without a start a
fault begins at once; without a duration it stays until ``clear`` (or until it is mended, a reflex by recovery).
``reflex@5 camera_frozen=front@10+3 packet_loss=0.8@20+5``
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from etude.config import ConfigError

FAULTS = {
    "reflex": "the arm stops by itself, reports mode 4 and follows nothing until it is recovered",
    "controller_lost": "no controller follows the target; poses still come",
    "gripper_stuck": "the fingers stay where they are",
    "state_late": "no pose, joints, wrench or mode",
    "camera_frozen": "a camera (value) sends its last picture again and again",
    "camera_unplugged": "a camera (value) sends nothing",
    "clock_skew": "stamps are so many seconds (value) in the past",
    "packet_loss": "this share (value) of the messages is lost, both ways",
    "pushed": "someone pushes an arm's tool down, or a Go1 to its left, with so many newtons (value)",
    "motor_hot": "the motors say that they have so many degrees Celsius (value)",
}
_WORD = re.compile(r"([a-z_]+)(?:=([\w.]+))?(?:@([\d.]+))?(?:\+([\d.]+))?")


@dataclass(frozen=True)
class Fault:
    """One entry of a script. Times are seconds since the script began."""

    name: str
    value: str = ""
    start_s: float = 0.0
    end_s: float = math.inf


def parse(script: str) -> tuple[Fault, ...]:
    """The faults of `script`. Raises ConfigError for what is not one."""
    faults = []
    for word in script.split():
        match = _WORD.fullmatch(word)
        if match is None or match[1] not in FAULTS:
            raise ConfigError(
                f"fault {word!r} is not known: write name=value@start+duration with one of {', '.join(FAULTS)}, e.g. reflex@5"
            )
        start_s = float(match[3] or 0.0)
        faults.append(Fault(match[1], match[2] or "", start_s, start_s + float(match[4]) if match[4] else math.inf))
    return tuple(faults)


class FaultScript:
    """Which faults are on. `add` and `mend` at any time."""

    def __init__(self, script: str = "") -> None:
        self._faults = parse(script)

    def add(self, script: str, now_s: float) -> None:
        """Put in more faults, their starts counted from now; ``clear`` ends all."""
        if script.strip() == "clear":
            self._faults = ()
            return
        self._faults += tuple(Fault(f.name, f.value, now_s + f.start_s, now_s + f.end_s) for f in parse(script))

    def mend(self, name: str, now_s: float) -> None:
        """End those of `name` that have begun."""
        self._faults = tuple(f for f in self._faults if f.name != name or f.start_s > now_s)

    def on(self, name: str, now_s: float) -> Fault | None:
        """The newest fault of `name` that is on at `now_s`, else None."""
        return next((f for f in reversed(self._faults) if f.name == name and f.start_s <= now_s < f.end_s), None)

    def value(self, name: str, now_s: float) -> float:
        """Its value as a number, 0 when it is off."""
        fault = self.on(name, now_s)
        return float(fault.value or 1.0) if fault is not None else 0.0
