"""The simulated Go1 on a real one's interfaces, in real time: what its driver and safety node talk to, with no Go1.

``level:=high`` speaks the topics of unitree_ros, with that driver's known weakness: it goes on with the last velocity that it
got, however old. ``level:=low`` is the motor controller behind UDP on this computer. Failures come from `simulation.faults`, by
script or on the topic ``/sim/fault``.

    python -m etude_nodes.sim_go1_node --ros-args -p level:=low -p faults:="packet_loss=0.5@20+3"
"""

from __future__ import annotations

import contextlib
import socket
import sys
import threading
import time

import numpy as np
from geometry_msgs.msg import Twist
from nav_msgs.msg import Odometry
from rclpy.node import Node
from sensor_msgs.msg import Imu, JointState
from std_msgs.msg import Empty

from actor.pacing import Pacer
from actor.robots.go1_packets import LegState, PacketError, decode_command, encode_state
from etude.config import ConfigError
from etude.config.go1 import Go1Config
from etude_nodes import qos
from etude_nodes.diagnostics import Pace, tell_every_second
from etude_nodes.parameters import setting
from etude_nodes.sim_realsense_node import Faults, SimCamera, serve
from simulation.go1 import TIMESTEP_S
from simulation.go1_hardware import Go1Hardware

LOOPBACK = "127.0.0.1"
STATE_HZ = 50.0
CAMERA = "follow"
JOINT_NAMES = Go1Config().joint_names
LOOKS_LIKE_WARM_C = 35.0


class SimGo1Node(Node):
    """`run` simulates in the calling thread, which also owns the renderer and the socket."""

    def __init__(self) -> None:
        super().__init__("sim_go1")

        level = setting(self, "level", "high", "high: topics of unitree_ros; low: motors behind UDP")
        if level not in ("high", "low"):
            raise ConfigError(f"level is {level!r}, expected high or low")
        port = setting(self, "port", 8007, "UDP port of the motors on this computer (level low)", 1024, 65535)
        camera_hz = setting(self, "camera_rate_hz", 10.0, "pictures, hertz; 0: no camera", 0.0, 60.0)
        height = int(setting(self, "image_height_px", 120.0, "height of the pictures, pixels (width is 4/3 of it)", 16.0, 960.0))
        self.faults = Faults(self, setting(self, "faults", "", "script of faults, see simulation/faults.py"))
        self._lock = threading.Lock()
        self._go1 = Go1Hardware(seed=0, lying=level == "low")
        self._camera_every = round(1.0 / (camera_hz * TIMESTEP_S)) if camera_hz else 0
        draw = lambda: self._go1.robot.render(height, height * 4 // 3, CAMERA)  # noqa: E731
        self._camera = SimCamera(self, CAMERA, self.faults, draw)
        self._motors = Motors(self._go1, self.faults, port) if level == "low" else None
        if self._motors is None:
            self._odometries = self.create_publisher(Odometry, "/odom", qos.COMMAND)
            self._imus = self.create_publisher(Imu, "/imu", qos.COMMAND)
            self._joints = self.create_publisher(JointState, "/joint_states", qos.COMMAND)
            self.create_subscription(Twist, "/cmd_vel", self._on_velocity, qos.SENSOR)
            self.create_subscription(Empty, "/stand_up", lambda _: self._stand(True), qos.SENSOR)
            self.create_subscription(Empty, "/stand_down", lambda _: self._stand(False), qos.SENSOR)
        self._pace = Pace(1.0 / TIMESTEP_S)
        tell_every_second(self, "sim_go1", lambda: self._pace.condition(level=level))

    def _on_velocity(self, message: Twist) -> None:
        if not self.faults.lost():
            with self._lock:
                self._go1.walk(np.array([message.linear.x, message.linear.y, message.angular.z]))

    def _stand(self, up: bool) -> None:
        with self._lock:
            self._go1.stand(up)

    def run(self, stop: threading.Event) -> None:
        pacer, tick, state_every = Pacer(1.0 / TIMESTEP_S), 0, round(1.0 / (STATE_HZ * TIMESTEP_S))
        try:
            while not stop.is_set():
                with self._lock:
                    self._go1.push_n = self.faults.value("pushed")
                    if self._motors is not None:
                        self._motors.turn()
                    self._go1.step()
                    if self._motors is None and tick % state_every == 0:
                        self._publish_state()
                    if self._camera_every and tick % self._camera_every == 0:
                        self._camera.show()
                tick += 1
                self._pace.late = pacer.missed
                left_s = pacer.next_deadline(time.monotonic()) - time.monotonic()
                if left_s > 0:
                    stop.wait(left_s)
        finally:
            self._go1.close()
            if self._motors is not None:
                self._motors.close()

    def _publish_state(self) -> None:
        if self.faults.on("state_late") or self.faults.lost():
            return
        go1, stamp = self._go1, self.faults.stamp()
        imu = Imu()
        imu.header.stamp, imu.header.frame_id = stamp, "imu_link"
        odometry = Odometry(child_frame_id="base_link")
        odometry.header.stamp, odometry.header.frame_id = stamp, "odom"
        for turn in (imu.orientation, odometry.pose.pose.orientation):
            turn.w, turn.x, turn.y, turn.z = (float(v) for v in go1.quaternion)
        for rate in (imu.angular_velocity, odometry.twist.twist.angular):
            rate.x, rate.y, rate.z = (float(v) for v in go1.gyroscope_rad_s)
        place, velocity = odometry.pose.pose.position, odometry.twist.twist.linear
        place.x, place.y, place.z = (float(v) for v in go1.robot.position_m)
        velocity.x, velocity.y, velocity.z = (float(v) for v in go1.robot.velocity_m_s)
        joints = JointState(name=list(JOINT_NAMES), position=go1.robot.joints_rad.tolist(), velocity=go1.speeds_rad_s.tolist())
        joints.header.stamp = stamp
        self._imus.publish(imu)
        self._joints.publish(joints)
        self._odometries.publish(odometry)


class Motors:
    """The motor controller: takes commands, and answers whoever sent the last one with the state of every step."""

    def __init__(self, go1: Go1Hardware, faults: Faults, port: int) -> None:
        self._go1, self._faults = go1, faults
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        self._socket.bind((LOOPBACK, port))
        self._peer: tuple[str, int] | None = None
        self.refused = 0

    def turn(self) -> None:
        with contextlib.suppress(BlockingIOError, ConnectionError):
            while True:
                packet, peer = self._socket.recvfrom(2048)
                self._take(packet, peer)
        if self._peer is None or self._faults.on("state_late") or self._faults.lost():
            return
        with contextlib.suppress(OSError):
            self._socket.sendto(encode_state(self._state()), self._peer)

    def _take(self, packet: bytes, peer: tuple[str, int]) -> None:
        if self._faults.lost():
            return
        try:
            command = decode_command(packet)
        except PacketError:
            self.refused += 1
            return
        self._peer = peer
        self._go1.motors(command.target_rad, command.stiffness_nm_rad, command.damping_nm_s_rad)

    def _state(self) -> LegState:
        go1 = self._go1
        heat = self._faults.value("motor_hot") or LOOKS_LIKE_WARM_C
        return LegState(
            go1.robot.joints_rad,
            go1.speeds_rad_s,
            go1.torques_nm,
            np.full(12, heat),
            go1.quaternion,
            go1.gyroscope_rad_s,
            go1.roll_pitch_yaw_rad,
            round(1000 * go1.time_s),
        )

    def close(self) -> None:
        self._socket.close()


def main(argv: list[str] | None = None) -> int:
    return serve(SimGo1Node, "sim_go1", argv)


if __name__ == "__main__":
    sys.exit(main())
