"""Opens the port and serves the application: apart from `app`, so that an occupied port is found before anything else starts."""

from __future__ import annotations

import ipaddress
import socket

import uvicorn
from fastapi import FastAPI

from dashboard.sockets import BoundedWebSocket, PromptHttp, bound_buffers


class DashboardError(RuntimeError):
    """The page cannot be served; the message names the address and the remedy."""


def open_port(host: str, port: int) -> socket.socket:
    """A listening socket on ``host:port`` (port 0: any free one).

    Raises:
        DashboardError: the port is occupied, not allowed, or the host is no address of this machine.
    """
    try:
        unspecified = ipaddress.ip_address(host).is_unspecified
    except ValueError:
        unspecified = host == ""
    if unspecified:
        raise DashboardError(
            f"dashboard.host is {host!r}, every network of this machine, and the page has no log-in. Use 127.0.0.1 and, "
            "from another machine, an SSH tunnel: ssh -L 8420:127.0.0.1:8420 <this machine>"
        )
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except OSError as error:
        raise DashboardError(f"dashboard.host {host!r} is not an address of this machine: {error}") from error
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound_buffers(listener)
        listener.bind(address)
        listener.listen(64)
    except OSError as error:
        listener.close()
        raise DashboardError(
            f"the page cannot be served on {host}:{port}: {error.strerror}. Another run may be using the port: stop it, "
            "or choose another with dashboard.port=8421 (0 picks a free one)"
        ) from error
    return listener


def make_server(app: FastAPI) -> uvicorn.Server:
    """A uvicorn server for `app`: start it with ``run(sockets=[open_port(...)])``, end it with ``should_exit = True``."""
    config = uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,
        http=PromptHttp,
        ws=BoundedWebSocket,
        ws_max_size=4096,  # browsers send nothing long
        ws_per_message_deflate=False,  # JPEGs do not compress
        timeout_graceful_shutdown=1,
        lifespan="off",
    )
    return uvicorn.Server(config)
