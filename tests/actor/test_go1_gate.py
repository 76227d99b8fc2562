"""What a Go1's safety node decides, without waiting and without a robot."""

from __future__ import annotations

import copy
import functools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actor.go1_gate import FOLDED_RAD, LET_GO, STANCE_RAD, Body, JointGate, VelocityGate, limits_digest
from etude.config import ConfigError, build
from etude.config.go1 import Go1Config

HIGH, LOW = Go1Config(), Go1Config(level="low")
LEVEL = Body(0.0, 0.0)
STEP_S = 0.005


def lying(**changes) -> Body:
    return Body(**({"roll_rad": 0.0, "pitch_rad": 0.0, "joints_rad": FOLDED_RAD, "speeds_rad_s": np.zeros(12)} | changes))


class Rig:
    """A gate whose actor and robot are alive; the robot's joints follow at once. Times go on by themselves."""

    def __init__(self, config: Go1Config) -> None:
        self.gate = JointGate(config) if config.level == "low" else VelocityGate(config)
        self.now_s, self._digest = 100.0, limits_digest(config)
        self.body = lying() if config.level == "low" else LEVEL
        self.alive = self.heard = True
        self.run(0.4)

    def tick(self):
        self.now_s += STEP_S
        if self.alive:
            self.gate.life.beat(self.now_s, 0.0, self._digest)
        if self.heard:
            self.gate.state(self.now_s, self.body)
        return self.gate.next(self.now_s)

    def run(self, seconds: float) -> list:
        return [self.tick() for _ in range(round(seconds / STEP_S))]

    def follow(self, seconds: float):
        """As `run`, with joints that go where they are told."""
        for _ in range(round(seconds / STEP_S)):
            command = self.tick()
            if command.stiffness_nm_rad.any():
                self.body = lying(joints_rad=command.target_rad)
        return command

    def up(self) -> "Rig":
        assert self.gate.stand_up(self.now_s) == ""
        self.follow(4.0)
        assert self.gate.phase == "driving"
        return self


@functools.cache
def _standing() -> Rig:
    return Rig(LOW).up()


def standing() -> Rig:
    """One that has got up and takes targets."""
    return copy.deepcopy(_standing())


# --- velocities -----------------------------------------------------------------------------------------------------------


def test_a_velocity_is_reached_within_the_acceleration_and_never_exceeded():
    rig = Rig(HIGH)
    sent = []
    for _ in range(200):
        rig.gate.want(rig.now_s, np.array([9.0, -9.0, 9.0]))
        sent.append(rig.tick())
    largest = HIGH.velocity.largest
    np.testing.assert_allclose(sent[-1], [largest[0], -largest[1], largest[2]])
    assert np.abs(np.diff(sent, axis=0)[:, :2]).max() <= HIGH.velocity.max_acceleration_m_s2 * STEP_S + 1e-9


def test_with_nobody_asking_zero_is_sent_all_the_time():
    rig = Rig(HIGH)
    rig.gate.want(rig.now_s, np.array([0.4, 0.0, 0.0]))
    assert rig.run(0.25)[-1][0] > 0.3
    assert not rig.run(1.0)[-1].any(), "the wish is old"
    assert len(rig.run(0.5)) == 100 and all(not velocity.any() for velocity in rig.run(0.5))


@pytest.mark.parametrize(("what", "word"), [("alive", "heartbeat"), ("heard", "state is late")])
def test_without_a_sign_of_life_of_actor_or_robot_it_stands_at_once(what, word):
    rig = Rig(HIGH)
    rig.gate.want(rig.now_s, np.array([0.4, 0.0, 0.0]))
    rig.run(0.2)
    setattr(rig, what, False)
    rig.run(0.11)
    assert not rig.tick().any() and word in rig.gate.reasons(rig.now_s)[0]


def test_a_tilted_trunk_is_no_place_to_walk_on():
    rig = Rig(HIGH)
    rig.body = Body(0.9, 0.0)
    rig.gate.want(rig.now_s, np.array([0.4, 0.0, 0.0]))
    assert not rig.run(0.1)[-1].any() and "tilted by 0.90 rad" in rig.gate.reasons(rig.now_s)[0]
    rig.body = Body(float("nan"), 0.0)
    rig.tick()
    assert rig.gate.reasons(rig.now_s)


NUMBERS = st.floats(allow_nan=True, allow_infinity=True, width=32)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.lists(NUMBERS, min_size=3, max_size=3), st.booleans(), NUMBERS), min_size=1, max_size=20))
def test_from_any_wishes_and_states_velocities_keep_every_limit(rows):
    rig, last = Rig(HIGH), np.zeros(3)
    largest = np.array(HIGH.velocity.largest)
    for wish, alive, roll in rows:
        rig.alive, rig.body = alive, Body(roll, 0.0)
        rig.gate.want(rig.now_s, np.array(wish))
        velocity = rig.tick()
        assert np.isfinite(velocity).all() and (np.abs(velocity) <= largest + 1e-9).all()
        gained = np.abs(velocity - last)[:2].max()
        assert not velocity.any() or gained <= HIGH.velocity.max_acceleration_m_s2 * STEP_S + 1e-9
        last = velocity


# --- joints ---------------------------------------------------------------------------------------------------------------


def test_it_begins_with_its_legs_let_go_and_asks_for_a_person():
    rig = Rig(LOW)
    rig.gate.want(STANCE_RAD)
    command = rig.run(0.5)[-1]
    assert not command.stiffness_nm_rad.any() and (command.damping_nm_s_rad == LOW.joints.stop_damping_nm_s_rad).all()
    assert rig.gate.reasons(rig.now_s) == (LET_GO,)


def test_it_gets_up_slowly_from_where_it_lies_and_then_takes_targets():
    rig = Rig(LOW)
    assert rig.gate.stand_up(rig.now_s) == ""
    first = rig.tick()
    np.testing.assert_allclose(first.target_rad, FOLDED_RAD, atol=LOW.joints.rise_velocity_rad_s * STEP_S + 0.02)
    rig.follow(0.3)
    assert rig.gate.reasons(rig.now_s) == ("the robot is getting up",)
    rig.follow(3.0)
    assert rig.gate.reasons(rig.now_s) == ()
    rig.gate.want(STANCE_RAD + 0.1)
    np.testing.assert_allclose(rig.follow(0.2).target_rad, STANCE_RAD + 0.1, atol=1e-6)


def test_legs_that_cannot_follow_are_not_called_up():
    rig = Rig(LOW)
    rig.gate.stand_up(rig.now_s)
    rig.run(4.0)
    assert rig.gate.phase == "rising"


def test_a_leg_that_is_held_is_pushed_with_no_more_than_the_largest_torque():
    rig = standing()
    rig.gate.want(STANCE_RAD + 0.8)
    held = rig.body.joints_rad
    for command in rig.run(0.5):
        torque = command.stiffness_nm_rad * np.abs(command.target_rad - held)
        assert torque.max() <= LOW.joints.max_torque_nm + 1e-9


def test_a_dead_actor_leaves_it_standing_for_a_moment_and_then_sinking():
    rig = standing()
    rig.alive = False
    assert rig.run(0.2)[-1].stiffness_nm_rad.all(), "it stands on its last targets"
    assert not rig.run(0.2)[-1].stiffness_nm_rad.any()
    rig.alive = True
    rig.follow(1.0)
    assert rig.gate.phase == "limp" and LET_GO in rig.gate.reasons(rig.now_s), "an actor that is back does not raise it"


DANGERS = {
    "falls": (lying(joints_rad=STANCE_RAD, roll_rad=1.0), "tilted by 1.00 rad"),
    "a joint runs away": (lying(joints_rad=STANCE_RAD, speeds_rad_s=np.eye(12)[4] * 40.0), "FL thigh turns at 40 rad/s"),
    "a motor is hot": (lying(joints_rad=STANCE_RAD, hottest_c=80.0), "a motor has 80 °C"),
    "a joint is beyond its limit": (lying(joints_rad=STANCE_RAD + np.eye(12)[0] * 1.3), "FR hip is 0.25 rad beyond"),
    "joints are not finite": (lying(joints_rad=np.full(12, np.nan)), "joints are unknown"),
}


@pytest.mark.parametrize("name", DANGERS)
def test_danger_lets_the_legs_go_at_once_until_a_person_has_looked(name):
    body, words = DANGERS[name]
    rig = standing()
    rig.body = body
    command = rig.tick()
    assert not command.stiffness_nm_rad.any() and np.isfinite(command.target_rad).all()
    assert words in rig.gate.reasons(rig.now_s)[0] and words in rig.gate.stand_up(rig.now_s)
    rig.body = lying()
    rig.run(0.5)
    assert rig.gate.phase == "limp"
    assert any(words in reason for reason in rig.gate.reasons(rig.now_s)), "the reason stays to be read"
    assert rig.gate.stand_up(rig.now_s) == ""


def test_it_lies_down_before_its_legs_are_let_go():
    rig = standing()
    rig.gate.lie_down()
    assert rig.follow(0.2).stiffness_nm_rad.all() and rig.gate.phase == "lowering"
    rig.follow(3.0)
    assert rig.gate.phase == "limp"
    np.testing.assert_allclose(rig.body.joints_rad, FOLDED_RAD, atol=0.03)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.lists(NUMBERS, min_size=12, max_size=12), st.booleans(), NUMBERS), min_size=1, max_size=10))
def test_from_any_wishes_and_states_motor_commands_keep_every_limit(rows):
    rig = standing()
    low, high = np.array(LOW.joints.joint_min_rad), np.array(LOW.joints.joint_max_rad)
    for wish, alive, pitch in rows:
        rig.alive, rig.body = alive, lying(joints_rad=STANCE_RAD, pitch_rad=pitch)
        rig.gate.want(np.array(wish))
        command = rig.tick()
        assert np.isfinite(command.target_rad).all()
        assert (command.target_rad >= low).all() and (command.target_rad <= high).all()
        torque = command.stiffness_nm_rad * np.abs(command.target_rad - STANCE_RAD)
        assert torque.max() <= LOW.joints.max_torque_nm + 1e-9
        if not abs(pitch) <= LOW.max_tilt_rad:
            assert not command.stiffness_nm_rad.any()


def test_limits_that_leave_no_room_are_refused():
    with pytest.raises(ConfigError, match="no room"):
        build(Go1Config, {"joints": {"joint_margin_rad": 2.0}}, "go1")
    with pytest.raises(ConfigError, match="12 joints"):
        build(Go1Config, {"joints": {"joint_min_rad": [-1.0], "joint_max_rad": [1.0]}}, "go1")
