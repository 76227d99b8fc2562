"""The simulated Panda on the hardware's topics, in real time: what a Franka driver talks to, with no Franka.

Names and profiles are those of the vendors' ROS 2 packages (CRISP Cartesian controller, franka_ros2, realsense-ros); only the
gripper differs: its action types come with the vendor's package, so here it is a width on a topic. It knows nothing of practice.

    ros2 run etude_nodes sim_robot --ros-args -p task:=slide -p rate_hz:=50.0
"""

from __future__ import annotations

import sys
import threading
import time

import numpy as np
from geometry_msgs.msg import PoseStamped
from rclpy.node import Node
from sensor_msgs.msg import Image, JointState
from std_msgs.msg import Float64

from actor.pacing import Pacer
from etude.cli import clear_message
from etude.config import TaskConfig, build, read_named
from etude_nodes import convert, qos
from etude_nodes.diagnostics import Pace, tell_every_second
from etude_nodes.parameters import setting
from etude_nodes.process import EXIT_DONE, EXIT_REFUSED, configure_logging, spinning, stop_event_from_signals
from simulation import panda
from simulation.tabletop import Tabletop

BASE_FRAME = "base"
CAMERAS = ("front", "wrist")
SPEED_M_S = 0.3
TURN_RAD_S = 1.0
"""How fast the simulated arm follows a far target pose; a real impedance controller is limited by its error clip."""
TARGET_TOPIC, POSE_TOPIC = "/target_pose", "/current_pose"
JOINT_TOPIC, GRIPPER_TOPIC = "/joint_states", "/gripper/target_width"


def image_topic(camera: str) -> str:
    """As realsense-ros names the colour stream of a camera called `camera`."""
    return f"/camera/{camera}/color/image_raw"


class SimRobotNode(Node):
    """Topics of one simulated arm. `run` simulates in the calling thread, which also owns the renderers.

    Subscribes ``/target_pose`` (PoseStamped, frame ``base``; the newest is followed until the next, as the real controller does)
    and ``/gripper/target_width`` (Float64, metres between the fingers). Publishes ``/current_pose``, ``/joint_states`` and one
    rgb8 image per camera.
    """

    def __init__(self) -> None:
        super().__init__("sim_robot")
        self._joint_prefix = setting(self, "joint_prefix", "panda_", "of the names in /joint_states: panda_ or fr3_")
        task = setting(self, "task", "slide", "name of a file in robot_configs/tasks")
        rate = setting(self, "rate_hz", 50.0, "simulation, pose and joint state rate, hertz", 10.0, 200.0)
        camera_rate = setting(self, "camera_rate_hz", 10.0, "picture rate, hertz", 0.5, 60.0)
        height = setting(self, "image_height_px", 240.0, "height of the pictures, pixels (width is 4/3 of it)", 16.0, 960.0)
        seed = setting(self, "seed", 0.0, "of the scene's random start", 0.0, 2.0**31)
        config = build(TaskConfig, read_named("tasks", task), task)
        self._size = (int(height), int(height) * 4 // 3)
        self._period_s = 1.0 / rate
        self._camera_every = max(1, round(rate / camera_rate))
        self._table = Tabletop(config.scene or config.name, (), 64, "state", config.options, int(seed), rate)
        self._target: PoseStamped | None = None
        self._width_m = 0.0
        self._refused = 0
        self.pace = Pace(rate)
        self._poses = self.create_publisher(PoseStamped, POSE_TOPIC, qos.METRICS)
        self._joints = self.create_publisher(JointState, JOINT_TOPIC, qos.METRICS)
        self._images = {camera: self.create_publisher(Image, image_topic(camera), qos.COMMAND) for camera in CAMERAS}
        self.create_subscription(PoseStamped, TARGET_TOPIC, self._on_target, qos.COMMAND)
        self.create_subscription(Float64, GRIPPER_TOPIC, self._on_gripper, qos.COMMAND)
        tell_every_second(self, self.get_name(), lambda: self.pace.condition(refused_targets=self._refused))

    # --- in -------------------------------------------------------------------------------------------------------

    def _on_target(self, message: PoseStamped) -> None:
        position, turn = message.pose.position, message.pose.orientation
        numbers = (position.x, position.y, position.z, turn.x, turn.y, turn.z, turn.w)
        if message.header.frame_id not in ("", BASE_FRAME) or not np.isfinite(numbers).all():
            self._refused += 1
            text = f"target pose refused: frame {message.header.frame_id!r} (want {BASE_FRAME!r}) or a number that is not finite"
            self.get_logger().warning(text, throttle_duration_sec=2.0)
            return
        self._target = message

    def _on_gripper(self, message: Float64) -> None:
        if np.isfinite(message.data):
            self._width_m = float(np.clip(message.data, 0.0, 2 * panda.MAX_FINGER_M))

    # --- simulation -----------------------------------------------------------------------------------------------

    def run(self, stop: threading.Event) -> None:
        """Simulate in real time until `stop`."""
        pacer = Pacer(1.0 / self._period_s)
        tick = 0
        try:
            while not stop.is_set():
                self._advance()
                self._publish_state()
                # one camera per turn, so that a slow picture delays one period and not several
                for offset, camera in enumerate(CAMERAS):
                    if tick % self._camera_every == offset * (self._camera_every // len(CAMERAS)):
                        self._publish_image(camera)
                tick += 1
                left_s = pacer.next_deadline(time.monotonic()) - time.monotonic()
                if left_s > 0:
                    stop.wait(left_s)
                self.pace.late = pacer.missed
        finally:
            self._table.close()

    def _advance(self) -> None:
        self._table.step(self._action())

    def _action(self) -> np.ndarray:
        """One normalised step towards the target pose, no faster than the arm moves; still without a target."""
        spec, target = self._table.action_spec, self._target
        action = spec.zeros()
        controller = self._table.controller
        for i, (name, scale) in enumerate(zip(spec.names, spec.scale, strict=True)):
            if name == "gripper":
                action[i] = self._width_m / panda.MAX_FINGER_M - 1.0
            elif target is not None and name == "yaw":
                turn = wrapped(yaw_of(target.pose.orientation) - controller.target_yaw_rad)
                action[i] = np.clip(turn, -TURN_RAD_S * self._period_s, TURN_RAD_S * self._period_s) / scale
            elif target is not None:
                error = getattr(target.pose.position, name) - controller.target_m["xyz".index(name)]
                action[i] = np.clip(error, -SPEED_M_S * self._period_s, SPEED_M_S * self._period_s) / scale
        return np.clip(action, -1.0, 1.0)

    # --- out ------------------------------------------------------------------------------------------------------

    def _stamp(self):
        return self.get_clock().now().to_msg()

    def _picture(self, camera: str) -> np.ndarray | None:
        """What `camera` sends now; None sends nothing."""
        return self._table.render(camera, *self._size)

    def _publish_state(self) -> None:
        stamp = self._stamp()
        pose = PoseStamped()
        pose.header.stamp, pose.header.frame_id = stamp, BASE_FRAME
        pose.pose.position.x, pose.pose.position.y, pose.pose.position.z = (float(v) for v in self._table.tool().tcp_m)
        # the tool points down: half a turn about x, then yaw about the base z axis
        half = self._table.controller.yaw_rad / 2
        pose.pose.orientation.x, pose.pose.orientation.y = float(np.cos(half)), float(np.sin(half))
        pose.pose.orientation.w = 0.0
        self._poses.publish(pose)
        joints = JointState()
        joints.header.stamp = stamp
        names = [f"joint{i}" for i in range(1, 8)] + ["finger_left", "finger_right"]
        joints.name = [f"{self._joint_prefix}{name}" for name in names]
        joints.position = [float(self._table.data.joint(name).qpos[0]) for name in names]
        joints.velocity = [float(self._table.data.joint(name).qvel[0]) for name in names]
        self._joints.publish(joints)

    def _publish_image(self, camera: str) -> None:
        if not self._images[camera].get_subscription_count():
            return
        picture = self._picture(camera)
        if picture is None:
            return
        height, width = self._size
        message = Image(
            height=height, width=width, encoding="rgb8", is_bigendian=0, step=3 * width, data=convert.to_uint8(picture)
        )
        message.header.stamp = self._stamp()
        message.header.frame_id = f"{camera}_color_optical_frame"
        self._images[camera].publish(message)


def yaw_of(orientation) -> float:
    """Rotation about the base z axis of a tool that points down, radians: the inverse of what ``/current_pose`` says."""
    return 2.0 * float(np.arctan2(orientation.y, orientation.x))


def wrapped(angle_rad: float) -> float:
    return float((angle_rad + np.pi) % (2 * np.pi) - np.pi)


def main(argv: list[str] | None = None) -> int:
    import rclpy
    from rclpy.signals import SignalHandlerOptions

    configure_logging()
    stop = stop_event_from_signals()
    rclpy.init(args=sys.argv if argv is None else [sys.argv[0], *argv], signal_handler_options=SignalHandlerOptions.NO)
    try:
        node = SimRobotNode()
        with spinning(node):
            node.get_logger().info(f"the simulated arm listens to {TARGET_TOPIC}")
            node.run(stop)
    except Exception as error:
        text = clear_message(error)
        if text is None:
            raise
        print(f"sim_robot: {text}", file=sys.stderr)
        return EXIT_REFUSED
    finally:
        rclpy.try_shutdown()
    return EXIT_DONE


if __name__ == "__main__":
    sys.exit(main())
