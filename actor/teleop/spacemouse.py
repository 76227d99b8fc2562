"""A 3Dconnexion SpaceMouse through the kernel's raw HID reports (/dev/hidraw*), read directly: no library is needed on Linux.

Reports, by the device's own HID descriptor: 1 translation (x, y, z as int16, little endian) and, on newer models, rotation in the
same report; 2 rotation (rx, ry, rz); 3 buttons, a bit each. x points right, y towards the person, z down.
"""

from __future__ import annotations

import errno
import os
import struct
import time
from collections.abc import Callable
from pathlib import Path

from actor.teleop.command import TeleopError
from actor.teleop.mapping import Sample

FULL = 350.0
"""Counts at full deflection."""
NAMES = ("x", "y", "z", "rx", "ry", "rz")
SILENT_AFTER_S = 0.25
"""A deflected cap reports all the time (every 8 to 16 ms); a longer silence means that it is out of reach."""
MODELS = {
    (0x046D, 0xC626): "SpaceNavigator",
    (0x046D, 0xC627): "SpaceExplorer",
    (0x046D, 0xC628): "SpaceNavigator for Notebooks",
    (0x046D, 0xC629): "SpacePilot Pro",
    (0x046D, 0xC62B): "SpaceMouse Pro",
    (0x256F, 0xC62E): "SpaceMouse Wireless (cable)",
    (0x256F, 0xC62F): "SpaceMouse Wireless",
    (0x256F, 0xC631): "SpaceMouse Pro Wireless (cable)",
    (0x256F, 0xC632): "SpaceMouse Pro Wireless",
    (0x256F, 0xC633): "SpaceMouse Enterprise",
    (0x256F, 0xC635): "SpaceMouse Compact",
    (0x256F, 0xC652): "Universal Receiver",
}
SYSFS = Path("/sys/class/hidraw")


class Parser:
    """Raw reports -> the state of the mouse."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._axes = dict.fromkeys(NAMES, 0.0)
        self._buttons = 0
        self._heard_s = clock()

    def feed(self, report: bytes) -> None:
        """Take one report. Unknown and short ones (battery, keep-alive) change nothing."""
        if not report:
            return
        kind, body = report[0], report[1:]
        if kind in (1, 2) and len(body) >= 6:
            names = NAMES[3:] if kind == 2 else NAMES[: 6 if len(body) >= 12 else 3]
            for name, count in zip(names, struct.unpack_from(f"<{len(names)}h", body), strict=True):
                self._axes[name] = max(-1.0, min(1.0, count / FULL))
            self._heard_s = self._clock()
        elif kind == 3 and body:
            self._buttons = int.from_bytes(body[:6], "little")

    @property
    def sample(self) -> Sample:
        """Raises OSError when a deflected cap has fallen silent: what is held is unknown."""
        if any(self._axes.values()) and self._clock() - self._heard_s > SILENT_AFTER_S:
            raise OSError(errno.EIO, "out of reach")
        return Sample(dict(self._axes), frozenset(f"button{bit}" for bit in range(48) if self._buttons >> bit & 1))


def find() -> list[tuple[Path, str]]:
    """(hidraw file, model) of every SpaceMouse on this machine."""
    found = []
    for folder in sorted(SYSFS.glob("hidraw*")):
        try:
            lines = (folder / "device/uevent").read_text().splitlines()
        except OSError:
            continue
        facts = dict(line.split("=", 1) for line in lines if "=" in line)
        try:
            _, vendor, product = (int(part, 16) for part in facts.get("HID_ID", "").split(":"))
        except ValueError:
            continue
        if (vendor, product) in MODELS:
            found.append((Path("/dev") / folder.name, MODELS[vendor, product]))
    return found


class SpaceMouse:
    """An open SpaceMouse. `read` never blocks; it raises OSError when the mouse is gone."""

    def __init__(self, path: Path | None = None) -> None:
        """The first one of this machine, or the one at `path`. Raises TeleopError when there is none."""
        if path is None:
            mice = find()
            if not mice:
                raise TeleopError("no SpaceMouse was found: connect one (`etude teleop list` shows what is there)")
            path = mice[0][0]
        try:
            self._file = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        except PermissionError as error:
            raise TeleopError(
                f"{path} may not be read: put a file into /etc/udev/rules.d with the line "
                'KERNEL=="hidraw*", ATTRS{idVendor}=="256f", MODE="0660", TAG+="uaccess" (one more for 046d) and connect it again'
            ) from error
        except OSError as error:
            raise TeleopError(f"the SpaceMouse {path} cannot be opened: {error.strerror}") from error
        self._parser = Parser()

    def read(self) -> Sample:
        try:
            while report := os.read(self._file, 64):
                self._parser.feed(report)
        except BlockingIOError:
            pass
        return self._parser.sample

    def close(self) -> None:
        os.close(self._file)
