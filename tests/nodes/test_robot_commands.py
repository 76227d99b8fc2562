"""`etude robot …` against the simulated Franka over real DDS: every command as a person types it."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import yaml

pytest.importorskip("rclpy")
pytest.importorskip("etude_msgs")

import rclpy
from geometry_msgs.msg import PoseStamped
from rclpy.node import Node
from std_msgs.msg import String

from etude.config import ConfigError, RobotConfig, build, read_named
from etude_nodes import qos, robot_commands, sim_franka_node
from etude_nodes.process import middleware, spinning
from etude_nodes.safety_node import SafetyNode

SIM = ["etude_nodes.sim_franka_node", "--ros-args", "-p", "image_height_px:=48.0", "-p", "camera_rate_hz:=2.0"]


class Witness(Node):
    """Every target that reaches the controller."""

    def __init__(self) -> None:
        super().__init__("witness")
        self.targets: list[np.ndarray] = []
        self.create_subscription(PoseStamped, "/target_pose", self._on_target, qos.STEPS)
        self.faults = self.create_publisher(String, sim_franka_node.FAULT_TOPIC, 10)

    def _on_target(self, message: PoseStamped) -> None:
        p = message.pose.position
        self.targets.append(np.array([p.x, p.y, p.z]))


@pytest.fixture
def arm(domain, tmp_path):
    """(name of a robot's YAML in this domain, witness), with the simulated arm running."""
    robot = read_named("robots", "franka_sim")
    robot["franka"]["ros_domain_id"] = domain
    robot["franka"]["max_state_age_s"] = robot["franka"]["max_clock_skew_s"] = 0.4
    file = tmp_path / "arm.yaml"
    file.write_text("# my arm\n" + yaml.safe_dump(robot, default_flow_style=None, width=200))
    process = subprocess.Popen([sys.executable, "-m", *SIM])
    try:
        with middleware():
            witness = Witness()
            with spinning(witness):
                yield str(file), witness
    finally:
        process.kill()
        process.wait()


def seen(arm_file: str, capsys) -> dict:
    capsys.readouterr()
    robot_commands.monitor(["--robot", arm_file, "--once", "--json"])
    return json.loads(capsys.readouterr().out.strip().splitlines()[-1])


def test_it_tells_its_state_goes_home_and_learns_its_box(arm, capsys, monkeypatch):
    file, witness = arm
    before = seen(file, capsys)
    assert before["mode"] in ("idle", "move") and before["driven_by"] == 0 and len(before["joints_rad"]) == 7
    assert witness.targets == [], "who only listens commands nothing"

    config = build(RobotConfig, read_named("robots", file), file).franka
    goal = robot_commands.home_of(config)
    assert robot_commands.home(["--robot", file, "--yes"]) == 0
    assert np.linalg.norm(np.array(seen(file, capsys)["tool_m"]) - goal) < 0.03
    low, high = np.array(config.limits.workspace_min_m) - 1e-6, np.array(config.limits.workspace_max_m) + 1e-6
    assert witness.targets and all(((low <= target) & (target <= high)).all() for target in witness.targets)
    steps = np.linalg.norm(np.diff(witness.targets, axis=0), axis=1)
    assert steps.max() < 0.02, "slowly"

    # a person leads the tool: poses as the arm would tell them
    corners = [np.array(corner) for corner in ([0.35, -0.2, 0.05], [0.6, 0.2, 0.3], [0.5, 0.0, 0.1])]
    monkeypatch.setattr(robot_commands, "recorded", lambda arm, seconds: corners)
    assert robot_commands.teach_box(["--robot", file, "--yes"]) == 0
    limits = build(RobotConfig, read_named("robots", file), file)
    for taught in (limits.safety, limits.franka.limits):
        np.testing.assert_allclose(taught.workspace_min_m, [0.36, -0.19, 0.06])
        np.testing.assert_allclose(taught.workspace_max_m, [0.59, 0.19, 0.29])
    assert Path(file).read_text().startswith("# my arm")


def test_recording_follows_the_tool(arm):
    file, _ = arm
    _, config = robot_commands.arm_of(file)
    with robot_commands.listening(config) as listener:
        points = robot_commands.recorded(listener, 0.5)
    assert len(points) > 5 and all(np.isfinite(point).all() for point in points)


def test_a_reflex_is_recovered_and_home_is_refused_beside_a_run(arm, capsys, wait_until):
    file, witness = arm
    seen(file, capsys)
    witness.faults.publish(String(data="reflex"))
    wait_until(lambda: seen(file, capsys)["mode"] == "reflex", 20, "a reflex")
    assert robot_commands.recover(["--robot", file]) == 0
    assert "well again" in capsys.readouterr().out
    assert seen(file, capsys)["mode"] != "reflex"

    run = robot_commands.run_config_of(file)
    driver = robot_commands.FrankaRobot(run.task, run.robot, "pixels", namespace=robot_commands.NAMESPACE)
    try:
        time.sleep(1.0)
        with pytest.raises(ConfigError, match="a run drives this arm"):
            robot_commands.home(["--robot", file, "--yes"])
        assert robot_commands.recover(["--robot", file]) == 0, "the run's own driver is asked"
    finally:
        driver.close()


def test_what_is_no_arm_and_a_home_outside_the_box_are_refused():
    with pytest.raises(ConfigError, match="kind franka"):
        robot_commands.arm_of("sim_panda")
    config = build(RobotConfig, read_named("robots", "franka_sim"), "franka_sim").franka
    with pytest.raises(ConfigError, match="home_m"):
        robot_commands.home_of(config.model_copy(update={"home_m": (0.9, 0.0, 0.2)}))


def test_holding_a_run_that_does_not_live_says_so(tmp_path, domain):
    with pytest.raises(ConfigError, match="is not a run folder"):
        robot_commands.hold(["--run", str(tmp_path)])


def test_home_is_refused_while_any_program_commands_the_controller(arm):
    """A run under another name, or one with two arms, has a safety node too, and two of them would pull at the arm."""
    file, witness = arm
    witness.create_publisher(PoseStamped, "/target_pose", qos.COMMAND)
    with pytest.raises(ConfigError, match="another program commands /target_pose"):
        robot_commands.home(["--robot", file, "--yes"])
    assert witness.targets == []


@pytest.mark.parametrize("topic", ["/robot/command_pose", "/target_pose"])
def test_the_safety_node_holds_while_a_second_program_commands_the_driver_or_the_controller(domain, topic, wait_until):
    config = build(RobotConfig, read_named("robots", "franka_sim"), "franka_sim").franka
    with middleware():
        node, other = SafetyNode(config, "robot", rclpy.get_default_context()), Node("other")
        with spinning(node), spinning(other):
            first = other.create_publisher(PoseStamped, "/robot/command_pose", qos.COMMAND)
            wait_until(lambda: other.count_subscribers("/robot/command_pose") > 0, 10, "they have met")
            time.sleep(0.3)
            assert "programs send commands" not in node.condition().message
            second = other.create_publisher(PoseStamped, topic, qos.COMMAND)
            wait_until(lambda: "2 programs send commands" in node.condition().message, 10, "both are seen")
            other.destroy_publisher(second)
            wait_until(lambda: "programs send commands" not in node.condition().message, 10, "one is gone")
            other.destroy_publisher(first)
