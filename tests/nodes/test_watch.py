"""A classifier watches the steps of a running actor."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

pytest.importorskip("rclpy")
pytest.importorskip("etude_msgs")

from etude_msgs import msg
from rclpy.node import Node

from etude.step import Source, Step
from etude_nodes import convert, qos
from etude_nodes.process import middleware, spinning
from etude_nodes.watch import Watcher, line

STEP = Step(
    actor_id="a",
    sequence=1,
    segment=3,
    index=4,
    stamp_ns=1,
    phase="forward",
    task="dot",
    instruction="",
    observation={"state": np.array([0.75], np.float32)},
    action=np.zeros(1, np.float32),
    policy_action=np.zeros(1, np.float32),
    reward=0.0,
    is_first=False,
    is_last=False,
    is_terminal=False,
    source=Source.POLICY,
    policy_version=0,
    success_truth=1,
)


class StateJudge:
    name = "told:0"

    def probability(self, observation, phase: str) -> float:
        return float(observation["state"][0])

    def doubt(self, observation, phase: str) -> float:
        return 0.0

    def threshold(self, phase: str) -> float:
        return 0.5

    def forget(self) -> None:
        pass


def test_a_line_says_probability_verdict_and_truth():
    assert line(STEP, 0.75, 0.5).endswith("0.750 success, truth success")
    unknown = dataclasses.replace(STEP, success_truth=-1)
    assert line(unknown, 0.2, 0.5).endswith("0.200 -") and "#" * 6 + "." in line(unknown, 0.2, 0.5)
    assert line(unknown, float("nan"), 0.5).endswith("nan no answer")


def test_steps_of_a_robot_are_scored(domain, wait_until):
    told: list[str] = []
    with middleware():
        watcher, sender = Watcher("robot", StateJudge(), told.append), Node("sender")
        publisher = sender.create_publisher(msg.Step, qos.robot_topic("robot", "steps"), qos.STEPS)
        with spinning(watcher):
            wait_until(lambda: publisher.get_subscription_count() > 0, 20.0, "the watcher is found")
            publisher.publish(convert.step_to_message(STEP))
            wait_until(lambda: bool(told), 10.0, "the step is told about")
        sender.destroy_node()
    assert told == [line(STEP, 0.75, 0.5)]
