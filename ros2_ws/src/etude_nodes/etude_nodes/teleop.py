"""`etude_msgs/TeleopCommand` to and from `actor.teleop.command.TeleopCommand`, and how old a command is on arrival.

Apart from `convert`, because only the actor, the page and the teleop node speak of operators.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from typing import Any

from etude_msgs import msg

from actor.teleop.command import BASE_FRAME, DelayMeter, TeleopCommand
from etude_nodes.convert import MessageError

OPERATORS = 16
"""Operators whose delay is remembered; the one heard longest ago is forgotten."""
LONGEST_NAME = 80
LONGEST_INSTRUCTION = 200


def command_to_message(command: TeleopCommand, operator: str, device: str, stamp: Any) -> msg.TeleopCommand:
    """`stamp`: builtin_interfaces Time of now, wall clock."""
    message = msg.TeleopCommand(
        operator_name=operator,
        device=device,
        takeover=command.takeover,
        deadman=command.deadman,
        gripper=float(command.gripper),
        buttons=list(command.buttons),
        instruction=command.instruction,
    )
    message.header.stamp, message.header.frame_id = stamp, BASE_FRAME
    for vector, values in ((message.twist.linear, command.linear_m_s), (message.twist.angular, command.angular_rad_s)):
        vector.x, vector.y, vector.z = (float(value) for value in values)
    return message


def named(operator: str, device: str) -> str:
    """How the actor calls who holds a device."""
    return f"{operator or 'an operator'} ({device or 'unknown device'})"


class CommandInbox:
    """Turns messages into commands whose time is ours. For one thread."""

    def __init__(self) -> None:
        self._delays: OrderedDict[str, DelayMeter] = OrderedDict()

    def command(self, message: msg.TeleopCommand) -> TeleopCommand:
        """Raises MessageError for a frame other than ``base`` and for names that are too long."""
        if message.header.frame_id not in ("", BASE_FRAME):
            raise MessageError(f"a teleoperation command is in frame {message.header.frame_id!r}: send it in {BASE_FRAME!r}")
        if len(message.operator_name) > LONGEST_NAME or len(message.device) > LONGEST_NAME or len(message.buttons) > 64:
            raise MessageError("a teleoperation command has a name that is too long, or too many buttons")
        if len(message.instruction) > LONGEST_INSTRUCTION:
            raise MessageError(f"an instruction has {len(message.instruction)} letters, more than {LONGEST_INSTRUCTION}")
        operator = named(message.operator_name, message.device)
        meter = self._delays.pop(operator, None) or DelayMeter()
        self._delays[operator] = meter
        while len(self._delays) > OPERATORS:
            self._delays.popitem(last=False)
        stamp_s = message.header.stamp.sec + message.header.stamp.nanosec * 1e-9
        twist = message.twist
        return TeleopCommand(
            operator,
            message.takeover,
            message.deadman,
            (twist.linear.x, twist.linear.y, twist.linear.z),
            (twist.angular.x, twist.angular.y, twist.angular.z),
            message.gripper,
            tuple(message.buttons),
            time.monotonic() - meter.age_s(stamp_s, time.time()),
            message.instruction,
        )
