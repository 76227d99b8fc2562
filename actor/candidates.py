"""Candidates of an external policy for the newest observation, asked for in a thread so that the control loop can hold meanwhile.

One request is under way at a time. An answer that comes late is used at the next control step: the robot has held since.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from etude.config import RunConfig
from etude.policy_server import PolicyServerClient, PolicyServerError, ServerInfo
from etude.specs import Observation

log = logging.getLogger("etude.policy")

RETRY_S = 1.0
"""Pause after a failed request."""
FRESH_S = 1.0
"""An answer that lay here for longer is not used: the scene may have changed during a pause."""


Shape = tuple[int, int]


class _Question(NamedTuple):
    observation: Observation
    phase: str
    shape: Shape


class _Answer(NamedTuple):
    phase: str
    action: np.ndarray
    arrived_s: float


class CandidateFeed:
    """`wait` and `take` from the control loop. The thread starts with the first question and ends with `close`.

    Attributes:
        late: how often `wait` had to say that there is no answer yet.
        trouble: why the newest request failed, empty when it did not.
    """

    def __init__(self, client: PolicyServerClient, instructions: Mapping[str, str], wait_s: float, seed: int = 0) -> None:
        """`wait_s` is how long a control step may wait for its candidates."""
        self._client, self._instructions, self._wait_s = client, dict(instructions), wait_s
        self._seeds = np.random.default_rng([seed, 0xFEED])
        self._changed = threading.Condition()
        self._question: _Question | None = None
        self._answer: _Answer | None = None
        self._told = False  # whether `wait` has said so
        self._info: ServerInfo | None = None
        self._closed = False
        self._thread: threading.Thread | None = None
        self.late = 0
        self.trouble = ""

    @classmethod
    def of(cls, config: RunConfig, seed: int = 0) -> CandidateFeed | None:
        """That of the run's policy server, or None when its policy is not external."""
        policy = config.recipe.policy
        if policy.kind != "external":
            return None
        client = PolicyServerClient(policy.server, policy.server_timeout_s)
        return cls(client, config.task.instructions, 0.5 / config.robot.control_rate_hz, seed)

    def wait(self, observation: Observation, phase: str, shape: Shape) -> bool:
        """Ask for candidates ``(K, d)`` of `shape` at `observation` unless a question is open; True when they are there.

        An answer is for one `take` that follows: when `wait` has told of it and is called again, it asks anew.
        """
        with self._changed:
            answer = self._answer
            if answer is None or self._told or not _fits(answer, phase, shape) or time.monotonic() - answer.arrived_s > FRESH_S:
                self._answer, self._told = None, False
                if self._question is None or self._question.phase != phase or self._question.shape != shape:
                    self._question = _Question({name: array.copy() for name, array in observation.items()}, phase, shape)
                    self._start()
                    self._changed.notify_all()
                self._changed.wait_for(lambda: self._answer is not None or self._closed, self._wait_s)
            self._told = self._answer is not None
            self.late += not self._told
            return self._told

    def take(self, phase: str, shape: Shape) -> np.ndarray | None:
        """The candidates that `wait` told of, once; None when there are none for `phase`."""
        with self._changed:
            answer, self._answer = self._answer, None
        return answer.action if answer is not None and _fits(answer, phase, shape) else None

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _start(self) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="candidates", daemon=True)
            self._thread.start()

    def _work(self) -> None:
        while True:
            with self._changed:
                while self._question is None and not self._closed:
                    self._changed.wait()
                question = self._question
                if self._closed or question is None:
                    return
            action = self._ask(question)
            with self._changed:
                if self._question is question:  # else another direction is asked for by now
                    self._question = None
                    self._answer = None if action is None else _Answer(question.phase, action, time.monotonic())
                self._changed.notify_all()
                if action is None and not self._closed:
                    self._changed.wait_for(lambda: self._closed, RETRY_S)

    def _ask(self, question: _Question) -> np.ndarray | None:
        try:
            if self._info is None:
                self._info = self._client.require(tuple(question.observation), question.shape[1])
            rows = {name: array[None] for name, array in question.observation.items()}
            seed = int(self._seeds.integers(1 << 32))
            samples = self._client.sample(self._info, rows, [self._instructions[question.phase]], question.shape[0], seed)
        except PolicyServerError as error:
            if not self.trouble:
                log.error("%s; the robot holds until it answers", error)
            self.trouble = str(error)
            return None
        self.trouble = ""
        return samples.action[:, 0]


def _fits(answer: _Answer, phase: str, shape: Shape) -> bool:
    return answer.phase == phase and answer.action.shape == shape
