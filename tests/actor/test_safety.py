"""The safety filter: whatever is proposed, in whatever state, the result satisfies every limit."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from actor.safety import filter_action
from etude.config import SafetyLimits
from etude.robot import Reading
from etude.specs import ActionSpec, ObservationSpec

SPEC = ActionSpec(("x", "y", "z", "yaw", "gripper"), (0.05, 0.05, 0.05, 0.4, 1.0))
BOX = SafetyLimits(
    workspace_min_m=(0.3, -0.3, 0.02),
    workspace_max_m=(0.7, 0.3, 0.4),
    max_translation_per_step_m=0.04,
    max_rotation_per_step_rad=0.2,
    max_reading_age_s=0.3,
)
SEES = ObservationSpec(("a_m", "b_m", "c_m"))
LOW, HIGH = np.array(BOX.workspace_min_m), np.array(BOX.workspace_max_m)
EPS = 1e-6

anything = arrays(np.float64, 5, elements=st.floats(allow_nan=True, allow_infinity=True))
ordinary = arrays(np.float32, 5, elements=st.floats(-2, 2, width=32))
positions = arrays(np.float64, 3, elements=st.floats(-1, 1))
tools = st.one_of(st.none(), positions, st.just(np.array([np.nan, 0, 0])))
previous_actions = st.one_of(st.none(), arrays(np.float32, 5, elements=st.floats(-1, 1, width=32)))


def reading(tcp=(0.5, 0.0, 0.2), stamp_s=10.0, faults=()):
    return Reading({"state": np.zeros(3, np.float32)}, stamp_s, None if tcp is None else np.asarray(tcp, float), tuple(faults))


def filtered(action, given_reading=None, limits=BOX, **keywords):
    return filter_action(np.asarray(action), given_reading or reading(), limits, SPEC, 10.1, observation_spec=SEES, **keywords)


@given(st.one_of(anything, ordinary), tools, st.floats(-5, 20), st.booleans(), st.booleans(), previous_actions)
def test_from_any_action_and_any_state_every_limit_holds(action, tcp, stamp_s, faulty, stopped, previous):
    now = reading(tcp, stamp_s, ["reflex"] if faulty else [])
    safe, reasons = filtered(action, now, previous=previous, stopped=stopped)
    SPEC.check(safe)
    delta_m = safe[:3].astype(float) * 0.05
    assert np.linalg.norm(delta_m) <= BOX.max_translation_per_step_m + EPS
    assert abs(safe[3]) * 0.4 <= BOX.max_rotation_per_step_rad + EPS
    stale = not 10.1 - stamp_s <= BOX.max_reading_age_s
    if faulty or stopped or stale or tcp is None or not np.isfinite(tcp).all() or not np.isfinite(action).all():
        assert reasons
        assert not safe[:4].any(), "any of these means hold"
    else:
        after = np.asarray(tcp) + delta_m
        for axis in range(3):
            if LOW[axis] <= tcp[axis] <= HIGH[axis]:
                assert LOW[axis] - EPS <= after[axis] <= HIGH[axis] + EPS
            elif tcp[axis] > HIGH[axis]:
                assert delta_m[axis] <= EPS, "outside, only motion back inwards"
            else:
                assert delta_m[axis] >= -EPS


@given(arrays(np.float32, 5, elements=st.floats(-0.375, 0.375, width=32)))
def test_a_harmless_action_passes_unchanged_and_without_reasons(action):
    safe, reasons = filtered(action)
    assert reasons == ()
    np.testing.assert_allclose(safe, action, atol=1e-6)


@given(anything, st.floats(0.1, 10))
def test_direction_of_motion_survives_the_length_limit(action, factor):
    if np.isfinite(action).all():
        free = SafetyLimits(max_translation_per_step_m=0.02)
        safe, _ = filtered(action, limits=free)
        clipped = np.clip(action[:3], -1, 1)
        np.testing.assert_allclose(np.cross(safe[:3].astype(float), clipped), 0, atol=1e-6)


def test_a_hold_keeps_the_gripper_where_it_was():
    safe, reasons = filtered([np.nan] * 5, previous=np.array([0.1, 0.1, 0.1, 0.1, -1.0], np.float32))
    assert list(safe) == [0, 0, 0, 0, -1]
    assert reasons == ("action is not finite",)


def test_a_hold_before_any_action_opens_the_gripper_rather_than_squeezing():
    assert filtered(np.zeros(5), stopped=True)[0][4] == 1.0


@pytest.mark.parametrize("shape", [(0,), (4,), (6,), (1, 5), ()])
def test_a_wrong_shape_means_hold(shape):
    safe, reasons = filtered(np.ones(shape))
    assert not safe[:4].any()
    assert "shape" in reasons[0]


def test_reasons_say_what_was_limited():
    _, reasons = filtered([3, 0, 0, 1, 0], reading((0.69, 0, 0.2)))
    assert [reason.split()[0] for reason in reasons] == ["action", "translation", "rotation", "workspace"]


def test_an_old_reading_means_hold_and_says_how_old():
    safe, reasons = filtered(np.ones(5), reading(stamp_s=9.5))
    assert not safe[:4].any()
    assert reasons == ("stale observation (0.60 s old, limit 0.30 s)",)


def test_robots_without_a_tool_need_no_box():
    spec = ActionSpec(("torque",), (2.0,))
    safe, reasons = filter_action(np.array([0.7], np.float32), reading(None), SafetyLimits(), spec, 10.1, observation_spec=SEES)
    assert safe == pytest.approx([0.7]) and reasons == ()


@pytest.mark.parametrize("state", [np.full(3, np.nan, np.float32), np.zeros(2, np.float32), np.zeros(3, np.float64)])
def test_an_observation_that_does_not_fit_means_hold_and_says_why(state):
    blind = Reading({"state": state}, 10.0, np.array([0.5, 0.0, 0.2]))
    safe, reasons = filtered(np.ones(5, np.float32), blind)
    assert not safe[:4].any() and "observation 'state' is" in reasons[0]


# --- joint targets ------------------------------------------------------------------------------------------------------

JOINT_SPEC = ActionSpec(("hip_joint", "knee_joint"), (0.5, 2.0))
JOINT_LIMITS = SafetyLimits(max_joint_change_per_step_rad=0.4)


def joints(action, previous=None, **keywords):
    return filter_action(
        np.asarray(action), reading(None), JOINT_LIMITS, JOINT_SPEC, 10.1, observation_spec=SEES, previous=previous, **keywords
    )


@given(arrays(np.float32, 2, elements=st.floats(-3, 3, width=32)), arrays(np.float32, 2, elements=st.floats(-1, 1, width=32)))
def test_joint_targets_never_change_by_more_than_the_limit(action, previous):
    safe, _ = joints(action, previous)
    assert (np.abs((safe - previous) * JOINT_SPEC.scale) <= 0.4 + 1e-5).all()
    assert np.abs(safe).max() <= 1.0


def test_the_first_joint_target_is_limited_from_the_stance():
    safe, reasons = joints([0.2, 0.9])
    np.testing.assert_allclose(safe, [0.2, 0.2], atol=1e-6)
    assert "joint targets limited from 1.80 to 0.40 rad per step" in reasons


def test_joints_hold_their_targets_on_a_stop():
    previous = np.array([0.3, -0.7], np.float32)
    safe, reasons = joints([0.0, 0.0], previous, stopped=True)
    np.testing.assert_array_equal(safe, previous)
    assert reasons == ("software stop",)
