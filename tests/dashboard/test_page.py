"""The page in a real headless Chromium: it loads, pictures move, commands are posted, and a lost connection is shown."""

from __future__ import annotations

import importlib.util
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from demo_bridge import DemoBridge, example_config, example_help, example_status, fill_history, picture

from dashboard.app import Answer, create_app
from dashboard.run_view import RunView
from dashboard.server import make_server, open_port
from etude.status import Mode

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")

SPEC = importlib.util.spec_from_file_location("screenshot", Path(__file__).parents[2] / "tools" / "screenshot.py")
assert SPEC is not None and SPEC.loader is not None
screenshot = importlib.util.module_from_spec(SPEC)
sys.modules["screenshot"] = screenshot
SPEC.loader.exec_module(screenshot)

WIDTHS = [(1280, 800), (1024, 768), (390, 844)]


@pytest.fixture(scope="module")
def browser() -> Iterator:
    path = screenshot.find_chromium()
    if path is None:
        pytest.skip("no chromium is installed")
    with playwright.sync_playwright() as library:
        browser = library.chromium.launch(executable_path=path, args=screenshot.CHROMIUM_ARGUMENTS)
        yield browser
        browser.close()


class Served:
    """A page on a free port, with a made-up run behind it."""

    def __init__(self) -> None:
        self.view = RunView(example_config(), "runs/test")
        self.bridge = DemoBridge(self.view)
        self.listener = open_port("127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}"
        self.server = make_server(create_app(self.bridge))
        self.thread = threading.Thread(target=self.server.run, kwargs={"sockets": [self.listener]}, daemon=True)
        self.thread.start()

    def stop(self) -> None:
        self.server.should_exit = True
        self.thread.join(timeout=5)
        self.listener.close()


@pytest.fixture
def served() -> Iterator[Served]:
    served = Served()
    yield served
    served.stop()


@pytest.fixture
def page(browser, served: Served) -> Iterator:
    page = browser.new_page(viewport={"width": 1280, "height": 800})
    page.problems = []
    page.on("console", lambda message: page.problems.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: page.problems.append(str(error)))
    page.goto(served.url)
    page.wait_for_selector('body[data-link="live"]')
    yield page
    page.close()


def wait_until(condition, timeout_s: float = 5.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():  # the page's own wait_for_function is refused by its content policy
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


def drawn(page, canvas: str) -> int:
    return int(page.get_attribute(canvas, "data-pictures") or 0)


def test_an_empty_page_says_what_to_do(page) -> None:
    assert "No actor has reported yet" in page.inner_text("#notice-silent")
    assert "runs/test/logs/actor.log" in page.inner_text("#beauty-empty")
    assert "The first points appear" in page.inner_text("#curve")
    assert page.is_disabled("#pause") and page.is_enabled("#stop")
    assert page.problems == []


def test_pictures_arrive_and_go_on_arriving(page, served: Served) -> None:
    for number in range(6):
        for camera, size in (("beauty", (320, 200)), ("front", (64, 64))):
            served.view.on_image(camera, picture(*size, number))
        wait_until(lambda: min(drawn(page, "#beauty"), drawn(page, "canvas[data-camera=front]")) > number)  # noqa: B023
    assert page.evaluate("document.getElementById('beauty').width") == 320
    assert page.problems == []


def test_a_broken_picture_does_not_stop_the_others(page, served: Served) -> None:
    served.view.on_image("beauty", b"\xff\xd8 not a jpeg")
    page.wait_for_timeout(300)
    served.view.on_image("beauty", picture(64, 40, 1.0))
    page.wait_for_selector("#beauty[data-pictures]")


def test_the_stop_button_posts_the_stop_and_the_banner_clears_it(page, served: Served) -> None:
    served.view.on_status(example_status())
    page.click("#stop")
    wait_until(lambda: served.bridge.commands == [("software_stop", True)])
    served.view.on_status(example_status(mode=Mode.STOPPED))
    page.wait_for_selector("#notice-stop:visible")
    page.click("#stop")  # pressing again never clears it
    page.click("#clear-stop")
    wait_until(lambda: served.bridge.commands == [("software_stop", True)] * 2 + [("software_stop", False)])
    assert "emergency" not in page.content().lower()


def test_a_stop_that_did_not_arrive_is_said_loudly(page, served: Served) -> None:
    served.bridge.answer = Answer(False, "No actor answers on /robot/software_stop.")
    page.click("#stop")
    page.wait_for_selector("#notice-command:visible")
    assert "No actor answers on /robot/software_stop." in page.inner_text("#notice-command")


def test_pause_becomes_resume(page, served: Served) -> None:
    served.view.on_status(example_status())
    page.click("#pause:enabled")
    served.view.on_status(example_status(mode=Mode.PAUSED))
    page.wait_for_selector("text=Resume")
    page.click("#pause")
    wait_until(lambda: served.bridge.commands == [("set_mode", "pause"), ("set_mode", "practise")])


@pytest.mark.parametrize(("width", "height"), [(1280, 800), (390, 844)])
def test_the_field_for_words_lies_under_the_picture_and_takes_nothing_of_it(page, width: int, height: int) -> None:
    page.set_viewport_size({"width": width, "height": height})
    picture, words = (page.locator(name).bounding_box() for name in (".stage", "#words"))
    assert words["y"] >= picture["y"] + picture["height"] and abs(words["width"] - picture["width"]) < 2
    scene = page.locator(".beauty").bounding_box()
    assert scene["width"] > 0.7 * picture["width"], "the rest is the policy's cameras"


def test_the_space_key_stops_from_the_empty_field_for_words_and_is_a_space_in_words(page, served: Served) -> None:
    served.view.on_status(example_status())
    page.wait_for_selector("#words-field:enabled")
    page.keyboard.press("/")
    page.keyboard.type("a bit up")
    page.keyboard.press("Enter")
    wait_until(lambda: served.bridge.commands == [("correct", "a bit up")])
    page.fill("#words-field", "")
    page.keyboard.press("Space")
    wait_until(lambda: served.bridge.commands[1:] == [("software_stop", True)])
    assert page.input_value("#words-field") == ""


def test_the_speed_is_limited_by_a_slider_that_shows_what_holds(page, served: Served) -> None:
    served.view.on_status(example_status(speed_limit=0.4))
    page.wait_for_selector("#speed-text:text('40%')")
    assert page.input_value("#speed") == "40"
    page.focus("#speed")
    page.keyboard.press("ArrowLeft")
    wait_until(lambda: served.bridge.commands == [("limit_speed", 0.3)])
    served.view.on_status(example_status(speed_limit=0.3))
    page.focus("#pause")
    page.wait_for_selector("#speed-text:text('30%')")


def test_help_is_explained_and_answered(page, served: Served) -> None:
    served.view.on_status(example_status(mode=Mode.AWAITING_HELP))
    served.view.on_help(example_help(reason="<b>The block</b> has left the table."))
    page.wait_for_selector("#notice-help:visible")
    text = page.inner_text("#notice-help")
    assert "<b>The block</b> has left" in text and "the arm holds still" in text and "ago" in text
    page.click("#help-reset")
    wait_until(lambda: served.bridge.commands == [("resolve_help", "reset", "page")])
    served.view.on_help(example_help(open=False))
    page.wait_for_selector("#notice-help", state="hidden")


def test_a_picture_is_labelled_while_the_request_stays_open(page, served: Served) -> None:
    served.view.on_status(example_status(mode=Mode.AWAITING_HELP))
    served.view.on_help(example_help(question="Question 1: is the scene stuck?", image_jpeg=picture(64, 64, 0.5)))
    page.wait_for_selector("#help-image:visible")
    assert "Question 1" in page.inner_text("#notice-help")
    page.click("#help-not_stuck")
    wait_until(lambda: served.bridge.commands == [("resolve_help", "not_stuck", "page")])
    served.view.on_help(example_help())
    page.wait_for_selector("#help-stuck", state="hidden")
    page.click("#help-take_over")
    wait_until(lambda: served.bridge.commands[-1] == ("resolve_help", "take_over", "page"))


def test_an_attempt_can_be_relabelled(page, served: Served) -> None:
    fill_history(served.view, minutes=2)
    page.click("#success-forward .dot[data-segment]")
    segment = int(page.get_attribute("#relabel", "data-segment"))
    page.click("#relabel-failure")
    wait_until(lambda: served.bridge.commands == [("label", segment, False)])
    page.wait_for_selector("#relabel", state="hidden")


def test_interventions_are_counted_per_hour_of_practice(page, served: Served) -> None:
    served.view.on_status(example_status(interventions=0))
    wait_until(lambda: page.text_content("#stat-interventions") == "0")
    served.view.on_status(example_status(interventions=2, practice_time_s=1800.0))
    wait_until(lambda: page.text_content("#stat-interventions") == "2")
    assert page.text_content("#stat-interventions-note") == "4.0 per hour"


def test_the_curve_answers_to_the_pointer(page, served: Served) -> None:
    fill_history(served.view)
    page.wait_for_selector("#curve .line.forward")
    page.hover("#curve")
    assert "forward" in page.inner_text("#curve .tip") and "steps" in page.inner_text("#curve .tip")
    page.click("#axis-steps")
    assert "steps" in page.inner_text("#curve")
    assert page.problems == []


def test_a_lost_connection_is_shown_and_mended(browser, served: Served) -> None:
    page = browser.new_page()
    page.goto(served.url)
    page.wait_for_selector('body[data-link="live"]')
    page.evaluate("window.stay = true")
    port = served.listener.getsockname()[1]
    served.stop()
    page.wait_for_selector("#notice-link:visible")
    assert "The robot goes on without this page" in page.inner_text("#notice-link")
    again = make_server(create_app(served.bridge))
    thread = threading.Thread(target=again.run, kwargs={"sockets": [open_port("127.0.0.1", port)]}, daemon=True)
    thread.start()
    page.wait_for_selector('body[data-link="live"]', timeout=10_000)
    assert page.evaluate("window.stay")
    page.close()
    again.should_exit = True
    thread.join(timeout=5)


@pytest.mark.parametrize(("width", "height"), WIDTHS)
def test_nothing_overlaps_or_hangs_over_the_edge(page, served: Served, width: int, height: int) -> None:
    page.set_viewport_size({"width": width, "height": height})
    fill_history(served.view)
    served.view.on_help(example_help())
    served.view.on_status(
        example_status(mode=Mode.AWAITING_HELP, message="The block has left the table.", holding=("stale camera",))
    )
    page.wait_for_selector("#notice-help:visible")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    overlaps = page.evaluate("""() => {
      const seen = [...document.querySelectorAll('.card, .notice:not([hidden])')];
      const boxes = seen.map((e) => ({ name: e.className, ...e.getBoundingClientRect().toJSON() }));
      const hit = (a, b) =>
        a.left < b.right - 1 && b.left < a.right - 1 && a.top < b.bottom - 1 && b.top < a.bottom - 1;
      return boxes.flatMap((a, i) => boxes.slice(i + 1).filter((b) => hit(a, b)).map((b) => `${a.name} × ${b.name}`));
    }""")
    assert overlaps == []


def test_nodes_say_how_they_are_worst_first_and_show_their_numbers(page, served: Served) -> None:
    assert page.is_hidden("#nodes-card"), "nobody has told anything"
    served.view.on_diagnostics("learner", "ok", "training", {"updates_per_s": "41.2"})
    served.view.on_diagnostics("robot/actor", "warn", "<b>held</b>: the camera is late", {"loop_rate_hz": "9.1"})
    served.view.on_status(example_status())
    page.wait_for_selector("#nodes details.warn")
    lines = page.locator("#nodes summary")
    assert [lines.nth(i).inner_text().split("\n")[0] for i in range(2)] == ["robot/actor", "learner"]
    assert "<b>held</b>: the camera is late" in lines.nth(0).inner_text()
    lines.nth(1).click()
    page.wait_for_selector("#nodes details[open] dd:text('41.2')")
    served.view.on_diagnostics("learner", "ok", "training", {"updates_per_s": "43.0"})
    page.wait_for_selector("#nodes details[open] dd:text('43.0')")
    assert page.problems == []


def test_the_disk_that_is_left_is_told_and_warned_of(page, served: Served) -> None:
    served.view.on_status(example_status())
    served.view.on_metrics({"disk/free_gb": 41.3}, updates=10)
    page.wait_for_selector("#stat-outbox-note:text('41 GB of disk left')")
    served.view.on_metrics({"disk/free_gb": 1.2}, updates=11)
    page.wait_for_selector(".strip .bad #stat-outbox-note:text('1.2 GB of disk left')")
