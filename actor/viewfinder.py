"""Pictures for people, without hurting the control loop.

Other threads ask; the loop takes a picture when somebody asked within the last second, at most N times per second. A simulation
that can `freeze` its scene is drawn in a thread of its own, because a good-looking picture takes longer than a control period;
other robots are drawn in the loop thread, smaller when a full picture would not fit before the next deadline.
"""

from __future__ import annotations

import queue
import threading
import time
from typing import Protocol

import numpy as np

from etude.robot import Robot
from etude.specs import IMAGE_PREFIX, Observation

WANTED_FOR_S = 1.0
SHARE_OF_TIME = 0.2
"""Pictures take at most this share of one core: the learner needs the others."""
SHARE_OF_SLACK = 0.6
SCALES = (1.0, 0.75, 0.5, 0.375, 0.25)
"""Sizes to fall back to; few, because every size may cost a renderer."""


def pictures_in(observation: Observation) -> dict[str, np.ndarray]:
    """Camera name -> the picture that the policy sees."""
    return {key.removeprefix(IMAGE_PREFIX): array for key, array in observation.items() if key.startswith(IMAGE_PREFIX)}


class FrozenScene(Protocol):
    """What a robot's `freeze()` gives: drawn and closed in one other thread, while the robot goes on."""

    def render(self, camera: str, height: int, width: int) -> np.ndarray: ...

    def close(self) -> None: ...


class Viewfinder:
    """`request` and `images` from any thread; `serve` and `close` from the loop's thread only."""

    def __init__(self, max_rate_hz: float = 4.0) -> None:
        self._interval_s = 1.0 / max_rate_hz
        self._lock = threading.Lock()
        self._wanted: dict[str, tuple[int, int, float]] = {}
        self._images: dict[str, np.ndarray] = {}
        self._next_s: dict[str, float] = {}
        self._seconds_per_pixel = 0.0
        self._rest_until_s = 0.0
        self._jobs: queue.SimpleQueue[tuple[FrozenScene, str, int, int] | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._busy = threading.Event()

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
        freeze = getattr(robot, "freeze", None)
        if not self._wanted or self._busy.is_set():
            return
        now = time.monotonic()
        if now < self._rest_until_s and (freeze is not None or slack_s is None):
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
        if freeze is not None:
            self._busy.set()
            self._start()
            self._jobs.put((freeze(), camera, height, width))
        else:
            self._draw_here(robot, camera, height, width, slack_s)

    def close(self) -> None:
        """End the drawing thread."""
        if self._thread is not None:
            self._jobs.put(None)
            self._thread.join(10.0)
            self._thread = None

    # --- drawing beside the loop ------------------------------------------------------------------------------------

    def _start(self) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._draw_jobs, name="viewfinder", daemon=True)
            self._thread.start()

    def _draw_jobs(self) -> None:
        scene: FrozenScene | None = None
        while (job := self._jobs.get()) is not None:
            scene, camera, height, width = job
            started_s = time.thread_time()
            try:
                self._publish(camera, scene.render(camera, height, width), time.thread_time() - started_s)
            finally:
                self._busy.clear()
        if scene is not None:
            scene.close()

    # --- drawing in the loop ----------------------------------------------------------------------------------------

    def _draw_here(self, robot: Robot, camera: str, height: int, width: int, slack_s: float | None) -> None:
        scale = self._fitting_scale(height * width, slack_s)
        if scale is None:
            return
        started_s = time.monotonic()
        image = robot.render(camera, max(1, int(height * scale)), max(1, int(width * scale)))
        cost_s = time.monotonic() - started_s
        # the largest cost is remembered and fades, so that one slow picture (a new renderer) does not blind the page for ever
        self._seconds_per_pixel = max(cost_s / image[..., 0].size, 0.8 * self._seconds_per_pixel)
        self._publish(camera, image, cost_s)

    def _fitting_scale(self, pixels: int, slack_s: float | None) -> float | None:
        """Largest scale whose expected cost fits; None when even the smallest does not."""
        if slack_s is None or self._seconds_per_pixel == 0.0:
            return 1.0
        for scale in SCALES:
            if self._seconds_per_pixel * pixels * scale * scale <= SHARE_OF_SLACK * slack_s:
                return scale
        self._seconds_per_pixel *= 0.98  # try again some time
        return None

    def _publish(self, camera: str, image: np.ndarray, cost_s: float) -> None:
        now = time.monotonic()
        self._rest_until_s = now + cost_s * (1 / SHARE_OF_TIME - 1)
        with self._lock:
            self._next_s[camera] = now + self._interval_s
            self._images[camera] = image
