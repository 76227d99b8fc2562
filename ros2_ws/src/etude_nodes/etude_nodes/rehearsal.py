"""The order of a run inside the actor, and its files: wait for the policy, evaluate, practise for so long, evaluate again.

Separate from the node and from the control loop: the loop knows no run, the node only moves bytes. Everything that must survive a
kill (counts, clock, evaluations, help) is written here, never in the loop's thread.
"""

from __future__ import annotations

import dataclasses
import logging
import math
import queue
import threading
import time
from collections.abc import Callable
from typing import Any, Protocol

from etude.config import RunConfig
from etude.metrics import MetricsWriter
from etude.run_folder import RunFolder
from etude.status import HelpRequest, Mode, PracticeStatus, StuckLabels
from etude.summary import read_json, read_json_lines
from etude_nodes.process import append_json_line, write_json

log = logging.getLogger("etude.rehearsal")

STATUS_FILE = "actor_status.json"
_TOLD = ("asked", "repeated")
"""Events of help.jsonl that tell of an open request: at level 0, and above."""
KEEP_S = 1.0
LONGEST_TURN_S = 2.0
"""A longer gap between two turns means that the process slept (a suspended laptop); that time is not counted."""
DRAIN_S = 20.0


class Loop(Protocol):
    """What is needed of `actor.control_loop.ControlLoop`."""

    def set_mode(self, mode: str) -> Any: ...
    def start_run(self) -> None: ...
    def request_evaluation(self, episodes: int, kind: str) -> Any: ...
    def counters(self) -> dict[str, Any]: ...


class Policy(Protocol):
    ready: bool
    version: int


class Rehearsal:
    """Call `conduct` once, then `turn` a few times a second from one thread; the callbacks come from the loop's thread.

    Stages: ``waiting`` (for weights), ``before`` (evaluation), ``practice``, ``after`` (evaluation), ``done``; then it sets
    `stop`. `run_time_s` is wall-clock time since practice began, evaluations and help requests included, pauses and stops
    excluded; it goes on where a killed process left it.
    """

    def __init__(
        self, folder: RunFolder, config: RunConfig, stop: threading.Event, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._folder, self._config, self._stop, self._clock = folder, config, stop, clock
        previous = read_json(folder.root / STATUS_FILE)
        self.counters: dict[str, Any] | None = previous.get("counters") or None
        self.run_time_s = float(previous.get("run_time_s") or 0.0)
        self._evaluated = {(row.get("kind"), row.get("phase")) for row in read_json_lines(folder.evaluations)}
        logged = read_json_lines(folder.help_log)
        self._logged_help = {(row.get("id"), row.get("level", 0)) for row in logged if row.get("event") in _TOLD}
        self._labels: queue.SimpleQueue[StuckLabels] = queue.SimpleQueue()
        self._labels_before = [_labels_of(row) for row in logged if row.get("event") == "labelled"]
        self.stage = "waiting"
        self._turned_s: float | None = None
        self._kept_s = -float("inf")
        self._kept_decisions: Any = None
        self._done_s: float | None = None
        self._asked_evaluation = False
        self._results: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        self._requests: queue.SimpleQueue[HelpRequest] = queue.SimpleQueue()
        self._metrics = MetricsWriter(folder.metrics("actor"), folder.tensorboard / "actor")

    # --- the loop's thread ------------------------------------------------------------------------------------------

    def on_help(self, request: HelpRequest) -> None:
        self._requests.put(request)

    def on_stuck_labels(self, labels: StuckLabels) -> None:
        self._labels.put(labels)

    def on_evaluation(self, result: dict[str, Any]) -> None:
        self._results.put(result)

    # --- one other thread -------------------------------------------------------------------------------------------

    def conduct(self, loop: Loop, policy: Policy) -> None:
        """Take the stick. `loop` was made with `counters`, so what a person had stopped or paused is so again."""
        self._loop, self._policy = loop, policy

    def take_help_requests(self) -> list[HelpRequest]:
        """Help requests that opened or closed since the last call; they are in ``help.jsonl`` by then.

        One that was open when the process died is told again, and stays one row there.
        """
        taken = []
        while not self._requests.empty():
            request = self._requests.get()
            taken.append(request)
            if request.open and (request.id, request.level) in self._logged_help:
                continue
            self._logged_help.add((request.id, request.level))
            event = _TOLD[min(request.level, 1)] if request.open else "answered"
            row = {"event": event, "run_time_s": self.run_time_s, "logged_ns": time.time_ns(), **request.to_json()}
            if request.open and request.level == 0 and request.image_jpeg:
                row["image"] = self._keep_picture(request)
            append_json_line(self._folder.help_log, row)
            log.info(
                "help request %d %s: %s %s", request.id, row["event"], request.reason, "" if request.open else request.meanwhile
            )
        return taken

    def take_stuck_labels(self) -> list[StuckLabels]:
        """Labels given since the last call, and at the first call those of the run before; they are in ``help.jsonl``."""
        taken, self._labels_before = self._labels_before, []
        while not self._labels.empty():
            labels = self._labels.get()
            row = {"event": "labelled", "run_time_s": self.run_time_s, **dataclasses.asdict(labels)}
            append_json_line(self._folder.help_log, row)
            taken.append(labels)
        return taken

    def _keep_picture(self, request: HelpRequest) -> str:
        """Write the picture of a request into the run folder; its name relative to it."""
        path = self._folder.help_pictures / f"{request.id}.jpg"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(request.image_jpeg)
        return str(path.relative_to(self._folder.root))

    def turn(self, status: PracticeStatus) -> None:
        """Advance clock and stage by the newest status and keep the files up to date."""
        now = self._clock()
        elapsed = 0.0 if self._turned_s is None else min(now - self._turned_s, LONGEST_TURN_S)
        self._turned_s = now
        if self.stage == "practice" and status.mode not in (Mode.IDLE, Mode.PAUSED, Mode.STOPPED):
            self.run_time_s += elapsed
        while not self._results.empty():
            self._keep_evaluation(self._results.get())
        self._advance(status)
        # what a person decides is kept at once, so that a kill a moment later cannot undo it
        decisions = (status.mode, self._loop.counters().get("practice"))
        if decisions != self._kept_decisions or now - self._kept_s >= KEEP_S:
            self._kept_s, self._kept_decisions = now, decisions
            self._keep(status)

    def close(self, status: PracticeStatus) -> None:
        """Keep the last counts. Call after the loop has ended."""
        self.take_help_requests()
        self.take_stuck_labels()
        while not self._results.empty():
            self._keep_evaluation(self._results.get())
        self._keep(status)
        self._metrics.close()

    # --- stages -----------------------------------------------------------------------------------------------------

    def _advance(self, status: PracticeStatus) -> None:
        if self.stage == "waiting" and self._policy.ready and self._policy.version > 0:
            self._enter("before")
        if self.stage == "before" and self._evaluation_over("before", status):
            self._enter("practice")
            self._loop.start_run()  # where a person stopped or paused before, also before a restart, it waits for that person
        if self.stage == "practice" and self._config.minutes is not None and self.run_time_s >= self._config.minutes * 60:
            log.info("%.1f minutes are over", self.run_time_s / 60)
            self._loop.set_mode("idle")
            self._enter("after")
            return  # the loop becomes idle at its next tick
        if self.stage == "after" and self._evaluation_over("after", status):
            self._enter("done")
            self._done_s = self._clock()
        if self.stage == "done" and self._done_s is not None:
            drained = status.outbox_pending == 0
            if drained or self._clock() - self._done_s > DRAIN_S:
                self._stop.set()

    def _enter(self, stage: str) -> None:
        self.stage = stage
        self._asked_evaluation = False
        log.info("stage: %s", stage)

    def _evaluation_over(self, kind: str, status: PracticeStatus) -> bool:
        """Ask for the evaluation once; True when its results are in, or none is wanted or possible."""
        episodes = self._config.evaluation.episodes
        if episodes == 0 or all((kind, phase) in self._evaluated for phase in self._config.recipe.phases):
            return True
        if status.mode is Mode.STOPPED:
            return False
        if not self._asked_evaluation:
            answer = self._loop.request_evaluation(episodes, kind)
            self._asked_evaluation = True
            if not answer.accepted:
                log.warning("no evaluation %s practice: %s", kind, answer.message)
                return True
        return False

    # --- files ------------------------------------------------------------------------------------------------------

    def _keep_evaluation(self, result: dict[str, Any]) -> None:
        if not result.get("complete", True):
            self._asked_evaluation = False  # abandoned: ask again when it may be
            return
        practice_s = float(result.get("practice_time_s", 0.0))
        append_json_line(self._folder.evaluations, {"time_s": practice_s, "run_time_s": self.run_time_s, **result})
        self._evaluated.add((result["kind"], result["phase"]))

    def _keep(self, status: PracticeStatus) -> None:
        plain = dataclasses.asdict(status)
        write_json(
            self._folder.root / STATUS_FILE,
            {
                **plain,
                "stage": self.stage,
                "run_time_s": self.run_time_s,
                "stamp_s": time.time(),
                "counters": self._loop.counters(),
            },
        )
        if self.stage != "practice":
            return
        numbers = {name: float(value) for name, value in plain.items() if isinstance(value, int | float) and math.isfinite(value)}
        for phase, rate in status.success.items():
            if rate.attempts:
                numbers[f"success_{phase}"] = rate.rate
        numbers["run_time_s"] = self.run_time_s
        self._metrics.write(status.env_steps, numbers)


def _labels_of(row: dict[str, Any]) -> StuckLabels:
    """A ``labelled`` row of help.jsonl."""
    first, last, stuck = ((int(p[0]), int(p[1])) if p else None for p in (row["first"], row["last"], row["stuck_from"]))
    assert first is not None and last is not None
    return StuckLabels(first, last, stuck)
