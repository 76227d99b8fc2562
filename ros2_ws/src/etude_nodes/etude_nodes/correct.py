"""`etude correct "a bit to the left"`: words of a person, carried out as an operator's commands are, from terminal or page."""

from __future__ import annotations

import argparse
import math
import os
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from builtin_interfaces.msg import Time
from etude_msgs import msg
from rclpy.node import Node

from actor.corrections import (
    DEVICE,
    STOPS,
    Motion,
    command_at,
    duration_s,
    impossible,
    listing,
    load_phrases,
    means_stop,
    told,
    understand,
)
from actor.teleop.command import STOP_BUTTON, TeleopCommand, TeleopError
from etude.status import Mode, PracticeStatus
from etude_nodes import convert, qos
from etude_nodes.process import EXIT_DONE, EXIT_REFUSED, configure_logging, middleware, open_run, spinning, user_name
from etude_nodes.teleop import command_to_message, named

PERIOD_S = 1.0 / 30.0
HAND_BACK_TIMES = 3
"""The word that gives the robot back may be lost on its way, so it is said more than once."""
MEET_S = 10.0
STOP_S = 3.0
OBEYED_S = 1.5
"""An actor that has not handed over the robot after this long does not."""
NOT_OBEYED = "the actor did not hand over the robot: its log says why"


class Speaker:
    """Carries out one instruction at a time, in a thread of its own, and hands the robot back.

    Words end when somebody takes over by hand, pauses practice or stops the robot: what was left of them does not move it
    afterwards. If this process dies meanwhile, the actor holds the robot after `actor.authority.STALE_AFTER_S`.
    """

    def __init__(
        self, publish: Callable[[TeleopCommand], None], status: Callable[[], PracticeStatus | None], actions: Sequence[str]
    ) -> None:
        """`status` tells the newest practice status, None when nothing is heard of the actor; `actions` are those of the task."""
        self._publish, self._status, self._actions = publish, status, tuple(actions)
        self._busy = threading.Lock()
        self._name, self._before, self._had = "", 0, False
        self.text = ""
        """What is being carried out."""

    def say(self, text: str, operator: str) -> str:
        """Begin to carry out `text`; what was understood.

        Raises:
            TeleopError: it is not understood, the robot cannot do it or not now, or the last instruction is not finished.
            ConfigError: the table of phrases makes no sense.
        """
        motions = understand(text, load_phrases())
        status = self._status()
        refusal = impossible(motions, self._actions) or why_not(status)
        if refusal:
            raise TeleopError(refusal)
        if not self._busy.acquire(blocking=False):
            raise TeleopError(f"{self.text!r} is still being carried out: wait for its end")
        assert status is not None
        self.text, self._name, self._before, self._had = text, named(operator, DEVICE), status.interventions, False
        threading.Thread(target=self._carry_out, args=(motions, operator, text), name="words", daemon=True).start()
        return told(motions)

    def stop(self, operator: str) -> None:
        """The software stop, as an operator's stop button is."""
        for _ in range(HAND_BACK_TIMES):
            self._publish(TeleopCommand(operator, takeover=False, deadman=False, buttons=(STOP_BUTTON,), at_s=time.monotonic()))
            time.sleep(PERIOD_S)

    def was_obeyed(self, timeout_s: float) -> bool:
        """Whether the actor has handed over the robot for the newest words; waits for it, `timeout_s` at most."""
        return _wait(lambda: self._has_had(self._status()), timeout_s)

    @property
    def busy(self) -> bool:
        return self._busy.locked()

    def _carry_out(self, motions: Sequence[Motion], operator: str, text: str) -> None:
        try:
            # lets go of what this operator had when an earlier process was killed, perhaps before a stop
            self._publish(command_at((), math.inf, operator, text, time.monotonic()))
            began_s, over = time.monotonic(), 0
            while over < HAND_BACK_TIMES:
                now_s = time.monotonic()
                ended = over or self._ended()
                command = command_at(motions, math.inf if ended else now_s - began_s, operator, text, now_s)
                over += not command.takeover
                self._publish(command)
                time.sleep(PERIOD_S)
        finally:
            self._busy.release()

    def _has_had(self, status: PracticeStatus | None) -> bool:
        if status is not None:
            mine = status.authority == "human" and status.operator_name == self._name
            self._had |= mine or status.interventions > self._before
        return self._had

    def _ended(self) -> bool:
        """Whether the robot is not moved by these words any more, because somebody took over, paused or stopped it."""
        status = self._status()
        if status is None:
            return False  # the actor may only be slow to tell; without it nothing moves
        given_up = self._has_had(status) and status.authority == "policy"
        taken = status.authority == "human" and status.operator_name != self._name
        return given_up or taken or status.mode is Mode.STOPPED


def why_not(status: PracticeStatus | None) -> str:
    """Why nobody's words can move the robot now; empty when they can."""
    if status is None:
        return "nothing was heard of the actor: is the run on, with the same ROS_DOMAIN_ID?"
    if status.mode.value in ("stopped", "evaluating"):
        return f"the robot is {status.mode.value}: words move nothing then"
    if status.authority == "human":
        return f"{status.operator_name} has control: words count when it is given back"
    if status.authority == "hold":  # after words the policy would go on, which is not what whoever lost the robot is told
        return f"the robot holds: {'; '.join(status.holding) or 'take over again, or resume practice'}"
    return ""


def publisher_of(node: Node, robot: str) -> Callable[[TeleopCommand], None]:
    """Publishes commands of device `words` for `robot`, from any thread."""
    commands = node.create_publisher(msg.TeleopCommand, qos.robot_topic(robot, qos.TELEOP_TOPIC), qos.TELEOP)

    def publish(command: TeleopCommand) -> None:
        now_ns = time.time_ns()
        stamp = Time(sec=now_ns // 10**9, nanosec=now_ns % 10**9)
        commands.publish(command_to_message(command, command.operator, DEVICE, stamp))

    return publish


def run_command(argv: Sequence[str]) -> int:
    """`etude correct`."""
    parser = argparse.ArgumentParser(
        prog="etude correct",
        description="Correct a run's robot in words: they become a short motion, through the safety filter, then the policy "
        "goes on. The steps are stored as a person's, with the words as their instruction.",
        epilog='examples:\n  etude correct "a bit to the left"\n  etude correct "down, then close the gripper"\n'
        "  etude correct --list\n\nThe words are those of robot_configs/phrases.yaml; add your own.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("words", nargs="*", help="what the robot should do")
    parser.add_argument("--list", action="store_true", help="show what is understood; nothing moves")
    parser.add_argument("--run", type=Path, default=Path("runs/latest"), help="run folder (default: %(default)s)")
    parser.add_argument("--operator", default=user_name(), help="who says it (default: %(default)s)")
    arguments = parser.parse_args(argv)
    table = load_phrases()
    if arguments.list:
        print(*listing(table), sep="\n")
        print("how much: " + ", ".join(f"{words} ×{factor:g}" for words, factor in table.scales.items()))
        print(f"the software stop: {', '.join(STOPS)}")
        return EXIT_DONE
    text = " ".join(arguments.words)
    motions = () if means_stop(text) else understand(text, table)  # before anything is looked for
    folder, config = open_run(arguments.run)
    domain = folder.root / "ros_domain_id"
    if "ROS_DOMAIN_ID" not in os.environ and domain.is_file():
        os.environ["ROS_DOMAIN_ID"] = domain.read_text(encoding="utf-8").strip()
    configure_logging()
    with middleware():
        node = Node("correct")
        heard: list[PracticeStatus] = []
        robot = config.robot_namespace
        topic = qos.robot_topic(robot, "practice_status")
        node.create_subscription(msg.PracticeStatus, topic, lambda m: heard.append(convert.status_from_message(m)), qos.latched())
        speaker = Speaker(publisher_of(node, robot), lambda: heard[-1] if heard else None, config.task.actions)
        with spinning(node):
            _wait(lambda: bool(heard) and node.count_subscribers(qos.robot_topic(robot, qos.TELEOP_TOPIC)) > 0, MEET_S)
            if not motions:
                return _stop(speaker, arguments.operator, heard)
            understood = speaker.say(text, arguments.operator)
            print(understood, flush=True)
            obeyed = speaker.was_obeyed(duration_s(motions) + 2.0)
            _wait(lambda: not speaker.busy, duration_s(motions) + 5.0)
            if not obeyed:
                print(NOT_OBEYED, file=sys.stderr)
                return EXIT_REFUSED
            _wait(lambda: heard[-1].authority != "human", 3.0)
            print(afterwards(heard[-1]))
    return EXIT_DONE


def afterwards(status: PracticeStatus) -> str:
    """What the robot does when words are over, for a person."""
    if status.authority == "policy" and status.mode in (Mode.FORWARD, Mode.BACKWARD):
        return "the policy goes on"
    return f"the robot holds: {'; '.join(status.holding) or status.mode.value}"


def _stop(speaker: Speaker, operator: str, heard: Sequence[PracticeStatus]) -> int:
    until_s = time.monotonic() + STOP_S
    while time.monotonic() < until_s:
        speaker.stop(operator)
        if heard and heard[-1].mode is Mode.STOPPED:
            print("the software stop is on; clear it on the page, or with `etude robot hold --release`")
            return EXIT_DONE
    print("the software stop was said and nobody confirms it: use the hardware's own stop", file=sys.stderr)
    return EXIT_REFUSED


def _wait(condition: Callable[[], bool], timeout_s: float) -> bool:
    end_s = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > end_s:
            return False
        time.sleep(0.02)
    return True
