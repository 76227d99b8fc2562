"""Between two processes over ROS 2 on loopback: steps until they are durable, weights until they fly, what publishing costs.

The measuring process is the actor's side with the project's own nodes, outbox and policy runner; the other process is
`benchmarks.learner_side`.
"""

from __future__ import annotations

import contextlib
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.result import Result
from etude.config import CONFIG_ROOT, load_run_config
from etude.specs import ActionSpec, ObservationSpec
from etude.step import Source, Step

if TYPE_CHECKING:
    from actor.policy_runner import PolicyRunner

OBSERVATION = ObservationSpec(tuple(f"s{i}_m" for i in range(20)), {"front": (128, 128), "wrist": (128, 128)})
ACTION = ActionSpec(("x", "y", "z", "gripper"), (0.03, 0.03, 0.03, 1.0))
PARAMETERS = 5_000_000
STEPS = 3000
SEGMENT = 50
RUN_CONFIG = CONFIG_ROOT / "runs" / "demo_state.yaml"


class LearnerSide:
    """The other process. `call` sends one command line and returns its answer's words."""

    def __init__(self, folder: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.learner_side", str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.answer("ready")

    def call(self, *words: object) -> list[str]:
        assert self._process.stdin is not None
        self._process.stdin.write(" ".join(map(str, words)) + "\n")
        self._process.stdin.flush()
        return self.answer(str(words[0]))

    def answer(self, to: str) -> list[str]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline().split()
        if not line or line[0] != to:
            raise RuntimeError(f"the learner's side answered {' '.join(line) or 'nothing'} to {to!r}")
        return line[1:]

    def close(self) -> None:
        with contextlib.suppress(BrokenPipeError):
            self._process.communicate("quit\n", timeout=20)


@contextlib.contextmanager
def two_processes() -> Iterator[tuple]:
    """(actor node, policy runner, learner's side), talking in a ROS domain of their own."""
    from actor.outbox import Outbox
    from actor.policy_runner import PolicyRunner
    from etude_nodes.actor_node import ActorNode
    from etude_nodes.policy_inbox import PolicyInbox
    from etude_nodes.practice import choose_domain
    from etude_nodes.process import middleware, spinning

    os.environ.setdefault("ROS_DOMAIN_ID", str(choose_domain(f"bench-{os.getpid()}")))
    with tempfile.TemporaryDirectory(prefix="etude-bench-") as name:
        folder = Path(name)
        side = LearnerSide(folder)
        try:
            with middleware():
                runner = PolicyRunner()
                outbox = Outbox(folder / "outbox.sqlite")
                node = ActorNode(load_run_config(RUN_CONFIG), outbox, PolicyInbox(runner), ())
                node.serve(None)  # type: ignore[arg-type]  # no operator calls while measuring
                with spinning(node):
                    yield node, runner, side
                    node.sender.stop()
                outbox.close()
        finally:
            side.close()


def steps_per_s_durable() -> Iterator[Result]:
    """From the control loop's hand to acknowledged on disk: outbox, topic, store with fsync, acknowledgement, outbox emptied."""
    steps = list(make_steps(STEPS))
    with two_processes() as (node, _, _side):
        for step in make_steps(SEGMENT):  # discovery and first writes are not counted
            node.emit(step)
        _wait(lambda: node.sender.pending == 0, 30)
        began = time.monotonic()
        for step in steps:
            node.emit(step)
        _wait(lambda: node.sender.pending == 0, 120)
        seconds = time.monotonic() - began
    config = {
        "cameras": "2x128x128x3 uint8",
        "steps": STEPS,
        "segment_steps": SEGMENT,
        "transport": "Fast DDS loopback, two processes",
    }
    yield Result("steps_per_s_durable", STEPS / seconds, "steps/s", config)


def weights_latency_ms() -> Iterator[Result]:
    """From the publishing thread's first line to the new version flying in the actor (assembled, checked, on the device)."""
    with two_processes() as (_, runner, side):
        latencies = []
        for version in range(1, 12):
            began = float(side.call("publish", version)[0])
            _wait(partial(_flies, runner, version), 20, poll_s=0.001)
            latencies.append((time.monotonic() - began) * 1000)
            time.sleep(0.2)
        rest = latencies[1:]  # the first waits for the program to compile
    config = {
        "parameters": PARAMETERS,
        "megabytes": PARAMETERS * 4 / 1e6,
        "chunk_kb": 512,
        "versions": len(rest),
        "max_ms": round(max(rest), 1),
    }
    yield Result("weights_latency_ms", statistics.median(rest), "ms", config)


def publish_blocks_training_ms() -> Iterator[Result]:
    """How much longer training takes because one 5-million-parameter version is published: mean time lost per publication."""
    with two_processes() as (_, runner, side):
        side.call("publish", 1)
        _wait(partial(_flies, runner, 1), 20)
        lost, update_ms, longest_ms = map(float, side.call("train", 12))
    config = {
        "parameters": PARAMETERS,
        "publications": 12,
        "update_ms": round(update_ms, 2),
        "longest_update_ms": round(longest_ms, 2),
    }
    yield Result("publish_blocks_training_ms", lost, "ms", config)


def make_steps(count: int) -> Iterator[Step]:
    """Segments of `SEGMENT` steps with pictures that compress about as well as renders do: shapes on a noisy ground."""
    rng = np.random.default_rng(0)
    ground = (np.linspace(60, 160, 128)[:, None, None] + rng.normal(0, 2, (128, 128, 3))).astype(np.uint8)
    for i in range(count):
        index = i % SEGMENT
        picture = ground.copy()
        picture[40 + index : 60 + index, 30 : 30 + 20] = (200, 60, 40)
        last = index == SEGMENT - 1
        action = np.zeros(4, np.float32) if last else rng.uniform(-1, 1, 4).astype(np.float32)
        yield Step(
            actor_id="",
            sequence=0,
            segment=i // SEGMENT + 1,
            index=index,
            stamp_ns=time.time_ns(),
            phase="forward",
            task="bench",
            instruction="",
            observation={
                "state": rng.normal(size=20).astype(np.float32),
                "image/front": picture,
                "image/wrist": picture[::-1].copy(),
            },
            action=action,
            policy_action=action,
            reward=0.0,
            is_first=index == 0,
            is_last=last,
            is_terminal=False,
            source=Source.SCRIPTED,
            policy_version=0,
        )


def _flies(runner: PolicyRunner, version: int) -> bool:
    return runner.version == version


def _wait(condition: Callable[[], bool], timeout_s: float, poll_s: float = 0.005) -> None:
    end = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(f"not done within {timeout_s:g} s")
        time.sleep(poll_s)
