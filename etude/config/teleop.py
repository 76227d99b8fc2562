"""Mapping files of teleoperation devices (robot_configs/teleop): which axis and which button means what."""

from __future__ import annotations

import re
from typing import Literal

from pydantic import Field, field_validator, model_validator

from etude.config.model import Model

Direction = Literal["x", "y", "z", "roll", "pitch", "yaw"]
TERM = re.compile(r"[+-]?[a-z][a-z0-9_]*")


class TeleopMapping(Model):
    """From the named axes (in [-1, 1]) and buttons of a device to a command.

    A term is a name with an optional sign, e.g. ``-left_y``; a button counts as 1 while it is down. Directions are those of the
    robot's base: x forwards, y to its left, z up; roll, pitch and yaw are about these axes, right-handed.
    """

    device: Literal["gamepad", "spacemouse", "joy", "twist", "leader", "browser"]
    axes: dict[Direction, tuple[str, ...]] = Field(description="Direction of motion -> terms that add up to it.")
    deadman: tuple[str, ...] = Field(min_length=1, description="Buttons; the robot moves only while one of them is held.")
    takeover: str | None = Field(
        None,
        description="Button that keeps the robot while it is down, also without the deadman; the robot then stands still. None: "
        "holding the deadman takes over and letting go gives back.",
    )
    gripper_open: str | None = None
    gripper_close: str | None = None
    gripper_toggle: str | None = Field(None, description="Button that closes the gripper and, pressed again, opens it.")
    gripper_axis: str | None = Field(None, description="Axis that is the absolute opening, -1 closed to +1 open.")
    commands: dict[str, str] = Field(
        default_factory=dict, description="Command (success, failure, redo, stop) -> button. stop is the software stop."
    )
    dead_zone: float = Field(0.08, ge=0, lt=1, description="Share of an axis around its rest that counts as none.")
    linear_m_s: float = Field(0.2, gt=0, description="Speed at full deflection.")
    angular_rad_s: float = Field(0.8, gt=0, description="Turning speed at full deflection.")
    forward_yaw_deg: float = Field(
        0.0, description="Which way is forward for the operator: how far to turn left from the robot's own x axis, degrees."
    )
    leader_joints: tuple[str, ...] = Field(
        (), description="Joint names of a leader arm, base to wrist, and last the one of its gripper."
    )
    leader_offsets_rad: tuple[float, ...] = Field((), description="Added to the leader's seven joint angles.")

    @field_validator("axes")
    @classmethod
    def _terms(cls, axes: dict[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
        for term in (term for terms in axes.values() for term in terms):
            if not TERM.fullmatch(term):
                raise ValueError(f"{term!r} is not a term: a name in small letters with an optional sign, e.g. -left_y")
        return axes

    @model_validator(mode="after")
    def _leader_is_whole(self) -> "TeleopMapping":
        if self.device == "leader" and (len(self.leader_joints) != 8 or len(self.leader_offsets_rad) not in (0, 7)):
            raise ValueError(
                "device leader needs leader_joints (seven joints and the gripper) and seven leader_offsets_rad, or none"
            )
        return self
