"""Several runs side by side: real servers of two runs and one that is gone, the fleet's own server, a real headless Chromium."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from demo_bridge import DemoBridge, example_config, example_help, example_status, picture
from starlette.testclient import TestClient
from test_page import browser, wait_until  # noqa: F401 (a fixture)

from dashboard import fleet
from dashboard.app import create_app
from dashboard.fleet import STATUS_FILE, Fleet, dashboard_command, fleet_app, running
from dashboard.run_view import RunView
from dashboard.server import make_server, open_port
from etude.config import ConfigError
from etude.status import Mode

HOME = "http://127.0.0.1:8440"


@contextlib.contextmanager
def served(app) -> Iterator[str]:
    listener = open_port("127.0.0.1", 0)
    server = make_server(app)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    server.should_exit = True
    thread.join(timeout=5)
    listener.close()


class Run:
    """A run's folder with the address of its page, which is served."""

    def __init__(self, root: Path, stack: contextlib.ExitStack, token: str = "") -> None:
        self.root = root
        root.mkdir()
        self.bridge = DemoBridge(RunView(example_config(), f"runs/{root.name}"))
        self.bridge.view.on_status(example_status())
        self.url = stack.enter_context(served(create_app(self.bridge, token=token)))
        (root / STATUS_FILE).write_text(json.dumps({"url": f"{self.url}/?token={token}" if token else self.url}))


@pytest.fixture
def runs(tmp_path: Path) -> Iterator[list[Run]]:
    with contextlib.ExitStack() as stack:
        yield [Run(tmp_path / "left", stack), Run(tmp_path / "right", stack, token="t0k-en")]


@pytest.fixture
def gone(tmp_path: Path) -> Path:
    root = tmp_path / "gone"
    root.mkdir()
    with open_port("127.0.0.1", 0) as listener:
        (root / STATUS_FILE).write_text(json.dumps({"url": f"http://127.0.0.1:{listener.getsockname()[1]}"}))
    return root


@pytest.fixture
def followed(runs: list[Run], gone: Path) -> Iterator[Fleet]:
    fleet = Fleet([run.root for run in runs] + [gone])
    fleet.start()
    yield fleet
    fleet.close()


def tile_of(followed: Fleet, index: int, ready) -> dict:
    wait_until(lambda: ready(followed.tiles()[index]), 10.0)
    return followed.tiles()[index]


def test_each_tile_tells_of_its_own_run_also_behind_a_token(runs: list[Run], followed: Fleet) -> None:
    runs[1].bridge.view.on_help(example_help())
    runs[1].bridge.view.on_status(example_status(mode=Mode.AWAITING_HELP))
    left = tile_of(followed, 0, lambda tile: tile.get("mode"))
    assert left["mode"] == "forward" and left["success"]["forward"]["successes"] == 17 and left["help"] is None
    right = tile_of(followed, 1, lambda tile: tile["help"])
    assert right["mode_words"] == "Waiting for help" and right["help"]["reason"] == "The block has left the table."
    assert right["link"].endswith("/?token=t0k-en") and right["problem"] == ""
    json.dumps(followed.tiles(), allow_nan=False)


def test_a_run_that_is_gone_says_so_and_the_others_go_on(followed: Fleet) -> None:
    tile = tile_of(followed, 2, lambda tile: "does not answer" in tile["problem"])
    assert "etude practice resume" in tile["problem"]
    assert tile_of(followed, 0, lambda tile: tile.get("mode"))["problem"] == ""


def test_pictures_go_on_arriving(runs: list[Run], followed: Fleet) -> None:
    client = TestClient(fleet_app(followed), base_url=HOME)
    for number in range(5):
        runs[0].bridge.view.on_image("beauty", picture(64, 40, number))
        tile_of(followed, 0, lambda tile: tile["cameras"].get("beauty") == number + 1)  # noqa: B023
    assert client.get("/api/tiles/0/beauty.jpg").content.startswith(b"\xff\xd8")
    assert client.get("/api/tiles/0/none.jpg").status_code == client.get("/api/tiles/9/beauty.jpg").status_code == 404


def test_nobody_is_followed_when_nobody_looks(runs: list[Run], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fleet, "WATCHED_S", 0.5)
    following = Fleet([runs[0].root])
    following.start()
    try:
        time.sleep(0.5)
        assert runs[0].bridge.viewer_counts == []
        tile_of(following, 0, lambda tile: tile.get("mode"))
        wait_until(lambda: runs[0].bridge.viewer_counts == [1, 0])
    finally:
        following.close()


def test_the_stop_reaches_that_run_alone_and_says_when_it_does_not(runs: list[Run], followed: Fleet) -> None:
    client = TestClient(fleet_app(followed), base_url=HOME)
    assert client.post("/api/tiles/1/software_stop", json={"active": True}).json() == {"ok": True, "message": ""}
    assert runs[1].bridge.commands == [("software_stop", True)] and runs[0].bridge.commands == []
    refused = client.post("/api/tiles/2/software_stop", json={"active": True})
    assert refused.status_code == 503 and "the hardware's own stop" in refused.json()["message"]
    assert client.post("/api/tiles/9/software_stop", json={"active": True}).status_code == 404
    assert client.post("/api/tiles/0/software_stop", json={"active": "yes"}).status_code == 422
    foreign = client.post("/api/tiles/0/software_stop", json={"active": False}, headers={"origin": "http://evil.example"})
    assert foreign.status_code == 403 and runs[0].bridge.commands == []


def test_without_names_it_shows_the_runs_whose_page_is_up(runs: list[Run], gone: Path, tmp_path: Path) -> None:
    (tmp_path / "latest").symlink_to(runs[0].root)
    assert running(tmp_path) == [runs[0].root, runs[1].root]
    assert running(tmp_path / "nowhere") == []


def test_what_is_no_run_is_said_before_anything_is_served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="is no run folder"):
        dashboard_command([str(tmp_path)])
    monkeypatch.setenv("ETUDE_RUNS", str(tmp_path))
    with pytest.raises(ConfigError, match="has a page that is up"):
        dashboard_command([])


# --- the page ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def page(browser, followed: Fleet) -> Iterator:  # noqa: F811
    with served(fleet_app(followed)) as url:
        page = browser.new_page(viewport={"width": 1280, "height": 800})
        page.problems = []
        page.on("pageerror", lambda error: page.problems.append(str(error)))
        page.goto(url)
        page.wait_for_selector(".tile >> nth=2")
        yield page
        page.close()


def test_tiles_show_cameras_rates_help_and_lead_to_their_page(page, runs: list[Run]) -> None:
    left = page.locator(".tile").nth(0)
    runs[0].bridge.view.on_image("beauty", picture(320, 200, 0.0))
    left.locator("img.wide").wait_for()
    wait_until(lambda: left.locator("img.wide").evaluate("image => image.naturalWidth") == 320)
    assert "85%" in left.inner_text() and "17 of 20" in left.inner_text() and "Practising forward" in left.inner_text()
    assert left.locator("a").get_attribute("href") == f"{runs[0].url}"
    runs[1].bridge.view.on_help(example_help())
    page.wait_for_selector(".tile >> nth=1 >> .tile-help.asked")
    wait_until(lambda: "1 waiting for help" in page.inner_text("#count"))
    page.wait_for_selector(".tile.away:has-text('does not answer')")
    assert page.problems == []


def test_a_run_that_is_shown_no_more_leaves_no_tile_that_looks_alive(page, followed: Fleet) -> None:
    assert page.locator(".tile").count() == 3
    followed.runs.pop()  # as a server that was started again on this port
    wait_until(lambda: page.locator(".tile").count() == 2)
    page.wait_for_selector("#count:has-text('2 runs')")


def test_one_stop_stops_one_and_the_big_one_all(page, runs: list[Run]) -> None:
    page.wait_for_selector(".tile >> nth=1 >> text=Practising forward")
    page.locator(".tile").nth(1).locator(".button.stop").click()
    wait_until(lambda: runs[1].bridge.commands == [("software_stop", True)])
    assert runs[0].bridge.commands == []
    runs[1].bridge.view.on_status(example_status(mode=Mode.STOPPED))
    page.locator(".tile").nth(1).get_by_text("Clear the stop").click()
    wait_until(lambda: runs[1].bridge.commands[-1] == ("software_stop", False))
    page.click("#stop-all")
    wait_until(lambda: runs[0].bridge.commands == [("software_stop", True)])
    page.wait_for_selector("#notice:visible")  # the one that is gone was not stopped
    assert "gone has not taken it" in page.inner_text("#notice")
    assert "emergency" not in page.content().lower()


@pytest.mark.parametrize(("width", "height"), [(1280, 800), (1370, 800), (390, 844)])
def test_tiles_fit_and_do_not_overlap(page, width: int, height: int) -> None:
    page.set_viewport_size({"width": width, "height": height})
    page.wait_for_selector(".tile.away")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    hanging = (
        "[...document.querySelectorAll('.tile-rates .head, .tile-foot')].filter((e) => e.scrollWidth > e.clientWidth).length"
    )
    wait_until(lambda: "17 of 20" in page.inner_text("main"))
    assert page.evaluate(hanging) == 0
    boxes = [tile.bounding_box() for tile in page.locator(".tile").all()]
    for i, a in enumerate(boxes):
        for b in boxes[i + 1 :]:
            apart = a["x"] + a["width"] <= b["x"] or b["x"] + b["width"] <= a["x"]
            assert apart or a["y"] + a["height"] <= b["y"] or b["y"] + b["height"] <= a["y"]
