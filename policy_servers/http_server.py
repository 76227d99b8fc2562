"""Serves any model that samples and imitates over the protocol of `etude.policy_server`; one request at a time reaches it.

Listens on loopback unless a token is given, because whoever may ask can also train the model.
"""

from __future__ import annotations

import hmac
import logging
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Protocol

import numpy as np

from etude.addresses import is_loopback
from etude.policy_server import (
    MAX_BODY_BYTES,
    TOKEN_HEADER,
    TOKEN_VARIABLE,
    PolicyServerError,
    Request,
    RequestError,
    Samples,
    ServerInfo,
    info_to_json,
)
from etude.tensors import pack_tensors

log = logging.getLogger("etude.policy_server")

READ_TIMEOUT_S = 60.0


class Model(Protocol):
    """What can be served. Raise `etude.policy_server.RequestError` for a request that cannot be answered."""

    def info(self) -> ServerInfo:
        """Name, version of the weights, action dimensions and what it reads; cheap, and safe while `distil` runs."""

    def sample(self, observation: dict[str, np.ndarray], instructions: tuple[str, ...], n: int, seed: int) -> np.ndarray:
        """`n` actions per row, float32 ``(n, B, d)`` in [-1, 1], for observation arrays ``(B, …)`` and B instructions."""

    def distil(self, observation: dict[str, np.ndarray], instructions: tuple[str, ...], action: np.ndarray) -> float:
        """Imitate `action` ``(B, d)`` a little, raise the version, and return the loss before the step."""


class PolicyServer:
    """A running server: `start` returns at once, `serve_forever` blocks, `close` ends it. Port 0 picks a free one."""

    def __init__(self, model: Model, host: str = "127.0.0.1", port: int = 8600, token: str = "") -> None:
        """Raises PolicyServerError for a bind beyond loopback without a token."""
        if not is_loopback(host) and not token:
            raise PolicyServerError(
                f"a policy server on {host} could be asked and trained by anybody: set {TOKEN_VARIABLE} here and for learner and "
                "actor, or listen on 127.0.0.1"
            )
        self._http = ThreadingHTTPServer((host, port), _handler(model, token))
        self._http.daemon_threads = True
        self.address = f"http://{host}:{self._http.server_address[1]}"
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        self._thread = threading.Thread(target=self._http.serve_forever, name="policy-server", daemon=True)
        self._thread.start()

    def serve_forever(self) -> None:
        self._http.serve_forever()

    def close(self) -> None:
        if self._thread is not None:
            self._http.shutdown()
            self._thread.join()
        self._http.server_close()


def _handler(model: Model, token: str) -> type[BaseHTTPRequestHandler]:
    asking = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        timeout = READ_TIMEOUT_S

        def do_GET(self) -> None:
            if self._welcome():
                if self.path == "/version":
                    self._answer(200, info_to_json(model.info()))
                else:
                    self._refuse(404, f"there is no {self.path}: ask /version, or post to /sample or /distil")

        def do_POST(self) -> None:
            if not self._welcome():
                return
            if self.path not in ("/sample", "/distil"):
                self._refuse(404, f"there is no {self.path}: post to /sample or /distil")
                return
            body = self._body()
            if body is None:
                return
            try:
                with asking:
                    answer = self._sample(body) if self.path == "/sample" else self._distil(body)
            except RequestError as error:
                self._refuse(400, str(error))
            except Exception as error:  # a model may raise anything; the caller hears of it and the server lives on
                log.exception("%s failed", self.path)
                self._refuse(500, f"the model failed: {type(error).__name__}: {error}")
            else:
                self._answer(200, answer)

        def _sample(self, body: bytes) -> bytes:
            info = model.info()
            request = Request.from_bytes(body, info)
            action = model.sample(request.observation, request.instructions, request.n, request.seed)
            return Samples(np.asarray(action, np.float32), info.version).to_bytes()

        def _distil(self, body: bytes) -> bytes:
            request = Request.from_bytes(body, model.info())
            if request.action is None:
                raise RequestError("a request to /distil needs the tensor 'action'")
            loss = model.distil(request.observation, request.instructions, request.action)
            return pack_tensors({}, {"loss": repr(float(loss)), "version": str(model.info().version)})

        def _welcome(self) -> bool:
            given = self.headers.get(TOKEN_HEADER, "")
            if token and not hmac.compare_digest(given.encode(), token.encode()):
                self._refuse(401, "the token is missing or wrong")
                return False
            # a page in a browser on this machine must not train the model: browsers say where a request comes from
            if self.headers.get("Origin") is not None:
                self._refuse(403, "requests of web pages are refused")
                return False
            return True

        def _body(self) -> bytes | None:
            try:
                size = int(self.headers["Content-Length"])
            except (TypeError, ValueError):
                self._refuse(411, "the request does not say how long it is (Content-Length)")
                return None
            if not 0 <= size <= MAX_BODY_BYTES:
                self._refuse(413, f"the request has {size} bytes, more than {MAX_BODY_BYTES}: send fewer rows")
                return None
            data = self.rfile.read(size)
            if len(data) != size:
                self._refuse(400, f"the request was cut after {len(data)} of {size} bytes")
                return None
            return data

        def _refuse(self, status: int, text: str) -> None:
            self._answer(status, text.encode())

        def _answer(self, status: int, data: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", "application/json" if self.path == "/version" else "application/octet-stream")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, format: str, *args: object) -> None:
            log.debug(format, *args)

    return Handler
