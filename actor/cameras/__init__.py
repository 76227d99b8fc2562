"""Cameras beside a robot, one file per source: `ros_image` (topics of any driver) and `realsense` (librealsense, by serial).

A source keeps the newest picture in a thread of its own and never makes anybody wait. What is late, frozen or absent is said by
`problems_of`, the same way for every source; what a policy sees is cut by `as_seen`. Simulated cameras belong to their robots.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from actor import watchdogs
from etude.config.hardware import CameraConfig


@dataclass
class Picture:
    """The newest picture of a camera: uint8 RGB ``(height, width, 3)``, empty when it could not be read.

    `heard_s` is of which moment it is, `changed_s` since when it has been the same in every bit, both ``time.monotonic()``.
    """

    image: np.ndarray
    heard_s: float
    changed_s: float


class Camera(Protocol):
    """A source of pictures that this process opened by itself. Methods return at once."""

    def newest(self) -> Picture | None:
        """None before the first picture."""
        ...

    def trouble(self) -> str:
        """Why there is no picture, a sentence that says what to do; empty when all is well."""
        ...

    def close(self) -> None: ...


def problems_of(name: str, picture: Picture | None, config: CameraConfig, now_s: float, trouble: str = "") -> tuple[str, ...]:
    """Every reason why a policy must not act on `picture` of camera `name`, sentences; `trouble` is the source's own word."""
    if trouble:
        return (f"camera {name}: {trouble}",)
    if picture is None:
        return (f"camera {name} shows nothing",)
    if not picture.image.size:
        return (f"camera {name} sends no rgb8, bgr8 or JPEG",)
    if not fits(picture.image, config.crop_px):
        height, width = picture.image.shape[:2]
        crop = list(config.crop_px or ())
        return (f"camera {name}: crop_px {crop} (left, top, size) reaches beyond its picture of {width}×{height} pixels",)
    late = watchdogs.late_inputs({f"camera {name}": picture.heard_s}, {f"camera {name}": config.max_age_s}, now_s)
    frozen = watchdogs.frozen_picture(name, picture.changed_s, now_s, config.frozen_after_s)
    return (*late, frozen) if frozen else late


def fits(image: np.ndarray, crop_px: tuple[int, int, int] | None) -> bool:
    """Whether `image` has pixels, and the square `crop_px` (left, top, size) lies inside it."""
    height, width = image.shape[:2]
    left, top, size = crop_px or (0, 0, 1)
    return left + size <= width and top + size <= height


def as_seen(image: np.ndarray, size_px: int, crop_px: tuple[int, int, int] | None = None) -> np.ndarray:
    """What a policy sees of `image`: the square `crop_px` (left, top, size; None: the largest one in the middle), scaled to
    ``(size_px, size_px, 3)``."""
    import cv2

    height, width = image.shape[:2]
    side = min(height, width)
    left, top, side = crop_px or ((width - side) // 2, (height - side) // 2, side)
    cut = np.ascontiguousarray(image[top : top + side, left : left + side])
    way = cv2.INTER_AREA if side > size_px else cv2.INTER_LINEAR
    return cut if side == size_px else cv2.resize(cut, (size_px, size_px), interpolation=way)
