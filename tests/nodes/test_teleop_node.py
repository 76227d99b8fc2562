"""The teleop node over real ROS 2: a Joy message becomes a command, and a device that is gone is not spoken for."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

pytest.importorskip("etude_msgs", reason="the ROS interfaces are not built")

import rclpy
from etude_msgs import msg
from geometry_msgs.msg import TwistStamped
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from sensor_msgs.msg import Joy
from std_msgs.msg import Bool

from actor.teleop.mapping import load_mapping
from etude_nodes import qos
from etude_nodes.convert import MessageError
from etude_nodes.teleop import CommandInbox
from etude_nodes.teleop_node import TeleopNode


@pytest.fixture
def nodes(domain: int) -> Iterator[tuple[TeleopNode, Node]]:
    rclpy.init()
    teleop = TeleopNode(load_mapping("joy"), "robot", "ada", None, "/joy", "/pedal")
    other = Node("other")
    executor = SingleThreadedExecutor()
    executor.add_node(teleop)
    executor.add_node(other)
    stop = threading.Event()
    threads = [
        threading.Thread(target=executor.spin, daemon=True),
        threading.Thread(target=teleop.run, args=(stop,), daemon=True),
    ]
    for thread in threads:
        thread.start()
    yield teleop, other
    stop.set()
    threads[1].join(timeout=3)
    executor.shutdown()
    threads[0].join(timeout=3)
    rclpy.try_shutdown()


def test_a_joy_message_becomes_a_command_and_silence_ends_them(nodes):
    _, other = nodes
    heard: list[tuple[float, msg.TeleopCommand]] = []
    topic = qos.robot_topic("robot", qos.TELEOP_TOPIC)
    other.create_subscription(msg.TeleopCommand, topic, lambda m: heard.append((time.monotonic(), m)), qos.TELEOP)
    joy = other.create_publisher(Joy, "/joy", qos.SENSOR)
    deadline = time.monotonic() + 15
    while len(heard) < 5 and time.monotonic() < deadline:
        joy.publish(Joy(axes=[0.0, 1.0, 0.0, 0.0, 0.0], buttons=[0, 0, 0, 0, 0, 1]))
        time.sleep(0.02)
    silent_s = time.monotonic()
    command = heard[-1][1]
    assert command.takeover and command.deadman and command.device == "joy" and command.operator_name == "ada"
    assert command.twist.linear.x == pytest.approx(0.2) and command.header.frame_id == "base"
    time.sleep(0.6)
    assert heard[-1][0] - silent_s < 0.4

    taken = CommandInbox().command(command)
    assert taken.operator == "ada (joy)" and taken.linear_m_s[0] == pytest.approx(0.2) and taken.gripper != taken.gripper
    command.header.frame_id = "tool0"
    with pytest.raises(MessageError, match="'tool0'"):
        CommandInbox().command(command)


def test_a_lost_device_or_pedal_is_not_spoken_for_and_not_asked_again_at_once(domain, monkeypatch):
    class Lost:
        def read(self):
            raise OSError(5, "out of reach")

        def close(self):
            pass

    opened = []
    monkeypatch.setattr("etude_nodes.teleop_node.open_device", lambda mapping, path: opened.append(mapping) or Lost())
    rclpy.init()
    try:
        mouse = TeleopNode(load_mapping("spacemouse"), "robot", "ada", None, "", "/pedal")
        assert [mouse._sample() for _ in range(3)] == [None] * 3 and len(opened) == 1, "longer than the actor needs to hold"
        servo = TeleopNode(load_mapping("twist"), "robot", "ada", None, "/twist", "/pedal")
        servo._on_pedal(Bool(data=True))
        servo._on_twist(TwistStamped())
        assert servo._sample().buttons == {"pedal"}
        servo._pedal, servo._heard = (time.monotonic() - 0.3, True), None
        servo._on_twist(TwistStamped())
        assert servo._sample() is None, "a pedal that fell silent was not let go"
        servo._on_pedal(Bool(data=False))
        servo._on_twist(TwistStamped())
        assert servo._sample().buttons == frozenset()
    finally:
        rclpy.try_shutdown()
