"""Gaits: exact inverse kinematics, feet on their paths, and walking that really gets somewhere."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from simulation.go1 import Go1
from simulation.go1_gaits import Gait, action, feet, foot_positions, joint_angles
from simulation.go1_library import LIBRARY, mirrored
from simulation.go1_model import LEFT


def walk(gait: Gait, seconds: float) -> Go1:
    go1 = Go1(seed=0)
    for step in range(round(20 * seconds)):
        go1.step(action(gait, step / 20, go1.heading_rad, go1.data.qvel[5]))
        assert not go1.fallen()
    return go1


def test_inverse_kinematics_is_the_inverse():
    rng = np.random.default_rng(0)
    for _ in range(20):
        joints = np.tile([0.0, 0.9, -1.8], 4) + rng.uniform(-0.4, 0.4, 12)
        np.testing.assert_allclose(joint_angles(foot_positions(joints)), joints, atol=1e-9)


def test_out_of_reach_is_drawn_in():
    angles = joint_angles(np.array([[0.0, 0.08 * side, -2.0] for side in LEFT]))
    assert np.isfinite(angles).all() and foot_positions(angles)[:, 2].min() > -0.43


def test_a_foot_on_the_ground_moves_back_by_the_stride():
    gait = Gait(frequency_hz=2.0, stride_m=0.2, duty=0.5, clearance_m=0.05)
    begin, end = feet(gait, 0.0, 0.0, 0.0)[0], feet(gait, 0.25 - 1e-9, 0.0, 0.0)[0]
    assert begin[0] - end[0] == pytest.approx(0.2, abs=1e-6) and begin[2] == end[2] == -gait.height_m
    assert feet(gait, 0.375, 0.0, 0.0)[0, 2] == pytest.approx(-gait.height_m + 0.05)


def test_left_strides_are_longer_when_it_looks_to_the_left():
    gait = Gait(stride_m=0.2)
    straight, turned = (
        np.ptp([feet(gait, t, heading, 0.0)[:, 0] for t in np.arange(0, 0.4, 0.01)], axis=0) for heading in (0.0, 0.3)
    )
    assert (turned[LEFT > 0] > straight[LEFT > 0]).all() and (turned[LEFT < 0] < straight[LEFT < 0]).all()


def test_the_trot_walks_straight_ahead_without_any_learning():
    go1 = walk(LIBRARY["trot"], 6.0)
    assert go1.position_m[0] / 6.0 > 0.3 and abs(go1.position_m[1]) < 0.5


def test_a_negative_stride_walks_backwards():
    gait = LIBRARY["trot"]
    assert walk(replace(gait, stride_m=-gait.stride_m), 4.0).position_m[0] < -0.5


def test_a_mirrored_gait_is_the_mirror_image():
    gait = LIBRARY["payload"]
    for time_s in (0.0, 0.1, 0.3):
        feet_seen, image = feet(gait, time_s, 0.1, 0.2), feet(mirrored(gait), time_s, -0.1, -0.2)
        np.testing.assert_allclose(image[[1, 0, 3, 2]] * [1, -1, 1], feet_seen, atol=1e-12)


@pytest.mark.parametrize("name", LIBRARY)
def test_gaits_stay_inside_the_actions_range(name):
    assert np.abs([action(LIBRARY[name], step / 20, 0.0, 0.0) for step in range(100)]).max() < 1.0
