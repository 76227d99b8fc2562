"""The Franka driver without ROS: an arm stand-in follows its commands, and shows every fault a real one has."""

from __future__ import annotations

import time
from types import SimpleNamespace

import numpy as np
import pytest

from actor.cameras import Picture, as_seen
from actor.cameras.ros_image import decode
from actor.robots import ros_arm
from actor.robots.franka import TOOL_DOWN, FrankaRobot, specs_of
from actor.robots.ros_arm import ArmState, mode_and_errors
from actor.safety import filter_action
from actor.teleop.command import TeleopCommand, action_of
from etude import frames
from etude.config import ConfigError, RobotConfig, TaskConfig, build, load_run_config, read_named
from simulation.tabletop import Tabletop

START = frames.pose(np.array([0.5, 0.0, 0.2]), TOOL_DOWN)
JOINTS = np.array([0.0, -0.8, 0.0, -2.3, 0.0, 1.6, 0.8])


class Calls:
    def __init__(self) -> None:
        self.made: list[str] = []
        self.fails = ""

    def prepare(self, calls) -> None:
        pass

    def run(self, calls) -> None:
        self.made += [call.name for call in calls]
        if self.fails:
            raise RuntimeError(self.fails)

    def send(self, call) -> None:
        self.made.append(f"{call.name} {call.fields['data']}")


class FakeArm:
    """Goes where it is commanded, at once. `changes` overrides what it tells."""

    def __init__(self) -> None:
        self.calls, self.on_recover = Calls(), None
        self.pose, self.width_m = START, 0.08
        self.commands: list[np.ndarray] = []
        self.changes: dict = {}
        self.follows = True
        self.noise = 0

    def state(self) -> ArmState:
        now = time.monotonic()
        self.noise += 1
        image = np.full((48, 64, 3), 100, np.uint8)
        told = {
            "pose": self.pose,
            "velocity_m_s": np.zeros(3),
            "joints_rad": JOINTS,
            "wrench": np.zeros(6),
            "width_m": self.width_m,
            "mode": "move",
            "heard_s": {"the arm's pose": now, "the safety node": now},
            "pictures": {name: Picture(image, now, now) for name in ("front", "wrist")},
            "safety": (),
        }
        return ArmState(**(told | self.changes))

    def command(self, pose: np.ndarray) -> None:
        self.commands.append(pose)
        if self.follows:
            self.pose = pose

    def close(self) -> None:
        pass


def task(name: str = "relocate") -> TaskConfig:
    return build(TaskConfig, read_named("tasks", name), name)


def made_config(**changes) -> RobotConfig:
    data = read_named("robots", "franka_sim")
    return build(RobotConfig, {**data, "franka": {**data["franka"], **changes}}, "test")


def robot(name: str = "relocate", **changes) -> tuple[FrankaRobot, FakeArm]:
    arm = FakeArm()
    made = FrankaRobot(task(name), made_config(**changes), "pixels", arm)
    until = time.monotonic() + 2
    while made._busy and time.monotonic() < until:
        time.sleep(0.005)
    return made, arm


def act(made: FrankaRobot, **values: float) -> np.ndarray:
    """One action as the control loop sends it: filtered. Returns what was executed."""
    proposed = np.array([values.get(name.removeprefix("tool_"), 0.0) for name in made.action_spec.names], np.float32)
    reading, spec, limits = made.read(), made.action_spec, read_limits()
    done, _ = filter_action(proposed, reading, limits, spec, time.monotonic(), observation_spec=made.observation_spec)
    made.act(done)
    return done


def hold(made: FrankaRobot) -> None:
    """One control period later."""
    time.sleep(0.1)
    made.hold()


def read_limits():
    return build(RobotConfig, read_named("robots", "franka_sim"), "test").safety


# --- the same robot as in simulation --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["slide", "drawer", "relocate", "peg"])
def test_observations_and_actions_are_those_of_the_simulated_panda(name):
    config = task(name)
    scene = Tabletop(config.scene, config.cameras, config.image_size_px, "pixels", config.options)
    for arm in ("franka_fr3", "franka_panda", "franka_sim"):
        franka = build(RobotConfig, read_named("robots", arm), arm).franka
        assert specs_of(config, franka, "pixels") == (scene.observation_spec, scene.action_spec)


@pytest.mark.parametrize("arm", ["franka_fr3", "franka_panda"])
def test_naming_another_robot_in_a_runs_yaml_is_all_that_it_takes(arm):
    config = load_run_config({"task": "slide", "robot": arm, "recipe": "rlpd", "name": "real"})
    assert config.robot.kind == "franka" and config.robot.franka.limits.joint_min_rad


def test_a_reading_fits_the_specification_and_shows_where_the_tool_is():
    made, _ = robot()
    reading = made.read()
    made.observation_spec.check(reading.observation)
    assert reading.faults == () and time.monotonic() - reading.stamp_s < 1.0
    np.testing.assert_allclose(reading.observation["state"], [0.5, 0, 0.2, 0, 0, 0, 0.08], atol=1e-6)
    assert reading.observation["image/front"].shape == (64, 64, 3)


# --- motion ---------------------------------------------------------------------------------------------------------------


def test_actions_move_the_tool_along_the_base_axes():
    made, arm = robot("slide")
    for _ in range(4):
        act(made, y=1.0)
    assert arm.pose[1, 3] == pytest.approx(0.12, abs=0.03) and np.abs(arm.pose[[0, 2], 3] - [0.5, 0.2]).max() < 1e-6
    np.testing.assert_allclose(arm.pose[:3, :3], TOOL_DOWN, atol=1e-9)


def test_in_the_tool_frame_actions_follow_the_tools_axes_and_poses_begin_at_zero():
    made, arm = robot("slide", frame="tool")
    quarter = frames.rotation_from_vector(np.array([0, 0, np.pi / 2]))
    arm.pose = frames.pose(START[:3, 3], quarter @ TOOL_DOWN)
    made.read()
    assert made.begin_phase("forward", np.random.default_rng(0))
    np.testing.assert_allclose(made.read().observation["state"], 0.0, atol=1e-6)
    act(made, y=0.5)
    moved = frames.relative_to(frames.pose(START[:3, 3], quarter @ TOOL_DOWN), arm.pose)
    assert moved[1, 3] == pytest.approx(0.015, abs=1e-6) and np.abs(moved[[0, 2], 3]).max() < 1e-9
    np.testing.assert_allclose(moved[:3, :3], np.eye(3), atol=1e-9)
    np.testing.assert_allclose(made.read().observation["state"][:3], [0, 0.015, 0], atol=1e-6)
    assert made.action_spec.names == ("tool_x", "tool_y", "tool_z")


def test_the_gripper_gets_a_goal_when_its_wish_changes_and_not_at_every_step():
    made, arm = robot()
    for value in (1.0, 1.0, 0.0, -1.0, -1.0, 0.1, 1.0):
        act(made, gripper=value)
    goals = [made_call for made_call in arm.calls.made if made_call.startswith("/gripper")]
    assert goals == ["/gripper/target_width 0.08", "/gripper/target_width 0.0", "/gripper/target_width 0.08"]


def test_a_restarted_driver_leaves_a_gripper_that_nobody_commanded_as_it_is():
    made, arm = robot()
    reading = made.read()
    operator = TeleopCommand("ada", True, True, (0.0, 0.05, 0.0))
    action = action_of(operator, made.action_spec, 0.1, None, reading.gripper_as_it_is)
    made.act(action)
    act(made, x=float("nan"))
    assert not any(call.startswith("/gripper") for call in arm.calls.made), "it may hold something since before the restart"


# --- faults ---------------------------------------------------------------------------------------------------------------

FAULTS = {
    "reflex": ({"mode": "reflex"}, "reflex"),
    "user stop": ({"mode": "user_stopped"}, "user_stopped"),
    "an error of the arm": ({"errors": ("cartesian_reflex",)}, "cartesian_reflex"),
    "late state": ({"problems": ("the arm's pose is late (0.50 s old, limit 0.10 s)",)}, "late"),
    "safety node holds": ({"safety": ("the arm's pose is late",)}, "the safety node holds"),
    "safety node gone": ({"heard_s": {"the arm's pose": 1e12}}, "safety node is silent"),
    "camera unplugged": ({"pictures": {}}, "camera front shows nothing"),
    "camera frozen": (
        {"pictures": {n: Picture(np.zeros((48, 64, 3), np.uint8), 1e12, 0.0) for n in ("front", "wrist")}},
        "camera front is frozen",
    ),
}


@pytest.mark.parametrize("name", FAULTS)
def test_every_fault_is_told_and_holds_the_arm(name):
    changes, word = FAULTS[name]
    made, arm = robot(recovery={"automatic": False})
    act(made, y=1.0)
    arm.changes = changes
    assert any(word in fault for fault in made.read().faults)
    act(made, y=1.0)
    made.hold()
    before = arm.pose
    for _ in range(3):
        done = act(made, y=1.0, gripper=-1.0)
        made.hold()
        assert not done[:3].any()
    np.testing.assert_allclose(arm.pose[:3, 3], before[:3, 3], atol=1e-3)
    assert not any(call.endswith(" 0.0") for call in arm.calls.made), "the gripper stays as well"


def test_after_a_reflex_the_target_begins_where_the_arm_is():
    made, arm = robot(recovery={"automatic": False})
    act(made, y=1.0)
    arm.changes = {"mode": "reflex"}
    arm.pose = frames.pose(np.array([0.45, 0.05, 0.25]), TOOL_DOWN)
    hold(made)
    np.testing.assert_allclose(arm.commands[-1][:3, 3], [0.45, 0.05, 0.25])


def test_recovery_is_an_act_of_its_own_logged_and_limited(caplog):
    made, arm = robot(
        recovery={"automatic": False, "min_interval_s": 5, "calls": [{"service": "/recover", "type": "std_srvs/srv/Trigger"}]}
    )
    arm.changes = {"mode": "reflex"}
    for _ in range(5):
        made.read()
        made.hold()
    assert arm.calls.made == [], "nothing recovers by itself"
    with caplog.at_level("WARNING"):
        began, _ = arm.on_recover("a person")
    assert began and "recovery asked for by a person, because: reflex" in caplog.text
    again, why = arm.on_recover("a person")
    assert not again and why
    time.sleep(0.05)
    assert arm.calls.made == ["/recover"]


def test_automatic_recovery_comes_to_an_end():
    rule = {
        "automatic": True,
        "min_interval_s": 0.001,
        "max_per_hour": 3,
        "calls": [{"service": "/recover", "type": "std_srvs/srv/Trigger"}],
    }
    made, arm = robot(recovery=rule)
    arm.changes = {"mode": "reflex"}
    for _ in range(40):
        made.read()
        time.sleep(0.005)
    assert arm.calls.made == ["/recover"] * 3
    assert arm.on_recover("a person")[0], "a person still may"


def test_a_recovery_that_fails_is_told_and_the_arm_stays():
    made, arm = robot(recovery={"automatic": False, "calls": [{"service": "/recover", "type": "std_srvs/srv/Trigger"}]})
    arm.changes = {"mode": "reflex"}
    made.read()
    arm.calls.fails = "the user stop is pressed"
    arm.on_recover("a person")
    time.sleep(0.05)
    arm.changes = {}
    assert any("the user stop is pressed" in fault for fault in made.read().faults)


def test_an_arm_that_was_not_set_up_stays_still_and_recovery_sets_it_up_again():
    trigger = [{"service": "/set_up", "type": "std_srvs/srv/Trigger"}]
    made, arm = robot("slide", set_up=trigger, recovery={"automatic": False})
    assert arm.calls.made == ["/set_up"] and made.read().faults == ()
    arm = FakeArm()
    arm.calls.fails = "nobody offers /set_up"
    made = FrankaRobot(task("slide"), made_config(set_up=trigger, recovery={"automatic": False}), "pixels", arm)
    time.sleep(0.05)
    assert made.read().faults == ("setting up the arm failed: nobody offers /set_up",)
    act(made, y=1.0)
    np.testing.assert_allclose(arm.pose, START)
    arm.calls.fails = ""
    arm.on_recover("a person")
    time.sleep(0.05)
    assert made.read().faults == () and arm.calls.made == ["/set_up", "/set_up"]


def test_holding_often_does_not_brake_faster_than_the_limits():
    made, arm = robot("slide")
    for _ in range(3):
        act(made, y=1.0)
    count = len(arm.commands)
    for _ in range(20):
        made.hold()
    assert len(arm.commands) == count, "the next command is due after a control period"


def test_who_stands_holds_once_and_the_arm_brakes_to_its_end_all_the_same():
    made, arm = robot("slide")
    for _ in range(4):
        act(made, y=0.6)
        time.sleep(0.1)
    moving, count = arm.commands[-1][1, 3] - arm.commands[-2][1, 3], len(arm.commands)
    made.hold()
    for _ in range(10):
        time.sleep(0.05)
        made.read()
    steps = np.diff([command[1, 3] for command in arm.commands[count - 1 :]])
    assert moving > 0.01 and made._filter.at_rest and abs(steps[-1]) < 1e-9
    assert (np.diff([moving, *steps]) <= 1e-9).all(), "slower with every command"
    act(made, y=-0.6)
    assert arm.commands[-1][1, 3] < arm.commands[-2][1, 3], "nothing is left of the old motion"


def test_a_soft_arm_does_not_sink_while_nobody_moves_it():
    made, arm = robot(recovery={"automatic": False})
    hold(made)
    arm.changes, arm.follows = {"safety": ("the arm's pose is late",)}, False
    for below_m in (0.004, 0.008, 0.012):
        arm.pose = frames.pose(START[:3, 3] - [0, 0, below_m], TOOL_DOWN)
        hold(made)
    np.testing.assert_allclose(arm.commands[-1][2, 3], START[2, 3] - 0.004)
    arm.pose = frames.pose(START[:3, 3] - [0, 0, 0.05], TOOL_DOWN)
    hold(made)
    np.testing.assert_allclose(arm.commands[-1][:3, 3], arm.pose[:3, 3], err_msg="pushed away, the target follows")
    arm.pose, arm.changes = frames.pose(arm.pose[:3, 3] + [0, 0, 0.01], TOOL_DOWN), {}
    hold(made)
    np.testing.assert_allclose(arm.commands[-1][:3, 3], arm.pose[:3, 3], err_msg="it begins where the arm is")


def test_a_soft_arm_that_stood_with_a_lead_is_not_taken_for_one_without_a_controller(monkeypatch):
    monkeypatch.setattr("actor.following.WINDOW_S", 0.2)
    made, arm = robot("slide", recovery={"automatic": False})
    arm.follows = False
    act(made, y=1.0)
    hold(made)
    arm.pose = made._filter.pose.copy()
    arm.pose[1, 3] -= 0.05
    time.sleep(0.3)
    act(made, y=0.5)
    assert made.read().faults == ()


def test_an_arm_that_no_controller_moves_is_noticed(monkeypatch):
    monkeypatch.setattr("actor.following.WINDOW_S", 0.1)
    made, arm = robot("slide", recovery={"automatic": False})
    arm.follows = False
    until = time.monotonic() + 3
    while not made.read().faults and time.monotonic() < until:
        act(made, y=1.0)
        time.sleep(0.02)
    assert any("does not follow" in fault for fault in made.read().faults)
    assert np.abs(arm.commands[-1][:3, 3] - START[:3, 3]).max() <= 0.061, "the target never ran ahead"


def test_a_force_over_its_limit_is_told_and_ends_when_it_ends():
    made, arm = robot("slide")
    act(made, y=1.0)
    arm.changes = {"wrench": np.array([0, 0, 45.0, 0, 0, 0])}
    hold(made)
    assert made.read().faults == ("force at the tool is 45 N, limit 30 N",)
    arm.changes = {}
    hold(made)
    assert made.read().faults == ()


def test_a_force_is_noticed_while_somebody_stands_who_asked_to_hold_once():
    made, arm = robot("slide")
    made.hold()
    arm.changes = {"wrench": np.array([0, 0, 45.0, 0, 0, 0])}
    time.sleep(0.1)
    assert made.read().faults == ("force at the tool is 45 N, limit 30 N",)


def test_a_stuck_gripper_is_told_after_a_while():
    made, arm = robot(gripper={**read_named("robots", "franka_sim")["franka"]["gripper"], "stuck_after_s": 0.1})
    arm.width_m = 0.46 * 0.08
    act(made, gripper=1.0)
    assert made.read().faults == ()
    time.sleep(0.15)
    assert any(fault.startswith("gripper stuck: told to open, and 46% open") for fault in made.read().faults)


# --- what does not fit is refused -------------------------------------------------------------------------------------------


def test_a_gripper_whose_width_nobody_tells_is_refused():
    gripper = read_named("robots", "franka_sim")["franka"]["gripper"]
    with pytest.raises(ConfigError, match="finger_joints"):
        made_config(gripper={**gripper, "finger_joints": []})


def test_what_a_real_arm_does_not_have_is_refused_with_the_remedy():
    franka = build(RobotConfig, read_named("robots", "franka_fr3"), "fr3").franka
    with pytest.raises(ConfigError, match="use observation=pixels"):
        specs_of(task(), franka, "state")
    with pytest.raises(ConfigError, match=r"cameras side.*franka\.cameras"):
        specs_of(task().model_copy(update={"cameras": ("front", "side")}), franka, "pixels")
    with pytest.raises(ConfigError, match=r"recipe\.reward\.kind=classifier"):
        load_run_config({"task": "slide", "robot": "franka_fr3", "recipe": "rlpd"}, ["recipe.reward.kind=environment"])
    with pytest.raises(ConfigError, match="key franka"):
        build(RobotConfig, {"name": "x", "kind": "franka"}, "test")
    with pytest.raises(ConfigError, match="exactly one of topic, service and action"):
        bad = read_named("robots", "franka_sim")
        bad["franka"]["gripper"]["open"] = {"topic": "/a", "type": "std_srvs/srv/Trigger"}
        build(RobotConfig, bad, "test")


# --- messages ---------------------------------------------------------------------------------------------------------------


def test_mode_and_errors_are_read_from_a_state_of_the_vendors_form():
    class Errors(SimpleNamespace):
        def get_fields_and_field_types(self):
            return dict.fromkeys(vars(self), "boolean")

    state = SimpleNamespace(robot_mode=4, current_errors=Errors(joint_reflex=True, power_limit_violation=False))
    assert mode_and_errors(state) == ("reflex", ("joint_reflex",))
    assert mode_and_errors(SimpleNamespace(data=2)) == ("move", ())
    assert mode_and_errors(SimpleNamespace(data=250)) == ("other", ())
    assert [ros_arm.MODES[number] for number in ros_arm.CALM_MODES] == ["idle", "move"]


def test_pictures_of_every_encoding_become_rgb():
    rng = np.random.default_rng(0)
    picture = rng.integers(0, 255, (6, 8, 3), np.uint8)
    padded = np.zeros((6, 32), np.uint8)
    padded[:, :24] = picture.reshape(6, 24)
    image = {"height": 6, "width": 8, "step": 32, "data": padded.tobytes()}
    np.testing.assert_array_equal(decode(SimpleNamespace(encoding="rgb8", **image)), picture)
    np.testing.assert_array_equal(decode(SimpleNamespace(encoding="bgr8", **image)), picture[:, :, ::-1])
    assert not decode(SimpleNamespace(encoding="16UC1", **image)).size
    assert not decode(SimpleNamespace(format="jpeg", data=b"no picture")).size
    assert as_seen(picture, 4).shape == (4, 4, 3) and as_seen(picture, 6).shape == (6, 6, 3)
