"""Takes the pictures of the documentation: the page in headless Chromium, the scene by the simulation's own renderer.

python tools/screenshot.py page --url http://127.0.0.1:8420 --out docs/images
python tools/screenshot.py scene --config robot_configs/runs/demo.yaml --out docs/images
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from pathlib import Path

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
VIEWS = {
    "dashboard-dark": ("dark", 1280, 800, 1.5),
    "dashboard-light": ("light", 1280, 800, 1.5),
    "dashboard-phone": ("dark", 390, 844, 2),
}


def find_chromium() -> str | None:
    """Path of an installed Chromium or Chrome, or None."""
    return next((path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None)


def take_page(url: str, out: Path, names: list[str], full_page: bool, seconds: float) -> None:
    """Write ``<name>.png`` for every view; waits until the page is live and has shown a picture or `seconds` have passed."""
    from playwright.sync_api import TimeoutError as Timeout
    from playwright.sync_api import sync_playwright

    chromium = find_chromium()
    if chromium is None:
        raise SystemExit("No Chromium was found. Install one (apt-get install chromium) and run this again.")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=CHROMIUM_ARGUMENTS)
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
            page.screenshot(path=str(path), full_page=full_page)
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


def _shrink(path: Path, limit_bytes: int = 400 * 1024) -> None:
    """A repository keeps every version of a picture for ever: reduce the palette when the file is large."""
    from PIL import Image

    for colours in (256, 128, 64):
        if path.stat().st_size <= limit_bytes:
            return
        with Image.open(path) as image:
            small = image.convert("RGB").quantize(colours, dither=Image.Dither.FLOYDSTEINBERG)
        small.save(path, optimize=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    page = commands.add_parser("page", help="the running page")
    page.add_argument("--url", default="http://127.0.0.1:8420")
    page.add_argument("--views", nargs="+", choices=list(VIEWS), default=list(VIEWS))
    page.add_argument("--full-page", action="store_true")
    page.add_argument("--seconds", type=float, default=3.0, help="How long the page may gather data first.")
    scene = commands.add_parser("scene", help="the simulated scene")
    scene.add_argument("--config", type=Path, default=Path("robot_configs/runs/demo.yaml"))
    scene.add_argument("--seed", type=int, default=0)
    scene.add_argument("--steps", type=int, default=12)
    scene.add_argument("overrides", nargs="*", help="key=value for the configuration")
    for parser_ in (page, scene):
        parser_.add_argument("--out", type=Path, default=Path("docs/images"))
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    if arguments.command == "page":
        take_page(arguments.url, arguments.out, arguments.views, arguments.full_page, arguments.seconds)
    else:
        take_scene(arguments.config, arguments.overrides, arguments.out, arguments.seed, arguments.steps)


if __name__ == "__main__":
    main()
