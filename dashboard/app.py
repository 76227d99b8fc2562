"""The web application: one static page, one WebSocket that pushes, and a few POSTs that command. Knows no ROS.

Commands are POSTs and not WebSocket messages, so that the software stop never queues behind video. Pictures are sent only as
fast as the browser has drawn the ones before: a slow link gets fewer pictures, never old ones.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import anyio
from fastapi import FastAPI, WebSocket
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, JSONResponse, Response
from fastapi.staticfiles import StaticFiles
from pydantic import BaseModel, ConfigDict, Field

from dashboard import answer_page, teleop
from dashboard.curves import Curves
from dashboard.episodes import Episodes, NoSuchEpisode
from dashboard.guard import SameOriginOnly, TokenOnly
from dashboard.live import LiveBridge, Snapshots, Viewer
from dashboard.notify import Links
from dashboard.timeline import Timeline
from etude.episodes.store import StoreError

STATIC = Path(__file__).parent / "static"
MAX_BODY_BYTES = 16 * 1024
"""Of a request; commands are a few dozen bytes."""
MAX_WATCHERS = 100
"""Browsers that look at the same time; each costs memory and a share of the network."""
STOP_THREADS = 4
"""Of the software stop alone: it never waits until other commands have been answered."""


@dataclass(frozen=True)
class Answer:
    """Outcome of a command, as the page shows it."""

    ok: bool
    message: str = ""


class Bridge(teleop.TeleopBridge, LiveBridge, Protocol):
    """What the page needs of the outside. Command methods may block for a second or two: they run in worker threads."""

    def snapshot(self) -> dict[str, Any]:
        """Status, metrics and histories for JSON; see `dashboard.run_view.RunView.snapshot`."""
        ...

    def image(self, camera: str) -> bytes | None:
        """The newest JPEG of `camera`, or None."""
        ...

    def image_sequences(self) -> dict[str, int]: ...

    def viewers(self, count: int) -> None:
        """How many browsers look now; with none, nobody needs to encode pictures."""
        ...

    def set_mode(self, mode: str) -> Answer: ...

    def software_stop(self, active: bool) -> Answer: ...

    def resolve_help(self, answer: str, operator: str) -> Answer: ...

    def label(self, segment: int, success: bool) -> Answer: ...

    def limit_speed(self, share: float) -> Answer: ...

    def correct(self, text: str) -> Answer:
        """Carry out a person's words; the answer says what was understood."""
        ...


class Frames(Protocol):
    """The queue of single frames that a person should look at, because the reward classifier called them success or doubts.

    Methods raise LookupError with a reason for people. They read files and run in worker threads.
    """

    def questions(self) -> dict[str, Any]:
        """``questions``: each with ``key``, ``row``, ``cameras``, ``kind``, …; ``by_labels`` and ``by_truth``: rates or None."""
        ...

    def answer(self, key: str, row: int, success: bool | None) -> None:
        """None: skipped."""
        ...


class Command(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class SetMode(Command):
    mode: Literal["practise", "pause", "evaluate", "idle"]


class SoftwareStop(Command):
    active: bool


class ResolveHelp(Command):
    answer: str = Field(min_length=1, max_length=200)
    operator: str = Field("operator", min_length=1, max_length=80)


class Correct(Command):
    text: str = Field(min_length=1, max_length=200)


class LimitSpeed(Command):
    share: float = Field(ge=0.1, le=1.0, strict=False)


class Label(Command):
    segment: int = Field(ge=1)
    success: bool


class FrameLabel(Command):
    key: str = Field(max_length=120)
    row: int = Field(ge=0)
    success: bool | None


def create_app(
    bridge: Bridge,
    host: str = "127.0.0.1",
    token: str = "",
    episodes: Episodes | None = None,
    links: Links | None = None,
    curves: Curves | None = None,
    timeline: Timeline | None = None,
    frames: Frames | None = None,
) -> FastAPI:
    """The application for `bridge`. `host` is the address it will be served on: requests for others are refused. With a `token`
    only those who know it are served. `episodes` are the attempts that can be looked at again, `curves` and `timeline` what is
    drawn of the run's files, `frames` those to label; None: there are none. By `links` a request for help can be answered from
    elsewhere."""
    # the generated API pages would load scripts from elsewhere
    app = FastAPI(title="Etude", docs_url=None, redoc_url=None, openapi_url=None, max_body_size=MAX_BODY_BYTES)
    if token:
        app.add_middleware(TokenOnly, token=token)
    app.add_middleware(SameOriginOnly, served_host=host)  # the outermost: it is asked first
    operators = itertools.count(1)
    app.mount("/static", StaticFiles(directory=STATIC), name="static")
    viewers: set[WebSocket] = set()
    snapshots = Snapshots(bridge)
    stop_threads = anyio.CapacityLimiter(STOP_THREADS)

    @app.exception_handler(RequestValidationError)
    async def refuse(_request: Any, error: RequestValidationError) -> JSONResponse:
        problems = "; ".join(f"{'.'.join(str(p) for p in e['loc'][1:]) or 'body'}: {e['msg']}" for e in error.errors())
        return JSONResponse({"ok": False, "message": f"the request is malformed: {problems}"}, status_code=422)

    @app.get("/")
    def page() -> FileResponse:
        return FileResponse(STATIC / "index.html", headers={"cache-control": "no-cache"})

    @app.get("/api/snapshot")
    def snapshot() -> JSONResponse:
        return JSONResponse(bridge.snapshot())

    @app.get("/api/image/{camera}.jpg")
    def image(camera: str) -> Response:
        data = bridge.image(camera)
        if data is None:
            return JSONResponse({"ok": False, "message": f"there is no picture of camera {camera!r}"}, status_code=404)
        return Response(data, media_type="image/jpeg", headers={"cache-control": "no-store"})

    @app.exception_handler(NoSuchEpisode)
    async def absent(_request: Any, error: NoSuchEpisode) -> JSONResponse:
        return JSONResponse({"ok": False, "message": str(error)}, status_code=404)

    @app.exception_handler(StoreError)
    async def damaged(_request: Any, error: StoreError) -> JSONResponse:
        return JSONResponse({"ok": False, "message": str(error)}, status_code=500)

    def stored() -> Episodes:
        if episodes is None:
            raise NoSuchEpisode("this page has no stored attempts")
        return episodes

    @app.get("/api/episodes")
    def listing(before: str | None = None) -> JSONResponse:
        return JSONResponse(stored().listing(before))

    @app.get("/api/episodes/{key}")
    def episode(key: str) -> JSONResponse:
        return JSONResponse(stored().detail(key))

    @app.get("/api/episodes/{key}/{camera}/{index}.jpg")
    def stored_picture(key: str, camera: str, index: int) -> Response:
        # what is stored never changes
        headers = {"cache-control": "private, max-age=86400, immutable"}
        return Response(stored().picture(key, camera, index), media_type="image/jpeg", headers=headers)

    @app.get("/api/curves")
    def history() -> JSONResponse:
        return JSONResponse(curves.data() if curves else {"charts": []})

    @app.get("/api/timeline")
    def strip() -> JSONResponse:
        return JSONResponse(timeline.data() if timeline else {"segments": [], "help": []})

    @app.get("/api/frames")
    def frames_to_label() -> JSONResponse:
        if frames is None:
            return _respond(Answer(False, "frames can be labelled while a run with a reward classifier practises"))
        try:
            return JSONResponse({"ok": True, **frames.questions()})
        except LookupError as error:
            return _respond(Answer(False, str(error)))

    @app.post("/api/frame_label")
    def label_frame(command: FrameLabel) -> JSONResponse:
        if frames is None:
            return _respond(Answer(False, "this page has no frames to label"))
        try:
            frames.answer(command.key, command.row, command.success)
        except LookupError as error:
            return _respond(Answer(False, str(error)))
        return _respond(Answer(True))

    if links is not None:
        answer_page.add(app, bridge.snapshot, bridge.resolve_help, links)

    @app.get("/api/ping")
    def ping() -> Response:
        return Response(status_code=204, headers={"cache-control": "no-store"})

    @app.post("/api/mode")
    def set_mode(command: SetMode) -> JSONResponse:
        return _respond(bridge.set_mode(command.mode))

    @app.post("/api/software_stop")
    async def software_stop(command: SoftwareStop) -> JSONResponse:
        return _respond(await anyio.to_thread.run_sync(bridge.software_stop, command.active, limiter=stop_threads))

    @app.post("/api/help")
    def resolve_help(command: ResolveHelp) -> JSONResponse:
        return _respond(bridge.resolve_help(command.answer, command.operator))

    @app.post("/api/speed")
    def limit_speed(command: LimitSpeed) -> JSONResponse:
        return _respond(bridge.limit_speed(command.share))

    @app.post("/api/correct")
    def correct(command: Correct) -> JSONResponse:
        return _respond(bridge.correct(command.text))

    @app.post("/api/label")
    def label(command: Label) -> JSONResponse:
        return _respond(bridge.label(command.segment, command.success))

    @app.websocket("/teleop")
    async def take_over(socket: WebSocket) -> None:
        await teleop.serve(socket, bridge, f"page {next(operators)}")

    @app.websocket("/live")
    async def live(socket: WebSocket) -> None:
        await socket.accept()
        if len(viewers) >= MAX_WATCHERS:
            await socket.close(1013, f"{MAX_WATCHERS} browsers look already; close one")
            return
        viewers.add(socket)
        bridge.viewers(len(viewers))
        try:
            await Viewer(socket, bridge, snapshots).serve()
        finally:
            viewers.discard(socket)
            bridge.viewers(len(viewers))

    return app


def _respond(answer: Answer) -> JSONResponse:
    return JSONResponse({"ok": answer.ok, "message": answer.message}, status_code=200 if answer.ok else 503)
