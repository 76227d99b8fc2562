"""Keyboard, mouse and touch of the browser page as a device: what the page says many times a second becomes a sample.

Keys are named by their place on the keyboard (``KeyboardEvent.code`` in small letters), so that W/A/S/D are where they are on
any layout; the pointer pad of mouse and touch gives the axes ``pad_x`` (right) and ``pad_y`` (up).
"""

from __future__ import annotations

from collections.abc import Iterable

from actor.teleop.mapping import Sample

PAD = "pad"
"""Button that is down while the pointer pad is held away from its middle."""
TAKEN = "taken"
"""Button that is down while the page's takeover is on."""


def sample(keys: Iterable[str], pad: tuple[float, float], taken: bool) -> Sample:
    """`keys`: codes that are down, e.g. ``KeyW``; `pad`: pointer in [-1, 1]², zero while it is not held."""
    down = {key.lower() for key in keys} - {PAD, TAKEN}
    if any(pad):
        down.add(PAD)
    if taken:
        down.add(TAKEN)
    return Sample({"pad_x": pad[0], "pad_y": pad[1]}, frozenset(down))
