"""The order of a run: policy, evaluation, practice, evaluation, end; and what a killed actor goes on with."""

from __future__ import annotations

import dataclasses
import threading
from types import SimpleNamespace

import pytest

from etude.config import RunConfig, load_run_config
from etude.run_folder import RunFolder
from etude.status import HelpRequest, Mode, PracticeStatus, StuckLabels, SuccessRate
from etude.summary import read_json, read_json_lines
from etude_nodes.rehearsal import Rehearsal


class FakeLoop:
    """Does at once what it is asked, and remembers it."""

    def __init__(self) -> None:
        self.asked: list[tuple] = []
        self.practice = {"paused": False}

    def set_mode(self, mode: str):
        self.asked.append(("mode", mode))

    def start_run(self) -> None:
        self.asked.append(("start",))

    def request_evaluation(self, episodes: int, kind: str):
        self.asked.append(("evaluate", kind))
        return SimpleNamespace(accepted=True, message="")

    def counters(self) -> dict:
        return {"env_steps": 7, "practice": dict(self.practice)}


STATUS = PracticeStatus(
    mode=Mode.IDLE,
    task="slide",
    env_steps=7,
    segment=1,
    step_in_segment=0,
    success={"forward": SuccessRate(1, 2, 2), "backward": SuccessRate()},
    success_truth={},
    policy_version=1,
    weight_age_s=float("inf"),
    loop_rate_hz=10.0,
    loop_period_p99_ms=float("nan"),
    missed_deadlines=0,
    outbox_pending=0,
    help_requests=0,
    hard_resets=0,
    interventions=0,
    judge_probability=float("nan"),
)


class Stage:
    """A rehearsal with a clock that the test moves."""

    def __init__(self, folder: RunFolder, config: RunConfig) -> None:
        self.now = 100.0
        self.stop = threading.Event()
        self.loop = FakeLoop()
        self.policy = SimpleNamespace(ready=False, version=0)
        self.rehearsal = Rehearsal(folder, config, self.stop, clock=lambda: self.now)
        self.rehearsal.conduct(self.loop, self.policy)

    def turn(self, mode: Mode = Mode.IDLE, seconds: float = 1.0, pending: int = 0) -> None:
        self.now += seconds
        self.rehearsal.turn(dataclasses.replace(STATUS, mode=mode, outbox_pending=pending))

    def evaluated(self, kind: str, complete: bool = True) -> None:
        for phase in ("forward", "backward"):
            result = {"kind": kind, "phase": phase, "episodes": 2, "successes": 1, "complete": complete}
            self.rehearsal.on_evaluation({**result, "env_steps": 7, "practice_time_s": 1.0})


@pytest.fixture
def config() -> RunConfig:
    overrides = ["robot=sim_panda_fast", "minutes=0.1", "evaluation.episodes=2"]
    return load_run_config("robot_configs/runs/demo_state.yaml", overrides)


@pytest.fixture
def folder(tmp_path) -> RunFolder:
    folder = RunFolder(tmp_path / "run")
    folder.create()
    return folder


def test_a_run_waits_evaluates_practises_evaluates_and_ends(folder: RunFolder, config: RunConfig) -> None:
    stage = Stage(folder, config)
    stage.turn()
    assert stage.loop.asked == []
    stage.policy.ready, stage.policy.version = True, 1
    stage.turn()
    stage.turn()
    assert stage.loop.asked == [("evaluate", "before")]
    stage.evaluated("before")
    stage.turn()
    assert stage.loop.asked[-1] == ("start",) and stage.rehearsal.run_time_s == 0.0
    for _ in range(6):
        stage.turn(Mode.FORWARD)
    assert stage.rehearsal.run_time_s == pytest.approx(6.0)
    assert stage.loop.asked[-1] == ("mode", "idle")
    stage.turn()
    assert stage.loop.asked[-1] == ("evaluate", "after") and not stage.stop.is_set()
    stage.evaluated("after")
    stage.turn(pending=3)
    assert not stage.stop.is_set()
    stage.turn(pending=0)
    assert stage.stop.is_set()
    rows = read_json_lines(folder.evaluations)
    assert [(row["kind"], row["phase"]) for row in rows] == [(k, p) for k in ("before", "after") for p in ("forward", "backward")]


def test_pauses_and_stops_do_not_count_and_evaluations_do(folder: RunFolder, config: RunConfig) -> None:
    stage = practising(folder, config)
    for mode in (Mode.PAUSED, Mode.STOPPED, Mode.IDLE):
        stage.turn(mode)
    assert stage.rehearsal.run_time_s == 0.0
    stage.turn(Mode.EVALUATING)
    stage.turn(Mode.AWAITING_HELP)
    assert stage.rehearsal.run_time_s == 2.0


def test_a_killed_actor_goes_on_with_clock_and_counts_and_does_not_evaluate_again(folder: RunFolder, config: RunConfig) -> None:
    first = practising(folder, config)
    first.evaluated("before")
    first.turn(Mode.FORWARD, 2.0)
    first.turn(Mode.FORWARD, 1.0)
    second = Stage(folder, config)
    assert second.rehearsal.run_time_s == 3.0
    assert second.rehearsal.counters == first.loop.counters()
    second.policy.ready, second.policy.version = True, 9
    second.turn()
    assert second.loop.asked == [("start",)]


def test_a_run_never_resumes_in_a_persons_name(folder: RunFolder, config: RunConfig) -> None:
    """`set_mode("practise")` is a person's word, which lifts a pause; the run itself only says `start_run`."""
    stage = Stage(folder, config)
    stage.turn(Mode.STOPPED)
    stage.policy.ready, stage.policy.version = True, 1
    stage.turn(Mode.STOPPED)
    stage.turn(Mode.IDLE)
    stage.evaluated("before")
    stage.turn(Mode.IDLE)
    assert stage.loop.asked[-1] == ("start",) and ("mode", "practise") not in stage.loop.asked


def test_what_a_person_decides_is_on_disk_at_once_also_where_the_mode_hides_it(folder: RunFolder, config: RunConfig) -> None:
    stage = practising(folder, config)
    stage.turn(Mode.EVALUATING)
    stage.loop.practice["paused"] = True
    stage.turn(Mode.EVALUATING, seconds=0.01)
    assert Stage(folder, config).rehearsal.counters == stage.loop.counters()


def test_a_request_that_outlived_a_restart_is_told_again_and_logged_once(folder: RunFolder, config: RunConfig) -> None:
    request = HelpRequest(3, "The robot seems stuck.", "forward", 5, 7, "It holds still.", True)
    first = Stage(folder, config).rehearsal
    first.on_help(request)
    first.take_help_requests()
    second = Stage(folder, config).rehearsal
    second.on_help(request)
    second.on_help(dataclasses.replace(request, open=False))
    assert [item.open for item in second.take_help_requests()] == [True, False]
    assert [(row["id"], row["event"]) for row in read_json_lines(folder.help_log)] == [(3, "asked"), (3, "answered")]


def test_an_abandoned_evaluation_is_asked_for_again_and_not_kept(folder: RunFolder, config: RunConfig) -> None:
    stage = Stage(folder, config)
    stage.policy.ready, stage.policy.version = True, 1
    stage.turn()
    stage.evaluated("before", complete=False)
    stage.turn(Mode.STOPPED)
    assert stage.loop.asked == [("evaluate", "before")]
    stage.turn(Mode.IDLE)
    assert stage.loop.asked == [("evaluate", "before")] * 2
    assert read_json_lines(folder.evaluations) == []


def test_help_is_logged_before_it_is_told(folder: RunFolder, config: RunConfig) -> None:
    stage = practising(folder, config)
    request = HelpRequest(1, "The robot seems stuck.", "forward", 5, 7, "It holds still.", True)
    stage.rehearsal.on_help(request)
    stage.rehearsal.on_help(dataclasses.replace(request, open=False, meanwhile="Answered by the helper: reset."))
    assert [item.open for item in stage.rehearsal.take_help_requests()] == [True, False]
    assert [row["event"] for row in read_json_lines(folder.help_log)] == ["asked", "answered"]


def test_a_repeated_request_is_logged_with_its_level_and_its_picture_is_kept_once(folder: RunFolder, config: RunConfig) -> None:
    stage = practising(folder, config)
    request = HelpRequest(1, "The robot seems stuck.", "forward", 5, 7, "It holds still.", True, image_jpeg=b"picture")
    for told in (request, dataclasses.replace(request, question="Is it stuck?"), dataclasses.replace(request, level=1)):
        stage.rehearsal.on_help(told)
    assert len(stage.rehearsal.take_help_requests()) == 3
    rows = read_json_lines(folder.help_log)
    assert [(row["event"], row["level"], row.get("image")) for row in rows] == [("asked", 0, "help/1.jpg"), ("repeated", 1, None)]
    assert (folder.help_pictures / "1.jpg").read_bytes() == b"picture"


def test_stuck_labels_are_logged_and_told_again_after_a_restart(folder: RunFolder, config: RunConfig) -> None:
    given = [StuckLabels((1, 0), (3, 7), (2, 4)), StuckLabels((4, 0), (5, 1), None)]
    first = Stage(folder, config).rehearsal
    for labels in given:
        first.on_stuck_labels(labels)
    assert first.take_stuck_labels() == given and first.take_stuck_labels() == []
    second = Stage(folder, config).rehearsal
    assert second.take_stuck_labels() == given and second.take_stuck_labels() == []


def test_the_status_file_is_json_even_with_numbers_that_are_not(folder: RunFolder, config: RunConfig) -> None:
    practising(folder, config).turn(Mode.FORWARD)
    status = read_json(folder.root / "actor_status.json")
    assert status["mode"] == "forward" and status["weight_age_s"] is None and status["success"]["forward"]["successes"] == 1
    assert read_json_lines(folder.metrics("actor"))[-1]["success_forward"] == 0.5


def practising(folder: RunFolder, config: RunConfig) -> Stage:
    config = config.model_copy(update={"minutes": 10.0, "evaluation": config.evaluation.model_copy(update={"episodes": 0})})
    stage = Stage(folder, config)
    stage.policy.ready, stage.policy.version = True, 1
    stage.turn()
    assert stage.loop.asked == [("start",)]
    return stage
