"""Takes the pictures of the documentation: the page in headless Chromium, the scene by the simulation's own renderer.

Apart from the packages because nothing of the system needs it.

    python tools/screenshot.py                                  # a short run of the demo, its page, and the scene
    python tools/screenshot.py page --url http://127.0.0.1:8420 # the page of a run that is going on
    python tools/screenshot.py fleet --url http://127.0.0.1:8440 # several runs side by side (etude dashboard)
    python tools/screenshot.py scene                            # the scene only
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Literal

REPOSITORY = Path(__file__).resolve().parent.parent
DEMO = REPOSITORY / "robot_configs" / "runs" / "demo.yaml"
IMAGES = REPOSITORY / "docs" / "images"
sys.path.insert(0, str(REPOSITORY))

CHROMIUM_ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--hide-scrollbars",
]
VIEWS: dict[str, tuple[Literal["dark", "light"], int, int, float]] = {
    "dashboard-dark": ("dark", 1280, 960, 1.5),
    "dashboard-light": ("light", 1280, 960, 1.5),
    "dashboard-phone": ("dark", 390, 844, 2),
    "curves": ("light", 1280, 1100, 1.5),
    "attempts": ("dark", 1280, 800, 1.5),
}
FLEET_VIEWS: dict[str, tuple[Literal["dark", "light"], int, int, float]] = {
    "fleet": ("dark", 1280, 640, 1.5),
    "fleet-phone": ("light", 390, 844, 2),
}


def find_chromium() -> str | None:
    """Path of an installed Chromium or Chrome, or None."""
    return next((path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None)


def _chromium() -> str:
    path = find_chromium()
    if path is None:
        raise SystemExit("No Chromium was found. Install one (apt-get install chromium) and run this again.")
    return path


def take_page(url: str, out: Path, names: list[str], full_page: bool, seconds: float) -> None:
    """Write ``<name>.png`` for every view; waits until the page is live and has shown a picture or `seconds` have passed."""
    from playwright.sync_api import TimeoutError as Timeout
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=_chromium(), args=CHROMIUM_ARGUMENTS)
        for name in names:
            scheme, width, height, scale = VIEWS[name]
            page = browser.new_page(color_scheme=scheme, viewport={"width": width, "height": height}, device_scale_factor=scale)
            page.goto(url)
            try:
                page.wait_for_selector('body[data-link="live"]', timeout=10_000)
                page.wait_for_selector("#beauty[data-pictures]", timeout=int(seconds * 1000), state="attached")
            except Timeout:
                print(f"{url} has shown no live picture within {seconds:g} s; taken as it is", file=sys.stderr)
            page.wait_for_timeout(int(seconds * 1000))
            path = out / f"{name}.png"
            if name == "curves":
                _photograph_curves(page, path)
            else:
                if name == "attempts":
                    _open_an_attempt(page)
                page.screenshot(path=str(path), full_page=full_page)
            page.close()
            _shrink(path)
            print(f"{path}  {path.stat().st_size / 1024:.0f} KB")
        browser.close()


def _photograph_curves(page: Any, path: Path) -> None:
    """The curves alone, with the pointer on one of them."""
    curves = page.locator(".curves")
    curves.scroll_into_view_if_needed()
    page.wait_for_selector("#curves .u-over")
    page.evaluate("scrollTo(0, document.body.scrollHeight)")  # below the bar, which stays at the top
    page.locator("#curves .u-over").first.hover()
    page.wait_for_timeout(500)
    curves.screenshot(path=str(path))


def _open_an_attempt(page: Any) -> None:
    """The last success of the last minutes, some steps after its beginning; any attempt, if there was none."""
    succeeded = page.locator("#timeline .lane.ok")
    (succeeded if succeeded.count() else page.locator("#timeline .lane")).last.click(force=True)
    page.wait_for_selector("#episode-pictures img")
    for _ in range(8):
        page.keyboard.press("ArrowRight")
    page.wait_for_timeout(1000)


def take_fleet(url: str, out: Path, seconds: float) -> None:
    """Write a picture of the tiles for every view."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=_chromium(), args=CHROMIUM_ARGUMENTS)
        for name, (scheme, width, height, scale) in FLEET_VIEWS.items():
            page = browser.new_page(color_scheme=scheme, viewport={"width": width, "height": height}, device_scale_factor=scale)
            page.goto(url)
            page.wait_for_selector(".tile")
            page.wait_for_timeout(int(seconds * 1000))
            path = out / f"{name}.png"
            page.screenshot(path=str(path))
            page.close()
            _shrink(path)
            print(f"{path}  {path.stat().st_size / 1024:.0f} KB")
        browser.close()


def take_scene(config_path: Path, overrides: list[str], out: Path, seed: int, steps: int) -> None:
    """Write ``scene.png``: the beauty view after `steps` steps of the scripted expert."""
    os.environ.setdefault("MUJOCO_GL", "egl")
    import numpy as np
    from PIL import Image

    from actor.robots import make_robot
    from etude.config import load_run_config

    robot = make_robot(load_run_config(config_path, overrides), seed)
    rng = np.random.default_rng(seed)
    robot.hard_reset("forward", rng)
    for _ in range(steps):
        robot.act(robot.expert_action("forward", rng))
    path = out / "scene.png"
    Image.fromarray(robot.render("beauty", 720, 1280)).save(path)
    robot.close()
    _shrink(path)
    print(f"{path}  {path.stat().st_size / 1024:.0f} KB")


def take_demo(out: Path, minutes: float, overrides: list[str]) -> None:
    """Run the demo for `minutes` of practice, take the page's pictures, stop it, and take the scene's."""
    command = [sys.executable, "-m", "etude", "practice", "run", "--config", str(DEMO), *overrides]
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    run = subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True, env=environment, start_new_session=True)
    assert run.stdout is not None
    try:
        url = _wait_for_page(run)
        _wait_for_practice(run, url, minutes)
        take_page(url, out, list(VIEWS), full_page=False, seconds=8.0)
    finally:
        if run.poll() is None:
            os.killpg(run.pid, signal.SIGINT)
            run.communicate(timeout=120)
    take_scene(DEMO, [], out, seed=0, steps=12)


def _wait_for_page(run: subprocess.Popen) -> str:
    for line in run.stdout or ():
        print(line, end="", flush=True)
        if "page:" in line:
            return line.split("page:")[1].split()[0]
    raise SystemExit(f"the demo ended (exit status {run.wait()}) before it had a page; the lines above say why")


def _wait_for_practice(run: subprocess.Popen, url: str, minutes: float) -> None:
    """Block until the run has practised for `minutes` and waits for nobody. Shows its progress lines."""
    import json
    import threading
    import urllib.error
    import urllib.request

    # an unread pipe would stop the run when it is full
    threading.Thread(target=lambda: [print(line, end="", flush=True) for line in run.stdout or ()], daemon=True).start()
    while run.poll() is None:
        time.sleep(2.0)
        try:
            with urllib.request.urlopen(f"{url}/api/snapshot", timeout=5) as answer:
                status = json.load(answer)["status"]
        except (urllib.error.URLError, TimeoutError):
            continue  # the page is not up yet
        if status and status["practice_time_s"] >= 60 * minutes and status["mode"] in ("forward", "backward"):
            return
    raise SystemExit(f"the demo ended (exit status {run.returncode}) before its pictures were taken; the lines above say why")


def _shrink(path: Path, limit_bytes: int = 400 * 1024) -> None:
    """A repository keeps every version of a picture for ever: reduce the palette when the file is large."""
    from PIL import Image

    for colours in (256, 128, 64):
        if path.stat().st_size <= limit_bytes:
            return
        with Image.open(path) as image:
            # maximum coverage keeps the few saturated colours (accent, stop) that a median cut gives away to the photograph
            coverage = Image.Quantize.MAXCOVERAGE
            small = image.convert("RGB").quantize(colours, method=coverage, kmeans=2, dither=Image.Dither.FLOYDSTEINBERG)
        small.save(path, optimize=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command")
    demo = commands.add_parser("demo", help="a short run, its page and the scene (the default)")
    demo.add_argument("--minutes", type=float, default=6.0, help="practice before the pictures are taken")
    page = commands.add_parser("page", help="the page of a run that is going on")
    page.add_argument("--url", default="http://127.0.0.1:8420")
    page.add_argument("--views", nargs="+", choices=list(VIEWS), default=list(VIEWS))
    page.add_argument("--full-page", action="store_true")
    page.add_argument("--seconds", type=float, default=3.0, help="how long the page may gather data first")
    fleet = commands.add_parser("fleet", help="several runs side by side, of an `etude dashboard` that is going on")
    fleet.add_argument("--url", default="http://127.0.0.1:8440")
    fleet.add_argument("--seconds", type=float, default=3.0, help="how long the page may gather data first")
    scene = commands.add_parser("scene", help="the simulated scene")
    scene.add_argument("--config", type=Path, default=DEMO)
    scene.add_argument("--seed", type=int, default=0)
    scene.add_argument("--steps", type=int, default=12)
    for command in (demo, scene):
        command.add_argument("overrides", nargs="*", help="key=value for the configuration")
    for command in (demo, page, fleet, scene):
        command.add_argument("--out", type=Path, default=IMAGES)
    arguments = parser.parse_args(sys.argv[1:] or ["demo"])
    arguments.out.mkdir(parents=True, exist_ok=True)
    if arguments.command == "page":
        take_page(arguments.url, arguments.out, arguments.views, arguments.full_page, arguments.seconds)
    elif arguments.command == "fleet":
        take_fleet(arguments.url, arguments.out, arguments.seconds)
    elif arguments.command == "scene":
        take_scene(arguments.config, arguments.overrides, arguments.out, arguments.seed, arguments.steps)
    else:
        take_demo(arguments.out, arguments.minutes, arguments.overrides)


if __name__ == "__main__":
    main()
