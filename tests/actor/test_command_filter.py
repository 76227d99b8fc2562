"""The last gate before an arm: from any wanted poses and any measured states, the commands keep every limit."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from actor.command_filter import CommandFilter, Measured, tilt_rad
from etude import frames
from etude.config import ConfigError, build
from etude.config.hardware import CommandLimits

PERIOD_S = 0.1
TOOL_DOWN = np.diag([1.0, -1.0, -1.0])
LIMITS = CommandLimits(
    workspace_min_m=(0.3, -0.3, 0.02),
    workspace_max_m=(0.7, 0.3, 0.4),
    max_step_m=0.04,
    max_velocity_m_s=0.35,
    max_acceleration_m_s2=2.0,
    max_jerk_m_s3=30.0,
    max_angular_velocity_rad_s=1.0,
    max_tilt_rad=0.4,
    joint_min_rad=(-1.0, -2.0),
    joint_max_rad=(1.0, 2.0),
)
FREE = np.array([0.0, 0.0])
EPS = 1e-6


def start(position=(0.5, 0.0, 0.2), limits=LIMITS, rotation=TOOL_DOWN) -> CommandFilter:
    command_filter = CommandFilter(limits, PERIOD_S)
    command_filter.restart(frames.pose(np.array(position), rotation))
    return command_filter


def measured(command_filter: CommandFilter, **changes) -> Measured:
    """An arm that is where it was commanded to be."""
    return Measured(**({"pose": command_filter.pose, "wrench": np.zeros(6), "joints_rad": FREE} | changes))


def go(command_filter: CommandFilter, goal, steps: int, rotation=TOOL_DOWN, **changes) -> np.ndarray:
    """Positions commanded on the way to `goal`."""
    target = frames.pose(np.array(goal, float), rotation)
    return np.array([command_filter.next(target, measured(command_filter, **changes))[0][:3, 3] for _ in range(steps)])


# --- the property ---------------------------------------------------------------------------------------------------------

numbers = st.one_of(st.floats(-0.2, 1.0), st.floats(allow_nan=True, allow_infinity=True), st.sampled_from([1e300, -1e9, 0.0]))
points = st.tuples(numbers, numbers, numbers)
oscillating = st.builds(
    lambda sign, axis: tuple(sign * 9.0 * (i == axis) for i in range(3)), st.sampled_from([-1, 1]), st.integers(0, 2)
)
turns = st.tuples(*[st.floats(-3.2, 3.2)] * 3)
states = st.sampled_from(["good"] * 6 + ["late", "no pose", "nan pose", "pushed", "nan wrench", "far", "tight", "no joints"])
rounds = st.lists(st.tuples(st.one_of(points, oscillating, st.none()), turns, states), min_size=1, max_size=25)


def sensed(kind: str, pose: np.ndarray) -> Measured:
    good = {"pose": pose, "wrench": np.zeros(6), "joints_rad": FREE}
    changes = {
        "late": {"problems": ("the arm's state is late",)},
        "no pose": {"pose": None},
        "nan pose": {"pose": np.full((4, 4), np.nan)},
        "pushed": {"wrench": np.array([0, 0, 55.0, 0, 0, 0])},
        "nan wrench": {"wrench": np.full(6, np.nan)},
        "far": {"pose": frames.pose([0.9, 0.9, 0.9], TOOL_DOWN)},
        "tight": {"joints_rad": np.array([0.95, 0.0])},
        "no joints": {"joints_rad": None},
    }
    return Measured(**(good | changes.get(kind, {})))


@settings(max_examples=100, deadline=None)
@given(rounds, st.tuples(*[st.floats(0.0, 1.0)] * 3), st.sampled_from(["hold", "retract", "damp"]))
def test_from_any_wanted_poses_and_any_states_the_commands_keep_every_limit(sequence, begin, reaction):
    limits = LIMITS.model_copy(update={"reaction": reaction})
    command_filter = start(begin, limits)
    low, high = np.array(limits.workspace_min_m), np.array(limits.workspace_max_m)
    past = [np.array(begin)] * 3
    rotation = TOOL_DOWN
    outside = np.maximum(past[-1] - high, 0) + np.maximum(low - past[-1], 0)
    for goal, turn, kind in sequence:
        wanted = None if goal is None else frames.pose(goal, Rotation.from_rotvec(turn).as_matrix())
        command, reasons = command_filter.next(wanted, sensed(kind, command_filter.pose))
        position = command[:3, 3]
        assert np.isfinite(command).all()
        if kind not in ("good", "tight"):
            assert reasons, f"{kind} is told"
        now_outside = np.maximum(position - high, 0) + np.maximum(low - position, 0)
        assert (now_outside <= outside + EPS).all(), "outside the box only motion back inwards"
        outside = now_outside
        step = position - past[-1]
        assert np.linalg.norm(step) <= min(limits.max_step_m, limits.max_velocity_m_s * PERIOD_S) + EPS
        if reasons and reaction == "hold" and not step.any():
            past = [position] * 3  # a stop: what follows starts from rest
        else:
            motion = np.array([*past, position])
            assert np.linalg.norm(np.diff(motion, 2, axis=0)[-1]) <= limits.max_acceleration_m_s2 * PERIOD_S**2 + EPS
            assert np.linalg.norm(np.diff(motion, 3, axis=0)[-1]) <= limits.max_jerk_m_s3 * PERIOD_S**3 + EPS
            past = [*past[1:], position]
        assert frames.angle_between(rotation, command[:3, :3]) <= limits.max_angular_velocity_rad_s * PERIOD_S + EPS
        assert tilt_rad(command[:3, :3]) <= limits.max_tilt_rad + EPS
        rotation = command[:3, :3]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.one_of(points, oscillating), min_size=5, max_size=40))
def test_without_faults_jerk_keeps_its_limit_too_and_braking_is_always_possible(goals):
    limits = LIMITS.model_copy(update={"reaction": "damp"})
    command_filter = start(limits=limits)
    positions = [np.array([0.5, 0.0, 0.2])] * 3
    for goal in goals:
        command, _ = command_filter.next(frames.pose(goal, TOOL_DOWN), measured(command_filter))
        positions.append(command[:3, 3])
    for _ in range(20):
        positions.append(command_filter.next(None, measured(command_filter))[0][:3, 3])
    jerk = np.diff(np.array(positions), 3, axis=0) / PERIOD_S**3
    assert np.linalg.norm(jerk, axis=1).max() <= limits.max_jerk_m_s3 * (1 + 1e-6)
    assert command_filter.at_rest
    assert (np.array(positions) <= np.array(limits.workspace_max_m) + EPS).all()


# --- what it is like to drive through it ------------------------------------------------------------------------------------


def test_it_reaches_a_goal_and_stays_there():
    command_filter = start()
    positions = go(command_filter, (0.6, 0.1, 0.1), 40)
    np.testing.assert_allclose(positions[-1], [0.6, 0.1, 0.1], atol=1e-4)
    speeds = np.linalg.norm(np.diff(positions, axis=0), axis=1) / PERIOD_S
    assert speeds.max() > 0.2, "the limits slow it down, they do not stop it"


def test_a_gentle_command_passes_unchanged_and_without_reasons():
    command_filter = start()
    wanted = frames.pose([0.503, 0.002, 0.199], frames.rotation_from_vector(np.array([0.02, 0, 0])) @ TOOL_DOWN)
    command, reasons = command_filter.next(wanted, measured(command_filter))
    np.testing.assert_allclose(command, wanted, atol=1e-9)
    assert reasons == ()


def test_it_brakes_before_the_wall_and_gets_there():
    command_filter = start()
    positions = go(command_filter, (0.5, 0.9, 0.2), 40)
    assert positions[:, 1].max() <= 0.3 + EPS
    assert positions[-1, 1] > 0.29


def test_from_outside_the_box_it_only_comes_back():
    command_filter = start((0.8, 0.0, 0.2))
    assert go(command_filter, (0.9, 0.0, 0.2), 5)[:, 0].max() <= 0.8
    assert (np.diff(go(command_filter, (0.5, 0.0, 0.2), 6)[:, 0]) <= EPS).all()
    assert command_filter.pose[0, 3] < 0.7


def test_hold_stops_at_once_and_damp_brakes():
    fast = {"hold": 0.0, "damp": 0.01}
    for reaction, at_least in fast.items():
        command_filter = start(limits=LIMITS.model_copy(update={"reaction": reaction}))
        moving = go(command_filter, (0.5, 0.3, 0.2), 5)
        command, reasons = command_filter.next(None, measured(command_filter, problems=("the arm's state is late",)))
        assert reasons == ("the arm's state is late",)
        assert (np.linalg.norm(command[:3, 3] - moving[-1]) > at_least) == (reaction == "damp")


def test_a_force_over_its_limit_makes_the_command_go_back_to_the_arm():
    command_filter = start()
    stuck = frames.pose([0.5, 0.0, 0.22], TOOL_DOWN)
    pushed = np.array([0, 0, 30.0, 0, 0, 0])
    for _ in range(15):
        command, reasons = command_filter.next(
            frames.pose([0.5, 0, 0.1], TOOL_DOWN), measured(command_filter, pose=stuck, wrench=pushed)
        )
    assert reasons == ("force at the tool is 30 N, limit 20 N",)
    np.testing.assert_allclose(command[:3, 3], stuck[:3, 3], atol=1e-3)


def test_an_arm_that_is_pressed_out_of_its_box_is_given_way_to_along_the_wall():
    command_filter = start(position=(0.5, 0.0, LIMITS.workspace_min_m[2]))
    below = frames.pose([0.49, 0.0, LIMITS.workspace_min_m[2] - 0.003], TOOL_DOWN)
    for _ in range(15):
        command, _ = command_filter.next(None, measured(command_filter, pose=below, wrench=np.array([-43.0, 0, 0, 0, 0, 0])))
    np.testing.assert_allclose(command[:3, 3], [0.49, 0.0, LIMITS.workspace_min_m[2]], atol=1e-3)


def test_retract_rises_while_the_force_lasts():
    command_filter = start(limits=LIMITS.model_copy(update={"reaction": "retract"}))
    positions = go(command_filter, (0.5, 0.0, 0.1), 10, wrench=np.array([0, 0, 30.0, 0, 0, 0]))
    assert positions[-1, 2] > 0.23 and np.abs(positions[:, :2] - [0.5, 0.0]).max() < EPS


def test_near_a_joint_limit_only_the_way_back_is_open():
    command_filter = start()
    go(command_filter, (0.5, 0.1, 0.2), 10)
    go(command_filter, (0.5, 0.15, 0.2), 5)
    tight = np.array([0.95, 0.0])
    there = command_filter.pose[1, 3]
    onwards = go(command_filter, (0.5, 0.25, 0.2), 10, joints_rad=tight)
    assert onwards[-1, 1] < there + 0.05 and not np.diff(onwards[-5:, 1]).any(), "it brakes and stays"
    back = go(command_filter, (0.5, 0.0, 0.2), 10, joints_rad=tight)
    assert back[-1, 1] < onwards[-1, 1]


def test_the_tool_stays_in_its_cone_and_turns_about_the_vertical_freely():
    command_filter = start()
    tilted = frames.rotation_from_vector(np.array([1.2, 0, 0])) @ TOOL_DOWN
    go(command_filter, (0.5, 0, 0.2), 20, tilted)
    assert tilt_rad(command_filter.pose[:3, :3]) == pytest.approx(0.4, abs=1e-6)
    yawed = frames.rotation_from_vector(np.array([0, 0, 1.0])) @ TOOL_DOWN
    go(command_filter, (0.5, 0, 0.2), 20, yawed)
    np.testing.assert_allclose(command_filter.pose[:3, :3], yawed, atol=1e-6)


def test_limits_that_contradict_themselves_are_refused():
    with pytest.raises(ConfigError, match="workspace_min_m must lie below"):
        build(CommandLimits, {"workspace_min_m": (0, 0, 0), "workspace_max_m": (1, 0, 1)}, "test")
    with pytest.raises(ConfigError, match="leaves no room"):
        build(CommandLimits, {**LIMITS.model_dump(), "joint_margin_rad": 1.2}, "test")
