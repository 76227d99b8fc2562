"""The label queue in a real headless Chromium: pictures, buttons, keys, and the share of failures that were called success."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import numpy as np
import pytest
from demo_bridge import DemoBridge, example_config, example_status
from stored_run import make_store
from test_page import browser, wait_until  # noqa: F401 (a fixture)

from dashboard.app import create_app
from dashboard.episodes import Episodes
from dashboard.run_view import RunView
from dashboard.server import make_server, open_port
from etude.episodes.store import EpisodeStore
from reward_classifiers.calibration import Calibration
from reward_classifiers.files import save_classifier
from reward_classifiers.page_queue import PageQueue


@pytest.fixture
def page(browser, tmp_path) -> Iterator:  # noqa: F811
    store = make_store(tmp_path / "episodes")
    save_classifier(tmp_path / "classifier", "cnn", {}, {"w": np.ones(1)}, Calibration.uniform(1, 0.8), {}, {})
    frames = PageQueue(tmp_path / "classifier", store.path, tmp_path / "labels")
    bridge = DemoBridge(RunView(example_config(), "runs/test"))
    bridge.view.on_status(example_status())
    listener = open_port("127.0.0.1", 0)
    server = make_server(create_app(bridge, episodes=Episodes(store.path), frames=frames))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    page = browser.new_page(viewport={"width": 1280, "height": 800})
    page.bridge, page.labels = bridge, tmp_path / "labels"
    page.goto(f"http://127.0.0.1:{listener.getsockname()[1]}")
    page.wait_for_selector('body[data-link="live"]')
    page.wait_for_selector("#open-frames:visible")
    page.keyboard.press("l")
    page.wait_for_selector("#frames-pictures img")
    yield page
    page.close()
    server.should_exit = True
    thread.join(timeout=5)
    listener.close()
    store.close()


def labelled(page) -> list[int]:
    """Newest last."""
    if not page.labels.is_dir():
        return []
    with EpisodeStore.open(page.labels, "r") as store:
        infos = sorted(store.segments(), key=lambda info: info.last_stamp_ns, reverse=True)
        return [int(store.read(info).success[-1]) for info in infos]


def answer(page, key: str) -> None:
    """Press it and wait for the next frame."""
    before = page.evaluate("document.getElementById('frames').dataset.frame")
    page.keyboard.press(key)
    wait_until(
        lambda: page.evaluate("document.getElementById('frames').dataset.frame") != before or page.is_visible("#frames-empty")
    )


def test_the_newest_success_is_shown_with_its_pictures_and_the_truth_beside(page):
    assert "attempt 6, step 5" in page.inner_text("#frames-facts") and "called this success" in page.inner_text("#frames-facts")
    wait_until(lambda: page.evaluate("document.querySelector('#frames-pictures img')?.naturalWidth") == 16)
    assert "by the simulator's truth" in page.inner_text("#frames-rate")


def test_buttons_and_keys_answer_and_the_labels_are_stored(page):
    answer(page, "y")
    assert "attempt 5" in page.inner_text("#frames-facts")
    page.click("#frames-failure")
    wait_until(lambda: "attempt 4" in page.inner_text("#frames-facts"))
    answer(page, "s")
    wait_until(lambda: labelled(page) == [1, 0])
    wait_until(lambda: "by 2 labels" in page.inner_text("#frames-rate"))


def test_after_the_last_frame_it_says_so(page):
    for _ in range(20):
        if page.is_visible("#frames-empty"):
            break
        answer(page, "n")
    assert page.is_visible("#frames-empty") and not page.is_visible("#frames-success")


def test_the_space_key_still_stops_and_escape_closes(page):
    page.keyboard.press("Space")
    wait_until(lambda: ("software_stop", True) in page.bridge.commands)
    page.keyboard.press("Escape")
    assert not page.is_visible("#frames")
