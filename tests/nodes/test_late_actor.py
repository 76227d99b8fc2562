"""Two real processes over ROS 2: a late actor has program and weights at once; bad weights are refused and it flies on."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("rclpy")
pytest.importorskip("etude_msgs")

from actor.outbox import Outbox
from actor.policy_runner import PolicyRunner
from etude.config import load_run_config
from etude.step import Source, Step
from etude_nodes.actor_node import STEPS_AHEAD, ActorNode, LearnerLead
from etude_nodes.policy_inbox import PolicyInbox
from etude_nodes.process import middleware, spinning

STAND_IN = Path(__file__).with_name("learner_stand_in.py")
OBSERVATION = {"state": np.array([1.0, 1.0], np.float32)}


class Learner:
    """The stand-in learner's process."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, str(STAND_IN)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self._process.stdout.readline() == "ready\n"

    def publish(self, what: str, version: int) -> None:
        self._process.stdin.write(f"{what} {version}\n")
        self._process.stdin.flush()
        assert self._process.stdout.readline() == "done\n"

    def kill(self) -> None:
        self._process.kill()
        self._process.communicate()


@pytest.fixture
def learner(domain):
    process = Learner()
    yield process
    process.kill()


class LateActor:
    """The real ActorNode with policy inbox and runner, without a robot."""

    def __init__(self, folder: Path) -> None:
        self.runner = PolicyRunner()
        self.inbox = PolicyInbox(self.runner)
        self.node = ActorNode(load_run_config("robot_configs/runs/demo_state.yaml"), Outbox(folder / "o.sqlite"), self.inbox, ())
        self.node.serve(None)

    def acts(self, value: float) -> bool:
        """Whether the policy that flies now has the weight `value`."""
        expected = np.tanh(2 * value)
        return self.runner.ready and np.allclose(self.runner.act(OBSERVATION, "forward", False), expected, atol=1e-5)


def test_a_late_actor_flies_at_once_and_refuses_what_is_bad(learner: Learner, tmp_path: Path, wait_until) -> None:
    with middleware():
        actor = LateActor(tmp_path)
        with spinning(actor.node):
            wait_until(lambda: actor.runner.ready, 20.0, "program and weights of a learner that published before the actor began")
            assert actor.runner.version == 1 and actor.acts(0.5)

            for version, bad, complaint in (
                (2, "nan", "not finite"),
                (3, "corrupt", "corrupted on the way"),
                (4, "digest", "program"),
            ):
                refused = actor.inbox.refused
                learner.publish(bad, version)
                wait_until(lambda refused=refused: actor.inbox.refused > refused, 10.0, f"refusal of {bad} weights")
                assert complaint in actor.inbox.complaint()
                assert actor.runner.version == 1 and actor.acts(0.5)

            learner.publish("good", 5)
            wait_until(lambda: actor.runner.version == 5, 10.0, "the next good version")
            assert actor.acts(0.5)


def test_a_restarted_learner_is_heard_although_its_versions_begin_again(learner: Learner, tmp_path: Path, wait_until) -> None:
    with middleware():
        actor = LateActor(tmp_path)
        with spinning(actor.node):
            learner.publish("good", 7)
            wait_until(lambda: actor.runner.version == 7, 20.0, "version 7")
            learner.kill()
            second = Learner()
            try:
                wait_until(lambda: actor.runner.version == 1, 20.0, "version 1 of the restarted learner")
            finally:
                second.kill()


def test_a_new_actor_may_advance_beside_others_until_it_is_too_far_ahead() -> None:
    lead = LearnerLead(last_sequence=0)
    assert not lead(), "nobody was heard yet"
    lead.heard(may_advance=True)
    for _ in range(STEPS_AHEAD):
        assert lead()
        lead.made_one()
    assert not lead(), "the learner has received nothing of it"
    lead.received(10)
    assert lead()
    lead.heard(may_advance=False)
    assert not lead()


def test_an_actor_whose_steps_an_older_learner_stored_waits_for_this_one_to_catch_up() -> None:
    lead = LearnerLead(last_sequence=500, pending=30)
    lead.heard(may_advance=True)
    lead.received(100)
    assert not lead()
    lead.received(500)
    assert lead()


def test_a_step_that_does_not_fit_is_dropped_by_the_learner_with_a_reason(tmp_path: Path, wait_until, domain) -> None:
    from learner_stand_in import ACTION, StandIn, export_program
    from learner_stand_in import OBSERVATION as SPEC

    from etude_nodes.learner_node import LearnerNode

    stand_in = StandIn(export_program())
    config = load_run_config("robot_configs/runs/demo_state.yaml")
    with middleware():
        node = LearnerNode(config, stand_in, SPEC, ACTION)
        actor = LateActor(tmp_path)
        with spinning(node), spinning(actor.node):
            for size in (2, 5, 2):
                actor.node.emit(step(np.zeros(size, np.float32)))
            wait_until(lambda: len(stand_in.steps) >= 2 and node.numbers()["steps/malformed"] >= 1, 10.0, "steps at the learner")
            assert all(item.observation["state"].shape == (2,) for item in stand_in.steps)
            actor.node.sender.stop()


def step(state: np.ndarray) -> Step:
    return Step(
        actor_id="",
        sequence=0,
        segment=1,
        index=0,
        stamp_ns=0,
        phase="forward",
        task="slide",
        instruction="",
        observation={"state": state},
        action=np.zeros(2, np.float32),
        policy_action=np.zeros(2, np.float32),
        reward=0.0,
        is_first=True,
        is_last=False,
        is_terminal=False,
        source=Source.POLICY,
        policy_version=0,
    )
