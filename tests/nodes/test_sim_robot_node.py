"""The simulated arm on the hardware's topics: it goes where a target pose says, stays without one, and shows pictures."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

pytest.importorskip("rclpy")

from geometry_msgs.msg import PoseStamped
from rclpy.node import Node
from sensor_msgs.msg import Image, JointState

from etude_nodes import qos, sim_robot_node
from etude_nodes.process import middleware, spinning


class Driver(Node):
    """What a hardware driver subscribes to and publishes."""

    def __init__(self) -> None:
        super().__init__("driver")
        self.poses: list[np.ndarray] = []
        self.joints: JointState | None = None
        self.picture: Image | None = None
        self._targets = self.create_publisher(PoseStamped, sim_robot_node.TARGET_TOPIC, qos.COMMAND)
        self.create_subscription(PoseStamped, sim_robot_node.POSE_TOPIC, self._on_pose, qos.METRICS)
        self.create_subscription(JointState, sim_robot_node.JOINT_TOPIC, lambda m: setattr(self, "joints", m), qos.METRICS)
        self.create_subscription(Image, sim_robot_node.image_topic("front"), lambda m: setattr(self, "picture", m), qos.SENSOR)

    def _on_pose(self, message: PoseStamped) -> None:
        p = message.pose.position
        self.poses.append(np.array([p.x, p.y, p.z]))

    def go(self, position: np.ndarray, frame: str = "base") -> None:
        message = PoseStamped()
        message.header.frame_id = frame
        message.pose.position.x, message.pose.position.y, message.pose.position.z = map(float, position)
        message.pose.orientation.x = 1.0
        self._targets.publish(message)


def test_the_arm_follows_target_poses_in_real_time(domain, wait_until) -> None:
    process = subprocess.Popen([sys.executable, "-m", "etude_nodes.sim_robot_node", "--ros-args", "-p", "image_height_px:=48.0"])
    try:
        with middleware():
            driver = Driver()
            with spinning(driver):
                wait_until(lambda: len(driver.poses) > 5, 30, "the first poses")
                start = driver.poses[-1]
                wait_until(lambda: len(driver.poses) > 20, 10, "more poses")
                assert np.linalg.norm(driver.poses[-1] - start) < 0.01, "without a target it stays"

                driver.go(np.array([9.0, 9.0, 9.0]), frame="camera")
                goal = np.array([0.5, 0.05, 0.15])
                driver.go(goal)
                seconds = wait_until(lambda: np.linalg.norm(driver.poses[-1] - goal) < 0.02, 15, f"the arm at {goal}")
                assert seconds > 0.5 * np.linalg.norm(goal - start) / sim_robot_node.SPEED_M_S / np.sqrt(3)

                wait_until(lambda: driver.picture is not None, 10, "a picture")
                assert (driver.picture.height, driver.picture.width, driver.picture.encoding) == (48, 64, "rgb8")
                assert np.frombuffer(driver.picture.data, np.uint8).std() > 5
                assert len(driver.joints.position) == 9 and np.isfinite(driver.joints.position).all()
        process.terminate()
        assert process.wait(15) == 0
    finally:
        process.kill()


@pytest.mark.parametrize("yaw", [-1.0, 0.0, 0.7])
def test_yaw_of_a_published_orientation_is_the_yaw(yaw: float) -> None:
    message = PoseStamped()
    message.pose.orientation.x, message.pose.orientation.y = np.cos(yaw / 2), np.sin(yaw / 2)
    assert sim_robot_node.yaw_of(message.pose.orientation) == pytest.approx(yaw)
