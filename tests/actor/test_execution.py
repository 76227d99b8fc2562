"""A person's speed limit: a share of the configured steps, for whoever moves the robot, and never more than configured."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from point_robot import point_config

from actor.execution import slower
from etude.config import SafetyLimits

LIMITS = SafetyLimits(
    workspace_min_m=(0.0, 0.0, 0.0),
    max_translation_per_step_m=0.04,
    max_rotation_per_step_rad=0.2,
    max_joint_change_per_step_rad=0.5,
)


@given(st.floats(allow_nan=False))
def test_no_share_allows_more_than_was_configured_and_none_stops_the_robot(share):
    limits = slower(LIMITS, share)
    for name in ("max_translation_per_step_m", "max_rotation_per_step_rad", "max_joint_change_per_step_rad"):
        assert 0.0999 * getattr(LIMITS, name) <= getattr(limits, name) <= getattr(LIMITS, name)
    assert limits.workspace_min_m == LIMITS.workspace_min_m and limits.max_reading_age_s == LIMITS.max_reading_age_s


def test_a_robot_without_a_joint_limit_keeps_none():
    assert slower(SafetyLimits(), 0.5).max_joint_change_per_step_rad is None


def test_the_loop_slows_down_at_the_next_step_and_refuses_what_is_no_share(bench):
    b = bench()
    b.loop.set_mode("practise")
    b.start().until(lambda: len(b.robot.actions) > 2)
    assert b.loop.limit_speed(0.1).accepted
    b.until(lambda: b.loop.status().speed_limit == pytest.approx(0.1))
    seen = len(b.robot.actions)
    b.until(lambda: len(b.robot.actions) > seen + 5).stop()
    limits = point_config().robot.safety
    speeds = [abs(float(action[0])) * b.robot.action_spec.scale[0] for action in b.robot.actions]
    assert max(speeds[:2]) > 0.1 * limits.max_translation_per_step_m + 1e-6, "it was faster before"
    assert max(speeds[seen:]) <= 0.1 * limits.max_translation_per_step_m + 1e-6
    for wrong in (0.0, 1.2, float("nan")):
        assert not b.loop.limit_speed(wrong).accepted


def test_it_is_kept_over_a_restart(bench):
    first = bench()
    first.loop.set_mode("practise")
    first.loop.limit_speed(0.4)
    first.start().until(lambda: first.loop.status().speed_limit == pytest.approx(0.4)).stop()
    second = bench(resume_from=first.loop.counters(), first_segment=9)
    assert second.loop.status().speed_limit == pytest.approx(0.4)
