"""What uvicorn's WebSockets lack against a peer that abuses them: a bound on everything that a connection can make pile up.

uvicorn waits before it sends while a peer does not read. It neither ends such a connection (a close waits for the unread bytes
to leave first), nor stops answering its pings, nor counts the empty fragments of a message. Each of these costs a server that
runs for days memory or a connection for good.
"""

from __future__ import annotations

import asyncio
import socket

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.frames import Frame

STUCK_S = 10.0
"""A peer that has taken nothing for this long is disconnected: a page that lives again connects again by itself."""
MAX_FRAGMENTS = 16
SEND_BUFFER_BYTES = 256 * 1024
"""Of the kernel, per connection. The default grows to megabytes, and what lies in it is old when it arrives."""


def bound_buffers(listener: socket.socket) -> None:
    """Before `listen`: accepted connections inherit it."""
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)


class BoundedWebSocket(WebSocketsSansIOProtocol):
    """Ends the connection to a peer that has read nothing for `STUCK_S`, answers none of its pings, refuses endless fragments."""

    _stuck: asyncio.TimerHandle | None = None

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
        if self.writable.is_set():
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
