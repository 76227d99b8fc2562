"""Who speaks to the robot: words are carried out once, end when somebody else has it, and are refused with a reason."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

pytest.importorskip("rclpy")
pytest.importorskip("etude_msgs")

from actor.corrections import command_at
from actor.teleop.command import TeleopCommand, TeleopError
from etude.status import Mode, PracticeStatus
from etude_nodes.correct import Speaker, afterwards

PRACTISING = PracticeStatus(Mode.FORWARD, "slide", 9, 1, 2, {}, {}, 3, 0.1, 10.0, 101.0, 0, 0, 0, 0, 0, 0.5)


class Robot:
    """What the actor says, and what it is told."""

    def __init__(self, status: PracticeStatus | None = PRACTISING) -> None:
        self.status, self.told = status, list[TeleopCommand]()
        self.speaker = Speaker(self.told.append, lambda: self.status, ("x", "y", "z"))

    def finish(self, wait_until: Callable[..., float]) -> None:
        wait_until(lambda: not self.speaker.busy, 5.0, "the words are carried out")


def test_words_are_carried_out_and_the_robot_is_given_back(wait_until) -> None:
    robot = Robot()
    assert robot.speaker.say("a bit to the left", "ada") == "to the left 12 mm (0.5 s)"
    with pytest.raises(TeleopError, match="'a bit to the left' is still being carried out"):
        robot.speaker.say("up", "ada")
    robot.finish(wait_until)
    assert not robot.told.pop(0).takeover, (
        "what a killed process of hers had before, perhaps when the robot was stopped, is let go"
    )
    moving = [command for command in robot.told if command.takeover]
    assert len(moving) > 8 and all(command.linear_m_s[1] > 0 and command.deadman for command in moving)
    assert {command.instruction for command in moving} == {"a bit to the left"}
    assert [command.takeover for command in robot.told[len(moving) :]] == [False] * 3, "given back, and not only once"


@pytest.mark.parametrize(
    "change",
    [{"authority": "human", "operator_name": "bob (gamepad)"}, {"mode": Mode.STOPPED}],
    ids=["somebody else takes over", "the robot is stopped"],
)
def test_words_end_when_somebody_else_has_the_robot(change: dict, wait_until) -> None:
    robot = Robot()
    robot.speaker.say("far to the left", "ada")
    wait_until(lambda: len(robot.told) > 2, 2.0, "the motion began")
    robot.status = replace(PRACTISING, authority="human", operator_name="ada (words)")
    wait_until(lambda: len(robot.told) > 6, 2.0, "the motion goes on while it is hers")
    assert all(command.takeover for command in robot.told[1:])
    robot.status = replace(PRACTISING, **change)
    count = len(robot.told)
    robot.finish(wait_until)
    assert [command.takeover for command in robot.told[count + 1 :]] == [False] * (len(robot.told) - count - 1)
    assert len(robot.told) <= count + 4, "what was left of the motion is dropped"


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        (None, "nothing was heard of the actor"),
        (replace(PRACTISING, mode=Mode.STOPPED), "the robot is stopped"),
        (replace(PRACTISING, mode=Mode.EVALUATING), "the robot is evaluating"),
        (replace(PRACTISING, authority="human", operator_name="bob (gamepad)"), "bob .gamepad. has control"),
        (replace(PRACTISING, authority="hold", holding=("the command of bob was lost",)), "the robot holds: the command of bob"),
    ],
)
def test_words_that_cannot_move_the_robot_say_why(status: PracticeStatus | None, reason: str) -> None:
    robot = Robot(status)
    with pytest.raises(TeleopError, match=reason):
        robot.speaker.say("up", "ada")
    assert robot.told == [] and not robot.speaker.busy


def test_words_for_what_the_task_does_not_move_are_refused_and_nobody_takes_over() -> None:
    robot = Robot()
    with pytest.raises(TeleopError, match="'close the gripper' takes gripper, and this task moves x, y, z alone"):
        robot.speaker.say("close the gripper", "ada")
    assert robot.told == []


def test_words_that_the_actor_dropped_are_over(wait_until) -> None:
    """A pause: the actor gives the robot back to nobody."""
    robot = Robot()
    robot.speaker.say("far to the left", "ada")
    assert not robot.speaker.was_obeyed(0.1)
    robot.status = replace(PRACTISING, authority="human", operator_name="ada (words)", interventions=1)
    assert robot.speaker.was_obeyed(0.1)
    robot.status = replace(PRACTISING, mode=Mode.PAUSED, interventions=1)
    count = len(robot.told)
    robot.finish(wait_until)
    assert len(robot.told) <= count + 4


def test_a_stop_is_said_as_the_stop_button_of_an_operator() -> None:
    robot = Robot()
    robot.speaker.stop("ada")
    assert len(robot.told) == 3 and all(one.buttons == ("stop",) and not one.takeover for one in robot.told)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({}, "the policy goes on"),
        ({"mode": Mode.PAUSED}, "the robot holds: paused"),
        ({"mode": Mode.STOPPED, "authority": "hold"}, "the robot holds: stopped"),
        ({"authority": "hold", "holding": ("the command of ada was lost",)}, "the robot holds: the command of ada was lost"),
    ],
)
def test_what_the_robot_does_afterwards_is_told_as_it_is(change: dict, told: str) -> None:
    assert afterwards(replace(PRACTISING, **change)) == told


def test_after_its_end_a_command_hands_back() -> None:
    assert not command_at((), float("inf"), "ada", "x", 0.0).takeover
