"""The web application: one static page, one WebSocket that pushes, and a few POSTs that command. Knows no ROS.

Commands are POSTs and not WebSocket messages, so that the software stop never queues behind video. Pictures are sent only as
fast as the browser has drawn the ones before: a slow link gets fewer pictures, never old ones.
"""

from __future__ import annotations

import itertools
import json
import logging
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import anyio
from fastapi import FastAPI, WebSocket, WebSocketDisconnect
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, JSONResponse, Response
from fastapi.staticfiles import StaticFiles
from pydantic import BaseModel, ConfigDict, Field
from starlette.websockets import WebSocketState

from dashboard import answer_page, teleop
from dashboard.episodes import Episodes, NoSuchEpisode
from dashboard.guard import SameOriginOnly, TokenOnly
from dashboard.notify import Links
from etude.episodes.store import StoreError

log = logging.getLogger("etude.dashboard")

STATIC = Path(__file__).parent / "static"
SNAPSHOT_INTERVAL_S = 0.25
POLL_INTERVAL_S = 0.05
MAX_UNDRAWN = 3
"""Pictures on their way to a browser at most; it acknowledges each one that it has drawn."""
DRAWN_TIMEOUT_S = 5.0
"""A browser in a background tab does not draw; it is asked again after this long."""


@dataclass(frozen=True)
class Answer:
    """Outcome of a command, as the page shows it."""

    ok: bool
    message: str = ""


class Bridge(teleop.TeleopBridge, Protocol):
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
    frames: Frames | None = None,
) -> FastAPI:
    """The application for `bridge`. `host` is the address it will be served on: requests for others are refused. With a `token`
    only those who know it are served. `episodes` are the attempts that can be looked at again; None: there are none.
    By `links` a request for help can be answered from elsewhere. `frames` are those to label; None: there are none."""
    # the generated API pages would load scripts from elsewhere
    app = FastAPI(title="Etude", docs_url=None, redoc_url=None, openapi_url=None)
    if token:
        app.add_middleware(TokenOnly, token=token)
    app.add_middleware(SameOriginOnly, served_host=host)  # the outermost: it is asked first
    operators = itertools.count(1)
    app.mount("/static", StaticFiles(directory=STATIC), name="static")
    viewers: set[WebSocket] = set()

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
    def software_stop(command: SoftwareStop) -> JSONResponse:
        return _respond(bridge.software_stop(command.active))

    @app.post("/api/help")
    def resolve_help(command: ResolveHelp) -> JSONResponse:
        return _respond(bridge.resolve_help(command.answer, command.operator))

    @app.post("/api/speed")
    def limit_speed(command: LimitSpeed) -> JSONResponse:
        return _respond(bridge.limit_speed(command.share))

    @app.post("/api/label")
    def label(command: Label) -> JSONResponse:
        return _respond(bridge.label(command.segment, command.success))

    @app.websocket("/teleop")
    async def take_over(socket: WebSocket) -> None:
        await teleop.serve(socket, bridge, f"page {next(operators)}")

    @app.websocket("/live")
    async def live(socket: WebSocket) -> None:
        await socket.accept()
        viewers.add(socket)
        bridge.viewers(len(viewers))
        viewer = _Viewer(socket, bridge)
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(viewer.push)
                await viewer.listen()
                tasks.cancel_scope.cancel()
        finally:
            viewers.discard(socket)
            bridge.viewers(len(viewers))

    return app


class _Viewer:
    """One browser: pushes snapshots and new pictures, and counts the pictures it has drawn."""

    def __init__(self, socket: WebSocket, bridge: Bridge) -> None:
        self._socket = socket
        self._bridge = bridge
        self._undrawn = 0
        self._heard_at = time.monotonic()

    async def push(self) -> None:
        """Send until the browser leaves; `listen` hears of that."""
        try:
            await self._push()
        except WebSocketDisconnect:
            log.debug("the browser left while a message was sent")
        except RuntimeError:
            if self._socket.application_state is WebSocketState.CONNECTED:
                raise  # not Starlette's word for a send after the end

    async def _push(self) -> None:
        revision = 0
        sent: dict[str, int] = {}
        next_snapshot = 0.0
        while True:
            now = time.monotonic()
            if now >= next_snapshot:
                next_snapshot = now + SNAPSHOT_INTERVAL_S
                data = self._bridge.snapshot()
                if data["revision"] == revision:
                    del data["history"]  # the browser has it already
                revision = data["revision"]
                await self._socket.send_text(json.dumps(data, separators=(",", ":")))
            if self._undrawn and now - self._heard_at > DRAWN_TIMEOUT_S:
                self._undrawn = 0
            for camera, sequence in self._bridge.image_sequences().items():
                if self._undrawn >= MAX_UNDRAWN:
                    break
                if sent.get(camera) == sequence:
                    continue
                sent[camera] = sequence
                jpeg = self._bridge.image(camera)
                if jpeg is not None:
                    await self._send_picture(camera, jpeg)
            await anyio.sleep(POLL_INTERVAL_S)

    async def _send_picture(self, camera: str, jpeg: bytes) -> None:
        if self._undrawn == 0:
            self._heard_at = time.monotonic()
        self._undrawn += 1
        name = camera.encode()
        await self._socket.send_bytes(bytes([len(name)]) + name + jpeg)

    async def listen(self) -> None:
        """Browsers say only one thing, ``drawn``; whoever says anything else is no page of ours and is disconnected."""
        while True:
            message = await self._socket.receive()
            if message["type"] == "websocket.disconnect":
                return
            if message.get("text") != "drawn":
                await self._socket.close(1003, "the page sends nothing but 'drawn' here; commands are POSTs")
                return
            self._undrawn = max(0, self._undrawn - 1)
            self._heard_at = time.monotonic()


def _respond(answer: Answer) -> JSONResponse:
    return JSONResponse({"ok": answer.ok, "message": answer.message}, status_code=200 if answer.ok else 503)
