"""What the proof on simulated hardware calls a control period."""

from __future__ import annotations

import importlib.util
import sys
import time

import pytest

pytest.importorskip("rclpy")

from geometry_msgs.msg import PoseStamped

from etude.config import REPOSITORY

spec = importlib.util.spec_from_file_location("prove_hardware_sim", REPOSITORY / "tools" / "prove_hardware_sim.py")
assert spec is not None and spec.loader is not None
proof = importlib.util.module_from_spec(spec)
sys.modules["prove_hardware_sim"] = proof
spec.loader.exec_module(proof)


def test_periods_are_those_in_which_the_driver_commanded_however_late_they_are_heard() -> None:
    commands_s, began_s, now_s = [], time.monotonic(), time.time()
    for number in range(50):
        moment_s = now_s + 1.0 + 0.1 * number
        command = PoseStamped()
        command.header.stamp.sec, command.header.stamp.nanosec = int(moment_s), int(1e9 * (moment_s % 1.0))
        commands_s.append(proof.sent_s(command))
    found = proof.periods_on_the_wire(commands_s, [], began_s, began_s + 60.0)
    assert found == {"n": 49, "p50_ms": 100, "p99_ms": 100}
    fault = {"at_s": began_s + 2.05, "recovered_s": 1.0}
    assert proof.periods_on_the_wire(commands_s, [fault], began_s, began_s + 60.0)["n"] == 49 - 11
