"""From what a device says (axes and buttons) to what its operator wants, by the device's mapping file.

Separate from the devices, which know nothing of robots, and the same for all of them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from actor.teleop.command import TeleopCommand
from etude.config import CONFIG_ROOT, TeleopMapping, build, read_named

FOLDER = "teleop"


@dataclass(frozen=True)
class Sample:
    """The state of a device now. `axes` are in [-1, 1], rest 0; `buttons` are the names of those that are down."""

    axes: dict[str, float] = field(default_factory=dict)
    buttons: frozenset[str] = frozenset()


def load_mapping(name: str) -> TeleopMapping:
    """``robot_configs/teleop/<name>.yaml``, or the file at `name` when it ends in .yaml. Raises ConfigError."""
    return build(TeleopMapping, read_named(FOLDER, name), f"robot_configs/{FOLDER}/{name}.yaml" if ".yaml" not in name else name)


def mapping_names() -> list[str]:
    return sorted(path.stem for path in (CONFIG_ROOT / FOLDER).glob("*.yaml"))


def direction_values(mapping: TeleopMapping, sample: Sample) -> dict[str, float]:
    """Each direction's deflection in [-1, 1], dead zone applied, in the operator's frame."""
    values: dict[str, float] = {}
    for direction, terms in mapping.axes.items():
        total = 0.0
        for term in terms:
            sign, name = (-1.0 if term.startswith("-") else 1.0), term.lstrip("+-")
            total += sign * (1.0 if name in sample.buttons else _beyond(sample.axes.get(name, 0.0), mapping.dead_zone))
        values[direction] = max(-1.0, min(1.0, total))
    return values


def _beyond(value: float, dead_zone: float) -> float:
    """What of `value` lies beyond the dead zone, stretched so that full deflection stays 1; 0 for what is not finite."""
    if not math.isfinite(value) or abs(value) <= dead_zone:
        return 0.0
    return math.copysign((min(abs(value), 1.0) - dead_zone) / (1.0 - dead_zone), value)


class Mapper:
    """Commands of one device, one after another; remembers the gripper while the robot is taken over."""

    def __init__(self, mapping: TeleopMapping, operator: str) -> None:
        self.mapping, self._operator = mapping, operator
        self._gripper, self._toggling = math.nan, False

    def command(self, sample: Sample, now_s: float) -> TeleopCommand:
        """What the operator wants with the device as it is now."""
        mapping, down = self.mapping, sample.buttons
        deadman = any(name in down for name in mapping.deadman)
        taken = deadman if mapping.takeover is None else mapping.takeover in down
        if not taken:
            self._gripper = math.nan
        elif deadman:
            self._move_gripper(sample)
        self._toggling = mapping.gripper_toggle in down
        values = direction_values(mapping, sample) if taken and deadman else {}
        x, y, z, roll, pitch, yaw = (values.get(name, 0.0) for name in ("x", "y", "z", "roll", "pitch", "yaw"))
        turn = math.radians(mapping.forward_yaw_deg)
        cos, sin = math.cos(turn), math.sin(turn)
        speed, rate = mapping.linear_m_s, mapping.angular_rad_s
        return TeleopCommand(
            self._operator,
            taken,
            taken and deadman,
            (speed * (cos * x - sin * y), speed * (sin * x + cos * y), speed * z),
            (rate * (cos * roll - sin * pitch), rate * (sin * roll + cos * pitch), rate * yaw),
            self._gripper,
            tuple(sorted(name for name, button in mapping.commands.items() if button in down)),
            now_s,
        )

    def _move_gripper(self, sample: Sample) -> None:
        mapping = self.mapping
        if mapping.gripper_axis in sample.axes:
            self._gripper = max(-1.0, min(1.0, sample.axes[mapping.gripper_axis]))
        if mapping.gripper_toggle in sample.buttons and not self._toggling:
            self._gripper = 1.0 if self._gripper < 0 else -1.0
        if mapping.gripper_open in sample.buttons:
            self._gripper = 1.0
        if mapping.gripper_close in sample.buttons:
            self._gripper = -1.0
