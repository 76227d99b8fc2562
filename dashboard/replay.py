"""`etude replay RUN`: the page over a run that is over, or goes on elsewhere, from its folder: no ROS, no robot, no commands.

Statuses are rebuilt from the stored attempts, so that curves, rates and journal are those of the run; its pictures are in the
browser of stored attempts.
"""

from __future__ import annotations

import argparse
import logging
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from fastapi import FastAPI

from dashboard.app import Answer, create_app
from dashboard.curves import Curves
from dashboard.episodes import Episodes
from dashboard.run_view import RunView
from dashboard.server import make_server, open_port
from dashboard.teleop import Held
from dashboard.timeline import Timeline
from etude.config import ConfigError, RunConfig, load_run_config
from etude.episodes.segment import SegmentInfo
from etude.episodes.store import EpisodeStore, StoreError
from etude.run_folder import RunFolder, runs_root
from etude.specs import PHASES
from etude.status import HelpRequest, Mode, PracticeStatus, SuccessRate
from etude.tail import JsonLines

log = logging.getLogger("etude.dashboard")

WINDOW = 20
"""Attempts of one direction whose success is shown, as while a run practises."""


class Replay:
    """Implements `dashboard.app.Bridge` for a folder: everything can be seen and nothing can be commanded."""

    def __init__(self, folder: RunFolder, config: RunConfig) -> None:
        self._folder = folder
        self._now_s = 0.0  # the moment of the run that is told; in the end its last one, so that ages are of then
        self.view = RunView(config, f"runs/{folder.root.name}", lambda: self._now_s)
        for stamp_ns in fill(self.view, folder, config):
            self._now_s = stamp_ns / 1e9

    def snapshot(self) -> dict[str, Any]:
        data = self.view.snapshot()
        data["run"]["replay"] = True
        for part in ("actor", "learner"):
            data[part]["silent"] = False
        return data

    def image(self, camera: str) -> bytes | None:
        return None

    def image_sequences(self) -> dict[str, int]:
        return {}

    def viewers(self, count: int) -> None:
        pass

    def teleop(self, operator: str, held: Held) -> None:
        pass

    def set_mode(self, mode: str) -> Answer:
        return self._refuse()

    def software_stop(self, active: bool) -> Answer:
        return self._refuse()

    def resolve_help(self, answer: str, operator: str) -> Answer:
        return self._refuse()

    def limit_speed(self, share: float) -> Answer:
        return self._refuse()

    def correct(self, text: str) -> Answer:
        return self._refuse()

    def label(self, segment: int, success: bool) -> Answer:
        return self._refuse()

    def _refuse(self) -> Answer:
        return Answer(
            False,
            f"This page shows a stored run and reaches no robot. To go on with it: etude practice resume {self._folder.root}",
        )


def fill(view: RunView, folder: RunFolder, config: RunConfig) -> Iterator[int]:
    """Tell `view` what happened, in the order in which it happened; before each event its time, nanoseconds since the epoch.

    What a run has not written is left out.
    """
    try:
        infos = sorted(EpisodeStore.open(folder.episodes, "r").segments(), key=lambda info: info.last_stamp_ns)
    except StoreError as error:
        log.warning("%s", error)
        infos = []
    events: list[tuple[int, Any]] = [(info.last_stamp_ns, info) for info in infos]
    events += [(line["stamp_ns"], line) for line in JsonLines(folder.evaluations).new() if isinstance(line.get("stamp_ns"), int)]
    events += [(line["stamp_ns"], line) for line in JsonLines(folder.help_log).new() if isinstance(line.get("stamp_ns"), int)]
    events.sort(key=lambda event: event[0])
    practice = _Practice(config, _pace(infos, events))
    for stamp_ns, event in events:
        yield stamp_ns
        if isinstance(event, SegmentInfo):
            view.on_status(practice.after(event))
        elif event.get("event") in ("asked", "answered"):
            practice.helped += event["event"] == "asked"
            practice.resets += event["event"] == "answered" and "reset" in str(event.get("meanwhile"))
            view.on_help(_request(event))
        elif "successes" in event:
            try:
                view.on_evaluation(event)
            except (KeyError, TypeError, ValueError) as error:
                log.warning("a line of the evaluations file was skipped: %r", error)
    if infos:
        view.on_status(practice.status(Mode.IDLE, infos[-1]))


class _Practice:
    """Counters of a run, from one stored attempt to the next."""

    def __init__(self, config: RunConfig, pace: float) -> None:
        self._recent: dict[str, deque[tuple[int, int]]] = {phase: deque(maxlen=WINDOW) for phase in PHASES}
        self._total = dict.fromkeys(PHASES, 0)
        self._outcomes = dict.fromkeys(((judged, true) for judged in (0, 1) for true in (0, 1)), 0)
        self._steps = self._interventions = 0
        self._seconds, self._pace = 0.0, pace
        self._task = config.task.name
        self.helped = self.resets = 0

    def after(self, info: SegmentInfo) -> PracticeStatus:
        self._steps += info.length - 1
        self._seconds += self._pace * _seconds(info)
        self._interventions += bool(info.sources.get("human"))
        if info.success in (0, 1) and info.phase in PHASES:
            self._recent[info.phase].append((info.success, info.success_truth))
            self._total[info.phase] += 1
            if info.success_truth in (0, 1):
                self._outcomes[info.success, info.success_truth] += 1
        return self.status(Mode(info.phase) if info.phase in PHASES else Mode.IDLE, info)

    def status(self, mode: Mode, info: SegmentInfo) -> PracticeStatus:
        def rate(place: int) -> dict[str, SuccessRate]:
            told = {phase: [pair[place] for pair in self._recent[phase] if pair[place] in (0, 1)] for phase in PHASES}
            return {phase: SuccessRate(sum(values), len(values), self._total[phase]) for phase, values in told.items()}

        return PracticeStatus(
            mode=mode,
            task=self._task,
            env_steps=self._steps,
            segment=info.segment,
            step_in_segment=info.length - 1,
            success=rate(0),
            success_truth=rate(1),
            policy_version=info.policy_version,
            weight_age_s=float("nan"),
            loop_rate_hz=0.0,
            loop_period_p99_ms=float("nan"),
            missed_deadlines=0,
            outbox_pending=0,
            help_requests=self.helped,
            hard_resets=self.resets,
            interventions=self._interventions,
            judge_probability=float("nan"),
            judge_true_positives=self._outcomes[1, 1],
            judge_false_positives=self._outcomes[1, 0],
            judge_true_negatives=self._outcomes[0, 0],
            judge_false_negatives=self._outcomes[0, 1],
            practice_time_s=self._seconds,
        )


def _seconds(info: SegmentInfo) -> float:
    return (info.last_stamp_ns - info.first_stamp_ns) / 1e9


def _pace(infos: Sequence[SegmentInfo], events: Sequence[tuple[int, Any]]) -> float:
    """Practice time per time of stored attempts, by the last event that knows both: an attempt may wait for an evaluation."""
    known = [(stamp, event["run_time_s"]) for stamp, event in events if isinstance(event, dict) and event.get("run_time_s")]
    if not known:
        return 1.0
    until, practised_s = known[-1]
    stored_s = sum(_seconds(info) for info in infos if info.last_stamp_ns <= until)
    return min(1.0, practised_s / stored_s) if stored_s > 0 else 1.0


def _request(line: dict[str, Any]) -> HelpRequest:
    known = {name: line[name] for name in ("id", "reason", "phase", "stamp_ns", "env_steps", "meanwhile") if name in line}
    defaults: dict[str, Any] = {"id": 0, "reason": "", "phase": "forward", "env_steps": 0, "meanwhile": ""}
    return HelpRequest(**defaults | known, open=line["event"] == "asked")


def replay_app(folder: RunFolder, config: RunConfig) -> FastAPI:
    """The page over a run's folder."""
    episodes = Episodes(folder.episodes)
    curves, timeline = Curves(folder, episodes.infos), Timeline(folder, episodes.infos, now_ns=None)
    return create_app(Replay(folder, config), episodes=episodes, curves=curves, timeline=timeline)


def replay_command(argv: Sequence[str]) -> int:
    """`etude replay`."""
    parser = argparse.ArgumentParser(
        prog="etude replay",
        description="Open the page over a stored run: its curves, help requests and every attempt, step by step with pictures. "
        "Nothing can be commanded.",
        epilog="examples:\n  etude replay\n  etude replay runs/demo-slide-pixels-s0-20260102-1530 --port 8421",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("run", nargs="?", type=Path, help="run folder (default: runs/latest)")
    parser.add_argument("--port", type=int, default=8430, help="port on this machine, 0 picks a free one (default: %(default)s)")
    arguments = parser.parse_args(argv)
    root = (arguments.run or runs_root() / "latest").resolve()
    folder = RunFolder(root)
    if not folder.config.is_file():
        raise ConfigError(f"{root} is no run folder: it has no {folder.config.name}")
    config = load_run_config(folder.config)
    listener = open_port("127.0.0.1", arguments.port)
    print(f"replay of {root.name}: http://127.0.0.1:{listener.getsockname()[1]}  (Ctrl-C ends it)", flush=True)
    make_server(replay_app(folder, config)).run(sockets=[listener])
    return 0
