"""Makes a recording of a RealSense camera that does not exist: librealsense's software device, recorded by its own recorder.

A live software device cannot feed a pipeline in current versions (librealsense issue 13819); its recording can.
"""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np

WIDTH, HEIGHT, RATE_HZ = 160, 120, 30
SERIAL = "000000000042"


def picture(number: int) -> np.ndarray:
    """uint8 RGB; its top left pixel is (number, 0, 0)."""
    image = np.full((HEIGHT, WIDTH, 3), 60, np.uint8)
    image[:, :, 1] = np.arange(WIDTH, dtype=np.uint8)
    image[:8, :8] = (number, 0, 0)
    return image


def record(path: Path, pictures: list[np.ndarray]) -> None:
    """Write `pictures`, `RATE_HZ` a second by their stamps, as a recording that a pipeline can play."""
    import pyrealsense2 as rs

    intrinsics = rs.intrinsics()
    intrinsics.width, intrinsics.height, intrinsics.ppx, intrinsics.ppy = WIDTH, HEIGHT, WIDTH / 2, HEIGHT / 2
    intrinsics.fx = intrinsics.fy = 150.0
    intrinsics.model, intrinsics.coeffs = rs.distortion.brown_conrady, [0.0] * 5
    device = rs.software_device()
    for what, value in (
        (rs.camera_info.name, "Recorded D435"),
        (rs.camera_info.serial_number, SERIAL),
        (rs.camera_info.physical_port, "none"),
        (rs.camera_info.product_line, "D400"),
        (rs.camera_info.firmware_version, "5.16.0.1"),
        (rs.camera_info.product_id, "0B07"),
    ):
        device.register_info(what, value)
    sensor = device.add_sensor("RGB Camera")
    stream = rs.video_stream()
    stream.type, stream.index, stream.uid, stream.fmt = rs.stream.color, 0, 1, rs.format.rgb8
    stream.width, stream.height, stream.fps, stream.bpp, stream.intrinsics = WIDTH, HEIGHT, RATE_HZ, 3, intrinsics
    profile = sensor.add_video_stream(stream)
    recorder = rs.recorder(str(path), device)
    recorded = recorder.query_sensors()[0]
    recorded.open(profile)
    recorded.start(lambda frame: None)
    for number, image in enumerate(pictures, start=1):
        frame = rs.software_video_frame()
        frame.pixels, frame.stride, frame.bpp = np.ascontiguousarray(image), WIDTH * 3, 3
        frame.timestamp, frame.domain = number * 1000.0 / RATE_HZ, rs.timestamp_domain.hardware_clock
        frame.frame_number, frame.profile = number, profile.as_video_stream_profile()
        sensor.on_video_frame(frame)
        time.sleep(1.0 / RATE_HZ)
    recorded.stop()
    recorded.close()
