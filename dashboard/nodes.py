"""What the run's nodes say of themselves (``/diagnostics``), for the page: one line each, and their numbers.

Free of ROS, as all of the page's state. What anybody may publish is bounded here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

SILENT_AFTER_S = 5.0
"""Every lasting node tells once a second."""
MOST_NODES, MOST_VALUES, LONGEST_TEXT = 64, 40, 300


@dataclass(frozen=True)
class _Told:
    level: str
    message: str
    values: dict[str, str]
    at_s: float


class Nodes:
    """The newest word of every node. Not thread-safe."""

    def __init__(self) -> None:
        self._told: dict[str, _Told] = {}

    def tell(self, name: str, level: str, message: str, values: Mapping[str, str], now_s: float) -> None:
        """`level` is ``ok``, ``warn``, ``error`` or ``stale``; `now_s` on the clock of `snapshot`."""
        name = name[:LONGEST_TEXT]
        if name not in self._told and len(self._told) >= MOST_NODES:
            longest_silent = min(self._told, key=lambda other: self._told[other].at_s)
            if now_s - self._told[longest_silent].at_s <= SILENT_AFTER_S:
                return
            del self._told[longest_silent]
        shown = {key[:LONGEST_TEXT]: value[:LONGEST_TEXT] for key, value in list(values.items())[:MOST_VALUES]}
        self._told[name] = _Told(level, message[:LONGEST_TEXT], shown, now_s)

    def snapshot(self, now_s: float) -> list[dict[str, Any]]:
        """By name: name, level, message, values, age_s. Who was silent for `SILENT_AFTER_S` is ``stale``, whatever it said."""
        return [
            {
                "name": name,
                "level": "stale" if now_s - told.at_s > SILENT_AFTER_S else told.level,
                "message": told.message,
                "values": told.values,
                "age_s": now_s - told.at_s,
            }
            for name, told in sorted(self._told.items())
        ]
