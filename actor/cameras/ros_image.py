"""Cameras that some other program drives: topics of sensor_msgs/Image or CompressedImage, as every ROS camera driver has them.

The message is kept as it came and decoded when somebody looks, so a camera at 60 Hz costs a robot of 10 Hz little.
"""

from __future__ import annotations

import threading
import time
import zlib
from typing import Any

import numpy as np

from actor.cameras import Picture
from etude.config.hardware import CameraConfig


class RosImages:
    """The newest picture of every camera of `cameras`, heard through subscriptions on `node`, which somebody else spins."""

    def __init__(self, node: Any, cameras: dict[str, CameraConfig]) -> None:
        from rclpy.qos import QoSProfile, ReliabilityPolicy
        from sensor_msgs.msg import CompressedImage, Image

        self._lock = threading.Lock()
        self._messages: dict[str, tuple[Any, int, float, float]] = {}
        self._decoded: dict[str, tuple[Any, np.ndarray]] = {}
        newest = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)  # heard by reliable and best effort publishers
        for name, config in cameras.items():
            kind = CompressedImage if config.topic.endswith("/compressed") else Image
            node.create_subscription(kind, config.topic, lambda message, name=name: self._heard(name, message), newest)

    def _heard(self, name: str, message: Any) -> None:
        checksum, now = zlib.crc32(memoryview(message.data)), time.monotonic()
        with self._lock:
            before = self._messages.get(name)
            changed = before[3] if before is not None and before[1] == checksum else now
            self._messages[name] = (message, checksum, now, changed)

    def pictures(self) -> dict[str, Picture]:
        """By camera, those that were heard of; every message is decoded once."""
        with self._lock:
            messages = dict(self._messages)
        return {name: self._picture(name, *entry) for name, entry in messages.items()}

    def _picture(self, name: str, message: Any, checksum: int, heard_s: float, changed_s: float) -> Picture:
        done = self._decoded.get(name)
        if done is None or done[0] is not message:
            done = self._decoded[name] = (message, decode(message))
        return Picture(done[1], heard_s, changed_s)


def decode(message: Any) -> np.ndarray:
    """uint8 RGB ``(height, width, 3)`` of a sensor_msgs/Image (rgb8, bgr8) or CompressedImage; empty when it cannot be read."""
    import cv2

    data = np.frombuffer(message.data, np.uint8)
    if hasattr(message, "format"):
        picture = cv2.imdecode(data, cv2.IMREAD_COLOR) if data.size else None
        return np.zeros((0, 0, 3), np.uint8) if picture is None else picture[:, :, ::-1]
    rows, width = message.height, message.width
    if message.encoding not in ("rgb8", "bgr8") or message.step < 3 * width or data.size < rows * message.step:
        return np.zeros((0, 0, 3), np.uint8)
    picture = data[: rows * message.step].reshape(rows, message.step)[:, : 3 * width].reshape(rows, width, 3)
    return picture if message.encoding == "rgb8" else picture[:, :, ::-1]
