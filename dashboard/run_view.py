"""Everything the page knows about a run, in one thread-safe place: fed by the node, read by the web server.

Free of ROS and of the web, so that both sides can be tested with plain values. Kept in memory only: what must survive
(evaluations, help requests) is in the run folder already.
"""

from __future__ import annotations

import base64
import math
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import asdict
from pathlib import PurePath
from typing import Any

from dashboard.attempts import AttemptTracker
from dashboard.nodes import Nodes
from etude.config import RunConfig
from etude.specs import PHASES
from etude.status import (
    HelpRequest,
    Mode,
    PracticeStatus,
    SuccessRate,
    labelled_false_positives,
    wilson_interval,
)

SILENT_AFTER_S = 3.0
"""Statuses come at 5 Hz and metrics at 1 Hz: without news for this long, the page says so."""

MODE_WORDS = {
    Mode.IDLE: "Idle",
    Mode.FORWARD: "Practising forward",
    Mode.BACKWARD: "Practising backward",
    Mode.TAKEOVER: "A person is in control",
    Mode.AWAITING_HELP: "Waiting for help",
    Mode.PAUSED: "Paused",
    Mode.EVALUATING: "Evaluating the policy",
    Mode.STOPPED: "Software stop",
}


class Series:
    """Points over practice time, thinned to at most `limit` by dropping every second one; the newest is always kept."""

    def __init__(self, limit: int = 400, interval: float = 2.0) -> None:
        self._limit = limit
        self._interval = interval
        self._points: list[tuple[float, ...]] = []

    def add(self, *point: float) -> bool:
        """Append `point` (first value: position on the axis). Returns whether it was far enough from the last one to be kept."""
        if self._points and point[0] < self._points[-1][0]:
            self._points.clear()  # the run was restarted: time began again
        if self._points and point[0] - self._points[-1][0] < self._interval:
            return False
        self._points.append(point)
        if len(self._points) > self._limit:
            self._points = self._points[::2] if len(self._points) % 2 else self._points[1::2]
            self._interval *= 2
        return True

    def points(self) -> list[tuple[float, ...]]:
        return list(self._points)


class RunView:
    """The newest status, metrics, help request and pictures of one run, and their short histories.

    Every method may be called from any thread and returns at once.
    """

    def __init__(self, config: RunConfig, folder: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._config = config
        self._folder = folder
        self._clock = clock
        self._lock = threading.Lock()
        self._status: PracticeStatus | None = None
        self._status_at = -math.inf
        self._learner: dict[str, float] = {}
        self._learner_at = -math.inf
        self._updates: deque[tuple[float, int]] = deque()
        self._help: HelpRequest | None = None
        self._evaluations: list[dict[str, Any]] = []
        self._practice = Series()
        self._help_marks: list[float] = []
        self._journal: deque[dict[str, Any]] = deque(maxlen=60)
        self._attempts = AttemptTracker()
        self._nodes = Nodes()
        self._called: dict[int, bool] = {}
        self._images: dict[str, tuple[int, bytes, float]] = {}
        self._revision = 1

    # --- feeding --------------------------------------------------------------------------------------------------

    def on_status(self, status: PracticeStatus) -> None:
        with self._lock:
            previous, self._status, self._status_at = self._status, status, self._clock()
            self._attempts.update(status)
            if previous is not None and previous.mode != status.mode:
                # these alternate all the time (and evaluations and help have lines of their own): they would drown the rest
                quiet = {Mode.FORWARD, Mode.BACKWARD, Mode.EVALUATING, Mode.AWAITING_HELP}
                if not {previous.mode, status.mode} <= quiet:
                    self._note("stop" if status.mode == Mode.STOPPED else "mode", MODE_WORDS[status.mode])
            rates = [status.success.get(phase, SuccessRate()) for phase in PHASES]
            if any(rate.attempts for rate in rates):
                point = [status.practice_time_s, float(status.env_steps), *(rate.rate for rate in rates)]
                self._changed(self._practice.add(*point))

    def on_metrics(self, values: dict[str, float], updates: int) -> None:
        """The learner's metrics by name and its number of gradient updates; the rate is taken over the last 10 s."""
        with self._lock:
            now = self._clock()
            if self._updates and updates < self._updates[-1][1]:
                self._updates.clear()  # the learner went back to its checkpoint
            self._updates.append((now, updates))
            while self._updates[0][0] < now - 10.0:
                self._updates.popleft()
            since, first = self._updates[0]
            rate = (updates - first) / (now - since) if now > since else math.nan
            self._learner = {**values, "updates": float(updates), "updates_per_s": rate}
            self._learner_at = now

    def on_diagnostics(self, name: str, level: str, message: str, values: dict[str, str]) -> None:
        """What a node says of itself, see `dashboard.nodes.Nodes.tell`."""
        with self._lock:
            self._nodes.tell(name, level, message, values, self._clock())

    def on_help(self, request: HelpRequest) -> None:
        with self._lock:
            previous, self._help = self._help, request
            if request.open and (previous is None or previous.id != request.id or not previous.open):
                self._note("help", f"Help asked: {request.reason}")
                if self._status is not None:
                    self._help_marks.append(self._status.practice_time_s)
                self._changed()
            elif not request.open and previous is not None and previous.open:
                self._note("answer", request.meanwhile or "Help request answered")

    def on_evaluation(self, record: dict[str, Any]) -> None:
        """One line of ``evaluations.jsonl``. Raises KeyError, TypeError or ValueError when it is not one.

        Keys: phase, episodes (0: abandoned before the first one ended; ignored), successes, env_steps, time_s (of practice),
        kind.
        """
        phase, episodes, successes = str(record["phase"]), int(record["episodes"]), int(record["successes"])
        if phase not in PHASES or not 0 <= successes <= episodes:
            raise ValueError(f"not an evaluation: {record}")
        if episodes == 0:
            return
        low, high = wilson_interval(successes, episodes)
        point = {
            "time_s": float(record["time_s"]),
            "env_steps": int(record["env_steps"]),
            "phase": phase,
            "episodes": episodes,
            "successes": successes,
            "rate": successes / episodes,
            "low": low,
            "high": high,
            "kind": str(record.get("kind", "interval")),
        }
        with self._lock:
            self._evaluations.append(point)
            self._note("evaluation", f"Evaluation {phase}: {successes} of {episodes}")
            self._changed()

    def on_image(self, camera: str, jpeg: bytes) -> None:
        with self._lock:
            sequence = self._images[camera][0] + 1 if camera in self._images else 1
            self._images[camera] = (sequence, jpeg, self._clock())

    def on_command(self, text: str) -> None:
        """What an operator asked for on this page."""
        with self._lock:
            self._note("operator", text)

    def relabel(self, segment: int, success: bool) -> None:
        """What a person said about an attempt. Those that the judge had called success tell how often it is wrong."""
        with self._lock:
            said = self._attempts.outcome(segment)
            if said or segment in self._called:  # a second answer about the same attempt replaces the first
                self._called[segment] = success
            self._attempts.relabel(segment, success)

    # --- reading --------------------------------------------------------------------------------------------------

    @property
    def cameras(self) -> list[str]:
        policy = list(self._config.task.cameras) if self._config.observation == "pixels" else []
        return ["beauty", *policy]

    @property
    def open_help_id(self) -> int | None:
        with self._lock:
            return self._help.id if self._help is not None and self._help.open else None

    def image(self, camera: str) -> bytes | None:
        """The newest JPEG of `camera`, or None."""
        with self._lock:
            return self._images[camera][1] if camera in self._images else None

    def image_sequences(self) -> dict[str, int]:
        """Camera -> number of pictures so far: a picture is new when its number grew."""
        with self._lock:
            return {camera: sequence for camera, (sequence, _, _) in self._images.items()}

    def snapshot(self) -> dict[str, Any]:
        """Everything but the pictures, ready for JSON (non-finite numbers are None). `history` changes only with `revision`."""
        with self._lock:
            now = self._clock()
            data = {
                "run": self._run(),
                "actor": {"silent": now - self._status_at > SILENT_AFTER_S, "age_s": now - self._status_at},
                "status": self._status_data(),
                "learner": {
                    "silent": now - self._learner_at > SILENT_AFTER_S,
                    "age_s": now - self._learner_at,
                    "metrics": self._learner,
                },
                "nodes": self._nodes.snapshot(now),
                "help": _help_data(self._help) if self._help is not None and self._help.open else None,
                "attempts": {p: [asdict(a) for a in self._attempts.recent(p)] for p in PHASES},
                "cameras": {c: now - self._images[c][2] if c in self._images else None for c in self.cameras},
                "journal": [{**note, "age_s": now - note["at"]} for note in reversed(self._journal)],
                "revision": self._revision,
                "history": {
                    "evaluations": self._evaluations,
                    "practice": self._practice.points(),
                    "help": self._help_marks,
                },
            }
            return finite(data)

    # --- parts ----------------------------------------------------------------------------------------------------

    def _run(self) -> dict[str, Any]:
        config = self._config
        return {
            "name": PurePath(self._folder).name,
            "folder": self._folder,
            "task": config.task.name,
            "robot": config.robot.name,
            "recipe": config.recipe.name,
            "observation": config.observation,
            "seed": config.seed,
            "pace": config.robot.pace,
            "reward": config.recipe.reward.kind,
            "minutes": config.minutes,
            "control_rate_hz": config.robot.control_rate_hz,
            "simulated": config.robot.kind in ("mujoco", "gymnasium"),
            "instructions": {phase: getattr(config.task, phase).instruction for phase in PHASES},
            "max_steps": {phase: getattr(config.task, phase).max_steps for phase in PHASES},
            "evaluation_interval_s": config.evaluation.interval_s if config.evaluation.interval_episodes else None,
        }

    def _status_data(self) -> dict[str, Any] | None:
        status = self._status
        if status is None:
            return None
        data = asdict(status)
        data["mode"] = status.mode.value
        data["mode_words"] = MODE_WORDS[status.mode]
        for name in ("success", "success_truth"):
            data[name] = {phase: _rate(getattr(status, name).get(phase, SuccessRate())) for phase in PHASES}
        hits, false_alarms, misses = status.judge_true_positives, status.judge_false_positives, status.judge_false_negatives
        data["judge"] = {
            "precision": _ratio(hits, hits + false_alarms),
            "recall": _ratio(hits, hits + misses),
            "outcomes": hits + false_alarms + misses + status.judge_true_negatives,
            "false_positive_rate": _ratio(false_alarms, false_alarms + status.judge_true_negatives),
            "labelled": self._labelled(status),
        }
        return data

    def _labelled(self, status: PracticeStatus) -> dict[str, Any] | None:
        """The false-positive rate as the labels of this page tell it, or None without any."""
        rates = [status.success.get(phase, SuccessRate()) for phase in PHASES]
        called, attempts = sum(rate.successes for rate in rates), sum(rate.attempts for rate in rates)
        if not self._called or not attempts:
            return None
        right = sum(self._called.values())
        rate, low, high = labelled_false_positives(right, len(self._called), called, attempts)
        return {"labels": len(self._called), "rate": rate, "low": low, "high": high}

    def _note(self, kind: str, text: str) -> None:
        self._journal.append({"kind": kind, "text": text, "at": self._clock()})

    def _changed(self, really: bool = True) -> None:
        self._revision += really


def _rate(rate: SuccessRate) -> dict[str, Any]:
    low, high = rate.wilson()
    return {**asdict(rate), "rate": rate.rate, "low": low, "high": high}


def _ratio(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def finite(value: Any) -> Any:
    """`value` with every non-finite float replaced by None: JSON has no NaN, and browsers refuse it."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(item) for item in value]
    return value


def _help_data(request: HelpRequest) -> dict[str, Any]:
    """An open request for the page; its picture as a data URI, empty without one."""
    picture = request.image_jpeg and "data:image/jpeg;base64," + base64.b64encode(request.image_jpeg).decode()
    return {**request.to_json(), "image": picture or ""}
