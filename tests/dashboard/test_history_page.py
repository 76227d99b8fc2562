"""Curves and the strip of the last minutes in a real headless Chromium."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
from demo_bridge import DemoBridge, example_config, example_status
from made_history import make_history
from stored_run import ATTEMPTS, BEGAN_NS, make_store
from test_page import browser, wait_until  # noqa: F401 (a fixture)

from dashboard.app import create_app
from dashboard.curves import Curves
from dashboard.episodes import Episodes
from dashboard.run_view import RunView
from dashboard.server import make_server, open_port
from dashboard.timeline import Timeline
from etude.run_folder import RunFolder

CHARTS = 7


class Served:
    """A page over the files of `folder`."""

    def __init__(self, folder: RunFolder, segments, episodes: Episodes | None = None, now_ns=None) -> None:
        bridge = DemoBridge(RunView(example_config(), "runs/test"))
        bridge.view.on_status(example_status(step_in_segment=60))
        app = create_app(
            bridge,
            episodes=episodes,
            curves=Curves(folder, segments),
            timeline=Timeline(folder, segments, now_ns or (lambda: max(i.last_stamp_ns for i in segments()))),
        )
        self.listener = open_port("127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}"
        self.server = make_server(app)
        self.thread = threading.Thread(target=self.server.run, kwargs={"sockets": [self.listener]}, daemon=True)
        self.thread.start()

    def stop(self) -> None:
        self.server.should_exit = True
        self.thread.join(timeout=5)
        self.listener.close()


@pytest.fixture
def opened(browser) -> Iterator:  # noqa: F811
    """Opens a page over what `Served` gets; closes both at the end."""
    made = []

    def open_it(*arguments, **options):
        served = Served(*arguments, **options)
        page = browser.new_page(viewport={"width": 1280, "height": 800})
        page.problems = []
        page.on("console", lambda message: page.problems.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: page.problems.append(str(error)))
        page.goto(served.url)
        page.wait_for_selector('body[data-link="live"]')
        made.append((page, served))
        return page

    yield open_it
    for page, served in made:
        page.close()
        served.stop()


@pytest.fixture
def page(opened, tmp_path):
    folder = RunFolder(tmp_path / "run")
    segments = make_history(folder)
    return opened(folder, lambda: segments)


def scrolled(page):
    page.locator("#curves").scroll_into_view_if_needed()
    page.wait_for_selector("#curves figure[data-chart=success] .u-over")
    return page


def shown_minutes(page, chart: str = "success") -> str:
    """What the legend says under the pointer at the middle of a chart."""
    page.hover(f"#curves figure[data-chart={chart}] .u-over")
    return page.inner_text(f"#curves figure[data-chart={chart}] .u-legend")


def test_all_curves_are_drawn_and_survive_a_reload(page) -> None:
    for _ in range(2):
        scrolled(page)
        assert page.locator("#curves .u-over").count() == CHARTS
        assert all(int(f.get_attribute("data-points")) > 20 for f in page.locator("#curves figure").all())
        page.reload()
        page.wait_for_selector('body[data-link="live"]')
    assert page.problems == []


def test_the_pointer_shows_values_with_their_interval_in_all_charts_at_once(page) -> None:
    scrolled(page)
    text = shown_minutes(page)
    assert "min" in text and "forward" in text and "to" in text and "low" not in text
    assert "–" not in page.inner_text("#curves figure[data-chart=critic_losses] .u-legend")


def test_dragging_zooms_all_charts_and_a_button_shows_the_whole_run_again(page) -> None:
    scrolled(page)
    before = shown_minutes(page, "weight_age_s")
    box = page.locator("#curves figure[data-chart=success] .u-over").bounding_box()
    page.mouse.move(box["x"] + 0.1 * box["width"], box["y"] + 40)
    page.mouse.down()
    page.mouse.move(box["x"] + 0.2 * box["width"], box["y"] + 40, steps=5)
    page.mouse.up()
    page.wait_for_selector("#curves-whole:visible")
    zoomed = shown_minutes(page, "weight_age_s")
    assert zoomed != before and float(zoomed.split("at")[1].split()[0].strip(":")) < 3.0
    page.click("#curves-whole")
    assert shown_minutes(page, "weight_age_s").split()[:3] == before.split()[:3]
    assert page.problems == []


def test_empty_curves_and_an_empty_strip_say_what_to_do(opened, tmp_path) -> None:
    page = opened(RunFolder(tmp_path / "run"), lambda: [], now_ns=lambda: BEGAN_NS)
    page.locator("#curves").scroll_into_view_if_needed()
    page.wait_for_selector("#curves figure[data-chart=critic_losses] p:visible")
    assert "logs/learner.log" in page.inner_text("#curves figure[data-chart=critic_losses]")
    assert page.locator("#curves .u-over").count() == 0
    assert "Attempts appear here as they end" in page.inner_text(".timeline")
    assert page.problems == []


def test_the_strip_shows_direction_outcome_who_acted_and_waits(page) -> None:
    page.wait_for_selector("#timeline .attempt")
    for part in (".lane.forward.ok", ".lane.backward.fail", ".who.human", ".wait", ".lane.now"):
        page.wait_for_selector(f"#timeline {part} >> nth=0")  # the attempt that goes on is drawn with the next status
    words = page.locator("#timeline .attempt title").first.text_content()
    assert words.startswith("Attempt ") and "by the policy" in words


def test_a_click_on_the_strip_opens_that_attempt(opened, tmp_path) -> None:
    folder = RunFolder(tmp_path / "run")
    store = make_store(folder.episodes)
    # the store's attempts take half a second each: the strip shows the ten minutes after their beginning
    page = opened(folder, store.segments, Episodes(store.path))
    page.wait_for_selector("#timeline .attempt")
    assert page.locator("#timeline .attempt").count() == ATTEMPTS
    page.locator("#timeline .attempt .lane").nth(1).click()
    page.wait_for_selector("#episodes[open] #episode-title:text('Attempt 2')")
    page.keyboard.press("Escape")
    # beside an attempt that is a pixel wide is near enough, in its own lane
    box = page.locator("#timeline .attempt .lane").nth(2).bounding_box()
    page.mouse.click(box["x"] + box["width"] / 2, box["y"] + 5)
    page.wait_for_selector("#episodes[open] #episode-title:text('Attempt 3')")
    assert page.get_attribute("#episode-list button:has(b:text-is('3'))", "aria-current") == "true"
    store.close()
    assert page.problems == []


@pytest.mark.parametrize(("width", "height"), [(1280, 800), (1024, 768), (390, 844)])
def test_nothing_hangs_over_the_edge_and_the_charts_fit(page, width: int, height: int) -> None:
    page.set_viewport_size({"width": width, "height": height})
    scrolled(page)
    page.wait_for_timeout(300)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    overlaps = page.evaluate("""() => [...document.querySelectorAll('#curves figure')].filter((figure) => {
      const area = figure.querySelector('.curve-area'), drawn = figure.querySelector('.uplot');
      return drawn.scrollHeight > area.clientHeight + 1 || drawn.clientWidth > area.clientWidth + 1;
    }).map((figure) => figure.dataset.chart)""")
    assert overlaps == []
