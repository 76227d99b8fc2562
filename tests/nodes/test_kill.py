"""Kill -9 the learner, then the actor, in the middle of a real run: both resume, and no acknowledged step is lost or doubled."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytest.importorskip("rclpy")
pytest.importorskip("etude_msgs")

from etude_msgs import msg
from rclpy.node import Node

from etude.config import load_run_config, save_config
from etude.episodes.commands import validate
from etude.episodes.store import EpisodeStore
from etude.run_folder import RunFolder
from etude.summary import read_json
from etude_nodes import qos
from etude_nodes.process import middleware, spinning

SMALL = [
    "recipe.critic.hidden=[16]",
    "recipe.policy.hidden=[16]",
    "recipe.data.pretrain_bc_steps=20",
    "recipe.data.min_online_steps=20",
    "recipe.data.batch_size=8",
    "recipe.data.utd=1",
    "task.demonstrations_per_direction=2",
    "task.forward.max_steps=15",
    "task.backward.max_steps=15",
    "evaluation.episodes=0",
    "evaluation.interval_episodes=0",
    "publish.checkpoint_interval_s=1",
    "recipe.help.kind=never",
]


class Witness(Node):
    """Hears every acknowledgement, so that the test knows what was promised."""

    def __init__(self) -> None:
        super().__init__("witness")
        self.stored: dict[str, int] = {}
        self.learners: list[str] = []
        self.create_subscription(msg.StepAck, qos.robot_topic("robot", "steps_ack"), self._on_ack, qos.STEPS_ACK)

    def _on_ack(self, message: msg.StepAck) -> None:
        if message.learner_id not in self.learners:
            self.learners.append(message.learner_id)
        if message.actor_id:
            self.stored[message.actor_id] = max(self.stored.get(message.actor_id, 0), message.stored_sequence)

    @property
    def newest(self) -> int:
        return max(self.stored.values(), default=0)


class Process:
    """One node's process of the run; its output goes to a log that a failing test shows."""

    def __init__(self, module: str, folder: RunFolder) -> None:
        self._command = [sys.executable, "-m", module, "--run", str(folder.root)]
        self._log = folder.logs / f"{module}.log"
        self.start()

    def start(self) -> None:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(self._command, stdout=log, stderr=log)

    def kill(self) -> None:
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()

    def terminate(self) -> int:
        self._process.terminate()
        return self._process.wait(30)

    def assert_alive(self) -> None:
        assert self._process.poll() is None, f"{self._log.name} ended:\n{self._log.read_text()[-3000:]}"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, domain: int) -> RunFolder:
    monkeypatch.setenv("ETUDE_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path / "jax"))
    monkeypatch.setenv("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
    folder = RunFolder(tmp_path / "run")
    folder.create()
    save_config(load_run_config("robot_configs/runs/demo_state.yaml", SMALL), folder.config)
    subprocess.run([sys.executable, "-m", "etude_nodes.prepare", "--run", str(folder.root)], check=True, env=dict(os.environ))
    return folder


def _practises_since(folder: RunFolder, moment_s: float) -> bool:
    status = read_json(folder.root / "actor_status.json")
    return status.get("stamp_s", 0.0) > moment_s and status["mode"] in ("forward", "backward")


@pytest.mark.timeout(240)  # three starts of JAX processes, on a machine that may be busy
def test_killed_learner_and_killed_actor_resume_without_loss(folder: RunFolder, wait_until, capsys) -> None:
    learner, actor = Process("etude_nodes.learner_node", folder), Process("etude_nodes.actor_node", folder)
    with middleware():
        witness = Witness()

        def practised(steps: int):
            def enough() -> bool:
                learner.assert_alive()
                actor.assert_alive()
                return witness.newest >= steps

            return enough

        with spinning(witness):
            try:
                wait_until(practised(60), 60, "the first steps acknowledged")
                promised = witness.newest
                learner.kill()
                time.sleep(0.5)
                learner.start()
                wait_until(practised(promised + 60), 60, "practice after the learner was killed")
                actor.kill()
                time.sleep(0.2)
                promised, killed_at = witness.newest, time.time()
                actor.start()
                # what waited in the outbox is acknowledged at once: wait for steps that the new process made
                wait_until(lambda: _practises_since(folder, killed_at), 60, "a restarted actor that practises")
                wait_until(practised(promised + 60), 60, "practice after the actor was killed")
                assert actor.terminate() == 0
                assert learner.terminate() == 0
            finally:
                for process in (actor, learner):
                    process.kill()
    assert len(witness.learners) == 2 and len(witness.stored) == 1
    assert validate([str(folder.root)]) == 0, capsys.readouterr().out
    store = EpisodeStore.open(folder.episodes)
    for actor_id, stored in witness.stored.items():
        assert store.stored(actor_id) >= stored
    updates = read_json(folder.root / "learner_status.json")["updates"]
    assert updates > 60, "the learner went on from its checkpoint instead of beginning again"
    status = read_json(folder.root / "actor_status.json")
    assert status["env_steps"] > 120, "the restarted actor went on counting"
