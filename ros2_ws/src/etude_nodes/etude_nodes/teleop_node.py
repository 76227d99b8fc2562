"""The teleop process: one device in a person's hand becomes `etude_msgs/TeleopCommand`, 30 times a second.

A device that is lost is not spoken for: nothing is published, and the actor holds. Devices of this machine are read directly;
Joy, TwistStamped and a leader's joint states come over topics, with a Bool topic as their pedal where they have no buttons.
"""

from __future__ import annotations

import argparse
import os
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from etude_msgs import msg
from geometry_msgs.msg import TwistStamped
from rclpy.node import Node
from sensor_msgs.msg import JointState, Joy
from std_msgs.msg import Bool

from actor.teleop import joy, twist
from actor.teleop.command import TeleopError
from actor.teleop.commands import DEVICES, Device, open_device
from actor.teleop.leader import Leader
from actor.teleop.mapping import Mapper, Sample, load_mapping
from etude.cli import clear_message
from etude.config import TeleopMapping
from etude_nodes import qos
from etude_nodes.diagnostics import Condition, tell_every_second
from etude_nodes.parameters import fact
from etude_nodes.process import (
    EXIT_DONE,
    EXIT_REFUSED,
    configure_logging,
    middleware,
    open_run,
    spinning,
    stop_event_from_signals,
    user_name,
)
from etude_nodes.teleop import command_to_message

PERIOD_S = 1.0 / 30.0
SILENT_AFTER_S = 0.2
"""A topic that has been silent for longer is a lost device."""
TRY_AGAIN_S = 1.0


class TeleopNode(Node):
    """Publishes ``/<robot>/teleop/command`` while its device is there."""

    def __init__(self, mapping: TeleopMapping, robot: str, operator: str, path: Path | None, topic: str, pedal: str) -> None:
        super().__init__("teleop")
        self._mapping, self._operator, self._path = mapping, operator, path
        self._mapper = Mapper(mapping, operator)
        self._commands = self.create_publisher(msg.TeleopCommand, qos.robot_topic(robot, qos.TELEOP_TOPIC), qos.TELEOP)
        self._device: Device | None = None
        self._try_s = 0.0
        self._heard: tuple[float, Sample] | None = None
        self._pedal: tuple[float, bool] = (-float("inf"), False)
        self._published, self._trouble = 0, ""
        fact(self, "device", mapping.device, "what is in the operator's hand")
        fact(self, "operator", operator, "who holds it")
        fact(self, "period_s", PERIOD_S, "between two commands, seconds", 0.001, 1.0)
        tell_every_second(self, f"teleop/{mapping.device}", self.condition)
        self._leader = Leader(mapping) if mapping.device == "leader" else None
        if mapping.device == "joy":
            self.create_subscription(Joy, topic, lambda m: self._take(joy.sample(m.axes, m.buttons)), qos.SENSOR)
        elif mapping.device == "twist":
            self.create_subscription(TwistStamped, topic, self._on_twist, qos.SENSOR)
        elif mapping.device == "leader":
            self.create_subscription(JointState, topic, self._on_leader, qos.SENSOR)
        if mapping.device in ("twist", "leader"):
            self.create_subscription(Bool, pedal, self._on_pedal, qos.SENSOR)

    def condition(self) -> Condition:
        """For ``/diagnostics``: whether the device is there."""
        values = {"operator": self._operator, "commands": self._published}
        if self._trouble:
            return Condition("warn", self._trouble, values)
        return Condition("ok", f"the {self._mapping.device} is there", values)

    # --- topics -----------------------------------------------------------------------------------------------------

    def _take(self, sample: Sample) -> None:
        self._heard = (time.monotonic(), sample)

    def _on_pedal(self, message: Bool) -> None:
        self._pedal = (time.monotonic(), message.data)

    @property
    def _pedal_is_lost(self) -> bool:
        """It was held and has fallen silent. Then nothing is said, because a pedal that is let go gives the robot back."""
        return self._pedal[1] and time.monotonic() - self._pedal[0] > SILENT_AFTER_S

    def _on_twist(self, message: TwistStamped) -> None:
        linear, angular = message.twist.linear, message.twist.angular
        if self._pedal_is_lost:
            return
        try:
            vectors = (linear.x, linear.y, linear.z), (angular.x, angular.y, angular.z)
            self._take(twist.sample(message.header.frame_id, *vectors, self._pedal[1]))
        except TeleopError as error:
            self.get_logger().error(str(error), throttle_duration_sec=5.0)

    def _on_leader(self, message: JointState) -> None:
        assert self._leader is not None
        if self._pedal_is_lost:
            return
        stamp_s = message.header.stamp.sec + message.header.stamp.nanosec * 1e-9
        buttons = frozenset({twist.PEDAL}) if self._pedal[1] else frozenset()
        try:
            self._take(self._leader.sample(list(message.name), list(message.position), stamp_s, buttons))
        except TeleopError as error:
            self.get_logger().error(str(error), throttle_duration_sec=5.0)

    # --- out --------------------------------------------------------------------------------------------------------

    def run(self, stop: threading.Event) -> None:
        """Publish until `stop`; the last command gives the robot back."""
        while not stop.wait(PERIOD_S):
            self._publish(self._sample())
        self._publish(Sample())
        if self._device is not None:
            self._device.close()

    def _publish(self, sample: Sample | None) -> None:
        if sample is None:
            return
        command = self._mapper.command(sample, time.monotonic())
        stamp = self.get_clock().now().to_msg()
        self._commands.publish(command_to_message(command, self._operator, self._mapping.device, stamp))
        self._published += 1

    def _sample(self) -> Sample | None:
        """What the device says now; None when it is not there."""
        if self._mapping.device not in DEVICES:
            heard = self._heard
            there = heard is not None and time.monotonic() - heard[0] <= SILENT_AFTER_S
            self._trouble = "" if there else f"no commands: the topic of the {self._mapping.device} is silent"
            return heard[1] if heard is not None and there else None
        try:
            if self._device is None and time.monotonic() >= self._try_s:
                self._try_s = time.monotonic() + TRY_AGAIN_S
                self._device = open_device(self._mapping, self._path)
                self._trouble = ""
                self.get_logger().info(f"the {self._mapping.device} is there")
            return self._device.read() if self._device is not None else None
        except (OSError, TeleopError) as error:
            self._trouble = f"no commands: {error}"
            self.get_logger().warning(self._trouble, throttle_duration_sec=5.0)
            if self._device is not None:
                self._device.close()
                self._device = None
                # until the actor holds: a device that is opened again says that nothing is held, and that would be giving back
                self._try_s = time.monotonic() + TRY_AGAIN_S
            return None


def run_command(argv: Sequence[str]) -> int:
    """`etude teleop run`: take over a run's robot with a device."""
    parser = argparse.ArgumentParser(
        prog="etude teleop run",
        description="Let a device take over the robot of a run. See what it does first, with `etude teleop test`.",
        epilog="examples:\n  etude teleop run gamepad\n  etude teleop run spacemouse --run runs/latest --operator ada\n"
        "  etude teleop run twist --topic /servo_node/delta_twist_cmds --pedal /pedal",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("mapping", help="name of a file in robot_configs/teleop, or a YAML file")
    parser.add_argument("--run", type=Path, default=Path("runs/latest"), help="run folder (default: %(default)s)")
    parser.add_argument("--operator", default=user_name(), help="who holds the device (default: %(default)s)")
    parser.add_argument("--path", type=Path, help="event or hidraw file of the device (default: the first one found)")
    topics = {"joy": "/joy", "twist": "/teleop/twist", "leader": "/leader/joint_states"}
    parser.add_argument(
        "--topic", help="of the devices joy, twist and leader (default: /joy, /teleop/twist, /leader/joint_states)"
    )
    parser.add_argument(
        "--pedal", default="/teleop/pedal", help="Bool topic, the deadman of twist and leader (default: %(default)s)"
    )
    arguments = parser.parse_args(argv)
    mapping = load_mapping(arguments.mapping)
    if mapping.device == "browser":
        raise TeleopError("the page itself is this device: open it and press T")
    folder, config = open_run(arguments.run)
    if mapping.device in DEVICES:
        open_device(mapping, arguments.path).close()  # say at once when it is not there
    domain = folder.root / "ros_domain_id"
    if "ROS_DOMAIN_ID" not in os.environ and domain.is_file():
        os.environ["ROS_DOMAIN_ID"] = domain.read_text(encoding="utf-8").strip()
    configure_logging()
    stop = stop_event_from_signals()
    with middleware():
        topic = arguments.topic or topics.get(mapping.device, "")
        node = TeleopNode(mapping, config.robot_namespace, arguments.operator, arguments.path, topic, arguments.pedal)
        with spinning(node):
            node.get_logger().info(f"{mapping.device} of {arguments.operator}; Ctrl-C gives the robot back and ends")
            node.run(stop)
    return EXIT_DONE


def main() -> int:
    try:
        return run_command(sys.argv[1:])
    except Exception as error:
        text = clear_message(error)
        if text is None:
            raise
        print(f"teleop: {text}", file=sys.stderr)
        return EXIT_REFUSED


if __name__ == "__main__":
    sys.exit(main())
