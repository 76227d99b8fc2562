"""What a check of `etude doctor` finds: data that every part may make, also those that know ROS."""

from __future__ import annotations

from dataclasses import dataclass

GREEN, YELLOW, RED = "green", "yellow", "red"


@dataclass(frozen=True)
class Finding:
    """Outcome of one check. `remedy` is a sentence or command, empty when nothing is to be done."""

    check: str
    status: str
    detail: str
    remedy: str = ""
