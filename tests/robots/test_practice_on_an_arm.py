"""The real control loop drives the Franka driver: practice holds through a fault, goes on after recovery, and stops when told."""

from __future__ import annotations

import threading
import time

import numpy as np
from test_franka import FakeArm

from actor.control_loop import ControlLoop
from actor.robots.franka import FrankaRobot
from etude.config import load_run_config
from etude.status import Mode

RATE_HZ = 25


class Pusher:
    """A policy that pushes along +y forward and along -y backward, and asks for far too much."""

    ready, version, weight_age_s, irreversible = True, 1, 0.1, float("nan")

    def begin(self) -> None:
        pass

    def prepare(self, observation, phase: str) -> bool:
        return True

    def act(self, observation, phase: str, explore: bool) -> np.ndarray:
        return np.array([0.0, 5.0 if phase == "forward" else -5.0, 0.0], np.float32)


class WhereJudge:
    name = "cnn:test"

    def probability(self, observation, phase: str) -> float:
        y = float(observation["state"][1])
        return float(y > 0.12 if phase == "forward" else y < -0.12)

    def threshold(self, phase: str) -> float:
        return 0.5

    def doubt(self, observation, phase: str) -> float:
        return 0.0

    def forget(self) -> None:
        pass


def wait(condition, what: str, timeout_s: float = 10.0) -> None:
    until = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < until, f"not within {timeout_s:g} s: {what}"
        time.sleep(0.01)


def test_practice_on_an_arm_holds_through_a_reflex_and_goes_on() -> None:
    overrides = [f"robot.control_rate_hz={RATE_HZ}", "recipe.help.kind=never", "robot.franka.recovery.min_interval_s=0.5"]
    config = load_run_config({"name": "arm", "task": "slide", "robot": "franka_sim", "recipe": "rlpd"}, overrides)
    arm, steps = FakeArm(), []
    robot = FrankaRobot(config.task, config.robot, config.observation, arm)
    loop = ControlLoop(config, robot, Pusher(), WhereJudge(), steps.append, first_segment=1, seed=0)
    stop = threading.Event()
    thread = threading.Thread(target=loop.run, args=(stop,), daemon=True)
    thread.start()
    try:
        loop.set_mode("practise")
        wait(lambda: loop.status().segment > 2, "two attempts")
        assert {step.phase for step in steps} == {"forward", "backward"}
        assert any(step.success == 1 and step.judged_by == "cnn:test" for step in steps)

        arm.changes = {"mode": "reflex"}
        wait(lambda: "reflex" in " ".join(loop.status().holding), "the reflex on the page")
        held = arm.pose.copy()
        wait(lambda: "/sim/error_recovery" in arm.calls.made, "the recovery")
        np.testing.assert_allclose(arm.pose, held, atol=1e-9)
        arm.changes = {}
        count = len(steps)
        wait(lambda: len(steps) > count + 5, "practice after it")

        loop.software_stop(True)
        wait(lambda: loop.status().mode is Mode.STOPPED, "the software stop")
        time.sleep(0.3)
        stopped = arm.pose.copy()
        time.sleep(0.3)
        np.testing.assert_allclose(arm.pose, stopped, atol=1e-9)
    finally:
        stop.set()
        thread.join(5)
    positions = np.array([command[:3, 3] for command in arm.commands])
    limits = config.robot.franka.limits
    assert (positions >= np.array(limits.workspace_min_m) - 1e-9).all()
    assert (positions <= np.array(limits.workspace_max_m) + 1e-9).all()
    assert np.linalg.norm(np.diff(positions, axis=0), axis=1).max() <= limits.max_velocity_m_s / RATE_HZ + 1e-9
