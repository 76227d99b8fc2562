"""A success classifier in another process or on another machine: the node that judges, and the judge that asks it.

The control loop never waits: questions go out from a thread of their own (`reward_classifiers.worker.DeadlineJudge`), and what is
late, lost or refused counts as the recipe says. One robot per node: it remembers the last frames of one attempt.
"""

from __future__ import annotations

import argparse
import contextlib
import math
import threading
import time
import uuid
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from etude_msgs import srv
from rclpy.node import Node

from etude.config import ClassifierConfig
from etude.robot import Judge
from etude.specs import PHASES, Observation
from etude_nodes import convert
from etude_nodes.diagnostics import Condition, tell_every_second
from etude_nodes.parameters import fact
from etude_nodes.process import middleware, spinning, stop_event_from_signals
from reward_classifiers.files import ClassifierError
from reward_classifiers.judge import NO_ANSWER
from reward_classifiers.worker import DeadlineJudge

FIRST_ANSWER_S = 20.0
TIMES_KEPT = 1000


def service_name(name: str) -> str:
    """``/<name>/judge_frame``."""
    return f"/{name.strip('/')}/judge_frame"


class RewardNode(Node):
    """Answers one question after another with `judge`."""

    def __init__(self, name: str, judge: Judge) -> None:
        super().__init__("reward")
        self._judge, self._attempt = judge, ""
        self._answered = self._refused = 0
        self._slowest_s, self._last_error = 0.0, ""
        fact(self, "service", service_name(name), "service that judges frames")
        tell_every_second(self, f"reward/{name.strip('/')}", self.condition)
        self.create_service(srv.JudgeFrame, service_name(name), self._on_frame)

    def condition(self) -> Condition:
        """For ``/diagnostics``: since the last one, the slowest answer and the newest refusal."""
        slowest_ms, self._slowest_s = 1e3 * self._slowest_s, 0.0
        error, self._last_error = self._last_error, ""
        values = {"judge": self._judge.name, "answered": self._answered, "refused": self._refused, "slowest_ms": slowest_ms}
        return Condition("warn", error, values) if error else Condition("ok", "answers", values)

    def _on_frame(self, request: Any, response: Any) -> Any:
        """An empty observation asks only who judges, and from which probability on."""
        judge, phase, began_s = self._judge, request.phase, time.monotonic()
        response.frame, response.probability, response.doubt = request.frame, math.nan, 0.0
        try:
            if phase not in PHASES:
                raise ClassifierError(f"phase {phase!r} is not known: use {' or '.join(PHASES)}")
            if request.observation:
                if request.attempt != self._attempt:
                    self._attempt = request.attempt
                    judge.forget()
                observation = {array.key: convert.array_from_message(array) for array in request.observation}
                response.probability = float(judge.probability(observation, phase))
                response.doubt = float(judge.doubt(observation, phase))
            response.judge, response.threshold = judge.name, float(judge.threshold(phase))
            self._answered += 1
            self._slowest_s = max(self._slowest_s, time.monotonic() - began_s)
        except ValueError as error:  # a malformed message, other cameras, an endpoint that is down
            self.get_logger().error(str(error), throttle_duration_sec=5.0)
            response.error = self._last_error = str(error)
            self._refused += 1
        return response


class ServiceJudge:
    """`etude.robot.Judge` that asks a `RewardNode` and answers at once, see `DeadlineJudge`.

    A version that is new there judges from the attempt after the one in which it was first heard of; its answers before that are
    dropped, so that every attempt is judged by one version, the one that its steps name.
    """

    def __init__(self, node: Node, service: str, deadline_s: float, missed: float = NO_ANSWER) -> None:
        """Raises ClassifierError when nobody answers."""
        self._asker = _Asker(node, service, deadline_s)
        self._asker.meet(FIRST_ANSWER_S)
        self.name, self._thresholds = self._asker.name, self._asker.thresholds
        self._slow = DeadlineJudge(self._asker, deadline_s, missed)

    def probability(self, observation: Observation, phase: str) -> float:
        return self._slow.probability(observation, phase)

    def doubt(self, observation: Observation, phase: str) -> float:
        return self._slow.doubt(observation, phase)

    def threshold(self, phase: str) -> float:
        return self._thresholds[phase]

    def forget(self) -> None:
        self.name, self._thresholds = self._asker.accept()
        self._slow.forget()

    def counts(self) -> dict[str, float]:
        """Answers, misses and the way there and back in milliseconds, for logs and diagnostics."""
        times_ms = 1000.0 * np.array(self._asker.times_s or [math.nan])
        return {
            "judge_answers": self._slow.answered,
            "judge_missed_deadlines": self._slow.missed_deadlines,
            "judge_failures": self._slow.failures,
            "judge_latency_p50_ms": float(np.percentile(times_ms, 50)),
            "judge_latency_p99_ms": float(np.percentile(times_ms, 99)),
        }

    def close(self) -> None:
        self._slow.close()


class _Asker:
    """The blocking half, in the thread of the `DeadlineJudge`."""

    def __init__(self, node: Node, service: str, timeout_s: float) -> None:
        self.times_s: deque[float] = deque(maxlen=TIMES_KEPT)
        self.name = ""
        self.thresholds: dict[str, float] = {}
        self._heard: tuple[str, dict[str, float]] = ("", {})
        self._client = node.create_client(srv.JudgeFrame, service_name(service))
        self._timeout_s = timeout_s
        self._caller = uuid.uuid4().hex[:12]
        self._attempt = self._frame = 0
        self._doubt = 0.0

    def meet(self, timeout_s: float) -> None:
        """Who judges there. Raises ClassifierError when nobody answers."""
        if not self._client.wait_for_service(timeout_sec=timeout_s):
            raise ClassifierError(self._nobody())
        self._heard = self._introduction(timeout_s)
        self.accept()

    def accept(self) -> tuple[str, dict[str, float]]:
        """Another attempt begins: what was heard of last judges it."""
        self.name, self.thresholds = self._heard
        return self._heard

    def probability(self, observation: Observation, phase: str) -> float:
        """Raises ClassifierError when it is late, refused or lost."""
        self._frame += 1
        arrays = [convert.array_to_message(key, value) for key, value in observation.items()]
        answer = self._ask(arrays, phase, self._timeout_s)
        if answer.judge != self.name:
            if answer.judge != self._heard[0]:
                self._heard = self._introduction(self._timeout_s)
            return NO_ANSWER
        self._doubt = float(answer.doubt)
        return float(answer.probability)

    def doubt(self, observation: Observation, phase: str) -> float:
        return self._doubt

    def threshold(self, phase: str) -> float:
        return self.thresholds[phase]

    def forget(self) -> None:
        self._attempt += 1
        self._doubt = 0.0

    def _introduction(self, timeout_s: float) -> tuple[str, dict[str, float]]:
        answers = {phase: self._ask([], phase, timeout_s) for phase in PHASES}
        return answers[PHASES[0]].judge, {phase: float(answer.threshold) for phase, answer in answers.items()}

    def _ask(self, observation: list[Any], phase: str, timeout_s: float) -> Any:
        if not self._client.service_is_ready():
            raise ClassifierError(self._nobody())
        request = srv.JudgeFrame.Request(
            observation=observation, phase=phase, attempt=f"{self._caller}-{self._attempt}", frame=self._frame
        )
        done = threading.Event()
        started = time.monotonic()
        future = self._client.call_async(request)
        future.add_done_callback(lambda _: done.set())
        if not done.wait(timeout_s):
            self._client.remove_pending_request(future)
            raise ClassifierError(f"the reward node on {self._client.srv_name} has not answered within {timeout_s:g} s")
        answer = future.result()
        if answer.error:
            raise ClassifierError(f"the reward node on {self._client.srv_name} refuses: {answer.error}")
        if observation:
            self.times_s.append(time.monotonic() - started)
        return answer

    def _nobody(self) -> str:
        return (
            f"no reward node answers on {self._client.srv_name}: start one there with `etude classifier serve`, with the same "
            "ROS_DOMAIN_ID, or leave recipe.reward.classifier.service empty"
        )


@contextlib.contextmanager
def remote_judge(config: ClassifierConfig) -> Iterator[ServiceJudge]:
    """The judge behind `config.service`, its node spinning until the block ends. Raises ClassifierError when nobody answers."""
    assert config.deadline_s is not None
    node = Node("etude_judge_client")
    with spinning(node):
        judge = ServiceJudge(node, config.service, config.deadline_s, NO_ANSWER if config.missed == "no_vote" else 0.0)
        try:
            yield judge
        finally:
            judge.close()


def serve_command(argv: Sequence[str]) -> int:
    """`etude classifier serve`: a classifier for a robot on another machine."""
    parser = argparse.ArgumentParser(
        prog="etude classifier serve",
        description="Judge frames for a robot whose run has recipe.reward.classifier.service, until Ctrl-C. A newer version "
        "that is written into the folder judges from the next attempt on.",
        epilog="examples:\n  etude classifier serve --classifier data/classifiers/slide\n"
        "  etude practice run --task slide recipe.reward.classifier.service=reward recipe.reward.classifier.deadline_s=0.5",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--classifier", type=Path, required=True, help="folder with classifier.json")
    parser.add_argument("--name", default="reward", help="recipe.reward.classifier.service of the run (default: %(default)s)")
    arguments = parser.parse_args(argv)
    from reward_classifiers.reloading import ReloadingJudge

    judge = ReloadingJudge(arguments.classifier)
    stop = stop_event_from_signals()
    with middleware():
        node = RewardNode(arguments.name, judge)
        print(f"classifier {judge.name} answers on {service_name(arguments.name)}", flush=True)
        with spinning(node):
            stop.wait()
    judge.close()
    return 0
