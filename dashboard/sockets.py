"""What uvicorn's connections lack against a peer that abuses them: a bound on everything that one can make pile up.

uvicorn waits before it sends while a WebSocket's peer does not read. It neither ends such a connection (a close waits for the
unread bytes to leave first), nor stops answering its pings, nor counts the empty fragments of a message; and it waits for ever
for the first request of a connection. Each of these costs a server that runs for days memory or a connection for good.
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.frames import Frame

STUCK_S = 10.0
"""A peer that has taken nothing for this long is disconnected: a page that lives again connects again by itself."""
ASK_S = 10.0
"""Within this time of its beginning a connection has asked for something, or ends."""
MAX_PINGS_PER_S = 20
"""Browsers send none, and libraries one in many seconds; each costs the time of one that asks for a stop."""
MAX_FRAGMENTS = 16
SEND_BUFFER_BYTES = 256 * 1024
"""Of the kernel, per connection. The default grows to megabytes, and what lies in it is old when it arrives."""


class Pace:
    """Counts what a peer says."""

    def __init__(self, per_second: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._per_second, self._clock = per_second, clock
        self._second, self._count = 0, 0

    def too_fast(self) -> bool:
        """One more came. Whether there were more than `per_second` in this second of the clock."""
        second = int(self._clock())
        if second != self._second:
            self._second, self._count = second, 0
        self._count += 1
        return self._count > self._per_second


def bound_buffers(listener: socket.socket) -> None:
    """Before `listen`: accepted connections inherit it."""
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)


class PromptHttp(H11Protocol):
    """Ends a connection that has sent no whole request head within `ASK_S`."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.loop.call_later(ASK_S, self._give_up)

    def _give_up(self) -> None:
        if self.cycle is None and self.transport.get_protocol() is self:
            self.transport.abort()


class BoundedWebSocket(WebSocketsSansIOProtocol):
    """Ends the connection to a peer that has read nothing for `STUCK_S`, answers none of its pings, refuses endless fragments."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._stuck: asyncio.TimerHandle | None = None
        self._pings = Pace(MAX_PINGS_PER_S)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._stuck = self.loop.call_later(STUCK_S, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        self._forgive()

    def connection_lost(self, exc: Exception | None) -> None:
        self._forgive()
        super().connection_lost(exc)

    def keepalive_timeout(self) -> None:
        super().keepalive_timeout()
        self.transport.abort()

    def handle_ping(self) -> None:
        if self._pings.too_fast():
            self.transport.abort()
        elif self.writable.is_set():
            super().handle_ping()
        else:
            self.conn.data_to_send()  # dropped: who reads nothing gets no answers piled up

    def handle_cont(self, event: Frame) -> None:
        if len(self.frames) >= MAX_FRAGMENTS:
            self.transport.abort()
            return
        super().handle_cont(event)

    def _forgive(self) -> None:
        if self._stuck is not None:
            self._stuck.cancel()
            self._stuck = None
