"""`etude classifier watch`: what a classifier says, live, about every step that an actor sends. It moves and stores nothing.

Steps and not camera topics, because they hold views and proprioception of one moment, and the truth in simulation.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Sequence
from pathlib import Path

from etude_msgs import msg
from rclpy.node import Node

from etude.robot import Judge
from etude.step import UNKNOWN, Step
from etude_nodes import convert, qos
from etude_nodes.process import middleware, spinning, stop_event_from_signals

BAR = 30


def line(step: Step, probability: float, threshold: float) -> str:
    """One step in words: a bar with the threshold marked, what the run's judge said, and the truth where it is known."""
    filled = 0 if math.isnan(probability) else round(probability * BAR)
    bar = "".join("|" if i == round(threshold * BAR) else "#" if i < filled else "." for i in range(BAR + 1))
    verdict = "no answer" if math.isnan(probability) else "success" if probability >= threshold else "-"
    truth = "" if step.success_truth == UNKNOWN else f", truth {'success' if step.success_truth else '-'}"
    return f"{step.phase:8} {step.segment:5}.{step.index:<4} [{bar}] {probability:.3f} {verdict}{truth}"


class Watcher(Node):
    """Scores every step of one robot, newest first come, and gives each line to `tell`."""

    def __init__(self, namespace: str, judge: Judge, tell: Callable[[str], None] = print) -> None:
        super().__init__("etude_watch")
        self._judge, self._tell = judge, tell
        self.create_subscription(msg.Step, qos.robot_topic(namespace, "steps"), self._on_step, qos.STEPS)

    def _on_step(self, message: msg.Step) -> None:
        try:
            step = convert.step_from_message(message)
            if step.is_first:
                self._judge.forget()
            probability = self._judge.probability(step.observation, step.phase)
        except ValueError as error:  # a malformed message, or another robot's cameras
            self.get_logger().error(str(error), throttle_duration_sec=5.0)
            return
        self._tell(line(step, probability, self._judge.threshold(step.phase)))


def watch_command(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="etude classifier watch",
        description="Print what a classifier says about every step that a running actor sends, until Ctrl-C.",
        epilog="examples:\n  etude classifier watch --classifier data/classifiers/slide\n"
        "  etude classifier watch --classifier adapted --robot robot",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--classifier", type=Path, required=True, help="folder with classifier.json")
    parser.add_argument("--robot", default="robot", help="the run's robot_namespace (default: %(default)s)")
    arguments = parser.parse_args(argv)
    from reward_classifiers.judge import load_judge

    judge = load_judge(arguments.classifier)
    stop = stop_event_from_signals()
    with middleware():
        node = Watcher(arguments.robot, judge, lambda text: print(text, flush=True))
        print(f"classifier {judge.name} waits for steps on {qos.robot_topic(arguments.robot, 'steps')}", flush=True)
        with spinning(node):
            stop.wait()
    return 0
