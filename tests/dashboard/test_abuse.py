"""Abuse of the page's server, which runs in a process of its own: it stays up, small, and quick with the software stop."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest
from demo_bridge import DemoBridge, example_config, example_status
from websockets.asyncio.client import connect as connect_async
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from dashboard.app import Answer, create_app
from dashboard.live import MAX_MESSAGES_PER_S, SNAPSHOT_INTERVAL_S, Snapshots
from dashboard.run_view import RunView
from dashboard.server import make_server, open_port
from dashboard.sockets import ASK_S, MAX_FRAGMENTS, MAX_PINGS_PER_S, STUCK_S, Pace

TOKEN = "t0k-en"
GROWTH_MB = 60
"""What a server may grow by under any abuse here; each of them would cost hundreds without a bound."""
STOP_S = 1.0
"""Of a stop under abuse, on a busy machine of two cores."""


class Server:
    """`demo_bridge.py` as a process: the real application, the real server, a made-up run behind it."""

    def __init__(self, *arguments: str) -> None:
        script = Path(__file__).with_name("demo_bridge.py")
        command = [sys.executable, str(script), "--port", "0", *arguments]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        self.url = self.process.stdout.readline().strip()
        self.port = int(self.url.rpartition(":")[2])
        self.ws = f"ws://127.0.0.1:{self.port}"
        self._client = httpx.Client(base_url=self.url, headers={"authorization": f"Bearer {TOKEN}"}, timeout=10)
        self._errors: list[str] = []
        threading.Thread(target=lambda: self._errors.extend(self.process.stderr), daemon=True).start()  # type: ignore[arg-type]
        deadline = time.monotonic() + 20
        while True:
            try:
                self._client.get("/api/ping")
                return
            except httpx.HTTPError:
                assert time.monotonic() < deadline and self.process.poll() is None, self._errors
                time.sleep(0.05)

    def memory_mb(self) -> float:
        return psutil.Process(self.process.pid).memory_info().rss / 2**20

    def sockets(self) -> int:
        return len(psutil.Process(self.process.pid).net_connections("tcp")) - 1  # it listens on one

    def stop_s(self) -> float:
        """Seconds of a software stop, as the page asks for it."""
        asked = time.monotonic()
        assert self._client.post("/api/software_stop", json={"active": True}).json()["ok"]
        return time.monotonic() - asked

    def end(self) -> None:
        assert self.process.poll() is None, f"the server ended: {''.join(self._errors)[-2000:]}"
        self.process.send_signal(signal.SIGINT)
        self.process.wait(timeout=10)

    def errors(self) -> str:
        return "".join(self._errors)


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.end()
    assert "Exception in ASGI" not in server.errors(), server.errors()


def upgraded(server: Server, path: str = "/live", receive_buffer: int | None = None) -> socket.socket:
    """A connection that has become a WebSocket, for frames that no library sends."""
    raw = socket.socket()
    if receive_buffer is not None:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    raw.connect(("127.0.0.1", server.port))
    key = base64.b64encode(os.urandom(16)).decode()
    raw.sendall(
        f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
    )
    head = b""
    while b"\r\n\r\n" not in head:
        head += raw.recv(1)
    assert head.startswith(b"HTTP/1.1 101")
    return raw


def frame(opcode: int, payload: bytes, final: bool = True, length: int | None = None) -> bytes:
    """A masked frame of a client (RFC 6455, section 5.2); `length` may lie."""
    size = len(payload) if length is None else length
    head = bytes([(0x80 if final else 0) | opcode])
    if size < 126:
        head += bytes([0x80 | size])
    elif size < 2**16:
        head += bytes([0x80 | 126]) + size.to_bytes(2, "big")
    else:
        head += bytes([0x80 | 127]) + size.to_bytes(8, "big")
    return head + bytes(4) + payload  # a mask of zeros changes nothing


def is_ended(raw: socket.socket, within_s: float = 5.0) -> bool:
    """Whether the server ends the connection; what it sent before is read and dropped."""
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        raw.settimeout(max(0.01, deadline - time.monotonic()))
        try:
            if not raw.recv(65536):
                return True
        except TimeoutError:
            return False
        except ConnectionError:
            return True
    return False


# --- frames -----------------------------------------------------------------------------------------------------------

MALFORMED = {
    "an unknown opcode": frame(0x3, b"drawn"),
    "reserved bits": bytes([0x81 | 0x70, 0x85]) + bytes(4) + b"drawn",
    "no mask": bytes([0x81, 5]) + b"drawn",
    "a length of 2^62": frame(0x1, b"x", length=2**62),
    "a text of a megabyte": frame(0x1, b"x" * 2**20),
    "bytes of a megabyte": frame(0x2, b"x" * 2**20),
    "a text that is no UTF-8": frame(0x1, b"\xff\xfe\xfd"),
    "a fragment of nothing": frame(0x0, b"drawn"),
    "a fragmented ping": frame(0x9, b"", final=False),
    "a long ping": frame(0x9, b"x" * 126),
    "a close of one byte": frame(0x8, b"\x03"),
    "a close with a code that does not exist": frame(0x8, (5).to_bytes(2, "big")),
    "endless empty fragments": frame(0x1, b"", final=False) + frame(0x0, b"", final=False) * (MAX_FRAGMENTS + 2),
}


@pytest.mark.parametrize("path", ["/live", "/teleop"])
@pytest.mark.parametrize("what", MALFORMED)
def test_a_malformed_frame_ends_that_connection_alone(server: Server, what: str, path: str) -> None:
    with connect(f"{server.ws}/live") as other, contextlib.closing(upgraded(server, path)) as raw:
        with contextlib.suppress(ConnectionError):
            raw.sendall(MALFORMED[what])
        assert is_ended(raw)
        assert json.loads(next(m for m in other if isinstance(m, str)))["revision"]


def test_random_bytes_in_place_of_frames(server: Server) -> None:
    random.seed(6)
    for number in range(60):
        with contextlib.closing(upgraded(server, ("/live", "/teleop")[number % 2])) as raw, contextlib.suppress(ConnectionError):
            raw.sendall(random.randbytes(random.randint(1, 5000)))
            raw.shutdown(socket.SHUT_WR)
            is_ended(raw, 0.05)
    assert server.stop_s() < STOP_S


def test_random_bytes_in_place_of_requests(server: Server) -> None:
    random.seed(7)
    starts = [
        b"",
        b"GET / HTTP/1.1\r\n",
        b"POST /api/software_stop HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 99999999999\r\n\r\n",
    ]
    for number in range(60):
        with socket.create_connection(("127.0.0.1", server.port)) as raw, contextlib.suppress(ConnectionError):
            raw.sendall(starts[number % 3] + random.randbytes(random.randint(1, 5000)))
            raw.shutdown(socket.SHUT_WR)
            is_ended(raw, 0.05)
    assert server.stop_s() < STOP_S


# --- floods -----------------------------------------------------------------------------------------------------------


def test_a_flood_of_pings_ends_the_connection_and_a_few_are_answered(server: Server) -> None:
    before = server.memory_mb()
    with contextlib.closing(upgraded(server, "/teleop")) as polite:
        for _ in range(MAX_PINGS_PER_S // 2):
            polite.sendall(frame(0x9, b"there?"))
        answers = b""
        while answers.count(b"there?") < MAX_PINGS_PER_S // 2:
            polite.settimeout(5)
            answers += polite.recv(4096)
    floods = [upgraded(server, receive_buffer=4096) for _ in range(10)]
    for raw in floods:
        raw.settimeout(0.2)
        with contextlib.suppress(ConnectionError, TimeoutError):
            raw.sendall(frame(0x9, b"x" * 125) * 2000)
    assert server.stop_s() < STOP_S
    assert all(is_ended(raw) for raw in floods)
    assert server.memory_mb() - before < GROWTH_MB
    for raw in floods:
        raw.close()


@pytest.mark.parametrize("path", ["/live", "/teleop"])
def test_who_says_more_than_any_page_is_disconnected(server: Server, path: str) -> None:
    said = "drawn" if path == "/live" else json.dumps({"taken": True, "keys": [], "t_ms": 1})
    with connect(server.ws + path) as live, pytest.raises(ConnectionClosed) as closed:
        for _ in range(20 * MAX_MESSAGES_PER_S):
            live.send(said)
        for _ in live:
            pass
        live.send(said)  # the iteration ends without an exception when the close was a normal one
    assert closed.value.rcvd is not None and closed.value.rcvd.code == 1003


def test_the_pace_of_a_page_is_fine_and_starts_anew_every_second() -> None:
    now = [10.0]
    pace = Pace(MAX_MESSAGES_PER_S, lambda: now[0])
    assert not any(pace.too_fast() for _ in range(MAX_MESSAGES_PER_S)) and pace.too_fast()
    now[0] = 11.0
    assert not pace.too_fast()


# --- payloads ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("chunked", [False, True])
def test_a_huge_body_is_refused_before_it_is_kept(server: Server, chunked: bool) -> None:
    before = server.memory_mb()

    def endless() -> Iterator[bytes]:
        for _ in range(3000):
            yield b"x" * 2**16

    headers = {"content-type": "application/json"} | ({} if chunked else {"content-length": str(3000 * 2**16)})
    with contextlib.suppress(httpx.WriteError, httpx.ReadError):  # refused while still being sent
        answer = httpx.post(f"{server.url}/api/software_stop", content=endless(), headers=headers, timeout=20)
        assert answer.status_code == 413
    assert server.memory_mb() - before < GROWTH_MB
    assert server.stop_s() < STOP_S


def test_a_huge_header_and_a_huge_address_are_refused(server: Server) -> None:
    long = b"x" * 200_000
    for request in (b"GET /" + long + b" HTTP/1.1\r\n", b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nCookie: " + long + b"\r\n"):
        with socket.create_connection(("127.0.0.1", server.port)) as raw, contextlib.suppress(ConnectionError):
            raw.sendall(request)
            assert is_ended(raw)
    assert server.stop_s() < STOP_S


def test_connections_that_ask_for_nothing_end_and_those_that_watch_do_not(server: Server) -> None:
    with connect(f"{server.ws}/live") as watcher:
        idle = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(100)]
        for raw in idle[::2]:
            raw.sendall(b"GET /api/snapshot HTTP/1.1\r\nHost: 127.")  # and never goes on
        assert server.stop_s() < STOP_S
        assert all(is_ended(raw, ASK_S + 5.0) for raw in idle)
        for raw in idle:
            raw.close()
        assert isinstance(watcher.recv(timeout=5), str | bytes)


# --- who may ask, under repetition ------------------------------------------------------------------------------------


def test_wrong_tokens_and_foreign_pages_get_nothing_however_often_they_ask() -> None:
    server = Server("--token", TOKEN)
    try:
        before = server.memory_mb()
        foreign = {"origin": "http://evil.example", "authorization": f"Bearer {TOKEN}"}
        with httpx.Client(base_url=server.url) as client:
            for number in range(200):
                guess = {"authorization": f"Bearer {number}", "cookie": f"etude_token={'x' * number}"}
                assert client.post("/api/software_stop", json={"active": False}, headers=guess).status_code == 401
                assert client.post("/api/software_stop", json={"active": False}, headers=foreign).status_code == 403
                assert client.get(f"/?token={number}").status_code == 401
            with contextlib.suppress(httpx.WriteError, httpx.ReadError):
                assert client.post("/api/mode", content=b"x" * 2**24).status_code in (401, 413)
        for headers in ({"Authorization": "Bearer wrong"}, {"Authorization": f"Bearer {TOKEN}", "Origin": "http://evil.example"}):
            for path in ("/live", "/teleop"):
                with pytest.raises(InvalidStatus), connect(server.ws + path, additional_headers=headers):
                    pass
        assert server.memory_mb() - before < GROWTH_MB
        assert server.stop_s() < STOP_S
    finally:
        server.end()


# --- many, and slow ---------------------------------------------------------------------------------------------------


def test_browsers_that_read_nothing_are_let_go_and_hold_up_nobody(server: Server, tmp_path: Path) -> None:
    before, connected = server.memory_mb(), server.sockets()
    slow = [upgraded(server, receive_buffer=4096) for _ in range(20)]
    with connect(f"{server.ws}/live") as other:
        got, ends = 0, time.monotonic() + 4.0
        while time.monotonic() < ends:
            got += isinstance(other.recv(timeout=5), str)
    assert got >= 0.5 * 4.0 / SNAPSHOT_INTERVAL_S, "the one that reads is served as before"
    assert server.memory_mb() - before < GROWTH_MB
    assert server.stop_s() < STOP_S
    deadline = time.monotonic() + 60 + STUCK_S  # their part of the kernel's buffers is full after some seconds
    while server.sockets() > connected + 2:
        assert time.monotonic() < deadline, f"{server.sockets()} connections are still open"
        time.sleep(0.5)
    for raw in slow:
        raw.close()


def test_fifty_watchers_all_see_the_run_and_the_stop_stays_quick(server: Server) -> None:
    before = server.memory_mb()

    async def watch(number: int, ends: float) -> tuple[int, int]:
        snapshots = pictures = 0
        async with connect_async(f"{server.ws}/live", max_size=None) as live:
            while time.monotonic() < ends:
                message = await asyncio.wait_for(live.recv(), 10)
                if isinstance(message, bytes):
                    pictures += 1
                    await live.send("drawn")
                else:
                    snapshots += 1
        return snapshots, pictures

    async def all_of_them() -> list[tuple[int, int]]:
        ends = time.monotonic() + 6.0
        return await asyncio.gather(*(watch(number, ends) for number in range(50)))

    delays: list[float] = []
    watching = threading.Event()

    def stop_now_and_then() -> None:
        while not watching.wait(0.25):
            delays.append(server.stop_s())

    thread = threading.Thread(target=stop_now_and_then)
    thread.start()
    try:
        seen = asyncio.run(all_of_them())
    finally:
        watching.set()
        thread.join()
    assert min(snapshots for snapshots, _ in seen) >= 6 and min(pictures for _, pictures in seen) >= 6
    assert len(delays) > 3 and sorted(delays)[len(delays) // 2] < STOP_S
    assert server.memory_mb() - before < GROWTH_MB


def test_more_watchers_than_it_serves_are_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dashboard.app.MAX_WATCHERS", 1)
    bridge = DemoBridge(RunView(example_config(), "runs/test"))
    with in_this_process(bridge) as port, connect(f"ws://127.0.0.1:{port}/live"):
        with connect(f"ws://127.0.0.1:{port}/live") as second, pytest.raises(ConnectionClosed) as closed:
            second.recv(timeout=5)
        assert closed.value.rcvd is not None and closed.value.rcvd.code == 1013


@contextlib.contextmanager
def in_this_process(bridge: DemoBridge) -> Iterator[int]:
    listener = open_port("127.0.0.1", 0)
    server = make_server(create_app(bridge))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    yield listener.getsockname()[1]
    server.should_exit = True
    thread.join(timeout=5)
    listener.close()


class Unanswered(DemoBridge):
    """An actor that answers no command but the stop."""

    def set_mode(self, mode: str) -> Answer:
        time.sleep(3.0)
        return Answer(False, "The actor has not answered.")


def test_the_stop_does_not_queue_behind_commands_that_nobody_answers() -> None:
    bridge = Unanswered(RunView(example_config(), "runs/test"))
    with in_this_process(bridge) as port:
        client = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=20)
        stopper = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=20)

        def pause() -> None:
            client.post("/api/mode", json={"mode": "pause"})

        threads = [threading.Thread(target=pause) for _ in range(60)]
        for thread in threads:
            thread.start()
        time.sleep(1.0)
        asked = time.monotonic()
        assert stopper.post("/api/software_stop", json={"active": True}).json()["ok"]
        assert time.monotonic() - asked < STOP_S
        for thread in threads:
            thread.join()


# --- shared work ------------------------------------------------------------------------------------------------------


def test_all_browsers_share_one_snapshot_and_each_gets_the_history_once() -> None:
    now, made = [0.0], []
    view = RunView(example_config(), "runs/test")
    view.on_status(example_status())
    bridge = DemoBridge(view)
    bridge.snapshot = lambda: (made.append(1), view.snapshot())[1]  # type: ignore[method-assign]
    snapshots = Snapshots(bridge, lambda: now[0])
    first, revision = snapshots.text(0)
    again, _ = snapshots.text(revision)
    assert "history" in json.loads(first) and "history" not in json.loads(again)
    assert snapshots.text(0)[0] is first and len(made) == 1
    now[0] += SNAPSHOT_INTERVAL_S
    snapshots.text(revision)
    assert len(made) == 2
