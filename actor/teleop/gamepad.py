"""A gamepad through the kernel's input events (/dev/input/event*), read directly: no library is needed on Linux.

The format is `struct input_event` of linux/input.h; names of axes and buttons follow the kernel's gamepad specification
(Documentation/input/gamepad.rst), so that they are the same for every make.
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct
from pathlib import Path

from actor.teleop.command import TeleopError
from actor.teleop.mapping import Sample

EVENT = struct.Struct("@llHHi")
"""Seconds, microseconds, type, code, value."""
EV_SYN, EV_KEY, EV_ABS = 0, 1, 3
SYN_DROPPED = 3
BUTTONS = {
    0x130: "south", 0x131: "east", 0x133: "north", 0x134: "west", 0x136: "left_bumper", 0x137: "right_bumper",
    0x138: "left_trigger_button", 0x139: "right_trigger_button", 0x13A: "select", 0x13B: "start", 0x13C: "mode",
    0x13D: "left_stick", 0x13E: "right_stick",
}  # fmt: skip
AXES = {0: "left_x", 1: "left_y", 2: "left_trigger", 3: "right_x", 4: "right_y", 5: "right_trigger", 16: "pad_x", 17: "pad_y"}
TRIGGERS = (2, 5)
GAMEPAD_BUTTON = 0x130
SYSFS = Path("/sys/class/input")


class Parser:
    """Bytes of the kernel -> the gamepad's state. `ranges`: axis code -> (minimum, maximum)."""

    def __init__(self, ranges: dict[int, tuple[int, int]]) -> None:
        self._ranges = ranges
        self._axes: dict[str, float] = {}
        self._buttons: set[str] = set()
        self._rest = b""

    def feed(self, data: bytes) -> None:
        """Take bytes as they come, whole events or not. Raises OSError when the kernel dropped some: what is held is unknown."""
        data = self._rest + data
        whole = len(data) - len(data) % EVENT.size
        self._rest = data[whole:]
        for _, _, kind, code, value in EVENT.iter_unpack(data[:whole]):
            if kind == EV_KEY and code in BUTTONS:
                (self._buttons.add if value else self._buttons.discard)(BUTTONS[code])
            elif kind == EV_ABS and code in AXES:
                self._axes[AXES[code]] = self._normalised(code, value)
            elif kind == EV_SYN and code == SYN_DROPPED:
                raise OSError(errno.EIO, "the kernel dropped events")

    @property
    def sample(self) -> Sample:
        return Sample(dict(self._axes), frozenset(self._buttons))

    def _normalised(self, code: int, value: int) -> float:
        low, high = self._ranges.get(code, (-32768, 32767))
        if high <= low:
            return 0.0
        share = (value - low) / (high - low)
        return max(0.0, min(1.0, share)) if code in TRIGGERS else max(-1.0, min(1.0, 2.0 * share - 1.0))


def find() -> list[tuple[Path, str]]:
    """(event file, name) of every gamepad on this machine."""
    found = []
    for folder in sorted(SYSFS.glob("event*"), key=lambda path: int(path.name.removeprefix("event"))):
        try:
            keys = [int(word, 16) for word in (folder / "device/capabilities/key").read_text().split()]
            name = (folder / "device/name").read_text().strip()
        except OSError:
            continue
        bits = struct.calcsize("@l") * 8
        index, bit = divmod(GAMEPAD_BUTTON, bits)
        if index < len(keys) and keys[-1 - index] >> bit & 1:
            found.append((Path("/dev/input") / folder.name, name))
    return found


class Gamepad:
    """An open gamepad. `read` never blocks; it raises OSError when the gamepad is gone."""

    def __init__(self, path: Path | None = None) -> None:
        """The first gamepad of this machine, or the one at `path`. Raises TeleopError when there is none."""
        if path is None:
            pads = find()
            if not pads:
                raise TeleopError("no gamepad was found: connect one (`etude teleop list` shows what is there)")
            path = pads[0][0]
        try:
            self._file = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        except PermissionError as error:
            raise TeleopError(f"{path} may not be read: add this user to the group 'input' and log in again") from error
        except OSError as error:
            raise TeleopError(f"the gamepad {path} cannot be opened: {error.strerror}") from error
        self._parser = Parser({code: absolute_range(self._file, code) for code in AXES})

    def read(self) -> Sample:
        try:
            while data := os.read(self._file, EVENT.size * 64):
                self._parser.feed(data)
        except BlockingIOError:
            pass
        return self._parser.sample

    def close(self) -> None:
        os.close(self._file)


def absolute_range(file: int, code: int) -> tuple[int, int]:
    """(minimum, maximum) of an axis by ``EVIOCGABS``; (0, 0) when the device lacks it."""
    buffer = bytearray(24)
    try:
        fcntl.ioctl(file, 0x80184540 + code, buffer)
    except OSError:
        return 0, 0
    _, low, high, _, _, _ = struct.unpack("@6i", buffer)
    return low, high
