"""The ROS side of a real Go1: state and pictures in, wishes out, sign of life. It holds the newest and decides nothing.

Wishes go to the safety node, the only program that talks to the robot. With the low level it is also the one that the state comes
from; with the high level the vendor's driver publishes it. A ROS context of its own, in the domain of the robot.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from actor import watchdogs
from actor.cameras import Picture
from actor.cameras.ros_image import RosImages
from actor.robots.go1_body import LegOdometry
from actor.robots.ros_arm import BEAT_HZ, heartbeat_topic, recover_service, safety_topic
from actor.ros_calls import RosCaller
from etude import frames
from etude.config.go1 import SERVO, Go1Config

JOINTS, ATTITUDE, ODOMETRY, SAFETY = "the robot's joints", "the robot's attitude", "the robot's odometry", "the safety node"


def velocity_topic(namespace: str) -> str:
    """geometry_msgs/TwistStamped, trunk frame: the wish for the high level."""
    return f"/{namespace}/command_velocity"


def targets_topic(namespace: str) -> str:
    """sensor_msgs/JointState, positions only, in Unitree's order: the wish for the low level."""
    return f"/{namespace}/command_joints"


def legs_topic(namespace: str) -> str:
    """sensor_msgs/JointState with efforts, as the safety node hears the motors (low level)."""
    return f"/{namespace}/legs"


def attitude_topic(namespace: str) -> str:
    """sensor_msgs/Imu, as the safety node hears it (low level)."""
    return f"/{namespace}/imu"


def stand_up_service(namespace: str) -> str:
    """std_srvs/Trigger, of the safety node."""
    return f"/{namespace}/stand_up"


def lie_down_service(namespace: str) -> str:
    """std_srvs/Trigger, of the safety node."""
    return f"/{namespace}/lie_down"


@dataclass
class Go1State:
    """The newest of everything. Times are ``time.monotonic()``. Position and heading are since the driver began, x ahead then;
    velocity and gyroscope in the trunk's frame. None before the first message."""

    joints_rad: np.ndarray | None = None
    speeds_rad_s: np.ndarray | None = None
    rotation: np.ndarray | None = None
    gyroscope_rad_s: np.ndarray | None = None
    heading_rad: float = 0.0
    velocity_m_s: np.ndarray | None = None
    position_m: np.ndarray | None = None
    heard_s: dict[str, float | None] = field(default_factory=dict)
    problems: tuple[str, ...] = ()
    pictures: dict[str, Picture] = field(default_factory=dict)
    safety: tuple[str, ...] | None = None


class RosGo1:
    """`state`, `walk` and `move` from the control loop; all return at once."""

    def __init__(self, config: Go1Config, namespace: str, cameras: tuple[str, ...], limits: str) -> None:
        import rclpy
        from etude_msgs import msg
        from geometry_msgs.msg import TwistStamped
        from rclpy.executors import SingleThreadedExecutor
        from rclpy.qos import QoSProfile, ReliabilityPolicy
        from sensor_msgs.msg import Imu, JointState
        from std_srvs.srv import Trigger

        self._config, self._limits = config, limits
        self._low = config.level == "low"
        self._watched = (JOINTS, ATTITUDE) if self._low else (ATTITUDE, ODOMETRY)
        self._lock = threading.Lock()
        self._now = Go1State(heard_s=dict.fromkeys(self._watched))
        self._legs, self._skew = LegOdometry(), dict[str, str]()
        self._start: tuple[np.ndarray, float] | None = None
        self._start_yaw_rad: float | None = None
        self._touched_s, self._beats = time.monotonic(), 0
        self.on_recover: Any = None

        self._context = rclpy.Context()
        rclpy.init(args=[], context=self._context, domain_id=config.ros_domain_id)
        self._node = rclpy.create_node("go1_driver", namespace=namespace, context=self._context)
        newest = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)  # heard by reliable and best effort publishers
        topics, subscribe = config.topics, self._node.create_subscription
        subscribe(Imu, attitude_topic(namespace) if self._low else topics.imu, self._on_imu, newest)
        subscribe(JointState, legs_topic(namespace) if self._low else topics.joint_states, self._on_joints, newest)
        if not self._low:
            from nav_msgs.msg import Odometry

            subscribe(Odometry, topics.odom, self._on_odometry, newest)
        self._images = RosImages(self._node, {name: config.cameras[name] for name in cameras if config.cameras[name].topic})
        subscribe(msg.SafetyState, safety_topic(namespace), self._on_safety, 1)
        self._twist_type, self._joints_type, self._beat_type = TwistStamped, JointState, msg.Heartbeat
        kind, topic = (JointState, targets_topic) if self._low else (TwistStamped, velocity_topic)
        self._wishes = self._node.create_publisher(kind, topic(namespace), 1)
        self._heart = self._node.create_publisher(msg.Heartbeat, heartbeat_topic(namespace), 1)
        self._node.create_service(Trigger, recover_service(namespace), self._on_recover)
        self.calls = RosCaller(self._node)
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self._node)
        self._closing = threading.Event()
        # beating shares no thread with callbacks, so that a burst of pictures does not look like death
        self._threads = [
            threading.Thread(target=work, name=f"go1-{work.__name__}", daemon=True) for work in (self._spin, self._live)
        ]
        for thread in self._threads:
            thread.start()

    # --- the control loop's side ------------------------------------------------------------------------------------------

    def state(self) -> Go1State:
        """A copy of what is known now, with what the watchdogs say of it."""
        now = time.monotonic()
        self._touched_s = now
        with self._lock:
            state = Go1State(**{**self._now.__dict__, "heard_s": dict(self._now.heard_s)})
            skew = tuple(text for text in self._skew.values() if text)
        ages = dict.fromkeys(self._watched, self._config.max_state_age_s)
        state.problems = (*skew, *watchdogs.late_inputs(state.heard_s, ages, now))
        state.pictures = self._images.pictures()
        return state

    def walk(self, velocity: np.ndarray) -> None:
        """Wish for a velocity of the trunk: forward, left m/s, turn to the left rad/s."""
        self._touched_s = time.monotonic()
        message = self._twist_type()
        message.header.stamp, message.header.frame_id = self._node.get_clock().now().to_msg(), "trunk"
        message.twist.linear.x, message.twist.linear.y, message.twist.angular.z = (float(v) for v in velocity)
        self._wishes.publish(message)

    def move(self, target_rad: np.ndarray) -> None:
        """Wish for joint targets ``(12,)``."""
        self._touched_s = time.monotonic()
        message = self._joints_type(name=list(self._config.joint_names), position=[float(v) for v in target_rad])
        message.header.stamp = self._node.get_clock().now().to_msg()
        self._wishes.publish(message)

    def close(self) -> None:
        import rclpy

        if self._closing.is_set():
            return
        self._closing.set()
        self._threads[1].join(timeout=2.0)
        rclpy.shutdown(context=self._context)
        self._threads[0].join(timeout=2.0)
        self._node.destroy_node()  # or its publishers stay in the graph as long as this process, and the safety node counts them

    # --- callbacks --------------------------------------------------------------------------------------------------------

    def _spin(self) -> None:
        from rclpy.executors import ExternalShutdownException

        try:
            self._executor.spin()
        except ExternalShutdownException:
            return

    def _heard(self, name: str, header: Any) -> float:
        now = time.monotonic()
        self._now.heard_s[name] = now
        self._skew[name] = watchdogs.skewed_clock(name, stamp_of(header), time.time(), self._config.max_clock_skew_s)
        return now

    def _on_imu(self, message: Any) -> None:
        q, w = message.orientation, message.angular_velocity
        try:
            rotation = frames.rotation_from_quaternion(np.array([q.x, q.y, q.z, q.w]))
        except ValueError:
            return  # as if it had not come: the watchdog says so
        gyroscope = np.array([w.x, w.y, w.z])
        if not np.isfinite(gyroscope).all():
            return
        yaw = float(np.arctan2(rotation[1, 0], rotation[0, 0]))
        with self._lock:
            if self._start_yaw_rad is None:
                self._start_yaw_rad = yaw
            self._now.rotation, self._now.gyroscope_rad_s = rotation, gyroscope
            self._now.heading_rad = float(np.angle(np.exp(1j * (yaw - self._start_yaw_rad))))
            self._heard(ATTITUDE, message.header)

    def _on_joints(self, message: Any) -> None:
        joints = joints_of(message, self._config.joint_names)
        if joints is None:
            return
        with self._lock:
            self._now.joints_rad, self._now.speeds_rad_s = joints[0], joints[1]
            self._heard(JOINTS, message.header)
            rotation, gyroscope = self._now.rotation, self._now.gyroscope_rad_s
            if self._low and rotation is not None and gyroscope is not None:
                turn = frames.quaternion_from_rotation(rotation)
                self._legs.update(stamp_of(message.header), *joints, turn, gyroscope)
                self._now.velocity_m_s, self._now.position_m = self._legs.velocity_m_s, self._legs.position_m

    def _on_odometry(self, message: Any) -> None:
        p, q, v = message.pose.pose.position, message.pose.pose.orientation, message.twist.twist.linear
        place, velocity = np.array([p.x, p.y]), np.array([v.x, v.y, v.z])
        yaw = float(np.arctan2(2 * (q.w * q.z + q.x * q.y), 1 - 2 * (q.y**2 + q.z**2)))
        if not (np.isfinite(place).all() and np.isfinite(velocity).all() and np.isfinite(yaw)):
            return
        with self._lock:
            if self._start is None:
                self._start = (place, yaw)
            way, cos, sin = place - self._start[0], np.cos(self._start[1]), np.sin(self._start[1])
            self._now.position_m = np.array([cos * way[0] + sin * way[1], cos * way[1] - sin * way[0]])
            self._now.velocity_m_s = velocity
            self._heard(ODOMETRY, message.header)

    def _on_safety(self, message: Any) -> None:
        with self._lock:
            self._now.safety = tuple(message.reasons) if message.holding else ()
            self._now.heard_s[SAFETY] = time.monotonic()

    def _on_recover(self, request: Any, response: Any) -> Any:
        response.success, response.message = self.on_recover("a person") if self.on_recover else (False, "the driver starts")
        return response

    def _live(self) -> None:
        while not self._closing.wait(1.0 / BEAT_HZ):
            self._beats += 1
            age_s = time.monotonic() - self._touched_s
            beat = self._beat_type(sequence=self._beats, loop_age_s=age_s, limits=self._limits)
            beat.header.stamp = self._node.get_clock().now().to_msg()
            self._heart.publish(beat)


def stamp_of(header: Any) -> float:
    """Seconds since the epoch."""
    return float(header.stamp.sec + 1e-9 * header.stamp.nanosec)


def joints_of(message: Any, names: tuple[str, ...]) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    """Angles, speeds and torques ``(12,)`` in the order of `names`; None when one is absent or not finite. Torques may be absent
    altogether: then they are zero."""
    place = {name: index for index, name in enumerate(message.name)}
    if any(name not in place for name in names) or len(message.position) < len(place) or len(message.velocity) < len(place):
        return None
    order = [place[name] for name in names]
    torques = np.array(message.effort)[order] if len(message.effort) == len(place) else np.zeros(SERVO)
    rows = (np.array(message.position)[order], np.array(message.velocity)[order], torques)
    return rows if all(np.isfinite(row).all() for row in rows) else None
