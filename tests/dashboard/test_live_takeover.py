"""A live run: a person takes over on the page by keyboard, the simulated arm moves, and the steps are stored as theirs. Slow."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest
from test_page import browser, playwright  # noqa: F401

pytest.importorskip("etude_msgs", reason="the ROS interfaces are not built")

from etude.episodes.store import EpisodeStore
from etude.run_folder import RunFolder
from etude.step import Source


def wait_until(condition, timeout_s: float, what: str):
    deadline = time.monotonic() + timeout_s
    while not (value := condition()):
        assert time.monotonic() < deadline, f"not within {timeout_s:g} s: {what}"
        time.sleep(0.05)
    return value


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_takeover_by_keyboard_is_stored_as_human(browser, tmp_path: Path) -> None:  # noqa: F811
    root = tmp_path / "live"
    settings = [
        "robot=sim_panda",
        "evaluation.episodes=0",
        "evaluation.interval_episodes=0",
        "task.demonstrations_per_direction=5",
    ]
    command = [sys.executable, "-m", "etude", "practice", "run", "--observation", "state", "--task", "slide", "--name", "live"]
    environment = {**os.environ, "ETUDE_DATA": str(tmp_path / "data"), "ETUDE_RUNS": str(tmp_path)}
    with (tmp_path / "log").open("w") as log:
        run = subprocess.Popen([*command, "--port", "0", *settings], stdout=log, stderr=log, env=environment)
    try:
        folder = RunFolder(root)
        status = root / "dashboard_status.json"
        wait_until(lambda: status.exists() or run.poll() is not None, 240, "the page is up")
        assert run.poll() is None, (tmp_path / "log").read_text()
        url = json.loads(status.read_text())["url"]

        def said() -> dict:
            return httpx.get(f"{url}/api/snapshot").json()["status"] or {}

        wait_until(lambda: said().get("mode") in ("forward", "backward"), 240, "practice has begun")
        page = browser.new_page()
        page.goto(url)
        page.click("#takeover:enabled")
        wait_until(lambda: said()["authority"] == "human", 10, "the page has authority")
        page.keyboard.down("w")
        time.sleep(1.5)
        page.keyboard.up("w")
        held = said()
        assert held["mode"] == "takeover" and held["interventions"] == 1
        page.keyboard.press("t")
        wait_until(lambda: said()["authority"] == "policy" and said()["mode"] in ("forward", "backward"), 10, "given back")
        wait_until(lambda: said()["segment"] > held["segment"] + 2, 60, "practice goes on")
    finally:
        run.send_signal(signal.SIGINT)
        run.wait(120)
    store = EpisodeStore.open(folder.episodes, "r")
    segments = [store.read(info) for info in store.segments()]
    store.close()
    mixed = [s for s in segments if (s.source[:-1] == Source.HUMAN).any() and (s.source[:-1] == Source.POLICY).any()]
    assert mixed, "within one segment the person took over from the policy or gave back to it"
    human = mixed[0].source[:-1] == Source.HUMAN
    assert human.sum() >= 5
    forward = mixed[0].action[:-1][human]
    assert (forward[:, 0] > 0.3).all() and (abs(forward[:, 1]) < 1e-6).all(), "W is forwards, the base's x, and nothing else"
    assert not (mixed[0].policy_action[:-1][human] == forward).all(), "the policy's proposals are kept beside it"
