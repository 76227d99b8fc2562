"""Refuses requests that another web site could have sent: a page on the internet must not be able to move a robot.

What protects the page is that it listens on loopback and answers only requests that name this machine (``Host``, against DNS
rebinding) and come from its own page (``Origin``, against cross-site posts and sockets). On any other address it also wants a
token, which the address printed at the start carries and the browser then keeps as a cookie.
"""

from __future__ import annotations

import secrets
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qs, urlsplit

from starlette.responses import JSONResponse, RedirectResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from etude.addresses import is_loopback

POLICY = "default-src 'self'; img-src 'self' blob: data:; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
COOKIE = "etude_token"
ANSWER = "/answer"
"""The page behind a notification's link. The link is its key, under whatever name this machine is reached."""
LOOKS = ("/static/style.css", "/static/fonts/inter.woff2")
"""What that page is drawn with, and no secret."""

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


def is_public(scope: Scope) -> bool:
    return scope["type"] == "http" and scope["path"] in (ANSWER, *LOOKS)


class SameOriginOnly:
    """ASGI middleware: 403 (or a closed WebSocket) for foreign requests, and protective headers on every answer."""

    def __init__(self, app: ASGIApp, served_host: str) -> None:
        self._app = app
        self._served_host = served_host

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket") or is_public(scope):
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


class TokenOnly:
    """ASGI middleware: 401 (or a closed WebSocket) without the token.

    It comes as the cookie, as ``Authorization: Bearer``, or once as ``/?token=…``, which sets the cookie and leaves the address.
    """

    def __init__(self, app: ASGIApp, token: str) -> None:
        self._app = app
        self._token = token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket") or is_public(scope):
            await self._app(scope, receive, send)
            return
        headers = {key.decode("latin-1").lower(): value.decode("latin-1") for key, value in scope["headers"]}
        query = parse_qs(scope.get("query_string", b"").decode("latin-1"))
        if scope["type"] == "http" and scope["path"] == "/" and self._is(query.get("token", [""])[0]):
            response = RedirectResponse("/", status_code=303)
            response.set_cookie(COOKIE, self._token, httponly=True, samesite="strict")
            await response(scope, receive, send)
        elif self._is(_cookie(headers.get("cookie", ""))) or self._is(headers.get("authorization", "").removeprefix("Bearer ")):
            await self._app(scope, receive, send)
        elif scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close", "code": 1008, "reason": "the token is missing"})
        else:
            message = "this page needs its token: open the address that the run printed when it started"
            await JSONResponse({"ok": False, "message": message}, status_code=401)(scope, receive, send)

    def _is(self, given: str) -> bool:
        return secrets.compare_digest(given.encode(), self._token.encode())


def _cookie(header: str) -> str:
    try:
        morsel = SimpleCookie(header).get(COOKIE)
    except CookieError:
        return ""
    return morsel.value if morsel is not None else ""
