"""An operator's command at one moment, and the action that it means: the content of `etude_msgs/TeleopCommand` without ROS."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from actor.safety import GRIPPER, JOINT_SUFFIX, ROTATION, TRANSLATION, hold_action
from etude.specs import ActionSpec

BASE_FRAME = "base"
STOP_BUTTON = "stop"


class TeleopError(ValueError):
    """A device, a mapping or a command cannot be used; the message names it and the remedy."""


@dataclass(frozen=True)
class TeleopCommand:
    """What one operator wants now.

    Attributes:
        operator: who, and with which device; one operator has authority at a time.
        takeover: wants authority. False hands the robot back.
        deadman: the hold-to-run switch is held. With takeover and without it the robot holds still.
        linear_m_s: velocity of the tool centre point, base frame, m/s ``(3,)``.
        angular_rad_s: angular velocity, base frame, rad/s ``(3,)``.
        gripper: absolute opening, -1 closed to +1 open; NaN leaves it as it is.
        buttons: names of the buttons that are down, e.g. ``success``; ``stop`` is the software stop.
        at_s: ``time.monotonic()`` when it was given, seconds, as well as the receiver knows.
        instruction: the words that it carries out, which become the instruction of the steps that it moves; empty: none.
    """

    operator: str
    takeover: bool
    deadman: bool
    linear_m_s: tuple[float, float, float] = (0.0, 0.0, 0.0)
    angular_rad_s: tuple[float, float, float] = (0.0, 0.0, 0.0)
    gripper: float = math.nan
    buttons: tuple[str, ...] = ()
    at_s: float = -math.inf
    instruction: str = ""


def refusal(spec: ActionSpec) -> str:
    """Why a robot with these actions cannot be moved by velocities of its tool; empty when it can."""
    if any(name.endswith(JOINT_SUFFIX) for name in spec.names) or not set(spec.names) & set(TRANSLATION):
        return f"this robot's actions are {'/'.join(spec.names)}: teleoperation moves a tool along x, y and z only"
    return ""


def action_of(
    command: TeleopCommand, spec: ActionSpec, step_s: float, previous: np.ndarray | None, gripper_as_it_is: float = 1.0
) -> np.ndarray:
    """The normalised action of one control step of `step_s` seconds, float32 ``(dim,)``, not yet filtered.

    The displacement of one step is velocity times `step_s`, so it begins where the commanded pose is now. The gripper stays as in
    the action executed last (`previous`; without one, `gripper_as_it_is`) unless the command says otherwise.
    """
    action = hold_action(spec, previous, gripper_as_it_is)
    velocity = dict(zip((*TRANSLATION, *ROTATION), (*command.linear_m_s, *command.angular_rad_s), strict=True))
    for index, (name, scale) in enumerate(zip(spec.names, spec.scale, strict=True)):
        if name in velocity and scale:
            action[index] = velocity[name] * step_s / scale
        elif name == GRIPPER and math.isfinite(command.gripper):
            action[index] = command.gripper
    return np.clip(action, -1.0, 1.0)


class DelayMeter:
    """How old a command was on arrival, from the sender's wall clock, whose offset from ours nobody knows.

    The quickest command of the last `WINDOW_S` to twice that counts as not delayed at all; what arrives later than it by a second
    is a second old. So clocks may differ and drift, and a network that stutters is seen.
    """

    WINDOW_S = 10.0

    def __init__(self) -> None:
        self._quickest = [math.inf, math.inf]  # of the window before, and of this one
        self._window_ends_s = -math.inf

    def age_s(self, stamp_s: float, received_s: float) -> float:
        """Age of a command stamped `stamp_s` by the sender and received at `received_s` by our clock, seconds, at least 0."""
        offset_s = received_s - stamp_s
        if received_s >= self._window_ends_s:
            self._quickest = [self._quickest[1], offset_s]
            self._window_ends_s = received_s + self.WINDOW_S
        self._quickest[1] = min(self._quickest[1], offset_s)
        return offset_s - min(self._quickest)
