"""Fixtures of the actor's tests: a control loop on the point robot, run until a condition holds."""

from __future__ import annotations

import threading
import time

import pytest
from point_robot import PointPolicy, PointRobot, point_config

from actor.control_loop import ControlLoop
from etude.step import Step


class Bench:
    """A control loop with everything around it recorded. `run_until` runs it in a thread of its own."""

    def __init__(self, robot=None, policy=None, judge=None, config=None, evaluation_robot=None, **keywords):
        self.robot = robot or PointRobot()
        self.policy = policy or PointPolicy()
        self.steps: list[Step] = []
        self.help = []
        self.evaluations = []
        self.labels = []
        self.loop = ControlLoop(
            config or point_config(),
            self.robot,
            self.policy,
            judge,
            self.steps.append,
            first_segment=keywords.pop("first_segment", 1),
            seed=0,
            evaluation_robot=evaluation_robot,
            on_help=self.help.append,
            on_evaluation=self.evaluations.append,
            on_label=lambda segment, success: self.labels.append((segment, success)),
            **keywords,
        )
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self):
        self._thread = threading.Thread(target=self.loop.run, args=(self._stop,), daemon=True)
        self._thread.start()
        return self

    def until(self, condition, timeout_s=5.0):
        end_s = time.monotonic() + timeout_s
        while not condition():
            assert time.monotonic() < end_s, f"not reached in {timeout_s} s; status {self.loop.status()}"
            assert self._thread.is_alive(), "the control loop died"
            time.sleep(0.002)
        return self

    def stop(self):
        self._stop.set()
        if self._thread is not None:
            self._thread.join(5)
            assert not self._thread.is_alive()
        return self

    def practise(self, condition, timeout_s=5.0):
        """Start practice, wait for `condition`, stop; returns self."""
        self.loop.set_mode("practise")
        return self.start().until(condition, timeout_s).stop()

    def segments(self) -> list[list[Step]]:
        grouped: dict[int, list[Step]] = {}
        for step in self.steps:
            grouped.setdefault(step.segment, []).append(step)
        return list(grouped.values())


@pytest.fixture
def bench():
    benches = []

    def make(**keywords):
        benches.append(Bench(**keywords))
        return benches[-1]

    yield make
    for one in benches:
        one.stop()
