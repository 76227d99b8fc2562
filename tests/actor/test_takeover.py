"""Taking over and giving back, in the control loop: who acts, what is stored, what stands still, and no jumps in between."""

from __future__ import annotations

import itertools
import math
import threading
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from point_robot import STEP_M, PointPolicy, PointRobot, point_config

from actor.control_loop import ControlLoop
from actor.corrections import Motion, command_at
from actor.safety import GRIPPER
from actor.teleop.command import DelayMeter, TeleopCommand, action_of
from etude.specs import ActionSpec
from etude.status import Mode
from etude.step import Source

RATE_HZ = 50.0


def command(speed=-1.0, takeover=True, deadman=True, late_s=0.0, operator="ada", **more):
    """An operator who moves the point at `speed` (1: a whole step per control step)."""
    velocity = (speed * STEP_M * RATE_HZ, 0.0, 0.0)
    return TeleopCommand(operator, takeover, deadman, velocity, at_s=time.monotonic() - late_s, **more)


class Turns:
    """A control loop that is turned by hand, one control step at a time."""

    def __init__(self, robot=None, policy=None, config=None, resume_from=None):
        self.robot, self.policy, self.steps = robot or PointRobot(), policy or PointPolicy(0.1), []
        self.policy.delay_s = 0.0
        self.loop = ControlLoop(
            config or point_config(task__forward={"instruction": "right", "max_steps": 200}),
            self.robot,
            self.policy,
            None,
            self.steps.append,
            first_segment=1,
            seed=0,
            resume_from=resume_from,
        )
        self.never = threading.Event()

    def practise(self):
        self.loop.set_mode("practise")
        return self.turn()

    def turn(self, *commands, times=1):
        for _ in range(times):
            for one in commands:
                self.loop.teleop(one() if callable(one) else one)
            self.loop._tick(self.never)
        self.loop._snapshot()
        return self

    @property
    def status(self):
        return self.loop.status()


def test_a_takeover_and_its_release_stay_within_one_segment():
    t = Turns().practise().turn(times=3)
    t.turn(command, times=4)
    assert t.status.mode is Mode.TAKEOVER and t.status.authority == "human" and t.status.operator_name == "ada"
    t.turn(lambda: command(takeover=False, deadman=False), times=1).turn(times=4)
    assert t.status.mode is Mode.FORWARD and t.status.authority == "policy" and t.status.interventions == 1
    assert {step.segment for step in t.steps} == {1} and not any(step.is_last for step in t.steps)
    sources = [step.source for step in t.steps]
    assert [who for who, _ in itertools.groupby(sources)] == [Source.POLICY, Source.HUMAN, Source.POLICY]
    for step in t.steps:
        assert step.policy_action[0] == pytest.approx(0.1) and step.policy_version == 3
        assert step.action[0] == pytest.approx(-1.0 if step.source is Source.HUMAN else 0.1)
    for step, following in itertools.pairwise(t.steps):
        moved = following.observation["state"][0] - step.observation["state"][0]
        assert moved == pytest.approx(step.action[0] * STEP_M, abs=1e-5)


def test_every_command_passes_the_safety_filter():
    t = Turns(config=point_config(robot__safety={"max_translation_per_step_m": 0.05}))
    t.practise().turn(lambda: command(speed=3.0), times=3)
    executed = [step.action[0] for step in t.steps if step.source is Source.HUMAN]
    assert executed and executed == pytest.approx([0.25] * len(executed))


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_command_that_is_not_finite_moves_nothing(bad):
    t = Turns().practise().turn(lambda: command(speed=bad), times=3)
    assert t.status.authority == "policy"


def test_without_the_deadman_it_stands_still_and_the_segment_waits():
    t = Turns().practise().turn(times=2)
    before, acted, holds = t.robot.x_m, len(t.robot.actions), t.robot.holds
    t.turn(lambda: command(deadman=False), times=5)
    assert t.robot.x_m == before and len(t.robot.actions) == acted and t.robot.holds == holds + 1
    assert t.status.segment == 1 and "ada has control" in t.status.holding[0]
    t.turn(lambda: command(takeover=False), times=1).turn(times=2)
    assert {step.segment for step in t.steps} == {1}
    assert all(step.source is Source.POLICY for step in t.steps)


def test_a_lost_command_holds_until_a_person_says_otherwise():
    t = Turns().practise().turn(command, times=2)
    acted = len(t.robot.actions)
    time.sleep(0.31)
    t.turn(times=3)
    assert len(t.robot.actions) == acted
    assert t.status.authority == "hold" and t.status.mode is Mode.TAKEOVER and "was lost" in t.status.holding[0]
    t.loop.set_mode("practise")
    t.turn(times=3)
    assert t.status.authority == "policy" and len(t.robot.actions) > acted and {step.segment for step in t.steps} == {1}


def test_it_holds_within_300_ms_of_the_last_command():
    t = Turns().practise()
    t.loop.teleop(last := command(speed=-0.1))
    while time.monotonic() < last.at_s + 0.5:
        t.turn()
    ends = [at + 1.0 / RATE_HZ for at in t.robot.action_times_s if at > last.at_s]
    assert ends and max(ends) - last.at_s <= 0.3 + 0.005


def test_a_command_that_arrives_late_moves_nothing():
    t = Turns().practise()
    acted = len(t.robot.actions)
    t.turn(lambda: command(late_s=0.5), times=3)
    assert len(t.robot.actions) == acted


def test_the_devices_stop_button_is_the_software_stop_and_above_the_takeover():
    t = Turns().practise().turn(command, times=2)
    t.turn(lambda: command(buttons=("stop",)), times=1)
    acted = len(t.robot.actions)
    t.turn(command, times=3)
    assert t.status.mode is Mode.STOPPED and t.status.authority == "hold"
    t.loop.software_stop(False)
    t.turn(command, times=3)
    assert t.status.mode is Mode.PAUSED and len(t.robot.actions) == acted, "the deadman was held all the time"
    t.turn(lambda: command(takeover=False), command, times=1)
    assert t.status.mode is Mode.TAKEOVER


def test_an_operator_may_move_a_robot_that_does_not_practise_and_nothing_is_stored():
    t = Turns()
    t.turn(command, times=3)
    assert t.status.mode is Mode.TAKEOVER and len(t.robot.actions) == 3 and not t.steps


def test_attempts_with_corrections_do_not_count_for_the_policy():
    t = Turns().practise().turn(times=2)
    while t.status.segment == 1:
        t.turn(lambda: command(speed=1.0))
    assert t.steps[-1].is_last and t.steps[-1].success == 1
    assert t.status.success["forward"].attempts == 0
    assert t.status.mode is Mode.TAKEOVER, "the operator goes on, in the other direction"
    t.turn(command, times=2)
    assert t.steps[-1].phase == "backward"


def test_a_pause_during_a_takeover_ends_the_segment():
    t = Turns().practise().turn(command, times=3)
    t.loop.set_mode("pause")
    t.turn(command, times=2)
    assert t.steps[-1].is_last and not t.steps[-1].is_terminal and t.status.mode is Mode.TAKEOVER
    stored = len(t.steps)
    t.turn(command, times=3).turn(lambda: command(takeover=False), times=2)
    assert len(t.steps) == stored and t.status.mode is Mode.PAUSED


def test_after_a_restart_during_a_takeover_practice_waits_for_a_word():
    t = Turns().practise().turn(command, times=2)
    again = Turns(resume_from=t.loop.counters())
    again.loop.start_run()
    again.turn(times=3)
    assert again.status.mode is Mode.PAUSED and not again.robot.actions


def test_a_takeover_is_in_real_time_even_when_the_learner_is_waited_for():
    t = Turns(config=point_config(robot__pace="learner"))
    t.loop._lead = lambda: False
    t.loop.set_mode("practise")
    turning = threading.Thread(target=t.turn, kwargs={"times": 30}, daemon=True)
    turning.start()
    time.sleep(0.05)
    assert not t.robot.actions
    for _ in range(25):
        t.loop.teleop(command(speed=0.01))
        time.sleep(0.01)
    acted = len(t.robot.actions)
    assert 4 <= acted <= 0.35 * RATE_HZ, "neither never nor faster than the control rate"
    t.loop.teleop(command(takeover=False))
    t.loop._lead = lambda: True
    turning.join(5)


# --- any history ----------------------------------------------------------------------------------------------------

SAID = st.one_of(
    st.builds(
        lambda who, take, dead, late: ("command", who, take, dead, late),
        st.sampled_from(["ada", "bob"]),
        st.booleans(),
        st.booleans(),
        st.sampled_from([0.0, 0.0, 0.0, 0.5]),
    ),
    st.sampled_from(["stop", "clear", "practise", "pause", "idle", "turn", "turn", "goal"]),
)


@settings(max_examples=60, deadline=None)
@given(st.lists(SAID, max_size=25))
def test_in_any_history_nothing_moves_without_one_authority_and_every_step_says_whose(history):
    t = Turns(policy=PointPolicy(0.25), config=point_config(robot__control_rate_hz=100.0))
    t.loop._rest = lambda stop: t.loop._hold(())
    for said in history:
        if isinstance(said, tuple):
            _, who, take, dead, late = said
            t.loop.teleop(command(-0.5, take, dead, late, who))
        elif said in ("stop", "clear"):
            t.loop.software_stop(said == "stop")
        elif said == "goal":
            t.robot.x_m = 0.9  # the phase switches at the next step
        elif said != "turn":
            t.loop.set_mode(said)
        acted, stored = len(t.robot.actions), len(t.steps)
        t.turn()
        status = t.status
        if len(t.robot.actions) > acted:
            assert len(t.robot.actions) == acted + 1
            assert status.authority in ("human", "policy") and status.mode not in (Mode.STOPPED, Mode.PAUSED, Mode.IDLE)
            assert (status.mode is Mode.TAKEOVER) == (status.authority == "human")
            newest = t.loop._recorder._step
            if newest is not None:
                assert newest.source is (Source.HUMAN if status.authority == "human" else Source.POLICY)
                assert newest.policy_action[0] == pytest.approx(0.25 if newest.phase == "forward" else -0.25)
        assert all(step.policy_version == 3 for step in t.steps[stored:])
        assert (status.mode is Mode.TAKEOVER) == bool(status.operator_name)
        if status.mode is Mode.STOPPED:
            assert status.authority == "hold"


# --- no jumps -------------------------------------------------------------------------------------------------------


def test_the_commanded_pose_of_the_simulated_arm_does_not_jump_at_takeover_and_release():
    from actor.commands import task_config
    from actor.robots import make_robot

    config = task_config("slide", "state")
    robot = make_robot(config, 0)
    scale = np.asarray(robot.action_spec.scale)
    targets = []

    class Wild(PointPolicy):
        def act(self, observation, phase, explore):
            return np.random.default_rng(len(targets)).uniform(-1, 1, robot.action_spec.dim).astype(np.float32)

    t = Turns(robot=robot, policy=Wild(), config=config)
    act = robot.act

    def noting(action):
        before = robot.tabletop.controller.target_m.copy()
        act(action)
        targets.append(np.abs(robot.tabletop.controller.target_m - before).max())

    robot.act = noting
    t.practise()
    for _ in range(4):
        t.turn(times=3)
        t.turn(lambda: TeleopCommand("ada", True, True, (-0.2, 0.1, 0.05), at_s=time.monotonic()), times=3)
        t.turn(lambda: command(takeover=False))
    robot.close()
    assert {step.source for step in t.steps} == {Source.POLICY, Source.HUMAN}
    assert max(targets) <= scale[:3].max() + 1e-6


# --- commands -------------------------------------------------------------------------------------------------------


def test_a_command_becomes_the_displacement_of_one_step_and_leaves_the_gripper_alone():
    spec = ActionSpec(("x", "y", "z", "yaw", "gripper"), (0.03, 0.03, 0.03, 0.2, 1.0))
    one = TeleopCommand("ada", True, True, (0.15, -0.3, 0.0), (9.0, 9.0, 1.0))
    action = action_of(one, spec, 0.1, np.array([0, 0, 0, 0, -1.0], np.float32))
    np.testing.assert_allclose(action, [0.5, -1.0, 0.0, 0.5, -1.0], atol=1e-6)
    closing = TeleopCommand("ada", True, True, gripper=0.25)
    assert action_of(closing, spec, 0.1, action)[spec.names.index(GRIPPER)] == pytest.approx(0.25)


def test_a_robot_of_joint_targets_cannot_be_taken_over_and_says_so():
    from actor.teleop.command import refusal

    assert "tool along x, y and z" in refusal(ActionSpec(("hip_joint",), (0.3,)))


def test_a_control_step_longer_than_a_command_may_be_old_is_refused_but_the_stop_button_works():
    t = Turns(config=point_config(robot__control_rate_hz=2.0))
    assert "control step of 0.5 s" in t.loop.teleop(command())
    t.turn(lambda: command(buttons=("stop",)))
    assert t.status.mode is Mode.STOPPED


def test_a_stutter_of_the_network_is_seen_whatever_the_senders_clock_says():
    meter = DelayMeter()
    ages = [meter.age_s(1000.0 + 0.05 * n, 5.0 + 0.05 * n + (0.4 if n == 10 else 0.0)) for n in range(20)]
    assert ages[10] == pytest.approx(0.4) and max(ages[:10] + ages[11:]) == pytest.approx(0.0, abs=1e-9)


def test_words_move_the_robot_and_are_the_instruction_of_their_steps_alone():
    """A correction in words is a takeover like any other; the goal comes back with the policy, within the same segment."""
    t = Turns().practise().turn(times=3)
    motions = (Motion("to the left", (-0.5 * STEP_M * RATE_HZ, 0.0, 0.0), 0.0, math.nan, 0.1),)
    began_s = time.monotonic()

    def said():
        now_s = time.monotonic()
        return command_at(motions, now_s - began_s, "ada", "a bit to the left", now_s)

    while time.monotonic() < began_s + 0.1:
        t.turn(said)
    t.turn(said).turn(times=4)
    assert t.status.authority == "policy" and {step.segment for step in t.steps} == {1}
    words = [(step.source, step.instruction) for step in t.steps]
    assert [pair for pair, _ in itertools.groupby(words)] == [
        (Source.POLICY, "right"),
        (Source.HUMAN, "a bit to the left"),
        (Source.POLICY, "right"),
    ]
    moved = [step.action[0] for step in t.steps if step.source is Source.HUMAN]
    assert moved == pytest.approx([-0.5] * len(moved))
    t.turn(lambda: command(speed=0.2), times=2).turn(lambda: command(takeover=False, deadman=False)).turn(times=2)
    assert {step.instruction for step in t.steps[len(words) :]} == {"right"}, "hands say no words"


def words(speed=-0.5):
    return command(speed, operator="ada (words)", instruction="far to the left")


def test_somebody_who_takes_over_by_hand_has_the_robot_from_words_at_once():
    t = Turns().practise().turn(times=3)
    t.turn(words, times=3)
    assert t.status.operator_name == "ada (words)"
    t.turn(lambda: command(speed=0.2, operator="bob (gamepad)"), words, times=3)
    assert t.status.operator_name == "bob (gamepad)"
    assert [step.action[0] for step in t.steps][-2:] == pytest.approx([0.2, 0.2])
    t.turn(lambda: command(takeover=False, deadman=False, operator="bob (gamepad)"), words).turn(words, times=3)
    assert t.status.authority == "policy", "what was left of the words moves nothing afterwards"


@pytest.mark.parametrize("mode", ["pause", "idle"])
def test_a_pause_ends_words_because_nobody_holds_a_switch(mode: str):
    t = Turns().practise().turn(times=3)
    t.turn(words, times=3)
    t.loop.set_mode(mode)
    t.turn(words)
    before = t.robot.x_m
    t.turn(words, times=4)
    assert t.robot.x_m == before and t.status.mode is (Mode.PAUSED if mode == "pause" else Mode.IDLE)
    t.turn(lambda: command(takeover=False, deadman=False, operator="ada (words)")).turn(words, times=3)
    assert t.status.mode is Mode.TAKEOVER, "words that are said in a pause move the robot"


def test_after_a_stop_new_words_of_an_operator_whose_process_was_killed_move_the_robot():
    t = Turns().practise().turn(times=3)
    t.turn(words, times=3)
    t.loop.software_stop(True)
    t.turn(times=2)
    t.loop.software_stop(False)
    t.turn(words, times=2)
    assert t.status.authority == "policy", "nothing of before moves the robot"
    t.turn(lambda: command(takeover=False, deadman=False, operator="ada (words)"), words)
    assert t.status.operator_name == "ada (words)", "every new sentence lets go first"
