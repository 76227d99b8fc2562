"""The judge of the hardware proof finds every kind of broken limit, and passes a recording that keeps them all."""

from __future__ import annotations

import math

import numpy as np
import pytest

from benchmarks import hardware
from benchmarks.hardware import Limits, Moment
from etude.config import read_named

DOWN = (1.0, 0.0, 0.0, 0.0)
LIMITS = Limits.of(read_named("robots", "franka_sim")["franka"]["limits"])


def motion(*positions: tuple[float, float, float], quaternion=DOWN) -> list[Moment]:
    return [Moment(0.1 * number, position, quaternion) for number, position in enumerate(positions)]


def arm(*positions: tuple[float, float, float]) -> list[Moment]:
    return motion(*(positions or [(0.5, 0.0, 0.2)] * 10))


def test_a_recording_within_the_limits_has_no_violation():
    targets = motion((0.5, 0.0, 0.2), (0.53, 0.0, 0.2), (0.56, 0.0, 0.2))
    assert hardware.violations(targets, arm(*(moment.position_m for moment in targets)), LIMITS) == []


def test_a_target_outside_the_box_is_found():
    found = hardware.violations(motion((0.72, 0.0, 0.2)), arm((0.66, 0.0, 0.2)), LIMITS)
    assert len(found) == 1 and "outside the box" in found[0]


def test_an_arm_that_begins_outside_may_come_back():
    assert hardware.violations(motion((0.72, 0.0, 0.2)), arm((0.73, 0.0, 0.2)), LIMITS) == []


def test_a_jump_is_found_and_a_hold_is_none():
    jump = motion((0.5, -0.1, 0.2), (0.5, 0.0, 0.2))
    assert any("jumps" in text for text in hardware.violations(jump, arm(*[(0.5, -0.09, 0.2)] * 3), LIMITS))
    assert hardware.violations(jump, arm((0.5, -0.1, 0.2), (0.5, 0.0, 0.2)), LIMITS) == []


def test_a_target_far_from_the_arm_is_found():
    targets = motion((0.5, 0.2, 0.2))
    assert any("from the arm" in text for text in hardware.violations(targets, arm(), LIMITS))


def test_a_tilted_tool_and_what_is_no_rotation_are_found():
    turned = (math.cos(0.25), math.sin(0.25), 0.0, 0.0)  # about the vertical: no tilt
    about_x = (math.cos(0.25), 0.0, 0.0, math.sin(0.25))
    assert motion((0.5, 0.0, 0.2), quaternion=turned)[0].tilt_rad == pytest.approx(0.0, abs=1e-6)
    assert motion((0.5, 0.0, 0.2), quaternion=about_x)[0].tilt_rad == pytest.approx(0.5)
    found = hardware.violations(motion((0.5, 0.0, 0.2), quaternion=about_x), arm(), LIMITS)
    assert any("tilted" in text for text in found)
    found = hardware.violations(motion((0.5, 0.0, 0.2), quaternion=(0.0, 0.0, 0.0, 0.0)), arm(), LIMITS)
    assert found == ["at 0.00 s a target is not finite"]


def test_the_drivers_log_is_read_with_its_milliseconds():
    log = (
        "2026-01-02 03:04:05,250 WARNING etude.arm (MainThread): the arm: reflex\n"
        "2026-01-02 03:04:06,000 INFO other (MainThread): the arm: nonsense\n"
        "2026-01-02 03:04:07,500 INFO etude.arm (MainThread): the arm: all is well\n"
    )
    (first, reflex), (second, well) = hardware.told(log)
    assert (reflex, well) == ("reflex", "") and second - first == pytest.approx(2.25)
    assert hardware.first_after(hardware.told(log), first + 0.1, "reflex") is None
    assert hardware.first_after(hardware.told(log), first, "") == second


def test_percentiles_are_whole_milliseconds_and_p99_of_few_is_the_largest():
    assert hardware.percentiles([0.01, 0.02, 0.5]) == {"n": 3, "p50_ms": 20, "p99_ms": 500}


def test_an_undetected_fault_shows_in_the_table():
    one = {"fault": "reflex stop", "detected_s": None, "held": False, "recovered_s": None, "reaction": "held"}
    row = hardware.table([one, {**one, "detected_s": 0.1, "held": True, "recovered_s": 2.0}])["reflex stop"]
    assert (row["injected"], row["detected"], row["held"], row["recovered"]) == (2, 1, 1, 1)


def test_a_hold_that_was_not_measured_is_neither_held_nor_not_held():
    one = {"fault": "reflex stop", "detected_s": 0.1, "held": None, "recovered_s": 0.3, "reaction": "held"}
    row = hardware.table([one])["reflex stop"]
    assert (row["detected"], row["held"], row["not_held"]) == (1, 0, 0)


def test_too_few_poses_say_nothing_about_standing_still():
    poses = motion(*[(0.5, 0.0, 0.2)] * 20)
    assert hardware.strayed_m(poses, 0.0, 0.25) is None
    assert hardware.strayed_m(poses, 0.0, 1.9) == 0.0
    assert hardware.strayed_m(motion(*[(0.5, 0.01 * n, 0.2) for n in range(20)]), 0.0, 0.95) == pytest.approx(0.09)


def test_periods_that_touch_a_fault_are_not_counted() -> None:
    stamps_s = np.array([0.0, 0.1, 0.2, 0.5, 0.6, 0.75])
    assert hardware.periods(stamps_s, [(0.25, 0.3)]) == pytest.approx([0.1, 0.1, 0.1, 0.15])
    assert hardware.periods(stamps_s, [(0.0, 0.15), (0.7, math.inf)]) == pytest.approx([0.3, 0.1])


def test_a_fault_that_was_never_put_in_is_no_pass() -> None:
    one = {"fault": "reflex stop", "detected_s": 0.1, "held": True, "recovered_s": 2.0, "reaction": "held"}
    table = hardware.table([one, {**one, "fault": "camera frozen", "recovered_s": None}])
    assert hardware.missed(table, ["actor hangs"]) == ["camera frozen", "actor hangs (not put in: out of time)"]
