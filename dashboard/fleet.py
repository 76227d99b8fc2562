"""`etude dashboard RUN RUN …`: several runs of this machine side by side, each as a tile with cameras, rates, help and stop.

It follows the pages that the runs serve themselves, as a browser would, and knows neither ROS nor their folders' contents. All
else is on a run's own page, which its tile leads to.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import socket
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from fastapi import FastAPI
from fastapi.responses import FileResponse, JSONResponse, Response
from fastapi.staticfiles import StaticFiles
from websockets.asyncio.client import connect
from websockets.exceptions import WebSocketException

from dashboard.app import MAX_BODY_BYTES, STATIC, Answer, SoftwareStop
from dashboard.guard import SameOriginOnly
from dashboard.server import DashboardError, make_server, open_port
from etude.config import ConfigError
from etude.run_folder import RunFolder, runs_root
from etude.summary import read_json

WATCHED_S = 5.0
"""So long after a browser has asked last, the runs are followed: nobody renders pictures for an empty room."""
SILENT_S = 5.0
AGAIN_S = 1.0
ANSWER_S = 5.0
STATUS_FILE = "dashboard_status.json"
TOLD = (
    "mode",
    "mode_words",
    "message",
    "success",
    "practice_time_s",
    "loop_rate_hz",
    "interventions",
    "policy_version",
    "authority",
)


class Followed:
    """What the page of one run has told. Written by the fleet's thread, read by the server's."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.snapshot: dict[str, Any] | None = None
        self.pictures: dict[str, tuple[int, bytes]] = {}
        self.problem = "Waiting for its page."
        self.heard_at = float("-inf")

    def address(self) -> tuple[str, str]:
        """(URL of the run's page, its token or ""). Raises DashboardError when the run has no page."""
        url = read_json(self.root / STATUS_FILE).get("url")
        if not isinstance(url, str):
            raise DashboardError(f"{self.root.name} has no page: it has not started, or dashboard.enabled is false")
        parts = urlsplit(url)
        return f"{parts.scheme}://{parts.netloc}", parse_qs(parts.query).get("token", [""])[0]

    async def follow(self) -> None:
        """Until the connection ends. Raises OSError, TimeoutError or WebSocketException then."""
        url, token = self.address()
        headers = {"authorization": f"Bearer {token}"} if token else {}
        live = url.replace("http", "ws", 1) + "/live"
        async with connect(live, additional_headers=headers, max_size=2**23, compression=None, proxy=None) as page:
            while True:
                message = await asyncio.wait_for(page.recv(), SILENT_S)
                self.heard_at, self.problem = time.monotonic(), ""
                if isinstance(message, str):
                    self.snapshot = json.loads(message)
                else:
                    camera = message[1 : 1 + message[0]].decode()
                    self.pictures[camera] = self.pictures.get(camera, (0, b""))[0] + 1, message[1 + message[0] :]
                    await page.send("drawn")

    def stop(self, active: bool) -> Answer:
        """Ask the run's own page for the software stop. Blocks until it has answered."""
        try:
            url, token = self.address()
            headers = {"content-type": "application/json"} | ({"authorization": f"Bearer {token}"} if token else {})
            body = json.dumps({"active": active}).encode()
            request = urllib.request.Request(f"{url}/api/software_stop", body, headers)
            try:
                with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=ANSWER_S) as response:
                    told = json.load(response)
            except urllib.error.HTTPError as error:
                told = json.load(error)
            return Answer(bool(told["ok"]), str(told["message"]))
        except (OSError, ValueError, KeyError, DashboardError) as error:
            return Answer(False, f"The page of {self.root.name} has not taken it ({error}): use the hardware's own stop.")

    def tile(self) -> dict[str, Any]:
        """Everything that the tile shows, ready for JSON."""
        with contextlib.suppress(DashboardError):
            url, token = self.address()
            link = f"{url}/?token={token}" if token else url
            snapshot = self.snapshot or {}
            status, run = snapshot.get("status") or {}, snapshot.get("run") or {}
            request = snapshot.get("help")
            return {
                "name": self.root.name,
                "link": link,
                "problem": self.problem,
                "silent": bool(snapshot.get("actor", {}).get("silent")),
                "task": run.get("task", ""),
                "robot": run.get("robot", ""),
                **{name: status.get(name) for name in TOLD},
                "help": request and {"reason": request["reason"], "asked_ms": request["stamp_ns"] // 10**6},
                "cameras": {camera: number for camera, (number, _) in sorted(self.pictures.items())},
            }
        return {"name": self.root.name, "link": None, "problem": "It has no page.", "cameras": {}, "help": None}


class Fleet:
    """Follows `roots` in a thread of its own while somebody looks."""

    def __init__(self, roots: Sequence[Path]) -> None:
        self.runs = [Followed(root) for root in roots]
        self._asked_at = float("-inf")
        self._end = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._follow_all()), name="fleet", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        self._end.set()
        self._thread.join(timeout=5.0)

    def tiles(self) -> list[dict[str, Any]]:
        self._asked_at = time.monotonic()
        return [run.tile() for run in self.runs]

    async def _follow_all(self) -> None:
        await asyncio.gather(*(self._keep(run) for run in self.runs))

    async def _keep(self, run: Followed) -> None:
        while not self._end.is_set():
            if not self._is_watched():
                await asyncio.sleep(0.1)
                continue
            following = asyncio.ensure_future(run.follow())
            while not following.done() and self._is_watched() and not self._end.is_set():
                await asyncio.wait([following], timeout=0.2)
            following.cancel()
            try:
                await following
            except asyncio.CancelledError:
                continue
            except DashboardError as error:
                run.problem = f"{error}."
            except (OSError, TimeoutError, WebSocketException, ValueError) as error:
                reason = str(error) or type(error).__name__
                run.problem = f"Its page does not answer ({reason}). If the run has ended: etude practice resume {run.root}"
            await asyncio.sleep(AGAIN_S)

    def _is_watched(self) -> bool:
        return time.monotonic() - self._asked_at < WATCHED_S


def fleet_app(fleet: Fleet) -> FastAPI:
    """The page with the tiles; its one command is the software stop."""
    app = FastAPI(title="Etude", docs_url=None, redoc_url=None, openapi_url=None, max_body_size=MAX_BODY_BYTES)
    app.add_middleware(SameOriginOnly, served_host="127.0.0.1")
    app.mount("/static", StaticFiles(directory=STATIC), name="static")

    @app.get("/")
    def page() -> FileResponse:
        return FileResponse(STATIC / "fleet.html", headers={"cache-control": "no-cache"})

    @app.get("/api/tiles")
    def tiles() -> JSONResponse:
        return JSONResponse(fleet.tiles())

    @app.get("/api/tiles/{index}/{camera}.jpg")
    def picture(index: int, camera: str) -> Response:
        pictures = fleet.runs[index].pictures if 0 <= index < len(fleet.runs) else {}
        if camera not in pictures:
            return JSONResponse({"ok": False, "message": f"there is no picture of camera {camera!r}"}, status_code=404)
        return Response(pictures[camera][1], media_type="image/jpeg", headers={"cache-control": "no-store"})

    @app.post("/api/tiles/{index}/software_stop")
    def stop(index: int, command: SoftwareStop) -> JSONResponse:
        if not 0 <= index < len(fleet.runs):
            return JSONResponse({"ok": False, "message": f"there is no tile {index}"}, status_code=404)
        answer = fleet.runs[index].stop(command.active)
        return JSONResponse({"ok": answer.ok, "message": answer.message}, status_code=200 if answer.ok else 503)

    return app


def running(root: Path) -> list[Path]:
    """The runs in `root` whose page takes connections now, by name."""
    found = []
    for path in sorted(root.iterdir()) if root.is_dir() else []:
        if path.is_symlink() or not (path / STATUS_FILE).is_file():
            continue
        with contextlib.suppress(DashboardError, OSError, ValueError):
            parts = urlsplit(Followed(path).address()[0])
            socket.create_connection((parts.hostname or "", parts.port or 80), timeout=0.5).close()
            found.append(path)
    return found


def dashboard_command(argv: Sequence[str]) -> int:
    """`etude dashboard`."""
    parser = argparse.ArgumentParser(
        prog="etude dashboard",
        description="Show several runs of this machine side by side: cameras, success, requests for help and a software stop for "
        "each, which leads to the run's own page. Without names: all runs whose page is up now.",
        epilog="examples:\n  etude dashboard\n  etude dashboard runs/left-arm runs/right-arm --port 8440",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("runs", nargs="*", type=Path, metavar="run", help="run folders")
    parser.add_argument("--port", type=int, default=8440, help="port on this machine, 0 picks a free one (default: %(default)s)")
    arguments = parser.parse_args(argv)
    for root in arguments.runs:
        if not RunFolder(root).config.is_file():
            raise ConfigError(f"{root} is no run folder: it has no {RunFolder(root).config.name}")
    roots = [root.resolve() for root in arguments.runs] or running(runs_root())
    if not roots:
        raise ConfigError(
            f"no run in {runs_root()} has a page that is up: start one with etude practice run, or name run folders"
        )
    listener = open_port("127.0.0.1", arguments.port)
    fleet = Fleet(roots)
    fleet.start()
    print(f"{len(roots)} runs: http://127.0.0.1:{listener.getsockname()[1]}  (Ctrl-C ends it, and no run)", flush=True)
    try:
        make_server(fleet_app(fleet)).run(sockets=[listener])
    finally:
        fleet.close()
    return 0
