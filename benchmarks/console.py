"""From a click on the page's stop to an arm that holds, while eight cameras stream into a real Chromium.

Browser, page server, ROS 2, actor and control loop are those of a run; the arm is the simulated one in real time. Needs chromium
and the development requirements (playwright).
"""

from __future__ import annotations

import os
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.practising_arm import PICTURE, PICTURES_HZ, Arm
from benchmarks.result import Result

STREAMS = 8
CLICKS = 100
PATIENCE_S = 10.0
WATCH_CLICKS = """document.getElementById('stop').addEventListener('click',
  () => { window.clicked = performance.timeOrigin + performance.now(); }, { capture: true })"""


class _Console:
    """A practising arm with its page."""

    def __init__(self, folder: Path) -> None:
        from dashboard.app import create_app
        from dashboard.run_view import RunView
        from dashboard.server import make_server, open_port
        from etude.run_folder import RunFolder
        from etude_nodes.dashboard_node import DashboardNode

        self.arm = Arm(folder, [f"view_{i}" for i in range(1, STREAMS)])  # and the wide one
        run = RunFolder(folder)
        run.create()
        self.page = DashboardNode(self.arm.shown, run, RunView(self.arm.shown, "runs/bench"))
        self._listener = open_port("127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._server = make_server(create_app(self.page))
        self._thread = threading.Thread(target=self._server.run, kwargs={"sockets": [self._listener]}, daemon=True)
        self._thread.start()

    def end(self) -> None:
        self._server.should_exit = True
        self._thread.join(timeout=5)
        self.arm.end()
        self._listener.close()


@contextmanager
def _console() -> Iterator[_Console]:
    from etude_nodes.practice import choose_domain
    from etude_nodes.process import middleware, spinning

    os.environ["ROS_DOMAIN_ID"] = str(choose_domain(f"console-{os.getpid()}"))
    with tempfile.TemporaryDirectory(prefix="etude-bench-") as name, middleware():
        console = _Console(Path(name))
        with spinning(console.arm.actor), spinning(console.page):
            console.arm.loop.set_mode("practise")
            try:
                yield console
            finally:
                console.end()


def _until(condition: Any, what: str) -> None:
    ends_s = time.monotonic() + PATIENCE_S
    while not condition():
        if time.monotonic() > ends_s:
            raise RuntimeError(f"not within {PATIENCE_S:g} s: {what}")
        time.sleep(0.002)


def click_to_hold() -> Iterator[Result]:
    """Milliseconds from the click in the browser to the arm's hold, `CLICKS` times at random moments."""
    from playwright.sync_api import sync_playwright

    from tools.screenshot import CHROMIUM_ARGUMENTS, find_chromium

    chromium = find_chromium()
    if chromium is None:
        raise RuntimeError("no chromium is installed (apt-get install chromium)")
    rng = np.random.default_rng(0)
    delays, drawn = [], 0
    with _console() as console, sync_playwright() as library:
        browser = library.chromium.launch(executable_path=chromium, args=CHROMIUM_ARGUMENTS)
        page = browser.new_page(viewport={"width": 1280, "height": 800})
        page.goto(console.url)
        page.wait_for_selector("#pause:enabled", timeout=30_000)
        page.evaluate(WATCH_CLICKS)
        page.wait_for_timeout(3000)
        drawn = page.evaluate("document.querySelectorAll('#policy-cameras canvas').length + 1")
        for _ in range(CLICKS):
            acted = len(console.arm.acts_s)
            _until(lambda acted=acted: len(console.arm.acts_s) > acted + 2, "an arm that moves")
            page.wait_for_timeout(float(rng.uniform(0, 100)))
            held = len(console.arm.holds_s)
            page.click("#stop", no_wait_after=True)
            _until(lambda held=held: len(console.arm.holds_s) > held, "a hold after the click")
            delays.append(1000 * console.arm.holds_s[held] - page.evaluate("window.clicked"))
            late = [moment for moment in console.arm.acts_s if moment > console.arm.holds_s[held]]
            if late:
                raise RuntimeError("the arm acted after it had held")
            page.click("#clear-stop")
            _until(lambda: console.arm.loop.status().mode.value == "paused", "a stop that is cleared")
            console.arm.loop.set_mode("practise")
        browser.close()
    settings = {"streams": drawn, "picture": f"{PICTURE[1]}x{PICTURE[0]}", "pictures_per_s": PICTURES_HZ, "clicks": CLICKS}
    yield Result("click_to_hold_p50_ms", float(np.percentile(delays, 50)), "ms", settings)
    yield Result("click_to_hold_p99_ms", float(np.percentile(delays, 99)), "ms", {**settings, "longest": round(max(delays), 1)})
