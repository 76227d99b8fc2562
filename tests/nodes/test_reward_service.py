"""A classifier behind a ROS service: the same answers, never a wait in the control loop, and misses that are counted."""

from __future__ import annotations

import math
import threading
import time

import numpy as np
import pytest

pytest.importorskip("rclpy")
pytest.importorskip("etude_msgs")


from etude.config import ClassifierConfig, load_run_config
from etude.run_folder import RunFolder
from etude_nodes import actor_node, reward_service
from etude_nodes.process import EXIT_LATER, middleware, spinning
from etude_nodes.reward_service import RewardNode, ServiceJudge, UnansweredError, remote_judge
from reward_classifiers.files import ClassifierError

CONFIG = ClassifierConfig(service="reward", deadline_s=1.0)
SLOW_S, CALL_LIMIT_S = 0.4, 0.2
"""A call that waited would take `SLOW_S`; the loop's own take microseconds, but a loaded machine may stop any thread
for tens of milliseconds."""


class StateJudge:
    def __init__(self) -> None:
        self.name, self.line, self.attempts, self.wait_s = "told:1", 0.5, 0, 0.0
        self.next_name = ""

    def probability(self, observation, phase: str) -> float:
        time.sleep(self.wait_s)
        if "state" not in observation:
            raise ClassifierError("observation 'state' is missing")
        return float(observation["state"][0])

    def doubt(self, observation, phase: str) -> float:
        return 0.125

    def threshold(self, phase: str) -> float:
        return self.line if phase == "forward" else 0.9

    def forget(self) -> None:
        self.attempts += 1
        self.name = self.next_name or self.name


def seen(value: float) -> dict[str, np.ndarray]:
    return {"state": np.array([value], np.float32), "image/top": np.zeros((16, 16, 3), np.uint8)}


@pytest.fixture
def served(domain):
    """(the judge there, the judge here)."""
    there = StateJudge()
    with middleware(), spinning(RewardNode("reward", there)), remote_judge(CONFIG) as here:
        yield there, here


def ask(here: ServiceJudge, value: float, phase: str = "forward", timeout_s: float = 10.0) -> float:
    """As the control loop does, until there is an answer."""
    end = time.monotonic() + timeout_s
    while time.monotonic() < end:
        probability = here.probability(seen(value), phase)
        if not math.isnan(probability):
            return probability
        time.sleep(0.01)
    raise AssertionError("no answer")


def test_it_answers_as_the_judge_there_does(served):
    there, here = served
    assert (here.name, here.threshold("forward"), here.threshold("backward")) == ("told:1", 0.5, pytest.approx(0.9))
    here.forget()
    assert ask(here, 0.75) == 0.75
    assert here.doubt(seen(0.75), "forward") == 0.125
    assert there.attempts == 1
    here.forget()
    ask(here, 0.25)
    assert there.attempts == 2, "the judge there hears of a new attempt"
    counts = here.counts()
    assert counts["judge_answers"] >= 2 and 0.0 < counts["judge_latency_p50_ms"] < 1000.0


def test_the_loop_never_waits_for_a_slow_node(served):
    there, here = served
    there.wait_s = SLOW_S
    worst, none = 0.0, 0
    for number in range(60):
        started = time.perf_counter()
        none += math.isnan(here.probability(seen(number / 100), "forward"))
        worst = max(worst, time.perf_counter() - started)
        time.sleep(0.01)
    assert worst < CALL_LIMIT_S
    assert none > 50, "most control steps have no answer"


def test_a_new_version_names_the_next_attempt(served):
    there, here = served
    here.forget()
    ask(here, 0.5)
    there.next_name, there.line = "told:2", 0.7
    here.forget()
    assert here.name == "told:1"
    end = time.monotonic() + 10.0
    while here._asker._heard[0] != "told:2":
        assert math.isnan(here.probability(seen(0.6), "forward")), "what another version says about this attempt is dropped"
        assert time.monotonic() < end
        time.sleep(0.01)
    here.forget()
    assert here.name == "told:2" and here.threshold("forward") == pytest.approx(0.7)
    assert ask(here, 0.6) == pytest.approx(0.6)


def test_what_the_node_refuses_is_counted_and_said(served):
    _, here = served
    end = time.monotonic() + 10.0
    while not here.counts()["judge_failures"]:
        assert math.isnan(here.probability({"image/top": np.zeros((16, 16, 3), np.uint8)}, "forward"))
        assert time.monotonic() < end
        time.sleep(0.01)
    assert "'state' is missing" in here._slow.problem
    here.forget()
    assert ask(here, 0.75) == 0.75, "and it goes on"


def test_practice_goes_on_without_successes_while_the_node_is_down(domain):
    with middleware():
        there = RewardNode("reward", StateJudge())
        context = spinning(there)
        context.__enter__()
        with remote_judge(CONFIG) as here:
            assert ask(here, 0.75) == 0.75
            context.__exit__(None, None, None)
            end = time.monotonic() + 15.0
            while not here.counts()["judge_failures"]:
                here.probability(seen(0.9), "forward")
                assert time.monotonic() < end
                time.sleep(0.02)
            assert here._slow.problem
            with spinning(RewardNode("reward", StateJudge())):
                here.forget()
                assert ask(here, 0.5, timeout_s=20.0) == 0.5, "a node that came back counts again"


def test_a_run_does_not_start_without_the_node(domain, monkeypatch):
    monkeypatch.setattr(reward_service, "FIRST_ANSWER_S", 0.3)
    says = pytest.raises(UnansweredError, match=r"no reward node answers on /reward/judge_frame.*classifier serve")
    with middleware(), says, remote_judge(CONFIG):
        pass


def test_an_actor_that_is_started_before_the_node_asks_to_be_started_again(domain, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(reward_service, "FIRST_ANSWER_S", 0.3)
    of = "recipe.reward.classifier"
    config = load_run_config("robot_configs/runs/demo.yaml", [f"{of}.service=reward", f"{of}.deadline_s=0.5"])
    folder = RunFolder(tmp_path / "run")
    folder.create()
    assert actor_node.run(folder, config, threading.Event()) == EXIT_LATER
    assert "no reward node answers" in capsys.readouterr().err


def test_a_service_needs_a_deadline():
    with pytest.raises(ValueError, match=r"set classifier\.deadline_s"):
        ClassifierConfig(service="reward")
