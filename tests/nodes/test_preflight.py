"""The preflight of a real arm names what a run would stumble over, and a run does not start on a red one."""

from __future__ import annotations

import dataclasses
import subprocess
import sys

import pytest

pytest.importorskip("rclpy")
pytest.importorskip("etude_msgs")

from etude.config import RobotConfig, build, load_run_config, read_named
from etude.config.hardware import FrankaConfig
from etude.findings import GREEN, RED, YELLOW, Finding
from etude.run_folder import RunFolder
from etude_nodes import practice, preflight
from etude_nodes.preflight import Heard
from etude_nodes.supervisor import PracticeError


def config_of(domain: int = 77) -> FrankaConfig:
    robot = read_named("robots", "franka_sim")
    robot["franka"]["ros_domain_id"] = domain
    franka = build(RobotConfig, robot, "franka_sim").franka
    assert franka is not None
    return franka


def heard(rate_hz: float = 50.0, offset_s: float = 0.002) -> dict[str, Heard]:
    """Three seconds of an arm in order."""
    times = [number / rate_hz for number in range(int(3 * rate_hz))]
    roles = {"pose": "/current_pose", "joints": "/joint_states", "camera front": "/camera/front/color/image_raw"}
    return {
        role: Heard(name, 1, True, "", list(times), [offset_s] * len(times), 1000 * len(times), len(times) - 1)
        for role, name in roles.items()
    }


def statuses(findings: list[Finding]) -> dict[str, str]:
    return {one.check: one.status for one in findings}


def judged(heard_: dict[str, Heard], listeners: int = 1, publishers: int = 0) -> dict[str, str]:
    findings = preflight.judge(config_of(), heard_, listeners, publishers)
    assert all(one.remedy for one in findings if one.status != GREEN), "whatever is not green says what to do"
    return statuses(findings)


def test_an_arm_in_order_is_all_green() -> None:
    assert set(judged(heard()).values()) == {GREEN}


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"publishers": 0}, "nobody publishes"),
        ({"wrong_type": "std_msgs/msg/String"}, "std_msgs/msg/String"),
        ({"compatible": False}, "QoS"),
        ({}, "silent"),
    ],
)
def test_a_topic_on_which_nothing_comes_is_red_and_says_why(change, word) -> None:
    all_heard = heard()
    all_heard["joints"] = dataclasses.replace(Heard("/joint_states", publishers=1), **change)
    finding = next(one for one in preflight.judge(config_of(), all_heard, 1, 0) if one.check == "joints")
    assert finding.status == RED and word in finding.detail and finding.remedy


def test_slow_poses_are_red() -> None:
    assert judged(heard(rate_hz=15.0))["pose rate"] == RED


@pytest.mark.parametrize(("offset_s", "status"), [(0.01, GREEN), (-0.07, YELLOW), (0.5, RED)])
def test_clocks_are_compared_with_the_limit_that_the_driver_keeps(offset_s, status) -> None:
    assert judged(heard(offset_s=offset_s))["clocks"] == status


def test_without_a_controller_or_with_two_commanders_it_is_red() -> None:
    assert judged(heard(), listeners=0)["controller"] == RED
    assert judged(heard(), publishers=1)["controller"] == RED


def test_a_frozen_camera_is_red_and_a_losing_one_yellow() -> None:
    frozen, losing = heard(), heard()
    frozen["camera front"].differing = 0
    assert judged(frozen)["camera front picture"] == RED
    del losing["camera front"].arrivals_s[10:100:2]
    del losing["camera front"].arrivals_s[12:40]
    assert judged(losing)["camera front picture"] == YELLOW


def test_more_pictures_than_a_cable_carries_are_yellow() -> None:
    flood = heard()
    flood["camera front"].byte_count = 400_000_000
    assert judged(flood)["network"] == YELLOW


def test_nobody_there_is_red_and_the_simulated_arm_is_not(domain) -> None:
    """The real listener: first in an empty domain, then beside the simulated Franka."""
    robot = read_named("robots", "franka_sim")
    robot["franka"]["ros_domain_id"] = domain
    robot["franka"]["max_clock_skew_s"] = 0.5  # of a busy machine
    franka = build(RobotConfig, robot, "franka_sim").franka
    assert franka is not None
    simulated = [sys.executable, "-m", "etude_nodes.sim_franka_node", "--ros-args", "-p", "camera_rate_hz:=5.0"]
    process = subprocess.Popen([*simulated, "-p", "image_height_px:=48.0"])
    try:
        for _ in range(5):  # it needs a while to start, and to render on a busy machine
            found = preflight.listen(franka)
            red = [one for one in found if one.status == RED and one.check != "pose rate"]
            if not red:
                break
        assert red == []
    finally:
        process.kill()
        process.wait()
    empty = build(RobotConfig, robot, "franka_sim").franka
    assert empty is not None
    found = statuses(preflight.listen(empty.model_copy(update={"ros_domain_id": domain + 1})))
    assert found["pose"] == found["controller"] == RED


def test_a_go1_is_looked_at_too(domain) -> None:
    """The real listener: beside the simulated Go1, then in an empty domain; by cable, only whether there is a way."""
    robot = build(RobotConfig, read_named("robots", "go1"), "go1")
    there = robot.model_copy(update={"go1": robot.go1.model_copy(update={"ros_domain_id": domain})})
    process = subprocess.Popen([sys.executable, "-m", "etude_nodes.sim_go1_node", "--ros-args", "-p", "camera_rate_hz:=0.0"])
    try:
        for _ in range(4):  # it needs a while to start
            red = [one for one in preflight.preflight(there) if one.status == RED]
            if not red:
                break
        assert red == []
    finally:
        process.kill()
        process.wait()
    nobody = there.model_copy(update={"go1": there.go1.model_copy(update={"ros_domain_id": domain + 1})})
    found = statuses(preflight.preflight(nobody))
    assert found["odometry"] == found["driver"] == RED and "no driver listens" in str(preflight.preflight(nobody))
    low = build(RobotConfig, read_named("robots", "go1_low"), "go1_low")
    here = low.go1.model_copy(update={"udp": low.go1.udp.model_copy(update={"address": "127.0.0.1", "local_port": 0})})
    assert statuses(preflight.look_at_go1(here)) == {"motors": GREEN}


def test_practice_refuses_to_start_on_red_unless_told_to(tmp_path, monkeypatch, capsys) -> None:
    config = load_run_config({"task": "slide", "robot": "franka_sim", "recipe": "rlpd"})
    monkeypatch.setattr(practice, "check_robot", lambda name, run: [Finding("clocks", RED, "2 s apart", "start chrony")])
    with pytest.raises(PracticeError, match=r"clocks.*--ignore-preflight"):
        practice.refuse_on_red(RunFolder(tmp_path), config, ignore=False)
    assert "start chrony" in capsys.readouterr().out
    practice.refuse_on_red(RunFolder(tmp_path), config, ignore=True)


def test_a_simulation_needs_no_preflight(tmp_path, monkeypatch) -> None:
    config = load_run_config({"task": "slide", "robot": "sim_panda", "recipe": "rlpd"})
    monkeypatch.setattr(practice, "check_robot", lambda name, run: pytest.fail("nobody asked"))
    practice.refuse_on_red(RunFolder(tmp_path), config, ignore=False)
