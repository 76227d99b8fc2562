"""The help desk in practice: what a request carries, repetition, cooldown, answers, and labels by bisection."""

from __future__ import annotations

import itertools
import math
import time

import cv2
import numpy as np
import pytest
from point_robot import PixelJudge, PointPolicy, PointRobot, point_config

from actor import practice
from actor.control_loop import ControlLoop
from actor.help import Attempt
from actor.help.desk import HelpDesk
from etude.config import ConfigError
from etude.status import Mode

ASKS_SOON = {"help__timeouts_before_help": 3}


def waiting(bench, **changes):
    """A robot that stands still and waits for an answer."""
    b = bench(policy=PointPolicy(0.0), config=point_config(**ASKS_SOON, **changes))
    b.robot.x_m = 0.0
    b.loop.set_mode("practise")
    b.start().until(lambda: b.help)
    return b


# --- requests -------------------------------------------------------------------------------------------------------


def test_a_request_carries_picture_phase_time_and_what_can_be_answered(bench):
    config = point_config(reward__kind="classifier", run__observation="pixels", **ASKS_SOON)
    b = bench(robot=PointRobot(pixels=True), policy=PointPolicy(0.0), judge=PixelJudge(), config=config)
    b.robot.x_m = 0.0
    b.practise(lambda: b.help)
    request = b.help[0]
    assert request.phase == "forward", "the direction that timed out, not the next one"
    assert abs(request.stamp_ns / 1e9 - time.time()) < 10
    assert request.answers == ("reset", "continue", "skip", "take_over", "stop") and request.question == ""
    picture = cv2.imdecode(np.frombuffer(request.image_jpeg, np.uint8), cv2.IMREAD_COLOR)
    assert picture.shape == (8, 8, 3) and picture.max() > 100
    assert "image_jpeg" not in request.to_json()


def test_a_request_that_nobody_answers_is_repeated_at_rising_levels(bench):
    b = waiting(bench, help__escalate_after_s=0.03)
    b.until(lambda: len(b.help) >= 4)
    time.sleep(0.1)
    b.stop()
    assert [(request.id, request.level, request.open) for request in b.help] == [(1, level, True) for level in range(4)]
    assert b.loop.status().help_requests == 1


def test_the_same_reason_is_not_asked_about_again_within_the_cooldown(bench):
    b = waiting(bench, help__cooldown_s=30.0)
    b.loop.resolve_help("continue", "Ada")
    b.until(lambda: len(b.help) > 2)
    assert "3 backward attempts" in b.help[2].reason, "another reason"
    b.loop.resolve_help("continue", "Ada")
    b.until(lambda: b.loop.status().segment > 25)
    assert len(b.help) == 4
    b.robot.lost = True
    b.until(lambda: len(b.help) > 4)
    assert "left the table" in b.help[4].reason, "without its object the robot cannot go on"


@pytest.mark.parametrize(
    ("answer", "mode"), [("take_over", Mode.PAUSED), ("stop", Mode.IDLE), ("continue", Mode.FORWARD), ("skip", Mode.FORWARD)]
)
def test_what_answers_lead_to(bench, answer, mode):
    b = waiting(bench)
    b.until(lambda: b.loop.status().mode is Mode.AWAITING_HELP)
    phase = b.loop.counters()["practice"]["phase"]
    b.policy.speed = 0.001
    b.policy.delay_s = 0.05
    assert b.loop.resolve_help(answer, "Ada").accepted
    b.until(lambda: len(b.help) > 1)
    assert not b.help[1].open and b.help[1].meanwhile == f"Answered by Ada: {answer}." and not b.help[1].answers
    if mode is not Mode.FORWARD:
        b.until(lambda: b.loop.status().mode is mode)
        return
    other = "backward" if phase == "forward" else "forward"
    b.until(lambda: b.loop.counters()["practice"]["phase"] == (other if answer == "skip" else phase))


def test_practice_goes_on_beside_a_request_which_is_withdrawn_when_the_robot_gets_on(bench):
    b = waiting(bench, help__meanwhile="practise")
    assert "goes on practising" in b.help[0].meanwhile
    moves = len(b.robot.actions)
    b.until(lambda: len(b.robot.actions) > moves + 20)
    assert b.loop.status().mode in (Mode.FORWARD, Mode.BACKWARD) and len(b.help) == 1
    b.policy.speed = 1.0
    b.until(lambda: len(b.help) > 1)
    assert not b.help[1].open and "Withdrawn" in b.help[1].meanwhile


def test_beside_a_request_a_lost_object_makes_it_hold(bench):
    b = waiting(bench, help__meanwhile="practise")
    b.robot.lost = True
    b.until(lambda: len(b.help) > 1)
    assert b.help[1].id == 1 and "left the table" in b.help[1].reason and "holds" in b.help[1].meanwhile
    b.until(lambda: b.loop.status().mode is Mode.AWAITING_HELP)
    b.robot.lost = False
    assert b.loop.resolve_help("reset", "Ada").accepted
    b.until(lambda: b.loop.status().mode is not Mode.AWAITING_HELP)


def test_a_fault_that_lasts_is_told_to_a_person_and_withdrawn_when_it_is_over(bench):
    b = bench(policy=PointPolicy(0.0), config=point_config(help__ask_when_held_s=0.2))
    b.loop.set_mode("practise")
    b.start().until(lambda: b.loop.status().segment > 1)
    assert not b.help, "nothing holds the robot yet"
    b.robot.faults = ("force at the tool is 43 N, limit 30 N",)
    b.until(lambda: b.help)
    assert "cannot move: robot fault: force at the tool is 43 N" in b.help[0].reason and b.help[0].open
    assert "goes on by itself" in b.help[0].meanwhile
    moves = len(b.robot.actions)
    b.robot.faults = ()
    b.until(lambda: len(b.help) > 1)
    assert not b.help[1].open and "Withdrawn" in b.help[1].meanwhile
    b.until(lambda: len(b.robot.actions) > moves + 5)


def test_a_fault_that_is_answered_and_not_mended_is_asked_about_again_after_as_long(bench):
    b = bench(policy=PointPolicy(0.0), config=point_config(help__ask_when_held_s=0.2))
    b.robot.faults = ("the gripper is stuck",)
    b.loop.set_mode("practise")
    b.start().until(lambda: b.help)
    answered_s = time.monotonic()
    assert b.loop.resolve_help("continue", "Ada").accepted
    b.until(lambda: len(b.help) > 2)
    assert b.help[2].id == 2 and "the gripper is stuck" in b.help[2].reason
    assert time.monotonic() - answered_s > 0.1


def test_whoever_answers_late_is_not_asked_again_at_once(bench):
    b = bench(policy=PointPolicy(0.0), config=point_config(help__ask_when_held_s=0.3))
    b.robot.faults = ("the gripper is stuck",)
    b.loop.set_mode("practise")
    b.start().until(lambda: b.help)
    time.sleep(0.6)
    assert b.loop.resolve_help("continue", "Ada").accepted
    b.until(lambda: len(b.help) > 1)
    answered_s = time.monotonic()
    b.until(lambda: len(b.help) > 2)
    assert b.help[2].id == 2 and time.monotonic() - answered_s > 0.2


def test_a_fault_that_is_over_by_itself_leaves_the_count_of_failed_attempts_as_it_is():
    told, state = [], practice.advance(practice.PracticeState(), practice.Start())
    desk = HelpDesk(point_config(help__timeouts_before_help=2, help__ask_when_held_s=1.0), True, told.append, lambda labels: None)

    def apply(event: practice.Event | None) -> None:
        nonlocal state
        assert event is not None
        before, state = state, practice.advance(state, event)
        desk.follow(before, state, event, 0)

    failed = Attempt(1, "forward", False, 0.1)
    assert desk.after_attempt(failed, None) is None
    assert desk.held(("force at the tool",), "forward", 10.0) is None
    desk.held(("force at the tool",), "forward", 10.9)
    apply(desk.held(("force at the tool",), "forward", 11.0))
    apply(desk.held((), "forward", 11.1))
    assert "Withdrawn" in told[-1].meanwhile and not told[-1].open
    asked = desk.after_attempt(failed, None)
    assert isinstance(asked, practice.AskHelp) and "2 forward attempts timed out" in asked.reason


def test_whoever_wants_to_be_asked_nothing_is_not_asked_about_faults(bench):
    b = bench(policy=PointPolicy(0.0), config=point_config(help__kind="never", help__ask_when_held_s=0.05))
    b.robot.faults = ("the gripper is stuck",)
    b.loop.set_mode("practise")
    b.start().until(lambda: b.loop.status().holding)
    time.sleep(0.3)
    assert not b.help


def test_a_task_whose_conditions_lead_nowhere_is_refused():
    config = point_config()
    forward = config.task.forward.model_copy(update={"needs": ("left",), "undoes": ("left",), "leads_to": ("gone",)})
    backward = config.task.backward.model_copy(update={"needs": ("gone",), "leads_to": ("left",)})
    config = config.model_copy(update={"task": config.task.model_copy(update={"forward": forward, "backward": backward})})
    with pytest.raises(ConfigError, match=r"task point: forward.leads_to: no task undoes 'gone'"):
        ControlLoop(config, PointRobot(), PointPolicy(), None, print, first_segment=1, seed=0)


# --- labels ---------------------------------------------------------------------------------------------------------

PAINT = {"help__kind": "paint", "help__seed_steps": 30, "help__steps_before_asking": 5}


def labelled(bench, stuck_step, **changes):
    """A robot that paint has ask at the end of the seed steps; all steps from the `stuck_step`-th on count as stuck."""
    labels = []
    b = bench(policy=PointPolicy(0.01), config=point_config(**PAINT, **changes), on_stuck_labels=labels.append)
    b.loop.set_mode("practise")
    b.start().until(lambda: b.help)
    places = [(step.segment, step.index) for step in b.steps[:30]]
    while b.help[-1].question:
        asked = len(b.help)
        segment, index = (int(word) for word in b.help[-1].question.replace(",", "").split() if word.isdigit())
        stuck = stuck_step is not None and (segment, index) >= places[stuck_step]
        assert b.loop.resolve_help("stuck" if stuck else "not_stuck", "Ada").accepted
        b.until(lambda: len(b.help) > asked)  # noqa: B023
    return b, labels, places


@pytest.mark.parametrize("stuck_step", [0, 7, 25, None])
def test_a_person_labels_by_bisection_and_then_resets(bench, stuck_step):
    b, labels, places = labelled(bench, stuck_step)
    questions = [request for request in b.help if request.question]
    assert len(questions) <= math.ceil(math.log2(len(places) + 1)) + 1
    assert len(labels) == 1
    assert labels[0].first == places[0]
    assert labels[0].stuck_from == (None if stuck_step is None else places[stuck_step])
    assert labels[0].last >= places[-1], "the newest state is labelled too"
    assert b.help[-1].open and b.help[-1].answers[0] == "reset"
    assert b.loop.resolve_help("reset", "Ada").accepted
    b.until(lambda: not b.help[-1].open)
    assert b.robot.resets and b.loop.status().help_requests == 1


def test_practice_beside_a_request_adds_nothing_to_its_search(bench):
    b, labels, places = labelled(bench, 7, help__meanwhile="practise")
    assert [request.id for request in b.help] == [1] * len(b.help)
    assert len(labels) == 1 and labels[0].first == places[0] and labels[0].stuck_from == places[7]
    newest = next(request for request in b.help if request.question.startswith("Question 1:"))
    assert "attempt {}, step {},".format(*labels[0].last) in newest.question, "the newest state when it was asked"


def test_waiting_for_a_policy_server_adds_no_states_to_the_search(bench):
    class Late(PointPolicy):
        """Ready at every third question."""

        questions = itertools.count(1)

        def prepare(self, observation, phase):
            return next(self.questions) % 3 == 0

    b = bench(policy=Late(0.3), config=point_config(**PAINT))
    b.loop.set_mode("practise")
    b.start().until(lambda: b.help)
    places = [state.place for state in b.loop._desk._searched]
    assert len(places) >= 30 and len(set(places)) == len(places)


def test_labels_need_an_open_question(bench):
    b = waiting(bench)
    answer = b.loop.resolve_help("stuck", "Ada")
    assert not answer.accepted and "there is no answer 'stuck'; use 'reset'" in answer.message


def test_an_alarm_of_the_policy_is_asked_about_some_steps_later(bench):
    b = bench(policy=PointPolicy(0.01), config=point_config(**{**PAINT, "help__seed_steps": 0}))
    b.loop.set_mode("practise")
    b.start().until(lambda: len(b.steps) > 20)
    assert not b.help
    b.policy.irreversible = 0.9
    steps = len(b.steps)
    b.until(lambda: b.help)
    assert "could not undo" in b.help[0].reason and len(b.steps) - steps >= 4


def test_in_headless_simulation_the_scripted_helper_labels_by_the_truth(bench):
    labels = []
    config = point_config(**PAINT, run__headless=True, help__scripted_answer_delay_s=0.0)
    b = bench(policy=PointPolicy(0.01), config=config, on_stuck_labels=labels.append)
    b.robot.lost = True
    b.practise(lambda: labels and b.robot.resets)
    assert labels[0].stuck_from == labels[0].first == (1, 0)
