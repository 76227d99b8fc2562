"""The whole way: keys in a real Chromium, the page's server, ROS 2, the actor, the control loop, the simulated arm."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("etude_msgs", reason="the ROS interfaces are not built")

from test_page import browser, playwright  # noqa: F401

from actor.control_loop import ControlLoop
from actor.outbox import Outbox
from actor.robots import make_robot
from dashboard.app import create_app
from dashboard.run_view import RunView
from dashboard.server import make_server, open_port
from etude.config import load_run_config, save_config
from etude.run_folder import RunFolder
from etude.status import Mode
from etude.step import Source, Step
from etude_nodes.actor_node import ActorNode
from etude_nodes.dashboard_node import DashboardNode
from etude_nodes.practice import choose_domain
from etude_nodes.process import middleware, spinning


class Trembling:
    """A policy that moves a little to the robot's left, and never reaches anything."""

    ready, version, weight_age_s, irreversible = True, 7, 0.1, float("nan")

    def __init__(self, dim: int) -> None:
        self.action = np.zeros(dim, np.float32)
        self.action[1] = 0.2

    def begin(self) -> None:
        pass

    def prepare(self, observation, phase: str) -> bool:
        return True

    def act(self, observation, phase: str, explore: bool) -> np.ndarray:
        return self.action


class Live:
    """A practising actor and the page's server over real ROS 2, in this process."""

    def __init__(self, folder: Path) -> None:
        settings = [
            "robot=sim_panda",
            "task.forward.max_steps=1000",
            "task.backward.max_steps=1000",
            "recipe.reset.wander_steps=0",
        ]
        self.config = load_run_config("robot_configs/runs/demo_state.yaml", settings)
        self.robot = make_robot(self.config, 0)
        self.acted_s: list[float] = []
        act = self.robot.act
        self.robot.act = lambda action: (self.acted_s.append(time.monotonic()), act(action))[1]
        self.steps: list[Step] = []
        self.actor = ActorNode(self.config, Outbox(folder / "outbox.sqlite"), None, ())  # type: ignore[arg-type]
        self.loop = ControlLoop(
            self.config, self.robot, Trembling(self.robot.action_spec.dim), None, self.steps.append, first_segment=1, seed=0
        )
        self.actor.serve(self.loop)
        run = RunFolder(folder)
        run.create()
        self.page = DashboardNode(self.config, run, RunView(self.config, "runs/live"))
        self.listener = open_port("127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}"
        self.server = make_server(create_app(self.page))
        self.stop = threading.Event()
        self.threads = [
            threading.Thread(target=self.loop.run, args=(self.stop,), daemon=True),
            threading.Thread(target=self._tell, daemon=True),
            threading.Thread(target=self.server.run, kwargs={"sockets": [self.listener]}, daemon=True),
        ]
        for thread in self.threads:
            thread.start()

    def _tell(self) -> None:
        while not self.stop.wait(0.1):
            self.actor.publish_status(self.loop.status())

    def end(self) -> None:
        self.stop.set()
        self.server.should_exit = True
        for thread in self.threads:
            thread.join(timeout=5)
        self.actor.sender.stop()
        self.listener.close()
        self.robot.close()

    def until(self, condition, what: str, timeout_s: float = 20.0) -> None:
        deadline = time.monotonic() + timeout_s
        while not condition():
            assert time.monotonic() < deadline, f"not within {timeout_s:g} s: {what}; {self.loop.status()}"
            time.sleep(0.01)


@pytest.fixture
def live(tmp_path: Path, monkeypatch, request) -> Iterator[Live]:
    monkeypatch.setenv("ROS_DOMAIN_ID", str(choose_domain(request.node.nodeid)))
    with middleware():
        live = Live(tmp_path)
        with spinning(live.actor), spinning(live.page):
            live.loop.set_mode("practise")
            yield live
            live.end()


def open_page(browser, live: Live):  # noqa: F811
    page = browser.new_page()
    page.goto(live.url)
    page.click("#takeover:enabled")
    live.until(lambda: live.loop.status().authority == "human", "the page has authority")
    return page


def test_a_takeover_by_keyboard_moves_the_arm_and_is_stored_as_human_within_the_attempt(browser, live: Live) -> None:  # noqa: F811
    live.until(lambda: len(live.steps) > 3, "the policy acts")
    page = open_page(browser, live)
    before_m = live.robot.tabletop.tool().tcp_m.copy()
    page.keyboard.down("w")
    live.until(lambda: sum(step.source is Source.HUMAN for step in live.steps) >= 8, "the person acts")
    page.keyboard.up("w")
    moved_m = live.robot.tabletop.tool().tcp_m - before_m
    assert moved_m[0] > 0.04 and abs(moved_m[1]) < 0.03, "W is forwards"
    page.keyboard.press("t")
    live.until(lambda: live.loop.status().mode in (Mode.FORWARD, Mode.BACKWARD), "given back")
    count = len(live.steps)
    live.until(lambda: len(live.steps) > count + 3, "the policy goes on")
    page.close()
    assert {step.segment for step in live.steps} == {1} and live.loop.status().interventions == 1
    human = [step for step in live.steps if step.source is Source.HUMAN]
    assert human and live.steps[0].source is live.steps[-1].source is Source.POLICY
    for step in human:
        assert step.action[0] == pytest.approx(0.2 * 0.1 / 0.03, abs=1e-4) and step.action[1] == 0.0  # 0.2 m/s at 10 Hz
        assert step.policy_action[1] == pytest.approx(0.2) and step.policy_version == 7


def test_a_page_that_vanishes_leaves_the_arm_holding_within_300_ms(browser, live: Live) -> None:  # noqa: F811
    page = open_page(browser, live)
    page.keyboard.down("w")
    live.until(lambda: any(step.source is Source.HUMAN for step in live.steps), "the person acts")
    page.close()
    closed_s = time.monotonic()
    live.until(lambda: live.loop.status().authority == "hold", "the command is lost")
    time.sleep(0.5)
    assert max(live.acted_s) - closed_s <= 0.3
    assert live.loop.status().mode is Mode.TAKEOVER and "was lost" in live.loop.status().holding[0]


def test_the_space_key_stops_the_arm(browser, live: Live) -> None:  # noqa: F811
    live.until(lambda: len(live.steps) > 3, "the policy acts")
    page = open_page(browser, live)
    page.keyboard.down("w")
    live.until(lambda: any(step.source is Source.HUMAN for step in live.steps), "the person acts")
    pressed_s = time.monotonic()
    page.keyboard.press("Space")
    live.until(lambda: live.loop.status().mode is Mode.STOPPED, "the software stop is on")
    page.wait_for_selector("#notice-stop:visible")
    print(json.dumps({"stop_after_ms": round(1000 * (max(live.acted_s) - pressed_s))}))
    assert max(live.acted_s) - pressed_s < 1.0
    acted = len(live.acted_s)
    time.sleep(0.5)
    assert len(live.acted_s) == acted, "the key is still held, and nothing moves"
    page.close()


def test_words_on_the_page_move_the_arm_and_are_stored_with_their_steps(browser, live: Live) -> None:  # noqa: F811
    live.until(lambda: len(live.steps) > 3, "the policy acts")
    page = browser.new_page()
    page.goto(live.url)
    page.wait_for_selector("#words-field:enabled")
    page.keyboard.press("/")
    page.keyboard.type("dance a waltz")
    page.keyboard.press("Enter")
    page.wait_for_selector("#words-told.refused:has-text('is not understood')")
    assert live.loop.status().interventions == 0
    page.fill("#words-field", "to the left, then up")
    page.keyboard.press("Enter")
    page.wait_for_selector("#words-told:has-text('to the left 30 mm (0.6 s), then up 30 mm (0.6 s)')")
    live.until(lambda: live.loop.status().interventions == 1 and live.loop.status().authority == "policy", "said and given back")
    live.until(lambda: live.steps[-1].source is Source.POLICY, "the policy goes on")
    page.close()
    said = [step for step in live.steps if step.source is Source.HUMAN]
    assert {step.instruction for step in said} == {"to the left, then up"} and {step.segment for step in live.steps} == {1}
    assert all(step.instruction != "to the left, then up" for step in live.steps if step.source is Source.POLICY)
    names, scale = live.robot.action_spec.names, live.robot.action_spec.scale
    moved_m = {name: sum(float(step.action[i]) * scale[i] for step in said) for i, name in enumerate(names)}
    assert abs(moved_m["x"]) < 1e-6 and 0.015 <= moved_m["y"] <= 0.045 and 0.015 <= moved_m["z"] <= 0.045, moved_m


def say(page, text: str) -> None:
    page.wait_for_selector("#words-field:enabled")
    page.fill("#words-field", text)
    page.press("#words-field", "Enter")


def test_the_page_takes_over_from_words_at_once(browser, live: Live) -> None:  # noqa: F811
    live.until(lambda: len(live.steps) > 3, "the policy acts")
    page = browser.new_page()
    page.goto(live.url)
    say(page, "a lot to the left, a lot to the right, a lot to the left, a lot to the right")
    live.until(lambda: live.loop.status().operator_name == "page (words)", "words move the arm")
    page.click("#takeover:enabled")
    live.until(lambda: live.loop.status().operator_name.startswith("page 1"), "hands have it", 2.0)
    page.click("#takeover")
    live.until(lambda: live.loop.status().authority == "policy", "given back")
    time.sleep(0.5)
    assert live.loop.status().authority == "policy", "what was left of the words moves nothing"
    page.close()


def test_the_word_stop_is_the_software_stop_also_while_words_move_the_arm(browser, live: Live) -> None:  # noqa: F811
    live.until(lambda: len(live.steps) > 3, "the policy acts")
    page = browser.new_page()
    page.goto(live.url)
    say(page, "a lot up, a lot down")
    live.until(lambda: live.loop.status().authority == "human", "words move the arm")
    say(page, "no, stop!")
    live.until(lambda: live.loop.status().mode is Mode.STOPPED, "the software stop is on", 2.0)
    page.wait_for_selector("#notice-stop:visible")
    page.close()


def test_words_for_what_the_task_does_not_move_leave_the_policy_alone(browser, live: Live) -> None:  # noqa: F811
    live.until(lambda: len(live.steps) > 3, "the policy acts")
    page = browser.new_page()
    page.goto(live.url)
    say(page, "close the gripper")
    page.wait_for_selector("#words-told.refused:has-text('this task moves x, y, z alone')")
    assert live.loop.status().interventions == 0
    page.close()


def test_words_from_the_terminal_move_the_arm_and_stop_it(live: Live, tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "of_the_terminal")
    folder.create()
    save_config(live.config, folder.config)

    def etude_correct(*words: str) -> subprocess.CompletedProcess:
        command = [sys.executable, "-m", "etude", "correct", *words, "--run", str(folder.root), "--operator", "ada"]
        return subprocess.run(command, capture_output=True, text=True, timeout=60)

    live.until(lambda: len(live.steps) > 3, "the policy acts")
    said = etude_correct("a", "bit", "up")
    assert said.returncode == 0 and said.stdout.splitlines() == ["up 12 mm (0.5 s)", "the policy goes on"], said
    assert {step.instruction for step in live.steps if step.source is Source.HUMAN} == {"a bit up"}
    stopped = etude_correct("please stop")
    assert stopped.returncode == 0 and "the software stop is on" in stopped.stdout, stopped
    assert live.loop.status().mode is Mode.STOPPED
    refused = etude_correct("up")
    assert refused.returncode != 0 and "the robot is stopped: words move nothing then" in refused.stderr, refused
