"""Teaching the box: the extents of where a person led the tool become the workspace limits in a robot's YAML.

Pure functions over points and text; `etude robot teach-box` (etude_nodes/robot_commands.py) listens to the arm.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from etude.config import ConfigError

SMALLEST_M = 0.05
"""A thinner box leaves no room to act; most likely an axis was forgotten."""
REACH_M = 0.855
"""Of a Panda and an FR3, from the base to the wrist (Franka Robotics, data sheets)."""
KEYS = ("workspace_min_m", "workspace_max_m")


def box_of(points: Sequence[np.ndarray], margin_m: float) -> tuple[np.ndarray, np.ndarray]:
    """Lowest and highest corner ``(3,)``, base frame, of `points` ``(3,)``, drawn in by `margin_m` on all sides.

    The margin goes inward: a policy that reaches the box's wall must not reach what the tool was led along.

    Raises:
        ConfigError: too few points, or what is left is thinner than `SMALLEST_M`, or lies beyond the arm's reach.
    """
    if len(points) < 2:
        raise ConfigError("nothing was recorded: does the arm publish its pose, and was it moved?")
    low, high = np.min(points, axis=0) + margin_m, np.max(points, axis=0) - margin_m
    for axis, size in zip("xyz", high - low, strict=True):
        if size < SMALLEST_M:
            raise ConfigError(
                f"along {axis} the box would be {max(size, 0.0) * 100:.1f} cm: lead the tool to both ends of every axis, also up "
                f"and down (at least {100 * (SMALLEST_M + 2 * margin_m):.0f} cm apart with a margin of {100 * margin_m:g} cm)"
            )
    farthest = max(float(np.linalg.norm(point)) for point in (low, high))
    if farthest > 1.5 * REACH_M:
        raise ConfigError(
            f"a corner is {farthest:.2f} m from the base, farther than any arm reaches: is franka.base_frame right?"
        )
    return np.round(low, 3), np.round(high, 3)


def with_box(text: str, low: np.ndarray, high: np.ndarray) -> str:
    """A robot's YAML `text` with the box in all its workspace keys; comments and everything else stay.

    Raises:
        ConfigError: it has no workspace keys in one line each.
    """
    for key, corner in zip(KEYS, (low, high), strict=True):
        value = "[" + ", ".join(f"{number:.3f}" for number in corner) + "]"
        text, count = re.subn(rf"^(\s*{key}:\s*)\[[^\]\n]*\]", rf"\g<1>{value}", text, flags=re.MULTILINE)
        if count == 0:
            raise ConfigError(f"the robot's YAML has no line '{key}: [x, y, z]' to write the box into")
    return text
