"""The safety node: the only program that talks to a real arm's controller. It passes a driver's commands on, or holds the arm.

A process of its own, outside learning and acting, in the ROS domain of the arm. When the actor dies, hangs, breaks a limit or
says one thing and does another, the arm's target becomes where the arm is. The decisions are `actor.safety_gate`.

    python -m etude_nodes.safety_node --run runs/latest
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from etude_msgs import msg
from geometry_msgs.msg import PoseStamped
from rclpy.context import Context
from rclpy.node import Node

from actor.command_filter import tilt_rad
from actor.robots.franka import limits_digest
from actor.robots.ros_arm import command_topic, heartbeat_topic, safety_topic
from actor.safety_gate import SafetyGate
from etude import frames
from etude.cli import clear_message
from etude.config import REPOSITORY, ConfigError, RobotConfig
from etude.config.hardware import FrankaConfig
from etude_nodes import qos
from etude_nodes.diagnostics import Condition, tell_every_second
from etude_nodes.parameters import fact
from etude_nodes.process import EXIT_DONE, EXIT_REFUSED, configure_logging, parse_run, stop_event_from_signals

NICENESS = -15
PROFILES = "FASTRTPS_DEFAULT_PROFILES_FILE"
SHARED, ALONE = (REPOSITORY / "config" / name for name in ("fastdds_profile.xml", "fastdds_udp_profile.xml"))
"""The project's own middleware settings, and those without shared memory: see the second file."""
LOOK_S = 0.01
TELL_S = 0.05


class SafetyNode(Node):
    """Between ``/<robot>/command_pose`` and the controller's target. Holding is publishing the arm's pose as the target."""

    def __init__(self, config: FrankaConfig, namespace: str, context: Context) -> None:
        super().__init__("safety", namespace=namespace, context=context)
        self._gate = SafetyGate(config.limits, limits_digest(config.limits))
        self._input, self._output = command_topic(namespace), config.topics.target_pose
        self._pose: PoseStamped | None = None
        self._told: tuple[str, ...] | None = None
        self._told_s = 0.0
        self._targets = self.create_publisher(PoseStamped, config.topics.target_pose, qos.COMMAND)
        self._states = self.create_publisher(msg.SafetyState, safety_topic(namespace), qos.COMMAND)
        self.create_subscription(PoseStamped, config.topics.current_pose, self._on_pose, qos.SENSOR)
        self.create_subscription(PoseStamped, self._input, self._on_command, qos.COMMAND)
        self.create_subscription(msg.Heartbeat, heartbeat_topic(namespace), self._on_beat, qos.COMMAND)
        self.create_timer(LOOK_S, self._look)
        fact(self, "robot_namespace", namespace, "of the actor whose commands are passed on or refused")
        fact(self, "limits", limits_digest(config.limits), "digest of the limits that are kept; the actor's must be the same")
        tell_every_second(self, f"safety/{namespace}", self.condition)

    def condition(self) -> Condition:
        """For ``/diagnostics``: whether the arm is held, and why."""
        values = {"passed": self._gate.passed, "refused": self._gate.refused}
        if self._told:
            return Condition("warn", f"holding the arm: {'; '.join(self._told)}", values)
        return Condition("ok", "commands pass", values)

    def _on_pose(self, message: PoseStamped) -> None:
        position, tilt = numbers_of(message)
        if np.isfinite(tilt):
            self._pose = message
            self._gate.pose(time.monotonic(), position, tilt)

    def _on_beat(self, message: msg.Heartbeat) -> None:
        target = np.array(message.target_m) if message.commanded else None
        self._gate.beat(time.monotonic(), message.loop_age_s, message.limits, target)

    def _on_command(self, message: PoseStamped) -> None:
        refusal = self._gate.command(time.monotonic(), *numbers_of(message))
        if not refusal:
            self._targets.publish(message)
        self._look()

    def _look(self) -> None:
        now_s = time.monotonic()
        reasons = self._gate.reasons(now_s)
        if reasons == self._told and now_s - self._told_s < TELL_S:
            return
        if now_s - self._told_s >= TELL_S:
            # on the way in, and at the controller, where only this node may be: no other run's, no program of a person
            self._gate.publishers = max(self.count_publishers(self._input), self.count_publishers(self._output))
        if reasons and self._pose is not None and (self._told == () or not self._told):
            self._hold()
        if reasons != self._told:
            self.get_logger().warning(f"holding the arm: {'; '.join(reasons)}") if reasons else self.get_logger().info(
                "commands pass"
            )
        self._told, self._told_s = reasons, now_s
        state = msg.SafetyState(
            holding=bool(reasons), reasons=list(reasons), passed=self._gate.passed, refused=self._gate.refused
        )
        state.header.stamp = self.get_clock().now().to_msg()
        self._states.publish(state)

    def _hold(self) -> None:
        """The target becomes where the arm is. Once per hold: an arm that is pushed meanwhile is not to be followed."""
        assert self._pose is not None
        target = PoseStamped(header=self._pose.header, pose=self._pose.pose)
        target.header.stamp = self.get_clock().now().to_msg()
        self._targets.publish(target)


def numbers_of(message: PoseStamped) -> tuple[np.ndarray, float]:
    """Position ``(3,)`` and the tool's tilt, rad; the tilt is NaN when the orientation is no rotation."""
    p, q = message.pose.position, message.pose.orientation
    try:
        pose = frames.pose_from_ros(np.array([p.x, p.y, p.z]), np.array([q.x, q.y, q.z, q.w]))
    except ValueError:
        return np.array([p.x, p.y, p.z]), float("nan")
    return pose[:3, 3], tilt_rad(pose[:3, :3])


def serve(config: FrankaConfig, namespace: str, stop: threading.Event) -> None:
    """Guard until `stop`; the last act is a hold."""
    import rclpy
    from rclpy.executors import SingleThreadedExecutor

    context = Context()
    rclpy.init(args=[], context=context, domain_id=config.ros_domain_id)
    node = SafetyNode(config, namespace, context)
    executor = SingleThreadedExecutor(context=context)
    executor.add_node(node)
    try:
        while not stop.is_set():
            executor.spin_once(timeout_sec=0.1)
    finally:
        if node._pose is not None:
            node._hold()
        rclpy.shutdown(context=context)


def serve_all(arms: dict[str, FrankaConfig], stop: threading.Event) -> None:
    """`serve` every arm by its namespace, each in a thread of its own; when one ends, whatever the reason, so do all."""

    def one(namespace: str, config: FrankaConfig) -> None:
        try:
            serve(config, namespace, stop)
        finally:
            stop.set()

    with ThreadPoolExecutor(len(arms)) as threads:
        for future in [threads.submit(one, namespace, config) for namespace, config in arms.items()]:
            future.result()


def guard(robot: RobotConfig, namespace: str, stop: threading.Event) -> None:
    """The safety node of `robot`, until `stop`. Raises ConfigError for one that has none."""
    prefer()
    if robot.frankas:
        serve_all({f"{namespace}/{side}".rstrip("/"): arm for side, arm in robot.frankas.items()}, stop)
    elif robot.go1 is not None:
        from etude_nodes import go1_safety

        go1_safety.serve(robot.go1, namespace, stop)
    else:
        raise ConfigError(f"robot {robot.name!r} is of kind {robot.kind}, which has no safety node: only real robots have")


def prefer() -> None:
    """Middleware and priority that nothing else on this computer can delay; before the first context."""
    if os.environ.get(PROFILES, str(SHARED)) == str(SHARED):  # a person's own settings stay
        os.environ[PROFILES] = str(ALONE)
    with contextlib.suppress(OSError):  # where the system allows it, before everybody else on a busy machine
        os.setpriority(os.PRIO_PROCESS, 0, NICENESS)


def main(argv: list[str] | None = None) -> int:
    configure_logging()
    stop = stop_event_from_signals()
    try:
        _, config = parse_run(argv, __doc__.splitlines()[0])
        guard(config.robot, config.robot_namespace, stop)
    except Exception as error:
        text = clear_message(error)
        if text is None:
            raise
        with contextlib.suppress(OSError):
            print(f"safety: {text}", file=sys.stderr)
        return EXIT_REFUSED
    return EXIT_DONE


if __name__ == "__main__":
    sys.exit(main())
