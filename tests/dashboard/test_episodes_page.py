"""The browser of stored attempts in a real headless Chromium."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
from demo_bridge import DemoBridge, example_config, example_status
from stored_run import ATTEMPTS, STEPS, make_store
from test_page import browser, wait_until  # noqa: F401 (a fixture)

from dashboard.app import create_app
from dashboard.episodes import Episodes
from dashboard.run_view import RunView
from dashboard.server import make_server, open_port


@pytest.fixture
def page(browser, tmp_path) -> Iterator:  # noqa: F811
    store = make_store(tmp_path / "episodes")
    bridge = DemoBridge(RunView(example_config(), "runs/test"))
    bridge.view.on_status(example_status())
    listener = open_port("127.0.0.1", 0)
    server = make_server(create_app(bridge, episodes=Episodes(store.path)))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    page = browser.new_page(viewport={"width": 1280, "height": 800})
    page.bridge = bridge
    page.goto(f"http://127.0.0.1:{listener.getsockname()[1]}")
    page.wait_for_selector('body[data-link="live"]')
    page.keyboard.press("b")
    page.wait_for_selector("#episode-list button")
    yield page
    page.close()
    server.should_exit = True
    thread.join(timeout=5)
    listener.close()
    store.close()


def test_the_newest_attempt_is_shown_first_with_its_pictures(page):
    assert page.locator("#episode-list button").count() == ATTEMPTS
    assert "Attempt 6" in page.inner_text("#episode-title")
    wait_until(lambda: page.evaluate("document.querySelector('#episode-pictures img')?.naturalWidth") == 16)


def test_keys_step_through_an_attempt_and_the_strip_says_who_acted(page):
    page.click("#episode-list button:has(b:text-is('2'))")
    page.wait_for_selector("#episode-strip .human")
    assert page.locator("#episode-strip .source").count() == STEPS
    assert page.locator("#episode-strip .human").count() == 2
    for _ in range(2):
        page.keyboard.press("ArrowRight")
    assert "step 2 of 5" in page.inner_text("#episode-step") and "a person acts" in page.inner_text("#episode-step")
    page.keyboard.press("ArrowLeft")
    assert "the policy acts" in page.inner_text("#episode-step")


def test_the_classifiers_probability_is_drawn_under_the_steps(page):
    page.click("#episode-list button:has(b:text-is('5'))")
    page.wait_for_selector("#episode-probability path.line")
    heights = [float(point.split()[1]) for point in page.get_attribute("#episode-probability path", "d")[1:].split("L")]
    assert len(heights) == STEPS + 1 and heights[0] > 30 > 10 > heights[-1]  # 0.1 until the last observation, which has 0.9


def test_a_judge_that_was_wrong_is_marked(page):
    assert page.locator("#episode-list em").count() == 1
    assert "4" in page.inner_text("#episode-list button:has(em) b")


def test_the_software_stop_stays_within_reach(page):
    page.click("#stop", timeout=2000)
    wait_until(lambda: ("software_stop", True) in page.bridge.commands)


def test_escape_closes_it_and_the_space_key_still_stops(page):
    page.keyboard.press("Space")
    wait_until(lambda: ("software_stop", True) in page.bridge.commands)
    page.keyboard.press("Escape")
    assert not page.is_visible("#episodes")


def test_a_phone_shows_list_and_attempt_without_scrolling_sideways(page):
    page.set_viewport_size({"width": 390, "height": 844})
    assert page.evaluate("document.querySelector('#episodes').scrollWidth <= innerWidth")
    assert page.is_visible("#episode-slider")
