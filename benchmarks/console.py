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

import cv2
import numpy as np

from benchmarks.result import Result

STREAMS, PICTURE, PICTURES_HZ = 8, (360, 640), 15.0
CLICKS = 100
PATIENCE_S = 10.0
WATCH_CLICKS = """document.getElementById('stop').addEventListener('click',
  () => { window.clicked = performance.timeOrigin + performance.now(); }, { capture: true })"""


class _Still:
    """A policy that moves a little and never reaches anything."""

    ready, version, weight_age_s, irreversible = True, 1, 0.1, float("nan")

    def __init__(self, dim: int) -> None:
        self._action = np.zeros(dim, np.float32)
        self._action[1] = 0.2

    def begin(self) -> None:
        pass

    def prepare(self, observation: Any, phase: str) -> bool:
        return True

    def act(self, observation: Any, phase: str, explore: bool) -> np.ndarray:
        return self._action


class _Console:
    """A practising arm with its page. `holds_s` and `acts_s` are the moments (``time.time()``) of what reached the arm."""

    def __init__(self, folder: Path) -> None:
        from actor.control_loop import ControlLoop
        from actor.outbox import Outbox
        from actor.robots import make_robot
        from dashboard.app import create_app
        from dashboard.run_view import RunView
        from dashboard.server import make_server, open_port
        from etude.config import load_run_config
        from etude.run_folder import RunFolder
        from etude_nodes.actor_node import ActorNode
        from etude_nodes.dashboard_node import DashboardNode

        settings = ["robot=sim_panda", "task.forward.max_steps=1000", "task.backward.max_steps=1000"]
        config = load_run_config("robot_configs/runs/demo_state.yaml", settings)
        names = [f"view_{i}" for i in range(1, STREAMS)]  # and the wide one
        shown = config.model_copy(
            update={"observation": "pixels", "task": config.task.model_copy(update={"cameras": tuple(names)})}
        )
        self.robot = make_robot(config, 0)
        self.holds_s: list[float] = []
        self.acts_s: list[float] = []
        act, hold = self.robot.act, self.robot.hold

        def watched_act(action: np.ndarray) -> None:
            self.acts_s.append(time.time())
            act(action)

        def watched_hold() -> None:
            hold()
            self.holds_s.append(time.time())

        self.robot.act, self.robot.hold = watched_act, watched_hold  # type: ignore[method-assign]
        self.actor = ActorNode(config, Outbox(folder / "outbox.sqlite"), None, ())  # type: ignore[arg-type]
        policy = _Still(self.robot.action_spec.dim)
        self.loop = ControlLoop(config, self.robot, policy, None, lambda step: None, first_segment=1, seed=0)  # type: ignore[arg-type]
        self.actor.serve(self.loop)
        run = RunFolder(folder)
        run.create()
        self.page = DashboardNode(config, run, RunView(shown, "runs/bench"))
        self._listener = open_port("127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._server = make_server(create_app(self.page))
        self._stop = threading.Event()
        self._publishers = self._cameras(config.robot_namespace, ["beauty", *names])
        self._threads = [
            threading.Thread(target=self.loop.run, args=(self._stop,), daemon=True),
            threading.Thread(target=self._tell, daemon=True),
            threading.Thread(target=self._stream, daemon=True),
            threading.Thread(target=self._server.run, kwargs={"sockets": [self._listener]}, daemon=True),
        ]
        for thread in self._threads:
            thread.start()

    def _cameras(self, namespace: str, names: list[str]) -> list[Any]:
        from sensor_msgs.msg import CompressedImage

        from etude_nodes import qos

        return [self.actor.create_publisher(CompressedImage, qos.camera_topic(namespace, name), qos.SENSOR) for name in names]

    def _tell(self) -> None:
        while not self._stop.wait(0.1):
            self.actor.publish_status(self.loop.status())

    def _stream(self) -> None:
        """Pictures with noise, which JPEG makes as large as those of a real camera."""
        from etude_nodes import convert

        rng = np.random.default_rng(0)
        pictures = []
        for shade in range(20):
            picture = rng.integers(0, 80, (*PICTURE, 3), np.uint8) + np.uint8(5 * shade)
            pictures.append(cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, 60])[1].tobytes())
        count = 0
        while not self._stop.wait(1.0 / PICTURES_HZ):
            count += 1
            for publisher in self._publishers:
                message = convert.CompressedImage(format="jpeg")
                message.header.stamp = self.actor.get_clock().now().to_msg()
                message.data = pictures[count % len(pictures)]
                publisher.publish(message)

    def end(self) -> None:
        self._stop.set()
        self._server.should_exit = True
        for thread in self._threads:
            thread.join(timeout=5)
        self.actor.sender.stop()
        self._listener.close()
        self.robot.close()


@contextmanager
def _console() -> Iterator[_Console]:
    from etude_nodes.practice import choose_domain
    from etude_nodes.process import middleware, spinning

    os.environ["ROS_DOMAIN_ID"] = str(choose_domain(f"console-{os.getpid()}"))
    with tempfile.TemporaryDirectory(prefix="etude-bench-") as name, middleware():
        console = _Console(Path(name))
        with spinning(console.actor), spinning(console.page):
            console.loop.set_mode("practise")
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
            acted = len(console.acts_s)
            _until(lambda acted=acted: len(console.acts_s) > acted + 2, "an arm that moves")
            page.wait_for_timeout(float(rng.uniform(0, 100)))
            held = len(console.holds_s)
            page.click("#stop", no_wait_after=True)
            _until(lambda held=held: len(console.holds_s) > held, "a hold after the click")
            delays.append(1000 * console.holds_s[held] - page.evaluate("window.clicked"))
            late = [moment for moment in console.acts_s if moment > console.holds_s[held]]
            if late:
                raise RuntimeError("the arm acted after it had held")
            page.click("#clear-stop")
            _until(lambda: console.loop.status().mode.value == "paused", "a stop that is cleared")
            console.loop.set_mode("practise")
        browser.close()
    settings = {"streams": drawn, "picture": f"{PICTURE[1]}x{PICTURE[0]}", "pictures_per_s": PICTURES_HZ, "clicks": CLICKS}
    yield Result("click_to_hold_p50_ms", float(np.percentile(delays, 50)), "ms", settings)
    yield Result("click_to_hold_p99_ms", float(np.percentile(delays, 99)), "ms", {**settings, "longest": round(max(delays), 1)})
