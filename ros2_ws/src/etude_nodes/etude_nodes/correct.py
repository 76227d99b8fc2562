"""`etude correct "a bit to the left"`: words of a person, carried out as an operator's commands are, from terminal or page."""

from __future__ import annotations

import argparse
import getpass
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

from actor.corrections import DEVICE, command_at, duration_s, listing, load_phrases, told, understand
from actor.teleop.command import TeleopCommand, TeleopError
from etude.status import PracticeStatus
from etude_nodes import convert, qos
from etude_nodes.process import EXIT_DONE, EXIT_REFUSED, configure_logging, middleware, open_run, spinning
from etude_nodes.teleop import command_to_message, named

PERIOD_S = 1.0 / 30.0
HAND_BACK_TIMES = 3
"""The word that gives the robot back may be lost on its way, so it is said more than once."""
MEET_S = 10.0


class Speaker:
    """Carries out one instruction at a time, in a thread of its own, and hands the robot back.

    Words end when somebody else takes over or stops the robot: what was left of them does not move it afterwards. If this process
    dies meanwhile, the actor holds the robot after `actor.authority.STALE_AFTER_S`.
    """

    def __init__(self, publish: Callable[[TeleopCommand], None], status: Callable[[], PracticeStatus | None]) -> None:
        """`status` tells the newest practice status, None when nothing is heard of the actor."""
        self._publish, self._status = publish, status
        self._busy = threading.Lock()
        self.text = ""
        """What is being carried out."""

    def say(self, text: str, operator: str) -> str:
        """Begin to carry out `text`; what was understood.

        Raises:
            TeleopError: it is not understood, the robot cannot be moved now, or the last instruction is not finished.
            ConfigError: the table of phrases makes no sense.
        """
        motions = understand(text, load_phrases())
        refusal = why_not(self._status())
        if refusal:
            raise TeleopError(refusal)
        if not self._busy.acquire(blocking=False):
            raise TeleopError(f"{self.text!r} is still being carried out: wait for its end")
        self.text = text
        threading.Thread(target=self._carry_out, args=(motions, operator, text), name="words", daemon=True).start()
        return told(motions)

    @property
    def busy(self) -> bool:
        return self._busy.locked()

    def _carry_out(self, motions: Sequence, operator: str, text: str) -> None:
        try:
            began_s, over = time.monotonic(), 0
            while over < HAND_BACK_TIMES:
                now_s = time.monotonic()
                ended = over or self._taken_from(operator)
                command = command_at(motions, math.inf if ended else now_s - began_s, operator, text, now_s)
                over += not command.takeover
                self._publish(command)
                time.sleep(PERIOD_S)
        finally:
            self._busy.release()

    def _taken_from(self, operator: str) -> bool:
        """Whether somebody stopped the robot, or holds it who is not `operator` with these words."""
        status = self._status()
        if status is None:
            return False  # the actor may only be slow to tell; without it nothing moves
        other = status.authority == "human" and status.operator_name != named(operator, DEVICE)
        return other or status.mode.value == "stopped"


def why_not(status: PracticeStatus | None) -> str:
    """Why nobody's words can move the robot now; empty when they can."""
    if status is None:
        return "nothing was heard of the actor: is the run on, with the same ROS_DOMAIN_ID?"
    if status.mode.value in ("stopped", "evaluating"):
        return f"the robot is {status.mode.value}: words move nothing then"
    if status.authority == "human":
        return f"{status.operator_name} has control: words count when it is given back"
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
    parser.add_argument("--operator", default=getpass.getuser(), help="who says it (default: %(default)s)")
    arguments = parser.parse_args(argv)
    table = load_phrases()
    if arguments.list:
        print(*listing(table), sep="\n")
        print("how much: " + ", ".join(f"{words} ×{factor:g}" for words, factor in table.scales.items()))
        return EXIT_DONE
    text = " ".join(arguments.words)
    motions = understand(text, table)  # before anything is looked for
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
        speaker = Speaker(publisher_of(node, robot), lambda: heard[-1] if heard else None)
        with spinning(node):
            _wait(lambda: bool(heard) and node.count_subscribers(qos.robot_topic(robot, qos.TELEOP_TOPIC)) > 0, MEET_S)
            understood = speaker.say(text, arguments.operator)
            print(understood, flush=True)
            moved = _wait(lambda: any(one.authority == "human" for one in heard[-20:]), duration_s(motions) + 2.0)
            _wait(lambda: not speaker.busy, duration_s(motions) + 5.0)
            if not moved:
                print("the actor did not hand over the robot: its log says why", file=sys.stderr)
                return EXIT_REFUSED
            back = _wait(lambda: heard[-1].authority != "human", 3.0)
            print("the policy goes on" if back else f"the robot holds: {'; '.join(heard[-1].holding) or 'resume practice'}")
    return EXIT_DONE


def _wait(condition: Callable[[], bool], timeout_s: float) -> bool:
    end_s = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > end_s:
            return False
        time.sleep(0.02)
    return True
