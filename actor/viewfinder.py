"""Pictures for people, taken inside the control loop's thread (a MuJoCo renderer belongs to one thread) without hurting the loop.

Other threads ask; the loop serves when it has time: at most N pictures per second, only what somebody asked for within the last
second, and smaller ones when a full one would not fit before the next deadline.
"""

from __future__ import annotations

import threading
import time

import numpy as np

from etude.robot import Robot

WANTED_FOR_S = 1.0
SHARE_OF_TIME = 0.1
"""Without deadlines (simulation as fast as it can), pictures take at most this share of the loop's time."""
SHARE_OF_SLACK = 0.6
SCALES = (1.0, 0.75, 0.5, 0.375, 0.25)
"""Sizes to fall back to; few, because every size costs a renderer."""


class Viewfinder:
    """`request` and `images` from any thread; `serve` from the loop's thread only."""

    def __init__(self, max_rate_hz: float = 4.0) -> None:
        self._interval_s = 1.0 / max_rate_hz
        self._lock = threading.Lock()
        self._wanted: dict[str, tuple[int, int, float]] = {}
        self._images: dict[str, np.ndarray] = {}
        self._next_s: dict[str, float] = {}
        self._seconds_per_pixel = 0.0
        self._rest_until_s = 0.0

    def request(self, camera: str, height: int, width: int) -> None:
        """Somebody wants to see `camera` at about this size during the next second."""
        with self._lock:
            self._wanted[camera] = (height, width, time.monotonic())

    def images(self) -> dict[str, np.ndarray]:
        """Newest pictures, uint8 ``(h, w, 3)`` by camera; never modified after they are published."""
        with self._lock:
            return dict(self._images)

    def serve(self, robot: Robot, slack_s: float | None) -> None:
        """Take at most one wanted picture. `slack_s` is the time until the next deadline, None when there is no deadline."""
        now = time.monotonic()
        if not self._wanted or (slack_s is None and now < self._rest_until_s):
            return
        with self._lock:
            due = [
                (self._next_s.get(camera, 0.0), camera, height, width)
                for camera, (height, width, asked_s) in self._wanted.items()
                if now - asked_s <= WANTED_FOR_S and now >= self._next_s.get(camera, 0.0)
            ]
        if not due:
            return
        _, camera, height, width = min(due)
        scale = self._fitting_scale(height * width, slack_s)
        if scale is None:
            return
        image = robot.render(camera, max(1, int(height * scale)), max(1, int(width * scale)))
        cost_s = time.monotonic() - now
        # the largest cost is remembered and fades, so that one slow picture (a new renderer) does not blind the page for ever
        self._seconds_per_pixel = max(cost_s / image[..., 0].size, 0.8 * self._seconds_per_pixel)
        self._rest_until_s = now + cost_s / SHARE_OF_TIME
        with self._lock:
            self._next_s[camera] = now + self._interval_s
            self._images[camera] = image

    def _fitting_scale(self, pixels: int, slack_s: float | None) -> float | None:
        """Largest scale whose expected cost fits; None when even the smallest does not."""
        if slack_s is None or self._seconds_per_pixel == 0.0:
            return 1.0
        for scale in SCALES:
            if self._seconds_per_pixel * pixels * scale * scale <= SHARE_OF_SLACK * slack_s:
                return scale
        self._seconds_per_pixel *= 0.98  # try again some time
        return None
