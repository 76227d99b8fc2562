"""A real arm's programs may start in any order, and any of them may die and come back: nothing moves until all are there.

This is what decision 008 rests on: no manager brings the nodes up, so every order and every return has to be right.
"""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("rclpy")
pytest.importorskip("etude_msgs")

from etude_msgs import msg
from test_franka_arm import ACTOR, SIM, Recorder, config_for

from etude.config import save_config
from etude.run_folder import RunFolder
from etude_nodes import qos
from etude_nodes.process import middleware, spinning

START_S = 60.0
"""A program's start, with MuJoCo and the middleware, on a machine that is busy."""
MOVED_M = 0.02
HOLD_M = 0.005


class Witness(Recorder):
    """Also hears the driver's sign of life."""

    def __init__(self) -> None:
        super().__init__()
        self.beats = 0
        self.create_subscription(msg.Heartbeat, "/robot/heartbeat", self._on_beat, qos.COMMAND)

    def _on_beat(self, message: msg.Heartbeat) -> None:
        self.beats += 1

    def heard(self, part: str) -> int:
        """How many messages only `part` publishes have come."""
        return {"arm": len(self.poses), "safety": len(self.safety), "driver": self.beats}[part]

    def led_away(self) -> bool:
        """Whether a target was elsewhere than the arm, which has not moved yet; a hold says where the arm is."""
        return any(np.linalg.norm(target - self.poses[0][1]) > HOLD_M for _, target in self.targets)

    def way_m(self, since: int) -> float:
        """How far along y the arm went, in the poses from number `since` on."""
        y = [position[1] for _, position in self.poses[since:]]
        return float(np.ptp(y)) if y else 0.0


class Programs:
    """The three programs of a real arm, each started and killed by its name."""

    def __init__(self, run: Path, config_file: Path) -> None:
        self._words = {
            "arm": ["-m", *SIM],
            "safety": ["-m", "etude_nodes.safety_node", "--run", str(run)],
            "driver": ["-c", ACTOR, str(config_file)],
        }
        self._running: dict[str, subprocess.Popen] = {}

    def start(self, part: str) -> None:
        self._running[part] = subprocess.Popen([sys.executable, *self._words[part]])

    def kill(self, part: str) -> None:
        process = self._running.pop(part)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()

    def kill_all(self) -> None:
        for part in tuple(self._running):
            self.kill(part)


@pytest.fixture
def programs(domain: int, tmp_path: Path) -> Iterator[Programs]:
    config = config_for(domain)
    folder = RunFolder(tmp_path / "run")
    folder.root.mkdir()
    save_config(config, folder.config)
    started = Programs(folder.root, folder.config)
    yield started
    started.kill_all()


@pytest.mark.parametrize("order", itertools.permutations(("arm", "safety", "driver")), ids="-".join)
def test_in_any_order_the_arm_moves_once_all_are_there_and_again_when_the_first_returns(
    order: tuple[str, ...], programs: Programs, wait_until
) -> None:
    with middleware():
        witness = Witness()
        with spinning(witness):
            for part in order:
                assert not witness.led_away(), f"a target that is no hold before {part} was started"
                programs.start(part)
                wait_until(lambda part=part: witness.heard(part) > 0, START_S, f"a message of {part}")
            wait_until(lambda: witness.passing and witness.way_m(0) > MOVED_M, START_S, "an arm that is driven")

            gone = order[0]
            programs.kill(gone)
            if gone == "safety":
                since = len(witness.targets)
                wait_until(lambda: still(witness), 10.0, "an arm that stands")
                assert len(witness.targets) <= since + 1, "targets without a safety node; one may have been on its way"
            elif gone == "driver":
                wait_until(lambda: not witness.passing, 10.0, "the safety node's hold")
            else:
                wait_until(lambda: not witness.passing, 10.0, "the safety node to miss the arm")

            counted, poses = witness.heard(gone), len(witness.poses)
            programs.start(gone)
            wait_until(lambda: witness.heard(gone) > counted, START_S, f"{gone} again")
            wait_until(lambda: witness.passing and witness.way_m(poses) > MOVED_M, START_S, "an arm that is driven again")


def still(witness: Witness) -> bool:
    """Whether the arm went less than 2 mm during its last second (the simulated arm tells its pose 50 times in one)."""
    return len(witness.poses) > 50 and witness.way_m(len(witness.poses) - 50) < 0.002
