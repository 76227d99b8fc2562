"""Two arms as one robot: two simulated Frankas below /left and /right, two safety nodes in one process, one driver."""

from __future__ import annotations

import subprocess
import sys
import time

import numpy as np
import pytest
import yaml

pytest.importorskip("rclpy")
pytest.importorskip("etude_msgs")

from std_msgs.msg import String

from actor.robots import make_robot
from actor.robots.two_arms import TwoArms, task_of
from actor.safety import filter_action, hold_action, reading_problems
from etude.config import ConfigError, RobotConfig, RunConfig, build, load_run_config, read_named, save_config
from etude.robot import Reading
from etude.run_folder import RunFolder
from etude.specs import ActionSpec, ObservationSpec
from etude_nodes import robot_commands
from etude_nodes.process import middleware, spinning

TOPICS = (
    "/target_pose",
    "/current_pose",
    "/joint_states",
    "/gripper/target_width",
    "/sim/robot_mode",
    "/sim/error_recovery",
    "/sim/fault",
)
WRENCH = "/franka_robot_state_broadcaster/external_wrench_in_base_frame"


def config_for(domain: int) -> RunConfig:
    changes = {
        "ros_domain_id": domain,
        "max_state_age_s": 0.6,
        "max_clock_skew_s": 0.6,  # generous where a busy machine is late
    }
    arms = {
        side: {
            "robot": "franka_sim",
            "prefix": f"/{side}",
            "changes": {
                **changes,
                "cameras": {f"{side}_front": {"topic": f"/{side}/camera/front/color/image_raw", "max_age_s": 2.0}},
            },
        }
        for side in ("left", "right")
    }
    robot = {"name": "two", "kind": "franka", "pace": "realtime", "arms": arms}
    robot["arm_bases"] = {"left": {"y_m": 1.0}, "right": {"y_m": -1.0}}
    robot["safety"] = {"max_translation_per_step_m": 0.053, "max_reading_age_s": 2.0}
    task = read_named("tasks", "slide")
    task["actions"] = [f"{side}_{name}" for side in ("left", "right") for name in ("x", "y", "z")]
    task["cameras"] = ["left_front", "right_front"]
    return load_run_config({"name": "two_arms", "task": task, "robot": robot, "recipe": "rlpd"})


def test_both_arms_move_each_their_own_way_and_a_fault_of_one_holds_both(domain, tmp_path, wait_until, capsys) -> None:
    config = config_for(domain)
    folder = RunFolder(tmp_path / "run")
    folder.root.mkdir()
    save_config(config, folder.config)
    sims = []
    for side in ("left", "right"):
        words = ["-m", "etude_nodes.sim_franka_node", "--ros-args", "-p", "image_height_px:=32.0", "-p", "camera_rate_hz:=3.0"]
        for topic in (*TOPICS, WRENCH, "/camera/front/color/image_raw", "/camera/wrist/color/image_raw"):
            words += ["-r", f"{topic}:=/{side}{topic}"]
        sims.append(subprocess.Popen([sys.executable, *words, "-r", f"__node:=sim_{side}"]))
    safety = subprocess.Popen([sys.executable, "-m", "etude_nodes.safety_node", "--run", str(folder.root)])
    robot = None
    try:
        with middleware():
            from rclpy.node import Node

            hand = Node("hand")
            with spinning(hand):
                robot = make_robot(config, 0)
                assert isinstance(robot, TwoArms) and robot.action_spec.dim == 6
                wait_until(lambda: robot.read().faults == (), 60, "two arms without faults")

                def tools() -> dict[str, np.ndarray]:
                    names, state = robot.observation_spec.state_names, robot.read().observation["state"]
                    places = {side: [names.index(f"{side}_tcp_{axis}_m") for axis in "xyz"] for side in ("left", "right")}
                    return {side: state[place].copy() for side, place in places.items()}

                before = tools()
                action = np.zeros(6, np.float32)
                action[robot.action_spec.names.index("left_y")] = 0.5
                action[robot.action_spec.names.index("right_x")] = -0.5
                for _ in range(15):
                    robot.hold() if robot.read().faults else robot.act(action)
                    time.sleep(0.1)
                moved = {side: where - before[side] for side, where in tools().items()}
                assert moved["left"][1] > 0.05 and abs(moved["left"][0]) < 0.02, moved
                assert moved["right"][0] < -0.03 and abs(moved["right"][1]) < 0.02, moved

                faults = hand.create_publisher(String, "/left/sim/fault", 10)
                wait_until(lambda: faults.get_subscription_count() > 0, 10, "the left arm's faults can be switched")
                faults.publish(String(data="reflex"))
                wait_until(lambda: any(f.startswith("left arm: ") for f in robot.read().faults), 10, "the left arm's reflex")
                wait_until(lambda: robot.read().faults == (), 30, "recovered by itself, as this robot's settings say")

                file = tmp_path / "two.yaml"
                file.write_text(yaml.safe_dump(config.robot.model_dump(mode="json")))
                robot_commands.recover(["--robot", str(file)])
                said = capsys.readouterr().out
                assert "right arm: recovery began" in said and "left arm: the arm was recovered a moment ago" in said, said
    finally:
        if robot is not None:
            robot.close()
        for process in (safety, *sims):
            process.kill()
            process.wait()


# --- without ROS --------------------------------------------------------------------------------------------------------


def dual() -> RobotConfig:
    return build(RobotConfig, read_named("robots", "franka_fr3_dual"), "franka_fr3_dual")


def test_the_dual_robots_names_are_its_arms_own() -> None:
    arms = dual().arms
    assert arms["left"].topics.target_pose == "/left/target_pose" and arms["right"].joint_names[0] == "right_fr3_joint1"
    assert arms["right"].gripper.open.action == "/right/franka_gripper/move"
    assert [call.service or call.action for call in arms["left"].recovery.calls] == [
        "/left/action_server/error_recovery",
        "/left/controller_manager/set_hardware_component_state",
        "/left/controller_manager/switch_controller",
    ]
    assert set(arms["left"].cameras) & set(arms["right"].cameras) == set()


def test_boxes_that_could_meet_on_the_table_are_refused_whatever_they_are_in_their_arms_own_frames() -> None:
    content = read_named("robots", "franka_fr3_dual")
    inner = {"left": ([0.30, -0.32, 0.015], [0.68, 0.0, 0.35]), "right": ([0.30, 0.0, 0.015], [0.68, 0.32, 0.35])}
    for side, (low, high) in inner.items():
        content["arms"][side]["changes"]["limits"] = {"workspace_min_m": low, "workspace_max_m": high}
    for apart_m, message in ((0.5, "are -0.14 m apart on the table"), (0.8, "are 0.16 m apart on the table"), (0.9, None)):
        content["arm_bases"] = {"left": {"y_m": apart_m / 2}, "right": {"y_m": -apart_m / 2}}
        if message:
            with pytest.raises(ConfigError, match=message):
                build(RobotConfig, content, "inner")
        else:
            build(RobotConfig, content, "inner")
    opposite = {"left": {"x_m": 0.0, "y_m": 0.0}, "right": {"x_m": 1.0, "y_m": 0.0, "yaw_deg": 180.0}}
    with pytest.raises(ConfigError, match="they overlap"):
        build(RobotConfig, {**content, "arm_bases": opposite}, "face to face")
    opposite["right"]["x_m"] = 1.6
    build(RobotConfig, {**content, "arm_bases": opposite}, "face to face")
    del content["arm_bases"]
    with pytest.raises(ConfigError, match="arm_bases says where both bases stand"):
        build(RobotConfig, content, "unmeasured")


def test_two_drivers_of_one_arm_are_refused() -> None:
    content = read_named("robots", "franka_fr3_dual")
    content["arms"]["right"]["prefix"] = "/left"
    with pytest.raises(ConfigError, match=r"both arms have the topic /left/target_pose \(target_pose\)"):
        build(RobotConfig, content, "copied")


def test_a_box_above_both_arms_is_refused_because_nothing_would_look_at_it() -> None:
    content = read_named("robots", "franka_fr3_dual")
    content["safety"]["workspace_max_m"] = [0.5, 0.5, 0.5]
    with pytest.raises(ConfigError, match=r"safety.workspace_\* is not for two arms"):
        build(RobotConfig, content, "boxed")


class OneArm:
    """What `TwoArms` asks of a driver; remembers what it was told."""

    def __init__(self, task, robot, observation, namespace: str) -> None:
        self.action_spec = ActionSpec(task.actions, (1.0,) * len(task.actions))
        self.observation_spec = ObservationSpec(("tcp_x_m",), dict.fromkeys(task.cameras, (8, 8)))
        self.faults: tuple[str, ...] = ()
        self.as_it_is = 0.25 if "gripper" in task.actions else 1.0
        self.told: list[str] = []

    def read(self) -> Reading:
        pictures = {f"image/{name}": np.zeros((8, 8, 3), np.uint8) for name in self.observation_spec.cameras}
        observation = {"state": np.zeros(1, np.float32), **pictures}
        return Reading(observation, time.monotonic(), None, self.faults, gripper_as_it_is=self.as_it_is)

    def act(self, action) -> None:
        self.told.append("act")

    def hold(self) -> None:
        self.told.append("hold")


@pytest.fixture
def two(monkeypatch) -> TwoArms:
    monkeypatch.setattr("actor.robots.two_arms.FrankaRobot", OneArm)
    task = config_for(0).task.model_copy(update={"actions": ("left_x", "right_x", "right_gripper"), "cameras": ("front",)})
    return TwoArms(task, dual(), "pixels")


def test_a_fault_of_one_arm_is_one_of_the_robot_and_a_hold_holds_both(two: TwoArms) -> None:
    left, right = two._arms["left"], two._arms["right"]
    two.act(np.zeros(3, np.float32))
    left.faults = ("reflex",)
    limits = dual().safety
    problems = reading_problems(two.read(), limits, time.monotonic(), two.observation_spec)
    assert problems == ("robot fault: left arm: reflex",), "on which the control loop holds, and nothing else"
    two.hold()
    assert left.told == right.told == ["act", "hold"]


def test_holding_leaves_the_gripper_of_an_arm_that_nobody_commanded_as_it_is(two: TwoArms) -> None:
    assert hold_action(two.action_spec, None, two.read().gripper_as_it_is) == pytest.approx([0, 0, 0.25])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"actions": ("x", "left_y", "right_y")}, r"actions \['x'\].*two arms: say which, e.g. left_x"),
        ({"actions": ("left_x",)}, "moves nothing of the right arm"),
        ({"actions": ("left_x", "right_x"), "cameras": ("top",)}, "which neither arm lists"),
    ],
)
def test_a_task_that_does_not_fit_two_arms_is_refused(changes: dict, message: str) -> None:
    task = config_for(0).task.model_copy(update={"cameras": ("front",), **changes})
    with pytest.raises(ConfigError, match=message):
        for side in ("left", "right"):
            task_of(task, dual(), side)


def test_two_arms_without_the_other_and_shared_cameras_are_refused() -> None:
    content = read_named("robots", "franka_fr3_dual")
    with pytest.raises(ConfigError, match="arms are a left and a right one"):
        build(RobotConfig, {**content, "arms": {"left": content["arms"]["left"]}}, "one")
    content["arms"]["right"]["changes"]["cameras"]["front"] = {"topic": "/x"}
    with pytest.raises(ConfigError, match="cameras front belong to both arms"):
        build(RobotConfig, content, "shared")
    content["arms"]["right"]["robot"] = "sim_panda"
    with pytest.raises(ConfigError, match="has no key franka"):
        build(RobotConfig, content, "none")


def test_the_filter_limits_each_arm_by_itself_and_holding_keeps_both_grippers() -> None:
    names = ("left_x", "left_y", "left_gripper", "right_x", "right_y", "right_gripper")
    spec = ActionSpec(names, (0.05, 0.05, 1.0, 0.05, 0.05, 1.0))
    observation = ObservationSpec(("left_a",))
    reading = Reading({"state": np.zeros(1, np.float32)}, time.monotonic())
    limits = dual().safety.model_copy(update={"max_translation_per_step_m": 0.05})
    action = np.array([1, 1, -1, 0.5, 0, 1], np.float32)
    safe, reasons = filter_action(action, reading, limits, spec, reading.stamp_s, observation_spec=observation)
    assert np.linalg.norm(safe[:2]) * 0.05 == pytest.approx(0.05) and safe[3:] == pytest.approx([0.5, 0, 1]) and safe[2] == -1
    assert len(reasons) == 1 and reasons[0].startswith("left translation limited")
    assert hold_action(spec, safe) == pytest.approx([0, 0, -1, 0, 0, 1])
