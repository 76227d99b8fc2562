"""End-effector control: the tool goes where it is sent, points down, and its target never runs away."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulation import panda
from simulation.controller import LEAD_M
from simulation.tabletop import Tabletop


@pytest.fixture(scope="module")
def tabletop():
    return Tabletop("relocate", observation="state")


@settings(max_examples=15, deadline=None)
@given(moves=st.lists(st.tuples(*[st.floats(-1, 1)] * 3), min_size=3, max_size=6))
def test_the_tool_reaches_its_target_within_three_millimetres_pointing_down(tabletop, moves):
    tabletop.reset("forward", np.random.default_rng(0))
    controller = tabletop.controller
    controller.place(np.array([0.49, 0.0, 0.14]), 0.0, 0.08)
    for move in moves:
        tabletop.step(np.array([*move[:2], max(move[2], -0.3), 1.0]))
    for _ in range(2):
        tabletop.step(np.array([0.0, 0.0, 0.0, 1.0]))
    np.testing.assert_allclose(controller.tcp_m, controller.target_m, atol=0.003)
    assert tabletop.data.site("tcp").xmat[8] < -0.999
    assert abs(controller.yaw_rad) < 0.02


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 1000))
def test_the_target_stays_in_the_workspace_and_near_the_tool_under_random_actions(tabletop, seed):
    rng = np.random.default_rng(seed)
    tabletop.reset("forward", rng)
    controller = tabletop.controller
    direction = rng.uniform(-1, 1, 4)
    for _ in range(25):
        before = controller.tcp_m
        tabletop.step(np.clip(direction + 0.5 * rng.normal(size=4), -1, 1))
        assert (controller.target_m >= controller.workspace_min_m - 1e-9).all()
        assert (controller.target_m <= controller.workspace_max_m + 1e-9).all()
        assert np.abs(controller.target_m - before).max() <= LEAD_M + 1e-9
        assert (controller.joints_rad > panda.LOWER_RAD).all() and (controller.joints_rad < panda.UPPER_RAD).all()


def test_a_blocked_tool_does_not_wind_up():
    tabletop = Tabletop("drawer", observation="state")
    tabletop.controller.place(np.array([0.56, 0.0, 0.16]), 0.0, 0.0)
    for _ in range(40):  # down onto the cabinet's front edge, then on
        tabletop.step(np.array([1.0, 0.0, -1.0]))
        assert np.abs(tabletop.controller.target_m - tabletop.controller.tcp_m).max() < LEAD_M + 0.035
    tabletop.step(np.array([-1.0, 0.0, 1.0]))
    tabletop.step(np.array([-1.0, 0.0, 1.0]))
    tabletop.step(np.array([-1.0, 0.0, 1.0]))
    assert tabletop.controller.tcp_velocity_m_s()[2] > 0.1  # it comes back at once


def test_hold_makes_the_current_pose_the_target(tabletop):
    tabletop.reset("forward", np.random.default_rng(3))
    tabletop.step(np.array([1.0, 1.0, 0.0, 1.0]))
    tabletop.hold()
    pose = tabletop.controller.tcp_m
    np.testing.assert_allclose(tabletop.controller.target_m, pose)
    for _ in range(3):
        tabletop.step(np.array([0.0, 0.0, 0.0, 1.0]))
    np.testing.assert_allclose(tabletop.controller.tcp_m, pose, atol=0.012)


def test_the_gripper_action_is_an_absolute_opening(tabletop):
    tabletop.reset("forward", np.random.default_rng(4))
    for action, opening in ((1.0, 0.08), (-1.0, 0.0), (0.0, 0.04)):
        for _ in range(8):
            tabletop.step(np.array([0.0, 0.0, 0.0, action]))
        assert tabletop.controller.opening_m == pytest.approx(opening, abs=0.003)
