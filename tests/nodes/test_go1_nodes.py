"""The Go1's driver, its safety node and the simulated Go1 as real participants, on both levels."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time

import numpy as np
import pytest

pytest.importorskip("rclpy")
pytest.importorskip("etude_msgs")

from etude_msgs import msg
from geometry_msgs.msg import Twist
from nav_msgs.msg import Odometry
from rclpy.node import Node
from sensor_msgs.msg import JointState
from std_msgs.msg import String

from actor.go1_gate import LET_GO
from actor.robots.go1 import Go1Robot
from actor.robots.go1_ros import legs_topic
from etude.config import RunConfig, load_run_config, read_named, save_config
from etude.run_folder import RunFolder
from etude_nodes import qos
from etude_nodes.process import middleware, spinning
from etude_nodes.sim_franka_node import FAULT_TOPIC
from etude_nodes.supervisor import children_of


class Recorder(Node):
    """An independent witness of every velocity that reaches the robot and of where it is; it switches faults on."""

    def __init__(self) -> None:
        super().__init__("recorder")
        self.velocities: list[tuple[float, np.ndarray]] = []
        self.places: list[tuple[float, np.ndarray]] = []
        self.safety: list[tuple[float, tuple[str, ...]]] = []
        self.legs: list[np.ndarray] = []
        self.create_subscription(Twist, "/cmd_vel", self._on_velocity, qos.SENSOR)
        self.create_subscription(Odometry, "/odom", self._on_odometry, qos.SENSOR)
        self.create_subscription(msg.SafetyState, "/robot/safety_state", self._on_safety, qos.METRICS)
        self.create_subscription(JointState, legs_topic("robot"), lambda m: self.legs.append(np.array(m.position)), qos.SENSOR)
        self._faults = self.create_publisher(String, FAULT_TOPIC, 10)

    def _on_velocity(self, message: Twist) -> None:
        velocity = np.array([message.linear.x, message.linear.y, message.angular.z])
        self.velocities.append((time.monotonic(), velocity))

    def _on_odometry(self, message: Odometry) -> None:
        p = message.pose.pose.position
        self.places.append((time.monotonic(), np.array([p.x, p.y])))

    def _on_safety(self, message: msg.SafetyState) -> None:
        self.safety.append((time.monotonic(), tuple(message.reasons)))

    def fault(self, script: str) -> None:
        self._faults.publish(String(data=script))


def config_for(name: str, domain: int, port: int = 0) -> RunConfig:
    robot = read_named("robots", name)
    robot["go1"]["ros_domain_id"] = domain
    robot["safety"]["max_reading_age_s"] = 2.0
    # generous where a busy machine is late; what is tested is what happens when it is
    robot["go1"]["max_state_age_s"] = robot["go1"]["max_clock_skew_s"] = 0.4
    robot["go1"]["cameras"] = {"follow": {"topic": "/camera/follow/color/image_raw", "max_age_s": 1.5}}
    robot["go1"]["recovery"] |= {"min_interval_s": 0.1, "max_per_hour": 1000}
    if port:
        robot["go1"]["udp"] = {"address": "127.0.0.1", "port": port, "local_port": 0, "rate_hz": 200}
    recipe = {"name": "test", "reward": {"kind": "environment"}}
    return load_run_config({"name": "hardware", "task": "go1_walk", "robot": robot, "recipe": recipe})


@pytest.fixture
def start(domain, tmp_path, wait_until):
    """``start(name)`` → (driver, recorder, config): simulated Go1 and safety node run, the driver hears both."""
    processes, robots, open_contexts = [], [], []

    def begin(name: str):
        port = 0
        if name == "go1_low":
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
                probe.bind(("127.0.0.1", 0))
                port = probe.getsockname()[1]
        config = config_for(name, domain, port)
        folder = RunFolder(tmp_path / "run")
        folder.root.mkdir()
        save_config(config, folder.config)
        level = "low" if port else "high"
        sim = ["--ros-args", "-p", f"level:={level}", "-p", f"port:={port or 8007}", "-p", "image_height_px:=48.0"]
        modules = (
            ["etude_nodes.sim_go1_node", *sim, "-p", "camera_rate_hz:=5.0"],
            ["etude_nodes.safety_node", "--run", str(folder.root)],
        )
        for words in modules:
            processes.append(subprocess.Popen([sys.executable, "-m", *words]))
        context = middleware()
        context.__enter__()
        recorder = Recorder()
        turning = spinning(recorder)
        turning.__enter__()
        open_contexts.extend((context, turning))
        robot = Go1Robot(config.task, config.robot, "pixels")
        robots.append(robot)
        only = ("the safety node holds: " + LET_GO,) if port else ()
        wait_until(
            lambda: robot.read().faults == only, 40, f"a Go1 that tells nothing but {only}; it tells {robot.read().faults}"
        )
        return robot, recorder, config

    yield begin
    for robot in robots:
        robot.close()
    for context in reversed(open_contexts):
        context.__exit__(None, None, None)
    for process in processes:
        process.kill()
        process.wait()


def drive(robot: Go1Robot, seconds: float, action: np.ndarray) -> list[tuple[str, ...]]:
    """The control loop in short: read, act or hold, at the control rate. The faults of each step."""
    faults, until, period_s = [], time.monotonic() + seconds, 1.0 / robot.control_rate_hz
    while time.monotonic() < until:
        began = time.monotonic()
        faults.append(robot.read().faults)
        robot.hold() if faults[-1] else robot.act(action.astype(np.float32))
        time.sleep(max(0.0, period_s - (time.monotonic() - began)))
    return faults


def test_it_walks_by_velocities_stands_on_every_fault_and_gets_zeros_all_the_time(start, wait_until) -> None:
    robot, recorder, _ = start("go1")
    ahead = np.array([0.8, 0.0, 0.0])
    drive(robot, 3.0, ahead)
    assert recorder.places[-1][1][0] - recorder.places[0][1][0] > 0.1, "it walks ahead"
    np.testing.assert_allclose(robot.read().tcp_position_m[:2], recorder.places[-1][1] - recorder.places[0][1], atol=0.1)
    largest = np.array([0.5, 0.25, 0.8]) + 1e-9
    assert all((np.abs(velocity) <= largest).all() for _, velocity in recorder.velocities)

    for script, word in (("state_late+1.5", "late"), ("clock_skew=2+1", "stamped"), ("camera_frozen=follow+2.5", "frozen")):
        recorder.fault(script)
        told = drive(robot, 3.0, ahead * 0)
        assert any(word in fault for faults in told for fault in faults), script
        wait_until(lambda: robot.read().faults == (), 10, f"all well after {script}")

    # nobody wishes anything: zero is sent on and on, because the vendor's driver would go on with what it had
    time.sleep(1.0)
    since = time.monotonic()
    time.sleep(1.0)
    idle = [velocity for moment, velocity in recorder.velocities if moment > since]
    assert len(idle) > 25 and not np.any(idle)


ACTOR = """
import sys, time
import numpy as np
from actor.robots.go1 import Go1Robot
from etude.config import load_run_config
from pathlib import Path
config = load_run_config(Path(sys.argv[1]))
robot = Go1Robot(config.task, config.robot, "pixels")
while True:
    reading = robot.read()
    robot.hold() if reading.faults else robot.act(np.array([0.8, 0.0, 0.0], np.float32))
    time.sleep(0.1)
"""


def test_an_actor_that_is_killed_leaves_a_robot_that_is_told_to_stand(start, tmp_path, wait_until) -> None:
    robot, recorder, _ = start("go1")
    robot.close()
    actor = subprocess.Popen([sys.executable, "-c", ACTOR, str(RunFolder(tmp_path / "run").config)])
    try:
        wait_until(lambda: recorder.velocities and recorder.velocities[-1][1][0] > 0.3, 60, "a robot that walks")
        os.kill(actor.pid, signal.SIGKILL)
        killed_s = time.monotonic()
        wait_until(lambda: not recorder.velocities[-1][1].any(), 5, "zero velocity")
        stopped_s = next(t for t, v in recorder.velocities if t > killed_s and not v.any())
        print(f"zero after {1000 * (stopped_s - killed_s):.0f} ms")
        assert stopped_s - killed_s < 0.3
        time.sleep(1.0)
        late = [velocity for moment, velocity in recorder.velocities if moment > stopped_s]
        assert len(late) > 25 and not np.any(late)
    finally:
        actor.kill()
        actor.wait()


def get_up(robot: Go1Robot, wait_until) -> None:
    """A person asks until it stands: on a busy machine a sign of life may be late meanwhile, and then its legs are let go."""
    assert robot.recover("a person")[0]

    def stands() -> bool:
        faults = robot.read().faults
        if any("getting up failed" in fault for fault in faults):
            robot.recover("a person")
        return faults == ()

    wait_until(stands, 60, "a Go1 that stands")


def test_by_joint_targets_it_gets_up_moves_sinks_in_danger_and_gets_up_again(start, wait_until) -> None:
    robot, recorder, config = start("go1_low")
    get_up(robot, wait_until)
    names = robot.observation_spec.state_names
    state = robot.read().observation["state"]
    assert state[names.index("gravity_z")] < -0.97 and np.abs(state[:12]).max() < 0.25, "level, near its stance"

    crouch = np.tile([0.0, 0.25, -0.4], 4)
    drive(robot, 1.0, crouch)
    moved = robot.read().observation["state"][:12]
    np.testing.assert_allclose(moved, crouch * np.tile([0.6, 1.2, 0.9], 4), atol=0.15)

    recorder.fault("motor_hot=90+1")
    wait_until(lambda: any("a motor has 90 °C" in fault for fault in robot.read().faults), 5, "the heat to be told")
    drive(robot, 2.0, crouch)
    assert robot.read().observation["state"][names.index("FR_knee_rad")] < -0.5, "it sank with folded legs"
    assert any(LET_GO in fault for fault in robot.read().faults), "it waits for a person"
    get_up(robot, wait_until)

    recorder.fault("packet_loss=0.5+1")
    drive(robot, 1.5, np.zeros(12))
    wait_until(
        lambda: robot.read().faults == () or any(LET_GO in f for f in robot.read().faults), 10, "a clear state after the loss"
    )
    low, high = np.array(config.robot.go1.joints.joint_min_rad), np.array(config.robot.go1.joints.joint_max_rad)
    assert all((legs > low - 0.15).all() and (legs < high + 0.15).all() for legs in recorder.legs)


def test_a_run_with_a_real_go1_has_a_safety_node_that_stops_last() -> None:
    children = children_of(config_for("go1", 5))
    assert [child.name for child in children][:3] == ["safety", "learner", "actor"] and children[0].needed
