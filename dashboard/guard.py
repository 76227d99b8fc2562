"""Refuses requests that another web site could have sent: a page on the internet must not be able to move a robot.

The page has no log-in; what protects it is that it listens on loopback and answers only requests that name this machine
(``Host``, against DNS rebinding) and come from its own page (``Origin``, against cross-site posts and sockets).
"""

from __future__ import annotations

from urllib.parse import urlsplit

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from etude.addresses import is_loopback

POLICY = "default-src 'self'; img-src 'self' blob: data:; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
HEADERS = [
    (b"content-security-policy", POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
]


def host_name(value: str) -> str:
    """Host name or address of a ``Host`` header, without port and brackets, in lower case; empty when it is malformed."""
    try:
        return (urlsplit(f"//{value}").hostname or "").lower()
    except ValueError:
        return ""


def refusal(host: str, origin: str | None, served_host: str) -> str | None:
    """Why a request with these headers is refused, or None when it is welcome.

    Args:
        host: the ``Host`` header.
        origin: the ``Origin`` header; browsers send it with every POST and every WebSocket, command-line tools do not.
        served_host: address that the server listens on.
    """
    name = host_name(host)
    if not name or not (is_loopback(name) or name == served_host.lower()):
        return f"this page answers to localhost and {served_host}, not to Host {host!r}"
    if origin is None:
        return None
    try:
        parts = urlsplit(origin)
    except ValueError:
        parts = urlsplit("")
    if parts.scheme not in ("http", "https") or parts.netloc.lower() != host.lower():
        return f"requests from {origin!r} are refused: open the page itself at http://{host}"
    return None


class SameOriginOnly:
    """ASGI middleware: 403 (or a closed WebSocket) for foreign requests, and protective headers on every answer."""

    def __init__(self, app: ASGIApp, served_host: str) -> None:
        self._app = app
        self._served_host = served_host

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        headers = {key.decode("latin-1").lower(): value.decode("latin-1") for key, value in scope["headers"]}
        reason = refusal(headers.get("host", ""), headers.get("origin"), self._served_host)
        if reason is not None:
            if scope["type"] == "websocket":
                await receive()
                await send({"type": "websocket.close", "code": 1008, "reason": reason[:120]})
            else:
                await JSONResponse({"ok": False, "message": reason}, status_code=403)(scope, receive, send)
            return

        async def send_guarded(message) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message.get("headers", []), *HEADERS]}
            await send(message)

        await self._app(scope, receive, send_guarded)
