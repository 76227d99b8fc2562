"""The ROS side of a real arm: topics in, commands out, sign of life. It holds the newest of everything and decides nothing.

It has a ROS context of its own, in the domain of the arm's controllers, so that the traffic of learning and that of the hardware
never meet; its callbacks run in one thread.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from actor import watchdogs
from actor.cameras import Picture
from actor.cameras.ros_image import RosImages
from actor.ros_calls import RosCaller, interface_type
from etude import frames
from etude.config.hardware import FrankaConfig

BEAT_HZ = 50.0
POSE_RATE_HZ = 20.0
"""Slower than this the arm's pose counts as lost on the way; controllers publish it at 50 Hz or more."""
VELOCITY_WINDOW_S = 0.06
CALM_MODES = (1, 2)
"""Of franka_msgs/FrankaRobotState: idle and move. Any other is a fault."""
MODES = ("other", "idle", "move", "guiding", "reflex", "user_stopped", "automatic_error_recovery")
REFLEX = "reflex"


def command_topic(namespace: str) -> str:
    """Where a driver's commands go: to the safety node, the only one that talks to the arm's controller."""
    return f"/{namespace}/command_pose"


def heartbeat_topic(namespace: str) -> str:
    return f"/{namespace}/heartbeat"


def safety_topic(namespace: str) -> str:
    return f"/{namespace}/safety_state"


def recover_service(namespace: str) -> str:
    return f"/{namespace}/recover"


@dataclass
class ArmState:
    """The newest of everything. Times are ``time.monotonic()``; arrays are None before the first message.

    `mode` is a name of `MODES`, empty when the arm tells none; `errors` are the names of what it reports as wrong.
    """

    pose: np.ndarray | None = None
    velocity_m_s: np.ndarray | None = None
    joints_rad: np.ndarray | None = None
    wrench: np.ndarray | None = None
    width_m: float = float("nan")
    mode: str = ""
    errors: tuple[str, ...] = ()
    heard_s: dict[str, float | None] = field(default_factory=dict)
    problems: tuple[str, ...] = ()
    pictures: dict[str, Picture] = field(default_factory=dict)
    safety: tuple[str, ...] | None = None


class RosArm:
    """`state` and `command` from the control loop; both return at once. With `listens_only` it publishes nothing, not even a sign
    of life, and `command` must not be called.

    Raises:
        RosCallError: an interface of the configuration is not installed.
    """

    def __init__(
        self,
        config: FrankaConfig,
        namespace: str,
        cameras: tuple[str, ...],
        limits_digest: str,
        *,
        listens_only: bool = False,
    ) -> None:
        import rclpy
        from etude_msgs import msg
        from geometry_msgs.msg import PoseStamped, WrenchStamped
        from rclpy.executors import SingleThreadedExecutor
        from rclpy.qos import QoSProfile, ReliabilityPolicy
        from sensor_msgs.msg import JointState
        from std_srvs.srv import Trigger

        self._config = config
        self._digest = limits_digest
        self._lock = threading.Lock()
        self._now = ArmState(heard_s=dict.fromkeys(self._watched()))
        self._track: deque[tuple[float, np.ndarray]] = deque()
        self._arrivals: deque[float] = deque()
        self._skew: dict[str, str] = {}
        self._frame_problem = ""
        self._target: np.ndarray | None = None
        self._touched_s = time.monotonic()
        self._beats = 0
        self.on_recover: Any = None

        self._context = rclpy.Context()
        rclpy.init(args=[], context=self._context, domain_id=config.ros_domain_id)
        name = "arm_listener" if listens_only else "arm_driver"
        self._node = rclpy.create_node(name, namespace=namespace, context=self._context)
        newest = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)  # heard by reliable and best effort publishers
        topics, subscribe = config.topics, self._node.create_subscription
        subscribe(PoseStamped, topics.current_pose, self._on_pose, QoSProfile(depth=5, reliability=ReliabilityPolicy.BEST_EFFORT))
        if config.joint_names or config.gripper:
            subscribe(JointState, topics.joint_states, self._on_joints, newest)
        if topics.wrench:
            subscribe(WrenchStamped, topics.wrench, self._on_wrench, newest)
        if topics.robot_state:
            subscribe(interface_type(topics.robot_state_type), topics.robot_state, self._on_mode, newest)
        self._images = RosImages(self._node, {name: config.cameras[name] for name in cameras if config.cameras[name].topic})
        subscribe(msg.SafetyState, safety_topic(namespace), self._on_safety, 1)
        self._pose_type, self._beat_type = PoseStamped, msg.Heartbeat
        if not listens_only:
            self._commands = self._node.create_publisher(PoseStamped, command_topic(namespace), 1)
            self._heart = self._node.create_publisher(msg.Heartbeat, heartbeat_topic(namespace), 1)
            self._node.create_service(Trigger, recover_service(namespace), self._on_recover)
        self.calls = RosCaller(self._node)
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self._node)
        self._closing = threading.Event()
        # beating shares no thread with callbacks, so that a burst of pictures does not look like death
        work = (self._spin,) if listens_only else (self._spin, self._live)
        self._threads = [threading.Thread(target=one, name=f"arm-{one.__name__}", daemon=True) for one in work]
        for thread in self._threads:
            thread.start()

    def drivers(self) -> int:
        """How many programs command this arm through its safety node, this one not counted when it listens only."""
        return int(
            self._node.count_publishers(self._node.resolve_topic_name(command_topic(self._node.get_namespace().strip("/"))))
        )

    def commanders(self) -> int:
        """How many programs command the arm's controller itself: safety nodes, of runs with whatever name, and anybody else's."""
        return int(self._node.count_publishers(self._config.topics.target_pose))

    def _watched(self) -> tuple[str, ...]:
        config = self._config
        names = ["the arm's pose"]
        if config.limits.joint_min_rad:
            names.append("the arm's joints")
        if config.topics.wrench:
            names.append("the wrench")
        if config.topics.robot_state:
            names.append("the arm's mode")
        return tuple(names)

    # --- the control loop's side ------------------------------------------------------------------------------------------

    def state(self) -> ArmState:
        """A copy of what is known now, with what the watchdogs say of it; pictures are decoded here, once each."""
        now = time.monotonic()
        self._touched_s = now
        with self._lock:
            state = ArmState(**{**self._now.__dict__, "heard_s": dict(self._now.heard_s)})
            problems = [problem for problem in (self._frame_problem, *self._skew.values()) if problem]
            problems.append(watchdogs.lost_messages("the arm's pose", list(self._arrivals), now, POSE_RATE_HZ))
        limit = self._config.max_state_age_s
        problems += watchdogs.late_inputs(state.heard_s, dict.fromkeys(self._watched(), limit), now)
        state.problems = tuple(problem for problem in problems if problem)
        state.pictures = self._images.pictures()
        return state

    def command(self, pose: np.ndarray) -> None:
        """Publish `pose` ``(4, 4)``, base frame, as the next target."""
        self._touched_s = time.monotonic()
        message = self._pose_type()
        message.header.stamp = self._node.get_clock().now().to_msg()
        message.header.frame_id = self._config.base_frame
        to_ros(pose, message.pose)
        self._target = pose[:3, 3].copy()
        self._commands.publish(message)

    def close(self) -> None:
        import rclpy

        if self._closing.is_set():
            return
        self._closing.set()
        for beating in self._threads[1:]:
            beating.join(timeout=2.0)
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
        """Note the arrival of an input and compare its stamp with this computer's clock."""
        now = time.monotonic()
        self._now.heard_s[name] = now
        if header is not None:
            stamp_s = header.stamp.sec + 1e-9 * header.stamp.nanosec
            self._skew[name] = watchdogs.skewed_clock(name, stamp_s, time.time(), self._config.max_clock_skew_s)
        return now

    def _on_pose(self, message: Any) -> None:
        p, q = message.pose.position, message.pose.orientation
        frame = message.header.frame_id
        with self._lock:
            self._frame_problem = ""
            if frame not in ("", self._config.base_frame):
                self._frame_problem = (
                    f"{self._config.topics.current_pose} is in frame {frame!r}, expected {self._config.base_frame!r}: set "
                    "franka.base_frame in the robot's YAML, or the controller's base frame"
                )
            try:
                self._now.pose = frames.pose_from_ros(np.array([p.x, p.y, p.z]), np.array([q.x, q.y, q.z, q.w]))
            except ValueError as error:
                self._frame_problem = str(error)
                return
            now = self._heard("the arm's pose", message.header)
            self._arrivals.append(now)
            while self._arrivals[0] < now - 1.5:
                self._arrivals.popleft()
            stamp_s = message.header.stamp.sec + 1e-9 * message.header.stamp.nanosec
            self._track.append((stamp_s, self._now.pose[:3, 3]))
            while len(self._track) > 2 and stamp_s - self._track[1][0] > VELOCITY_WINDOW_S:
                self._track.popleft()
            (then_s, then), (last_s, last) = self._track[0], self._track[-1]
            span_s = last_s - then_s
            self._now.velocity_m_s = (last - then) / span_s if 0.0 < span_s < 1.0 else np.zeros(3)

    def _on_joints(self, message: Any) -> None:
        place = dict(zip(message.name, message.position, strict=False))
        names, fingers = self._config.joint_names, self._config.gripper.finger_joints if self._config.gripper else ()
        with self._lock:
            # arm and gripper may publish on the same topic in turn
            if names and all(name in place for name in names):
                self._now.joints_rad = np.array([place[name] for name in names])
                self._heard("the arm's joints", message.header)
            if fingers and all(name in place for name in fingers):
                self._now.width_m = float(sum(place[name] for name in fingers))

    def _on_wrench(self, message: Any) -> None:
        force, torque = message.wrench.force, message.wrench.torque
        with self._lock:
            self._now.wrench = np.array([force.x, force.y, force.z, torque.x, torque.y, torque.z])
            self._heard("the wrench", message.header)

    def _on_mode(self, message: Any) -> None:
        mode, errors = mode_and_errors(message)
        with self._lock:
            self._now.mode, self._now.errors = mode, errors
            self._heard("the arm's mode", getattr(message, "header", None))

    def _on_safety(self, message: Any) -> None:
        with self._lock:
            self._now.safety = tuple(message.reasons) if message.holding else ()
            self._now.heard_s["the safety node"] = time.monotonic()

    def _on_recover(self, request: Any, response: Any) -> Any:
        response.success, response.message = self.on_recover("a person") if self.on_recover else (False, "the driver starts")
        return response

    def _live(self) -> None:
        while not self._closing.wait(1.0 / BEAT_HZ):
            self._beat()

    def _beat(self) -> None:
        self._beats += 1
        target = self._target
        beat = self._beat_type(sequence=self._beats, loop_age_s=time.monotonic() - self._touched_s, limits=self._digest)
        beat.header.stamp = self._node.get_clock().now().to_msg()
        if target is not None:
            beat.commanded, beat.target_m = True, [float(v) for v in target]
        self._heart.publish(beat)


def to_ros(pose: np.ndarray, message: Any) -> None:
    """Write a pose ``(4, 4)`` into a geometry_msgs/Pose."""
    message.position.x, message.position.y, message.position.z = (float(v) for v in pose[:3, 3])
    turn = frames.quaternion_from_rotation(pose[:3, :3])
    message.orientation.x, message.orientation.y, message.orientation.z, message.orientation.w = (float(v) for v in turn)


def mode_and_errors(message: Any) -> tuple[str, tuple[str, ...]]:
    """Of a franka_msgs/FrankaRobotState, or of a std_msgs/UInt8 that holds its mode alone."""
    number = int(message.robot_mode if hasattr(message, "robot_mode") else message.data)
    mode = MODES[number] if number < len(MODES) else MODES[0]
    current = getattr(message, "current_errors", None)
    names = current.get_fields_and_field_types() if current is not None else ()
    return mode, tuple(name for name in names if getattr(current, name) is True)
