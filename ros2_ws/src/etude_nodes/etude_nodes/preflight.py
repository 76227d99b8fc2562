"""The preflight of a real arm: listens for a few seconds and says what a run would stumble over. Nothing is ever commanded.

`etude doctor --robot NAME` prints it, and `etude practice run` refuses to start on a red finding. What is decided from what was
heard is `judge`, a pure function; the rest only listens.

    python -m etude_nodes.preflight --robot franka_fr3
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from etude.cli import clear_message
from etude.config import RobotConfig, build, read_named
from etude.config.hardware import FrankaConfig
from etude.findings import GREEN, RED, YELLOW, Finding

LISTEN_S, DISCOVER_S = 3.0, 8.0
POSE_HZ, GAP = 20.0, 2.5
"""Least rate of poses (the driver's own limit); a gap so many times the median counts as a lost message."""
DROPS_YELLOW = 0.05
STREAM_YELLOW_MB_S = 90.0
"""What a cable of 1 Gbit/s carries, with a little to spare."""


@dataclass
class Heard:
    """What came on one topic. `offsets_s` are arrival minus stamp; `differing` counts pictures unlike the one before."""

    name: str
    publishers: int = 0
    compatible: bool = True
    wrong_type: str = ""
    arrivals_s: list[float] = field(default_factory=list)
    offsets_s: list[float] = field(default_factory=list)
    byte_count: int = 0
    differing: int = 0

    @property
    def rate_hz(self) -> float:
        """Over the time in which something came; 0 with fewer than two messages."""
        times = self.arrivals_s
        return (len(times) - 1) / (times[-1] - times[0]) if len(times) > 1 and times[-1] > times[0] else 0.0

    @property
    def dropped(self) -> float:
        """Share of messages that are missing between those that came."""
        gaps = np.diff(self.arrivals_s)
        if len(gaps) < 3:
            return 0.0
        usual = float(np.median(gaps))
        lost = float(np.sum(np.round(gaps[gaps > GAP * usual] / usual) - 1)) if usual > 0 else 0.0
        return lost / (lost + len(self.arrivals_s))


def judge(config: FrankaConfig, heard: dict[str, Heard], target_listeners: int, target_publishers: int) -> list[Finding]:
    """Findings about the arm, from what came on its topics (by their roles: pose, joints, wrench, mode, ``camera NAME``)."""
    findings = [_topic(one, role) for role, one in heard.items()]
    pose = heard["pose"]
    if pose.arrivals_s and pose.rate_hz < POSE_HZ:
        text = f"{pose.rate_hz:.0f} poses a second on {pose.name}; the driver holds below {POSE_HZ:.0f}"
        findings.append(Finding("pose rate", RED, text, "raise the controller's publishing rate to at least 50 Hz"))
    findings.append(_clocks(config, heard))
    findings.append(_controller(config, target_listeners, target_publishers))
    findings += [_camera(role, one) for role, one in heard.items() if role.startswith("camera") and one.arrivals_s]
    seconds = max((one.arrivals_s[-1] - one.arrivals_s[0] for one in heard.values() if len(one.arrivals_s) > 1), default=0.0)
    rate = sum(one.byte_count for one in heard.values()) / 1e6 / seconds if seconds else 0.0
    too_much = rate > STREAM_YELLOW_MB_S
    remedy = "lower the cameras' resolution or rate, or subscribe to compressed pictures" if too_much else ""
    findings.append(Finding("network", YELLOW if too_much else GREEN, f"{rate:.1f} MB/s of pictures arrive", remedy))
    return findings


def _topic(one: Heard, role: str) -> Finding:
    if one.arrivals_s:
        return Finding(role, GREEN, f"{one.rate_hz:.0f} Hz on {one.name}")
    if one.wrong_type:
        return Finding(role, RED, f"{one.name} carries {one.wrong_type}", "name the right topic in the robot's YAML")
    if not one.publishers:
        where = f"ROS domain {os.environ.get('ROS_DOMAIN_ID', '0')}"
        return Finding(
            role,
            RED,
            f"nobody publishes {one.name} in {where}",
            "start the arm's or the camera's driver there, or set franka.ros_domain_id and ROS_AUTOMATIC_DISCOVERY_RANGE=SUBNET",
        )
    if not one.compatible:
        return Finding(
            role, RED, f"the publisher of {one.name} offers a QoS that does not match", "let it publish as sensor data"
        )
    return Finding(role, RED, f"{one.name} has a publisher and is silent", "look at the driver's own log, and at the firewall")


def _clocks(config: FrankaConfig, heard: dict[str, Heard]) -> Finding:
    offsets = {one.name: float(np.median(one.offsets_s)) for one in heard.values() if one.offsets_s}
    if not offsets:
        return Finding(
            "clocks", YELLOW, "no stamped message came, so that the clocks could not be compared", "see the topics above"
        )
    name, worst = max(offsets.items(), key=lambda item: abs(item[1]))
    text = f"stamps differ from this clock by at most {1000 * abs(worst):.0f} ms ({name})"
    if abs(worst) > config.max_clock_skew_s:
        return Finding("clocks", RED, text, "synchronise both computers, e.g. with chrony; see franka.max_clock_skew_s")
    if abs(worst) > config.max_clock_skew_s / 2:
        return Finding("clocks", YELLOW, text, f"the limit is {1000 * config.max_clock_skew_s:.0f} ms: synchronise with chrony")
    return Finding("clocks", GREEN, text)


def _controller(config: FrankaConfig, listeners: int, publishers: int) -> Finding:
    name = config.topics.target_pose
    if not listeners:
        return Finding(
            "controller", RED, f"no controller listens to {name}", "load and activate it: ros2 control list_controllers"
        )
    if publishers:
        text = f"{publishers} program(s) already command {name}"
        return Finding("controller", RED, text, "end the other run; the safety node must be the only one")
    return Finding("controller", GREEN, f"{listeners} listener(s) on {name}, nobody commands it yet")


def _camera(role: str, one: Heard) -> Finding:
    check = f"{role} picture"
    if len(one.arrivals_s) > 2 and not one.differing:
        return Finding(check, RED, f"the same picture again and again on {one.name}", "unplug the camera and plug it in again")
    if one.dropped > DROPS_YELLOW:
        text = f"{100 * one.dropped:.0f}% of the pictures of {one.name} are lost"
        return Finding(check, YELLOW, text, "use USB 3 and a cable of its own, or a larger net.core.rmem_max")
    return Finding(check, GREEN, f"{100 * one.dropped:.0f}% lost")


def computer() -> list[Finding]:
    """What of this computer matters only beside a real arm."""
    findings = []
    realtime = Path("/sys/kernel/realtime")
    soft = resource.getrlimit(resource.RLIMIT_RTPRIO)[1]
    nice = resource.getrlimit(resource.RLIMIT_NICE)[1]
    may = os.geteuid() == 0 or soft != 0 or nice > 20
    text = f"{'real-time' if realtime.exists() else 'ordinary'} kernel, rtprio limit {soft}, nice limit {20 - nice}"
    remedy = "" if may else "give this user '- nice -20' and '- rtprio 98' in /etc/security/limits.d, and log in again"
    findings.append(Finding("real time", GREEN if may else YELLOW, text, remedy))
    from actor.teleop import gamepad, spacemouse

    devices = [str(found[-1]) for found in (*gamepad.find(), *spacemouse.find())]
    remedy = "" if devices else "plug one in to take over by hand; the page in the browser works too"
    findings.append(Finding("teleop", GREEN if devices else YELLOW, ", ".join(devices) or "no gamepad and no SpaceMouse", remedy))
    return findings


def listen(config: FrankaConfig) -> list[Finding]:
    """Hear every topic that the driver will need, in the arm's domain."""
    import rclpy
    from geometry_msgs.msg import PoseStamped, WrenchStamped
    from rclpy.context import Context
    from rclpy.executors import SingleThreadedExecutor
    from rclpy.qos import QoSCompatibility, qos_check_compatible
    from sensor_msgs.msg import CompressedImage, Image, JointState

    from actor.ros_calls import interface_type
    from etude_nodes import qos

    topics: dict[str, tuple[str, Any]] = {
        "pose": (config.topics.current_pose, PoseStamped),
        "joints": (config.topics.joint_states, JointState),
    }
    if config.topics.wrench:
        topics["wrench"] = (config.topics.wrench, WrenchStamped)
    if config.topics.robot_state:
        topics["mode"] = (config.topics.robot_state, interface_type(config.topics.robot_state_type))
    for name, camera in config.cameras.items():
        if topic := getattr(camera, "topic", ""):
            topics[f"camera {name}"] = (topic, CompressedImage if topic.endswith("/compressed") else Image)
    context = Context()
    rclpy.init(args=[], context=context, domain_id=config.ros_domain_id)
    os.environ["ROS_DOMAIN_ID"] = str(config.ros_domain_id)
    node = rclpy.create_node("preflight", context=context)
    executor = SingleThreadedExecutor(context=context)
    executor.add_node(node)
    heard = {role: Heard(name) for role, (name, _) in topics.items()}
    last: dict[str, bytes] = {}

    def on(role: str, message: Any) -> None:
        one = heard[role]
        one.arrivals_s.append(time.monotonic())
        stamp = message.header.stamp if hasattr(message, "header") else None
        if stamp is not None and (stamp.sec or stamp.nanosec):
            one.offsets_s.append(time.time() - stamp.sec - stamp.nanosec * 1e-9)
        if role.startswith("camera"):
            picture = bytes(message.data)
            one.byte_count += len(picture)
            one.differing += role in last and picture != last[role]
            last[role] = picture

    try:
        for role, (name, kind) in topics.items():
            node.create_subscription(kind, name, lambda m, role=role: on(role, m), qos.SENSOR)
        until = time.monotonic() + DISCOVER_S
        while time.monotonic() < until and not all(one.arrivals_s for one in heard.values()):
            executor.spin_once(timeout_sec=0.05)
        for one in heard.values():  # the first messages come in a burst
            one.arrivals_s.clear()
            one.byte_count = 0
        until = time.monotonic() + LISTEN_S
        while time.monotonic() < until:
            executor.spin_once(timeout_sec=0.05)
        for role, (name, kind) in topics.items():
            infos = node.get_publishers_info_by_topic(name)
            ours = f"{kind.__module__.split('.')[0]}/msg/{kind.__name__}"
            heard[role].publishers = len(infos)
            heard[role].wrong_type = next((info.topic_type for info in infos if info.topic_type != ours), "")
            heard[role].compatible = all(
                qos_check_compatible(info.qos_profile, qos.SENSOR)[0] != QoSCompatibility.ERROR for info in infos
            )
        target = config.topics.target_pose
        return judge(config, heard, node.count_subscribers(target), node.count_publishers(target))
    finally:
        executor.shutdown()
        node.destroy_node()
        rclpy.shutdown(context=context)


def preflight(robot: RobotConfig) -> list[Finding]:
    """All findings about `robot`; a simulated one has nothing to be looked at."""
    if not robot.frankas:
        return [Finding("robot", GREEN, f"{robot.name} is of kind {robot.kind}: there is no hardware to look at")]
    found = computer()
    for side, arm in robot.frankas.items():
        heard = listen(arm)
        found += [replace(one, check=f"{side} {one.check}") for one in heard] if side else heard
    return found


def main(argv: Sequence[str] | None = None) -> int:
    """Prints the findings as one JSON list; 1 when one is red."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--robot", help="name of a file in robot_configs/robots, or a YAML file")
    which.add_argument("--run", type=Path, help="run folder: its robot")
    arguments = parser.parse_args(argv)
    try:
        if arguments.run is not None:
            from etude_nodes.process import open_run

            robot = open_run(arguments.run)[1].robot
        else:
            robot = build(RobotConfig, read_named("robots", arguments.robot), arguments.robot)
        findings = preflight(robot)
    except Exception as error:
        text = clear_message(error)
        if text is None:
            raise
        findings = [Finding("robot", RED, text, "mend what it names")]
    print(json.dumps([asdict(finding) for finding in findings]))
    return int(any(finding.status == RED for finding in findings))


if __name__ == "__main__":
    sys.exit(main())
