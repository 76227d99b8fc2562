"""The safety node of a Go1: the only program that talks to the robot. A process of its own, outside learning and acting.

With the high level it sends a velocity 50 times a second, zero unless a living actor wishes another; with the low level it
streams motor commands by UDP and passes the motors' state on as topics. The decisions are `actor.go1_gate`. Started by
`etude_nodes.safety_node` when the run's robot is a Go1.
"""

from __future__ import annotations

import logging
import threading
import time
from typing import Any

import numpy as np
from etude_msgs import msg
from geometry_msgs.msg import Twist, TwistStamped
from rclpy.context import Context
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import Imu, JointState
from std_msgs.msg import Empty
from std_srvs.srv import Trigger

from actor.go1_gate import Body, JointGate, VelocityGate
from actor.pacing import Pacer
from actor.robots import go1_ros
from actor.robots.go1_link import Go1Link
from actor.robots.go1_packets import LegState
from actor.robots.ros_arm import heartbeat_topic, safety_topic
from etude import frames
from etude.config.go1 import Go1Config
from etude_nodes import qos
from etude_nodes.diagnostics import Condition, tell_every_second
from etude_nodes.parameters import fact

log = logging.getLogger("etude.go1_safety")

SEND_HZ = 50.0
TELL_S = 0.05
PASS_ON_HZ = 100.0
LAST_S = 1.0
"""On the way out: so long zero velocities or damped legs are sent."""
NEWEST = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)


class Go1SafetyNode(Node):
    """What both levels share: heartbeats in, reasons out. Whoever touches `gate` holds `lock`."""

    def __init__(self, config: Go1Config, namespace: str, context: Context, wishes: str, gate: JointGate | VelocityGate) -> None:
        super().__init__("safety", namespace=namespace, context=context)
        self.gate, self.lock, self._wishes = gate, threading.Lock(), wishes
        self._told: tuple[str, ...] | None = None
        self._states = self.create_publisher(msg.SafetyState, safety_topic(namespace), qos.COMMAND)
        self.create_subscription(msg.Heartbeat, heartbeat_topic(namespace), self._on_beat, qos.COMMAND)
        self.create_service(Trigger, go1_ros.stand_up_service(namespace), self._on_stand_up)
        self.create_service(Trigger, go1_ros.lie_down_service(namespace), self._on_lie_down)
        self.create_timer(TELL_S, self._tell)
        fact(self, "robot_namespace", namespace, "of the actor whose wishes are passed on or refused")
        fact(self, "level", config.level, "high: velocities of the trunk; low: targets of the joints")
        tell_every_second(self, f"safety/{namespace}", self.condition)

    def condition(self) -> Condition:
        """For ``/diagnostics``: whether the robot stands still, and why."""
        values = {"passed": self.gate.passed, "refused": self.gate.refused}
        if self._told:
            return Condition("warn", f"the robot stands: {'; '.join(self._told)}", values)
        return Condition("ok", "wishes count", values)

    def _on_beat(self, message: msg.Heartbeat) -> None:
        with self.lock:
            self.gate.life.beat(time.monotonic(), message.loop_age_s, message.limits)

    def _tell(self) -> None:
        publishers = self.count_publishers(self._wishes)
        with self.lock:
            self.gate.life.publishers = publishers
            reasons = self.gate.reasons(time.monotonic())
            passed, refused = self.gate.passed, self.gate.refused
        if reasons != self._told:
            log.warning("the robot stands: %s", "; ".join(reasons)) if reasons else log.info("wishes count")
        self._told = reasons
        state = msg.SafetyState(holding=bool(reasons), reasons=list(reasons), passed=passed, refused=refused)
        state.header.stamp = self.get_clock().now().to_msg()
        self._states.publish(state)

    def _on_stand_up(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        raise NotImplementedError

    def _on_lie_down(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        raise NotImplementedError

    def work(self, stop: threading.Event) -> None:
        """Send until `stop`, and something safe last. In a thread of its own."""
        raise NotImplementedError


class HighSafetyNode(Go1SafetyNode):
    """Velocities of the trunk."""

    def __init__(self, config: Go1Config, namespace: str, context: Context) -> None:
        self._gate = VelocityGate(config)
        super().__init__(config, namespace, context, go1_ros.velocity_topic(namespace), self._gate)
        topics = config.topics
        self._velocities = self.create_publisher(Twist, topics.cmd_vel, qos.COMMAND)
        self._up = self.create_publisher(Empty, topics.stand_up, qos.COMMAND)
        self._down = self.create_publisher(Empty, topics.stand_down, qos.COMMAND)
        self.create_subscription(Imu, topics.imu, self._on_imu, NEWEST)
        self.create_subscription(TwistStamped, go1_ros.velocity_topic(namespace), self._on_wish, qos.COMMAND)

    def _on_imu(self, message: Imu) -> None:
        q = message.orientation
        try:
            rotation = frames.rotation_from_quaternion(np.array([q.x, q.y, q.z, q.w]))
        except ValueError:
            return
        with self.lock:
            self._gate.state(time.monotonic(), Body(*roll_pitch(rotation)))

    def _on_wish(self, message: TwistStamped) -> None:
        linear, angular = message.twist.linear, message.twist.angular
        with self.lock:
            self._gate.want(time.monotonic(), np.array([linear.x, linear.y, angular.z]))

    def _on_stand_up(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        self._up.publish(Empty())
        response.success, response.message = True, "told to stand up"
        return response

    def _on_lie_down(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        self._down.publish(Empty())
        response.success, response.message = True, "told to lie down"
        return response

    def work(self, stop: threading.Event) -> None:
        pacer = Pacer(SEND_HZ)
        while not stop.is_set():
            with self.lock:
                velocity = self._gate.next(time.monotonic())
            self._send(velocity)
            stop.wait(max(0.0, pacer.next_deadline(time.monotonic()) - time.monotonic()))
        for _ in range(round(LAST_S * SEND_HZ)):
            self._send(np.zeros(3))
            time.sleep(1.0 / SEND_HZ)

    def _send(self, velocity: np.ndarray) -> None:
        message = Twist()
        message.linear.x, message.linear.y, message.angular.z = (float(v) for v in velocity)
        self._velocities.publish(message)


class LowSafetyNode(Go1SafetyNode):
    """Motor commands."""

    def __init__(self, config: Go1Config, namespace: str, context: Context) -> None:
        self._gate, self._config = JointGate(config), config
        self._link = Go1Link(config.udp)
        super().__init__(config, namespace, context, go1_ros.targets_topic(namespace), self._gate)
        self._legs = self.create_publisher(JointState, go1_ros.legs_topic(namespace), qos.SENSOR)
        self._attitudes = self.create_publisher(Imu, go1_ros.attitude_topic(namespace), qos.SENSOR)
        self.create_subscription(JointState, go1_ros.targets_topic(namespace), self._on_wish, qos.COMMAND)
        self._passed_on_s = 0.0

    def _on_wish(self, message: JointState) -> None:
        place = dict(zip(message.name, message.position, strict=False))
        target = np.array([place.get(name, np.nan) for name in self._config.joint_names])
        with self.lock:
            self._gate.want(target)

    def _on_stand_up(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        with self.lock:
            refusal = self._gate.stand_up(time.monotonic())
        response.success, response.message = not refusal, refusal or "getting up"
        return response

    def _on_lie_down(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        with self.lock:
            self._gate.lie_down()
        response.success, response.message = True, "lying down"
        return response

    def work(self, stop: threading.Event) -> None:
        pacer = Pacer(self._config.udp.rate_hz)
        try:
            ends_s = float("inf")
            while time.monotonic() < ends_s:
                if stop.is_set() and ends_s == float("inf"):
                    with self.lock:
                        self._gate.phase = "limp"
                    ends_s = time.monotonic() + LAST_S
                self._turn(time.monotonic())
                time.sleep(max(0.0, pacer.next_deadline(time.monotonic()) - time.monotonic()))
        finally:
            self._link.close()

    def _turn(self, now_s: float) -> None:
        with self.lock:
            command = self._gate.next(now_s)
        state = self._link.exchange(command)
        if state is None:
            return
        roll, pitch = (float(v) for v in state.roll_pitch_yaw_rad[:2])
        body = Body(roll, pitch, state.joints_rad, state.speeds_rad_s, float(state.temperatures_c.max()))
        with self.lock:
            self._gate.state(now_s, body)
        if now_s - self._passed_on_s >= 1.0 / PASS_ON_HZ:
            self._passed_on_s = now_s
            self._pass_on(state)

    def _pass_on(self, state: LegState) -> None:
        legs = JointState(name=list(self._config.joint_names))
        legs.header.stamp = self.get_clock().now().to_msg()
        legs.position, legs.velocity = state.joints_rad.tolist(), state.speeds_rad_s.tolist()
        legs.effort = state.torques_nm.tolist()
        attitude = Imu()
        attitude.header.stamp, attitude.header.frame_id = legs.header.stamp, "trunk"
        o, w = attitude.orientation, attitude.angular_velocity
        o.w, o.x, o.y, o.z = (float(v) for v in state.quaternion)
        w.x, w.y, w.z = (float(v) for v in state.gyroscope_rad_s)
        self._attitudes.publish(attitude)
        self._legs.publish(legs)


def roll_pitch(rotation: np.ndarray) -> tuple[float, float]:
    """Of a trunk-to-world rotation ``(3, 3)``, rad."""
    return (
        float(np.arctan2(rotation[2, 1], rotation[2, 2])),
        float(np.arctan2(-rotation[2, 0], np.hypot(rotation[2, 1], rotation[2, 2]))),
    )


def serve(config: Go1Config, namespace: str, stop: threading.Event) -> None:
    """Guard until `stop`. Raises ConfigError when the robot's network cannot be used."""
    import rclpy
    from rclpy.executors import SingleThreadedExecutor

    context = Context()
    rclpy.init(args=[], context=context, domain_id=config.ros_domain_id)
    executor: Any = None
    try:
        node = (LowSafetyNode if config.level == "low" else HighSafetyNode)(config, namespace, context)
        executor = SingleThreadedExecutor(context=context)
        executor.add_node(node)
        sending = threading.Thread(target=node.work, args=(stop,), name="send", daemon=True)
        sending.start()
        while sending.is_alive():
            executor.spin_once(timeout_sec=0.1)
            if not sending.is_alive() and not stop.is_set():
                raise RuntimeError("the thread that sends to the robot ended; its error is in the log")
    finally:
        rclpy.shutdown(context=context)
