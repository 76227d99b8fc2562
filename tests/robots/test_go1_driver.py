"""The Go1 driver without ROS: a stand-in tells its state and takes its wishes, and shows every fault a real one has."""

from __future__ import annotations

import time

import numpy as np
import pytest

from actor.cameras import Picture
from actor.go1_gate import LET_GO, STANCE_RAD
from actor.robots.go1 import ACTION_SCALE_RAD, JOINTS, Go1Robot, specs_of
from actor.robots.go1_ros import ATTITUDE, ODOMETRY, SAFETY, Go1State
from actor.robots.go1_ros import JOINTS as HEARD_JOINTS
from actor.safety import filter_action
from etude.config import ConfigError, RobotConfig, TaskConfig, build, load_run_config, read_named
from simulation import go1 as simulated
from simulation import go1_model


class Calls:
    def __init__(self) -> None:
        self.made: list[str] = []
        self.fails = ""

    def run(self, calls) -> None:
        self.made += [call.name for call in calls]
        if self.fails:
            raise RuntimeError(self.fails)


class FakeGo1:
    """Tells a robot that stands at the start; `changes` overrides it."""

    def __init__(self) -> None:
        self.calls, self.on_recover = Calls(), None
        self.wishes: list[np.ndarray] = []
        self.changes: dict = {}

    def state(self) -> Go1State:
        now = time.monotonic()
        image = np.full((48, 64, 3), 100, np.uint8)
        told = {
            "joints_rad": STANCE_RAD,
            "speeds_rad_s": np.zeros(12),
            "rotation": np.eye(3),
            "gyroscope_rad_s": np.zeros(3),
            "velocity_m_s": np.zeros(3),
            "position_m": np.zeros(2),
            "heard_s": {HEARD_JOINTS: now, ATTITUDE: now, ODOMETRY: now, SAFETY: now},
            "pictures": {"follow": Picture(image, now, now)},
            "safety": (),
        }
        return Go1State(**(told | self.changes))

    def walk(self, velocity: np.ndarray) -> None:
        self.wishes.append(velocity)

    move = walk

    def close(self) -> None:
        pass


def task(**changes) -> TaskConfig:
    return build(TaskConfig, read_named("tasks", "go1_walk") | changes, "go1_walk")


def made(name: str = "go1", observation: str = "pixels", **changes) -> tuple[Go1Robot, FakeGo1]:
    data = read_named("robots", name)
    fake = FakeGo1()
    config = build(RobotConfig, {**data, "go1": {**data["go1"], **changes}}, name)
    return Go1Robot(task(), config, observation, fake), fake


def act(robot: Go1Robot, action: np.ndarray, previous: np.ndarray | None = None) -> np.ndarray:
    """One action as the control loop sends it: filtered."""
    config = build(RobotConfig, read_named("robots", "go1"), "go1")
    spec, now = robot.action_spec, time.monotonic()
    done, _ = filter_action(
        action, robot.read(), config.safety, spec, now, observation_spec=robot.observation_spec, previous=previous
    )
    robot.act(done)
    return done


# --- the same robot as in simulation --------------------------------------------------------------------------------------


def test_joint_targets_and_observations_are_those_of_the_simulated_go1():
    robot, _ = made("go1_low", "state")
    assert robot.observation_spec.state_names == (*simulated.OBSERVATION_SPEC.state_names, "way_m")
    assert robot.action_spec == simulated.ACTION_SPEC
    assert go1_model.JOINTS == JOINTS
    np.testing.assert_array_equal(go1_model.NOMINAL_RAD, STANCE_RAD)
    np.testing.assert_array_equal(simulated.ACTION_SCALE_RAD, ACTION_SCALE_RAD)
    standing = simulated.Go1(seed=0)
    seen, expected = robot.read().observation["state"], standing.observe()
    np.testing.assert_allclose(seen[[24, 25, 26, 33, 34]], expected[[24, 25, 26, 33, 34]], atol=0.05)


@pytest.mark.parametrize("name", ["go1", "go1_low"])
def test_naming_the_real_robot_in_a_run_is_all_that_it_takes(name):
    run = {"task": "go1_walk", "robot": name, "recipe": {"name": "r", "reward": {"kind": "environment"}}, "name": "real"}
    config = load_run_config(run)
    assert config.robot.real and config.robot.kind == "go1"
    assert not load_run_config(run | {"robot": "sim_go1"}).robot.real


def test_a_real_go1_moves_in_real_time_and_only_a_go1_is_one():
    with pytest.raises(ConfigError, match="real time"):
        build(RobotConfig, read_named("robots", "go1") | {"pace": "learner"}, "mine")
    with pytest.raises(ConfigError, match="kind go1"):
        build(RobotConfig, read_named("robots", "go1") | {"kind": "mujoco"}, "mine")


def test_what_it_does_not_have_is_refused():
    config = build(RobotConfig, read_named("robots", "go1"), "go1").go1
    with pytest.raises(ConfigError, match=r"under go1\.cameras"):
        specs_of(task(cameras=["wrist"]), config, 10.0, "pixels")
    with pytest.raises(ConfigError, match="distance_m"):
        specs_of(task(options={"speed": 1.0}), config, 10.0, "state")


# --- motion ---------------------------------------------------------------------------------------------------------------


def test_displacements_are_in_the_frame_in_which_the_run_began_and_become_velocities_of_the_trunk():
    robot, fake = made()
    act(robot, np.array([1.0, 0.0, 0.0], np.float32))
    np.testing.assert_allclose(fake.wishes[-1], [0.5, 0.0, 0.0], atol=1e-6)
    fake.changes = {"heading_rad": np.pi / 2}  # it looks to the left: ahead is now to its right
    act(robot, np.array([1.0, 0.0, 0.5], np.float32))
    np.testing.assert_allclose(fake.wishes[-1], [0.0, -0.5, 0.4], atol=1e-6)


def test_at_the_edge_of_its_area_only_the_way_back_is_open():
    robot, fake = made()
    fake.changes = {"position_m": np.array([2.5, 0.0])}
    act(robot, np.array([1.0, 0.0, 0.0], np.float32))
    assert fake.wishes[-1][0] == pytest.approx(0.0)
    act(robot, np.array([-1.0, 0.0, 0.0], np.float32))
    assert fake.wishes[-1][0] == pytest.approx(-0.5)


def test_with_joint_targets_a_robot_outside_its_area_stands_and_asks():
    robot, fake = made("go1_low")
    fake.changes = {"position_m": np.array([3.5, 0.0])}
    assert "left its area: it is at x 3.5" in robot.read().faults[0]


def test_holding_is_zero_velocity_or_the_same_joint_targets():
    robot, fake = made()
    act(robot, np.array([1.0, 0.0, 0.0], np.float32))
    robot.hold()
    np.testing.assert_array_equal(fake.wishes[-1], np.zeros(3))
    low, fake = made("go1_low")
    low.act(np.full(12, 0.25, np.float32))
    low._commanded_s = -np.inf
    low.hold()
    np.testing.assert_allclose(fake.wishes[-1], STANCE_RAD + 0.25 * ACTION_SCALE_RAD)


def test_the_slow_averages_follow_the_error_of_the_targets():
    robot, _ = made("go1_low", "state")
    for _ in range(200):
        robot.act(np.full(12, 0.5, np.float32))
    names = robot.observation_spec.state_names
    error = robot.read().observation["state"][names.index("slow_error_FR_abduction_rad")]
    assert error == pytest.approx(0.5 * ACTION_SCALE_RAD[0], abs=1e-3)
    assert robot.read().observation["state"][names.index("previous_FR_abduction")] == 0.5


def test_success_is_judged_by_odometry():
    robot, fake = made()
    assert robot.read().success_truth == {"forward": False, "backward": True}
    fake.changes = {"position_m": np.array([1.2, 0.0])}
    assert robot.read().success_truth == {"forward": True, "backward": False}


# --- faults ---------------------------------------------------------------------------------------------------------------

OLD = {HEARD_JOINTS: 0.0, ATTITUDE: 0.0, ODOMETRY: 0.0}
FAULTS = {
    "late state": ({"problems": ("the robot's attitude is late (0.50 s old, limit 0.15 s)",)}, "late"),
    "safety node holds": ({"safety": ("the trunk is tilted by 1.00 rad",)}, "the safety node holds: the trunk is tilted"),
    "legs let go": ({"safety": (LET_GO,)}, "etude robot recover"),
    "safety node gone": ({"heard_s": {**OLD, SAFETY: None}}, "safety node is silent"),
    "camera unplugged": ({"pictures": {}}, "camera follow shows nothing"),
    "camera frozen": ({"pictures": {"follow": Picture(np.zeros((48, 64, 3), np.uint8), 1e12, 0.0)}}, "camera follow is frozen"),
}


@pytest.mark.parametrize("level", ["go1", "go1_low"])
@pytest.mark.parametrize("name", FAULTS)
def test_every_fault_is_told_and_the_robot_stands(level, name):
    changes, words = FAULTS[name]
    robot, fake = made(level)
    fake.changes = changes
    assert any(words in fault for fault in robot.read().faults)
    done = act(robot, np.ones(robot.action_spec.dim, np.float32))
    assert not done.any()
    np.testing.assert_allclose(fake.wishes[-1], STANCE_RAD if level == "go1_low" else np.zeros(3), atol=1e-9)


def test_before_anything_was_heard_a_reading_is_old_and_faulty():
    robot, fake = made()
    fake.changes = {"rotation": None, "position_m": None, "velocity_m_s": None, "heard_s": {}, "pictures": {}, "safety": None}
    reading = robot.read()
    robot.observation_spec.check(reading.observation)
    assert reading.stamp_s == -np.inf and reading.faults and reading.success_truth is None


# --- getting up -----------------------------------------------------------------------------------------------------------


def wait_idle(robot: Go1Robot) -> None:
    until = time.monotonic() + 3
    while robot._busy and time.monotonic() < until:
        time.sleep(0.005)


def test_it_gets_up_when_a_person_says_so_and_not_by_itself():
    robot, fake = made("go1_low")
    fake.changes = {"safety": (LET_GO,)}
    robot.read()
    assert fake.calls.made == []
    began, words = fake.on_recover("a person")
    assert began and "gets up" in words
    assert "the robot is getting up" in robot.read().faults
    fake.changes = {}
    wait_idle(robot)
    assert fake.calls.made == ["/robot/stand_up"] and robot.read().faults == ()
    began, words = robot.recover("a person")
    assert not began and "moment ago" in words


def test_automatic_getting_up_comes_to_an_end():
    robot, fake = made("go1_low", recovery={"automatic": True, "min_interval_s": 0.001, "max_per_hour": 2})
    fake.calls.fails = "a motor has 80 °C"
    fake.changes = {"safety": (LET_GO,)}
    for _ in range(10):
        robot.read()
        wait_idle(robot)
        time.sleep(0.002)
    assert len(fake.calls.made) == 2
    assert any("getting up failed: a motor has 80 °C" in fault for fault in robot.read().faults)
