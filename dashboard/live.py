"""The connection that pushes to a browser: snapshots four times a second, and pictures as fast as it draws them.

Apart from `app` because everything here is about many browsers, slow ones and rude ones: what all of them see is made once, and
what one of them does not take is never piled up for it.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable
from typing import Any, Protocol

import anyio
from fastapi import WebSocket, WebSocketDisconnect
from starlette.websockets import WebSocketState

from dashboard.sockets import Pace

log = logging.getLogger("etude.dashboard")

SNAPSHOT_INTERVAL_S = 0.25
POLL_INTERVAL_S = 0.05
MAX_UNDRAWN = 3
"""Pictures on their way to a browser at most; it acknowledges each one that it has drawn."""
DRAWN_TIMEOUT_S = 5.0
"""A browser in a background tab does not draw; it is asked again after this long."""
MAX_MESSAGES_PER_S = 400
"""From one browser: far more than a page says, with eight cameras that it has just drawn, or with every key held."""


class LiveBridge(Protocol):
    def snapshot(self) -> dict[str, Any]: ...

    def image(self, camera: str) -> bytes | None: ...

    def image_sequences(self) -> dict[str, int]: ...


class Snapshots:
    """The snapshot as text, made once for all browsers that want it within half an interval."""

    def __init__(self, bridge: LiveBridge, clock: Callable[[], float] = time.monotonic) -> None:
        self._bridge = bridge
        self._clock = clock
        self._made_at = float("-inf")
        self._revision = 0
        self._history: Any = None
        self._data: dict[str, Any] = {}
        self._texts: dict[bool, str] = {}

    def text(self, known_revision: int) -> tuple[str, int]:
        """The snapshot for a browser that has the history of `known_revision`, which is then left out; and its revision."""
        now = self._clock()
        if now - self._made_at >= SNAPSHOT_INTERVAL_S / 2:
            self._made_at = now
            self._data = dict(self._bridge.snapshot())
            self._history = self._data.pop("history")
            self._revision = self._data["revision"]
            self._texts = {}
        whole = self._revision != known_revision
        if whole not in self._texts:
            data = {**self._data, "history": self._history} if whole else self._data
            self._texts[whole] = json.dumps(data, separators=(",", ":"))
        return self._texts[whole], self._revision


class Viewer:
    """One browser: pushes snapshots and new pictures, and counts the pictures it has drawn."""

    def __init__(self, socket: WebSocket, bridge: LiveBridge, snapshots: Snapshots) -> None:
        self._socket = socket
        self._bridge = bridge
        self._snapshots = snapshots
        self._undrawn = 0
        self._heard_at = time.monotonic()

    async def serve(self) -> None:
        """Until the browser leaves, or says what no page of ours says."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._push)
            await self._listen()
            tasks.cancel_scope.cancel()

    async def _push(self) -> None:
        """Send until the browser leaves; `_listen` hears of that."""
        try:
            await self._push_all()
        except WebSocketDisconnect:
            log.debug("the browser left while a message was sent")
        except RuntimeError as error:
            # a send after the end, in Starlette's words (our own close) or in uvicorn's (its close, for a bad frame)
            if self._socket.application_state is WebSocketState.CONNECTED and "websocket.close" not in str(error):
                raise

    async def _push_all(self) -> None:
        revision = 0
        sent: dict[str, int] = {}
        next_snapshot = 0.0
        while True:
            now = time.monotonic()
            if now >= next_snapshot:
                next_snapshot = now + SNAPSHOT_INTERVAL_S
                text, revision = self._snapshots.text(revision)
                await self._socket.send_text(text)
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

    async def _listen(self) -> None:
        """Browsers say only one thing, ``drawn``; whoever says anything else is no page of ours and is disconnected."""
        pace = Pace(MAX_MESSAGES_PER_S)
        while True:
            message = await self._socket.receive()
            if message["type"] == "websocket.disconnect":
                return
            if message.get("text") != "drawn" or pace.too_fast():
                await self._socket.close(1003, "the page sends nothing but 'drawn' here; commands are POSTs")
                return
            self._undrawn = max(0, self._undrawn - 1)
            self._heard_at = time.monotonic()
