"""A RealSense camera through librealsense (pyrealsense2), opened by its serial number, in a thread of its own.

A camera that is unplugged, or whose USB link hangs, is looked for once a second and goes on by itself when it is back; meanwhile
`trouble` says what is wrong, and the robot holds. The same pipeline plays recordings, which is how it is tested without one.
"""

from __future__ import annotations

import logging
import threading
import time
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from actor.cameras import Picture
from etude.config import ConfigError
from etude.config.hardware import RealSenseConfig

log = logging.getLogger("etude.camera")

FRAME_TIMEOUT_MS = 1000
RETRY_S = 1.0
MAX_STAMP_AGE_S = 10.0
"""A stamp that is farther from now is of another clock (a recording, or one that was never set): the arrival counts then."""


@dataclass(frozen=True)
class Connected:
    """A camera that librealsense sees."""

    serial: str
    name: str
    usb: str
    firmware: str


def library() -> Any:
    """The module pyrealsense2.

    Raises:
        ConfigError: it is not installed, or a system library that it needs is not.
    """
    try:
        import pyrealsense2
    except ImportError as error:
        raise ConfigError(
            f"RealSense cameras need librealsense, which does not load here ({error}): "
            ".venv/bin/pip install -e '.[realsense]' and apt-get install libusb-1.0-0"
        ) from error
    return pyrealsense2


def connected() -> list[Connected]:
    """Cameras on this computer's USB, in the order of their serial numbers. Raises ConfigError without librealsense."""
    rs = library()

    def told(device: Any, what: Any) -> str:
        return device.get_info(what) if device.supports(what) else ""

    info = rs.camera_info
    found = [
        Connected(
            told(d, info.serial_number), told(d, info.name), told(d, info.usb_type_descriptor), told(d, info.firmware_version)
        )
        for d in rs.context().query_devices()
    ]
    return sorted(found, key=lambda camera: camera.serial)


class RealSense:
    """The colour stream of one camera. `newest` and `trouble` return at once.

    Raises:
        ConfigError: librealsense is not installed, or the recording does not exist. A camera that is not plugged in is no error
            but `trouble`: it may come.
    """

    def __init__(self, config: RealSenseConfig) -> None:
        self._rs = library()
        if config.recording and not Path(config.recording).is_file():
            raise ConfigError(f"the recording {config.recording!r} of a RealSense camera does not exist")
        self._config = config
        self._lock = threading.Lock()
        self._picture: Picture | None = None
        self._checksum = 0
        self._trouble = "it is being opened"
        self._resets = int(config.reset_at_start)
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"realsense-{config.serial or 'any'}", daemon=True)
        self._thread.start()

    def newest(self) -> Picture | None:
        with self._lock:
            return self._picture

    def trouble(self) -> str:
        with self._lock:
            return self._trouble

    def close(self) -> None:
        self._closing.set()
        self._thread.join(timeout=5.0)

    # --- its thread -------------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        while not self._closing.is_set():
            try:
                if self._resets:
                    self._reset()
                self._stream()
            except RuntimeError as error:  # librealsense has no finer ones: unplugged, busy, no such resolution, no frame in time
                self._say(self._explained(str(error)))
            self._closing.wait(RETRY_S)

    def _stream(self) -> None:
        """Frames until the camera fails or `close`."""
        rs, config = self._rs, self._config
        if not config.recording and not self._is_connected():
            raise RuntimeError(
                "No device connected"
            )  # starting would wait 15 s for it, and hold every thread of Python meanwhile
        pipeline, wanted = rs.pipeline(), rs.config()
        if config.recording:
            wanted.enable_device_from_file(config.recording, repeat_playback=True)
            wanted.enable_stream(rs.stream.color)
        else:
            if config.serial:
                wanted.enable_device(config.serial)
            wanted.enable_stream(rs.stream.color, config.width_px, config.height_px, rs.format.rgb8, config.rate_hz)
        profile = pipeline.start(wanted)
        try:
            if not config.recording:
                self._lock_exposure(profile.get_device())
            self._say("")
            while not self._closing.is_set():
                frame = pipeline.wait_for_frames(FRAME_TIMEOUT_MS).get_color_frame()
                if frame:
                    self._show(np.asanyarray(frame.get_data()).copy(), frame.get_timestamp(), frame.get_frame_timestamp_domain())
        finally:
            pipeline.stop()

    def _lock_exposure(self, device: Any) -> None:
        option, colour = self._rs.option, device.first_color_sensor()
        for automatic, value, setting in (
            (option.enable_auto_exposure, option.exposure, self._config.exposure_us),
            (option.enable_auto_white_balance, option.white_balance, self._config.white_balance_k),
        ):
            if not colour.supports(automatic):
                continue
            colour.set_option(automatic, float(setting is None))
            if setting is not None:
                # the colour sensor counts exposure in 100 µs
                colour.set_option(value, setting / 100.0 if value == option.exposure else setting)

    def _show(self, image: np.ndarray, stamp_ms: float, domain: Any) -> None:
        now_s = time.monotonic()
        moment_s = moment_of(stamp_ms, domain != self._rs.timestamp_domain.hardware_clock, time.time(), now_s)
        checksum = zlib.crc32(image.tobytes())
        with self._lock:
            same = self._picture is not None and checksum == self._checksum
            self._picture = Picture(image, moment_s, self._picture.changed_s if same and self._picture else now_s)
            self._checksum = checksum

    def _reset(self) -> None:
        """Restart the camera's own firmware; it leaves the bus and comes back some seconds later."""
        self._resets = 0
        for device in self._rs.context().query_devices():
            if not self._config.serial or device.get_info(self._rs.camera_info.serial_number) == self._config.serial:
                self._say("it is being reset")
                device.hardware_reset()
                self._closing.wait(3.0)
                return

    def _explained(self, error: str) -> str:
        which = f"RealSense {self._config.serial}" if self._config.serial else "a RealSense"
        if self._config.recording:
            return f"the recording {self._config.recording} cannot be played: {error}"
        if not self._is_connected():
            serials = [camera.serial for camera in connected()]
            others = f"; connected are {', '.join(serials)}" if serials else ""
            return f"{which} is not connected{others}: check its cable (`etude camera list`)"
        if "resolve" in error:
            wanted = f"{self._config.width_px}×{self._config.height_px} at {self._config.rate_hz} Hz"
            return f"{which} has no colour stream of {wanted}, or its USB link is too slow for it: {error}"
        return f"{which} fails: {error}"

    def _is_connected(self) -> bool:
        serials = [camera.serial for camera in connected()]
        return self._config.serial in serials if self._config.serial else bool(serials)

    def _say(self, trouble: str) -> None:
        with self._lock:
            changed, self._trouble = trouble != self._trouble, trouble
        if changed:
            log.log(logging.WARNING if trouble else logging.INFO, "camera %s: %s", self._config.serial, trouble or "streams")


def moment_of(stamp_ms: float, since_epoch: bool, wall_s: float, now_s: float) -> float:
    """A frame's stamp as ``time.monotonic()``, seconds. `wall_s` and `now_s` are now by either clock.

    Stamps of the camera's own clock (not `since_epoch`), and those that cannot be of now, count as now.
    """
    age_s = wall_s - stamp_ms / 1000.0
    return now_s - age_s if since_epoch and 0.0 <= age_s <= MAX_STAMP_AGE_S else now_s
