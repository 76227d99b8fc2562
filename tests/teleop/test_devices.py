"""Devices: recorded bytes become axes and buttons, those become commands, and what is lost moves nothing."""

from __future__ import annotations

import contextlib
import io
import math
import os
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from actor.teleop import browser, gamepad, joy, leader, spacemouse, twist
from actor.teleop.command import TeleopError
from actor.teleop.commands import explain, teleop_list, teleop_test, watch
from actor.teleop.mapping import Mapper, Sample, direction_values, load_mapping, mapping_names
from etude.config import ConfigError, TeleopMapping, build


def event(kind: int, code: int, value: int) -> bytes:
    return struct.pack("@llHHi", 1700000000, 250000, kind, code, value)


SYN = event(0, 0, 0)
RANGES = {0: (-32768, 32767), 1: (-32768, 32767), 2: (0, 255), 5: (0, 255), 16: (-1, 1)}

# --- gamepad --------------------------------------------------------------------------------------------------------


def test_a_gamepads_events_become_axes_and_buttons():
    parser = gamepad.Parser(RANGES)
    parser.feed(event(1, 0x137, 1) + event(3, 1, -32768) + event(3, 5, 255) + event(3, 2, 0) + event(3, 16, 1) + SYN)
    assert parser.sample.buttons == {"right_bumper"}
    assert parser.sample.axes == pytest.approx({"left_y": -1.0, "right_trigger": 1.0, "left_trigger": 0.0, "pad_x": 1.0})
    parser.feed(event(1, 0x137, 0) + event(3, 1, 0) + SYN)
    assert not parser.sample.buttons and abs(parser.sample.axes["left_y"]) < 1e-4


def test_events_may_come_in_pieces():
    whole, split = gamepad.Parser(RANGES), gamepad.Parser(RANGES)
    data = event(1, 0x130, 1) + event(3, 0, 20000) + SYN + event(1, 0x130, 0)
    whole.feed(data)
    for byte in data:
        split.feed(bytes([byte]))
    assert split.sample == whole.sample


def test_after_dropped_events_the_gamepad_counts_as_lost_and_not_as_given_back():
    parser = gamepad.Parser(RANGES)
    with pytest.raises(OSError, match="dropped"):
        parser.feed(event(1, 0x137, 1) + event(3, 1, -32768) + event(0, 3, 0))


@given(st.binary(max_size=200))
def test_no_bytes_break_the_gamepads_parser(data):
    parser = gamepad.Parser(RANGES)
    with contextlib.suppress(OSError):
        parser.feed(data)
    assert all(-1.0 <= value <= 1.0 for value in parser.sample.axes.values())


# --- SpaceMouse -----------------------------------------------------------------------------------------------------

PUSH = bytes.fromhex("01 0000 a2fe 0000")  # translation, y = -350: away from the person
TWIST = bytes.fromhex("02 0000 0000 af00")  # rotation, rz = 175
COMPACT = bytes.fromhex("01 5e01 0000 0000 0000 0000 51ff")  # translation and rotation in one report


def test_a_spacemouses_reports_become_axes_and_buttons():
    mouse = spacemouse.Parser()
    for report in (PUSH, TWIST, bytes.fromhex("03 0100")):
        mouse.feed(report)
    assert mouse.sample.axes == pytest.approx({"x": 0, "y": -1.0, "z": 0, "rx": 0, "ry": 0, "rz": 0.5})
    assert mouse.sample.buttons == {"button0"}
    mouse.feed(COMPACT)
    assert mouse.sample.axes["x"] == 1.0 and mouse.sample.axes["y"] == 0.0 and mouse.sample.axes["rz"] == -0.5


def test_a_deflected_spacemouse_that_falls_silent_is_lost_and_not_given_back():
    now = [0.0]
    mouse = spacemouse.Parser(lambda: now[0])
    mouse.feed(PUSH)
    mouse.feed(bytes.fromhex("03 0100"))
    now[0] = 0.3
    with pytest.raises(OSError, match="out of reach"):
        mouse.sample  # noqa: B018
    mouse.feed(bytes.fromhex("01 0000 0000 0000"))
    now[0] = 5.0
    assert mouse.sample.buttons == {"button0"}, "at rest a held button is not reported again"


@given(st.lists(st.binary(max_size=16), max_size=20))
def test_no_report_breaks_the_spacemouses_parser(reports):
    mouse = spacemouse.Parser()
    for report in reports:
        mouse.feed(report)
    assert all(-1.0 <= value <= 1.0 for value in mouse.sample.axes.values())


# --- devices as files -----------------------------------------------------------------------------------------------


def test_an_unplugged_device_raises_and_never_repeats_its_last_value(tmp_path):
    fifo = tmp_path / "event7"
    os.mkfifo(fifo)
    pad = gamepad.Gamepad(fifo)
    writer = os.open(fifo, os.O_WRONLY)
    os.write(writer, event(1, 0x137, 1) + SYN)
    assert pad.read().buttons == {"right_bumper"}
    pad.close()
    with pytest.raises(OSError):
        pad.read()
    os.close(writer)


def test_a_device_that_is_not_there_says_so(tmp_path):
    with pytest.raises(TeleopError, match="cannot be opened"):
        gamepad.Gamepad(tmp_path / "event0")
    with pytest.raises(TeleopError, match="cannot be opened"):
        spacemouse.SpaceMouse(tmp_path / "hidraw0")


# --- topics and the page --------------------------------------------------------------------------------------------


def test_joy_messages_are_numbered():
    said = joy.sample([0.5, -1.0], [0, 1])
    assert said == Sample({"axis0": 0.5, "axis1": -1.0}, frozenset({"button1"}))


def test_a_twist_in_another_frame_is_refused_and_without_the_pedal_it_moves_nothing():
    with pytest.raises(TeleopError, match="'tool0'"):
        twist.sample("tool0", (0.1, 0, 0), (0, 0, 0), True)
    mapper = Mapper(load_mapping("twist"), "ada")
    command = mapper.command(twist.sample("base", (0.1, -0.05, 0), (0, 0, 0.3), True), 1.0)
    assert command.linear_m_s == pytest.approx((0.1, -0.05, 0.0)) and command.angular_rad_s == pytest.approx((0, 0, 0.3))
    assert not mapper.command(twist.sample("base", (0.1, 0, 0), (0, 0, 0), False), 1.0).takeover


def test_the_pages_keys_take_over_only_while_it_says_so_and_move_only_while_they_are_held():
    mapper = Mapper(load_mapping("browser"), "ada")
    assert not mapper.command(browser.sample(["KeyW"], (0, 0), False), 0.0).takeover
    assert not mapper.command(browser.sample(["taken", "KeyW"], (0, 0), False), 0.0).takeover
    idle = mapper.command(browser.sample(["ShiftLeft"], (0, 0), True), 0.0)
    assert idle.takeover and not idle.deadman
    assert mapper.command(browser.sample([], (0.5, 1.0), True), 0.0).linear_m_s[0] == pytest.approx(0.2)
    moving = mapper.command(browser.sample(["KeyW", "KeyQ"], (0.0, 0.0), True), 0.0)
    assert moving.deadman and moving.linear_m_s == pytest.approx((0.2, 0.0, -0.2))
    assert math.isnan(moving.gripper)
    assert mapper.command(browser.sample(["KeyC"], (0, 0), True), 0.0).gripper == -1.0
    assert mapper.command(browser.sample(["KeyW"], (0, 0), True), 0.0).gripper == -1.0, "it stays closed"


# --- leader arm -----------------------------------------------------------------------------------------------------


def test_the_leaders_kinematics_are_the_pandas():
    mujoco = pytest.importorskip("mujoco")
    from simulation import panda
    from simulation.tabletop import Tabletop

    table = Tabletop("slide", (), 64, "state", {}, 0, 10.0)
    data, model = table.data, table.controller.model
    base = model.body("link0").id if any(model.body(i).name == "link0" for i in range(model.nbody)) else 0
    rng = np.random.default_rng(0)
    for _ in range(20):
        joints = panda.HOME_RAD + rng.uniform(-0.3, 0.3, 7)
        for index, angle in enumerate(joints):
            data.joint(f"joint{index + 1}").qpos[0] = angle
        mujoco.mj_kinematics(model, data)
        ours = leader.tool_pose(joints)[:3, 3]
        theirs = data.site("tcp").xpos - data.xpos[base]
        np.testing.assert_allclose(ours, theirs, atol=0.02)
    table.close()


def test_a_leaders_motion_and_not_its_place_moves_the_robot():
    mapping = load_mapping("leader")
    arm, names = leader.Leader(mapping), list(mapping.leader_joints)
    home = [0.0, -0.3, 0.0, -2.2, 0.0, 2.0, 0.8]
    first = arm.sample(names, [*home, 0.5], 10.0, frozenset())
    assert "linear_x" not in first.axes and first.axes["gripper"] == 0.5
    moved = [0.02, *home[1:]]
    second = arm.sample(names, [*moved, 0.5], 10.1, frozenset())
    difference = (leader.tool_pose(np.array(moved)) - leader.tool_pose(np.array(home)))[:3, 3] / 0.1
    assert [second.axes[f"linear_{a}"] for a in "xyz"] == pytest.approx(list(difference))
    assert second.axes["angular_z"] == pytest.approx(0.2, abs=1e-3), "the first joint turns about the base's z"
    assert "linear_x" not in arm.sample(names, [*home, 0.5], 11.0, frozenset()).axes, "a gap says nothing about velocity"
    with pytest.raises(TeleopError, match="joint_7"):
        arm.sample(names[:6], home[:6], 11.0, frozenset())


# --- mappings -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", mapping_names())
def test_every_shipped_mapping_loads_is_explained_and_moves_nothing_without_its_deadman(name):
    mapping = load_mapping(name)
    assert mapping.device == name and len(explain(mapping)) >= 4
    terms = [term.lstrip("+-") for terms in mapping.axes.values() for term in terms]
    everything = Sample(dict.fromkeys(terms, 1.0), frozenset({mapping.takeover} if mapping.takeover else ()))
    command = Mapper(mapping, "ada").command(everything, 0.0)
    assert not command.deadman and not any((*command.linear_m_s, *command.angular_rad_s))


@given(st.dictionaries(st.sampled_from(["left_x", "left_y", "right_x", "left_trigger"]), st.floats(allow_nan=True), max_size=4))
def test_whatever_the_axes_say_no_direction_exceeds_full_deflection(axes):
    values = direction_values(load_mapping("gamepad"), Sample(axes, frozenset({"right_bumper"})))
    assert all(-1.0 <= value <= 1.0 for value in values.values())


def test_dead_zone_speed_and_forward_are_the_mappings():
    mapping = load_mapping("gamepad").model_copy(update={"forward_yaw_deg": 90.0, "dead_zone": 0.2, "linear_m_s": 0.1})
    held = frozenset({"right_bumper"})
    still = Mapper(mapping, "ada").command(Sample({"left_y": -0.2}, held), 0.0)
    assert still.takeover and still.deadman and not any(still.linear_m_s)
    half = Mapper(mapping, "ada").command(Sample({"left_y": -0.6}, held), 0.0)
    assert half.linear_m_s == pytest.approx((0.0, 0.05, 0.0), abs=1e-9), "their forwards is the robot's left"


def test_a_toggled_gripper_closes_first_and_is_forgotten_when_the_robot_is_given_back():
    mapper = Mapper(load_mapping("spacemouse"), "ada")
    held, both = frozenset({"button0"}), frozenset({"button0", "button1"})
    said = [mapper.command(Sample({}, down), 0.0).gripper for down in (held, both, both, held, both, frozenset(), held)]
    assert said[1:5] == [-1.0, -1.0, -1.0, 1.0]
    assert math.isnan(said[0]) and math.isnan(said[5]) and math.isnan(said[6])


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"axes": {"x": ["--a"]}}, "is not a term"),
        ({"deadman": []}, "deadman"),
        ({"speed": 1}, "speed"),
        ({"device": "leader"}, "leader_joints"),
    ],
)
def test_a_wrong_mapping_names_its_fault(change, named):
    with pytest.raises(ConfigError, match=named):
        build(TeleopMapping, {"device": "gamepad", "axes": {"x": ["a"]}, "deadman": ["b"], **change}, "mine.yaml")


# --- commands -------------------------------------------------------------------------------------------------------


def test_the_test_command_shows_what_would_be_commanded():
    samples = [Sample(), Sample({"left_y": -1.0}), Sample({"left_y": -1.0}, frozenset({"right_bumper"}))]

    class Pad:
        def read(self):
            return samples.pop(0) if len(samples) > 1 else samples[0]

    out = io.StringIO()
    watch(Pad(), Mapper(load_mapping("gamepad"), "test"), out, 0.35)
    lines = out.getvalue().splitlines()
    assert "the deadman is not held" in lines[0] and lines[1].startswith("left_y -1.00")
    assert lines[2].endswith("x +0.200 m/s")


def test_list_names_every_mapping(capsys):
    assert teleop_list([]) == 0
    printed = capsys.readouterr().out
    assert all(name in printed for name in mapping_names())


def test_testing_what_is_no_device_of_this_machine_says_where_it_comes_from():
    with pytest.raises(TeleopError, match="ROS topic"):
        teleop_test(["twist"])
