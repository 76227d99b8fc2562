"""Commands about teleoperation: `etude teleop list`, `etude teleop test`. Neither can move a robot."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol, TextIO

from actor.teleop import gamepad, spacemouse
from actor.teleop.command import TeleopCommand, TeleopError
from actor.teleop.mapping import Mapper, Sample, load_mapping, mapping_names
from etude.config import TeleopMapping

PERIOD_S = 0.1


class Device(Protocol):
    """A device that is read directly. `read` raises OSError when it is gone."""

    def read(self) -> Sample: ...

    def close(self) -> None: ...


DEVICES: dict[str, Callable[[Path | None], Device]] = {"gamepad": gamepad.Gamepad, "spacemouse": spacemouse.SpaceMouse}


def open_device(mapping: TeleopMapping, path: Path | None = None) -> Device:
    """The device of a mapping. Raises TeleopError when it is not there, or is a topic or the page and not a device."""
    if mapping.device not in DEVICES:
        raise TeleopError(f"device {mapping.device!r} is no device of this machine: it comes over a ROS topic or from the page")
    return DEVICES[mapping.device](path)


def teleop_list(argv: Sequence[str]) -> int:
    """`etude teleop list`: mapping files, and the devices that are connected."""
    parser = argparse.ArgumentParser(
        prog="etude teleop list",
        description="List mapping files and the teleoperation devices that are connected.",
        epilog="example:\n  etude teleop list",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.parse_args(argv)
    print("mappings (robot_configs/teleop):")
    for name in mapping_names():
        mapping = load_mapping(name)
        print(f"  {name:12} device {mapping.device}, hold {' or '.join(mapping.deadman)}")
    found = [("gamepad", *pad) for pad in gamepad.find()] + [("spacemouse", *mouse) for mouse in spacemouse.find()]
    print("connected:" if found else "connected: no gamepad and no SpaceMouse; the page in the browser always works")
    for device, path, name in found:
        print(f"  {device:12} {path}  {name}")
    return 0


def teleop_test(argv: Sequence[str]) -> int:
    """`etude teleop test`: what each axis and button does, before anything moves."""
    parser = argparse.ArgumentParser(
        prog="etude teleop test",
        description="Show what a device says and what it would command. Nothing is sent to any robot.",
        epilog="examples:\n  etude teleop test gamepad\n  etude teleop test my-mouse.yaml --path /dev/hidraw3 --seconds 30",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("mapping", help="name of a file in robot_configs/teleop, or a YAML file")
    parser.add_argument("--path", type=Path, help="event or hidraw file of the device (default: the first one found)")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="default: until Ctrl-C")
    arguments = parser.parse_args(argv)
    mapping = load_mapping(arguments.mapping)
    for line in explain(mapping):
        print(line)
    device = open_device(mapping, arguments.path)
    try:
        watch(device, Mapper(mapping, "test"), sys.stdout, arguments.seconds)
    except OSError as error:
        raise TeleopError(f"the {mapping.device} is gone ({error.strerror}): on a robot it would hold now") from error
    finally:
        device.close()
    return 0


def explain(mapping: TeleopMapping) -> list[str]:
    """What a mapping means, a line each."""
    meaning = {"x": "forwards", "y": "to the left", "z": "up"}
    lines = [f"hold {' or '.join(mapping.deadman)}: the robot moves; without it, it never does"]
    if mapping.takeover is None:
        lines.append("holding it takes over, letting go gives the robot back to the policy")
    else:
        lines.append(f"{mapping.takeover}: keeps the robot, standing still without the deadman")
    for direction, terms in mapping.axes.items():
        speed = f"{mapping.linear_m_s:g} m/s" if direction in meaning else f"{mapping.angular_rad_s:g} rad/s"
        lines.append(f"{direction:5} {meaning.get(direction, 'turning'):12} {' '.join(terms)}, up to {speed}")
    gripper = {"open": mapping.gripper_open, "close": mapping.gripper_close, "toggle": mapping.gripper_toggle}
    lines.append("gripper " + (", ".join(f"{what} {button}" for what, button in gripper.items() if button) or "by its axis"))
    return lines + [f"{command}: {button}" for command, button in mapping.commands.items()]


def watch(device: Device, mapper: Mapper, out: TextIO, seconds: float) -> None:
    """Print what changes, ten times a second at most."""
    ends_s, shown = time.monotonic() + seconds, ""
    while time.monotonic() < ends_s:
        sample = device.read()
        line = describe(sample, mapper.command(sample, time.monotonic()))
        if line != shown:
            print(line, file=out, flush=True)
            shown = line
        time.sleep(PERIOD_S)


def describe(sample: Sample, command: TeleopCommand) -> str:
    """One line: what the device says, and what it would command."""
    axes = " ".join(f"{name} {value:+.2f}" for name, value in sorted(sample.axes.items()) if abs(value) >= 0.01)
    said = f"{axes or 'at rest'} | {' '.join(sorted(sample.buttons)) or 'no button'}"
    if not command.takeover:
        return f"{said} | nothing: the deadman is not held"
    words = [f"{n} {v:+.3f} m/s" for n, v in zip("xyz", command.linear_m_s, strict=True) if v]
    words += [f"{n} {v:+.2f} rad/s" for n, v in zip(("roll", "pitch", "yaw"), command.angular_rad_s, strict=True) if v]
    if command.gripper == command.gripper:  # not NaN
        words.append(f"gripper {command.gripper:+.1f}")
    return f"{said} | {', '.join(words) or 'stands still'}" + "".join(f", {button}" for button in command.buttons)
