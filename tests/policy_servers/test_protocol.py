"""The policy-server protocol, both sides over real HTTP: what comes back, what is refused, and what a caller is told."""

from __future__ import annotations

import http.client
import threading
import time
from collections.abc import Iterator

import numpy as np
import pytest

from etude.policy_server import TOKEN_VARIABLE, PolicyServerClient, PolicyServerError, Request, RequestError, ServerInfo
from policy_servers.http_server import PolicyServer

INFO = ServerInfo("numbers", 7, 2, ("state", "image/front"))


class Numbers:
    """Candidate i of a row is i/10 plus its state; distilling raises the version."""

    def __init__(self) -> None:
        self.version, self.asked, self.slow_s = 7, [], 0.0

    def info(self) -> ServerInfo:
        return ServerInfo("numbers", self.version, 2, ("state", "image/front"))

    def sample(self, observation, instructions, n, seed):
        time.sleep(self.slow_s)
        self.asked.append((sorted(observation), instructions, n, seed))
        if instructions[0] == "fail":
            raise ZeroDivisionError("no such thing")
        if instructions[0] == "far":
            return np.full((n, len(instructions), 2), 3.0)
        return observation["state"][None] + np.arange(n)[:, None, None] / 10

    def distil(self, observation, instructions, action):
        self.version += 1
        return float(action.mean())


def rows(count: int = 3) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {
        "state": rng.uniform(-0.1, 0.1, (count, 2)).astype(np.float32),
        "image/front": rng.integers(0, 256, (count, 4, 5, 3), dtype=np.uint8),
        "image/wrist": np.zeros((count, 4, 5, 3), np.uint8),
    }


@pytest.fixture
def served() -> Iterator[tuple[Numbers, PolicyServerClient]]:
    model = Numbers()
    server = PolicyServer(model, port=0)
    server.start()
    yield model, PolicyServerClient(server.address, 5.0)
    server.close()


def test_samples_and_distillation_come_back_with_their_version(served) -> None:
    model, client = served
    info = client.require(("state", "image/front", "image/wrist"), 2)
    assert info == INFO
    samples = client.sample(info, rows(), ["go", "go", "back"], 4, 11)
    np.testing.assert_array_equal(samples.action, (rows()["state"] + np.arange(4)[:, None, None] / 10).astype(np.float32))
    assert samples.version == 7 and samples.action.dtype == np.float32
    assert model.asked == [(["image/front", "state"], ("go", "go", "back"), 4, 11)], "only what the model reads is sent"
    answer = client.distil(info, rows(), ["go"] * 3, np.full((3, 2), 0.5, np.float32))
    assert (answer.loss, answer.version) == (0.5, 8) and client.info().version == 8


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"observation": {"state": rows()["state"]}}, "needs the observation 'image/front'"),
        ({"instructions": ("go",)}, "with 1 instructions"),
        ({"n": 0}, "n is 0"),
        ({"seed": -1}, "seed -1"),
        ({"action": np.zeros((3, 5), np.float32)}, "expected float32"),
        ({"action": np.full((3, 2), 2.0, np.float32)}, "outside"),
        ({"observation": rows() | {"image/front": np.zeros((3, 4, 5, 3), np.float32)}}, "images are uint8"),
        ({"observation": rows() | {"state": np.full((3, 2), np.nan, np.float32)}}, "not finite"),
        ({"instructions": ()}, "0 rows"),
    ],
)
def test_a_request_that_does_not_fit_is_refused_with_the_reason(changes: dict, text: str) -> None:
    request = Request(**({"observation": rows(), "instructions": ("go",) * 3} | changes))
    with pytest.raises(RequestError, match=text):
        Request.from_bytes(request.to_bytes(), INFO)


def test_refusals_reach_the_caller_and_the_server_lives_on(served) -> None:
    _, client = served
    info = client.info()
    for instruction, text in (("fail", r"\(500\).*ZeroDivisionError"), ("far", "outside")):
        with pytest.raises(PolicyServerError, match=text):
            client.sample(info, rows(1), [instruction], 1, 0)
    with pytest.raises(PolicyServerError, match=r"refused /sample \(400\).*n is 5000"):
        client.sample(info, rows(1), ["go"], 5000, 0)
    with pytest.raises(PolicyServerError, match=r"2 dimensions, the robot has 6"):
        client.require(("state", "image/front"), 6)
    with pytest.raises(PolicyServerError, match=r"reads .*image/front"):
        client.require(("state",), 2)
    connection = http.client.HTTPConnection(client._host, client._port, timeout=5)
    for body, headers, status in (
        (b"torn", {}, 400),
        (b"", {"Content-Length": str(1 << 40)}, 413),
        (b"x", {"Origin": "http://elsewhere"}, 403),
    ):
        connection.request("POST", "/sample", body, headers)
        response = connection.getresponse()
        response.read()
        assert response.status == status
        connection.close()
    assert client.sample(info, rows(1), ["go"], 2, 0).action.shape == (2, 1, 2)


def test_a_server_that_is_gone_or_slow_is_named_with_the_remedy(served) -> None:
    model, client = served
    info = client.info()
    model.slow_s = 1.0
    began = time.monotonic()
    with pytest.raises(PolicyServerError, match="does not answer"):
        PolicyServerClient(client.address, 0.1).sample(info, rows(1), ["go"], 1, 0)
    assert time.monotonic() - began < 0.9
    with pytest.raises(PolicyServerError, match=r"127\.0\.0\.1:9 does not answer.*recipe\.policy\.server"):
        PolicyServerClient("http://127.0.0.1:9", 1.0).info()
    with pytest.raises(PolicyServerError, match="write it like"):
        PolicyServerClient("https://example.org/model", 1.0)


def test_beyond_loopback_a_token_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(PolicyServerError, match=TOKEN_VARIABLE):
        PolicyServer(Numbers(), "192.0.2.1", 0)
    server = PolicyServer(Numbers(), port=0, token="secret")
    server.start()
    client = PolicyServerClient(server.address, 5.0)
    monkeypatch.delenv(TOKEN_VARIABLE, raising=False)
    with pytest.raises(PolicyServerError, match=rf"401.*{TOKEN_VARIABLE}"):
        client.info()
    monkeypatch.setenv(TOKEN_VARIABLE, "secret")
    assert client.info().version == 7
    server.close()


def test_two_callers_reach_the_model_one_after_the_other(served) -> None:
    model, client = served
    info, model.slow_s, answers = client.info(), 0.1, []
    threads = [threading.Thread(target=lambda i=i: answers.append(client.sample(info, rows(1), ["go"], 1, i))) for i in range(3)]
    began = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(answers) == 3 and time.monotonic() - began >= 0.3
