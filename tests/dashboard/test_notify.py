"""Requests for help that reach somebody elsewhere, and come back answered: a real receiver over HTTP, the real page."""

from __future__ import annotations

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

import pytest
from demo_bridge import DemoBridge, example_config, example_help, example_status
from hypothesis import given
from hypothesis import strategies as st
from starlette.testclient import TestClient

from dashboard import notify
from dashboard.app import Answer, create_app
from dashboard.notify import LinkError, Links, Notifier
from dashboard.run_view import RunView
from etude.config import ConfigError, NotifyConfig, build


class Receiver:
    """A webhook on this machine. `refuse` answers so many posts with 503 first."""

    def __init__(self) -> None:
        self.posts: list[tuple[dict[str, str], bytes]] = []
        self.refuse = 0
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                status = 503 if outer.refuse > 0 else 200
                outer.refuse -= 1
                if status == 200:
                    outer.posts.append((dict(self.headers), body))
                self.send_response(status)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/my-robot"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def wait(self, count: int) -> None:
        until = time.monotonic() + 5
        while len(self.posts) < count:
            assert time.monotonic() < until, f"{len(self.posts)} of {count} posts came"
            time.sleep(0.01)


@pytest.fixture
def receiver(monkeypatch):
    monkeypatch.setattr(notify, "WAIT_S", 0.02)
    receiver = Receiver()
    yield receiver
    receiver.server.shutdown()
    receiver.server.server_close()


def told(receiver, *requests, links=None, **config) -> None:
    notifier = Notifier(NotifyConfig(url=receiver.url, **config), "run ü 1", links or Links(10))
    for request in requests:
        notifier.told(request)


# --- telling ---------------------------------------------------------------------------------------------------------


def test_ntfy_gets_the_reason_a_priority_that_rises_and_the_link(receiver):
    first, again = example_help(reason="Der Würfel ist weg."), example_help(reason="Der Würfel ist weg.", level=1)
    told(receiver, first, first, again, link="http://10.0.0.5:8420/")
    receiver.wait(2)
    time.sleep(0.1)
    (headers, body), (headers_again, body_again) = receiver.posts
    assert body.decode() == "Der Würfel ist weg." and headers["Priority"] == "default"
    assert headers["Title"] == "run ? 1: help wanted" and headers["Click"].startswith("http://10.0.0.5:8420/answer?t=")
    assert headers_again["Priority"] == "high" and body_again.decode().endswith("Asked 2 times.")


def test_slack_and_json_get_theirs(receiver):
    told(receiver, example_help(), format="slack", link="http://10.0.0.5:8420")
    receiver.wait(1)
    told(receiver, example_help(), format="json")
    receiver.wait(2)
    assert "|Answer>" in json.loads(receiver.posts[0][1])["text"]
    assert json.loads(receiver.posts[1][1])["id"] == 5 and json.loads(receiver.posts[1][1])["link"] == ""


def test_a_closed_request_is_not_told(receiver):
    told(receiver, example_help(open=False))
    time.sleep(0.1)
    assert receiver.posts == []


def test_a_receiver_that_fails_is_tried_again(receiver):
    receiver.refuse = 2
    told(receiver, example_help())
    receiver.wait(1)


def test_a_receiver_that_is_not_there_holds_nothing_up(monkeypatch, caplog):
    monkeypatch.setattr(notify, "WAIT_S", 0.01)
    notifier = Notifier(NotifyConfig(url="http://127.0.0.1:9/x"), "run", Links(10))
    began = time.monotonic()
    notifier.told(example_help())
    assert time.monotonic() - began < 0.1
    until = time.monotonic() + 5
    while "try 3 of 3" not in caplog.text and time.monotonic() < until:
        time.sleep(0.01)
    assert "dashboard.notify.url" in caplog.text


def test_only_web_addresses_are_posted_to():
    for bad in ("file:///etc/passwd", "ftp://x", "my-topic"):
        with pytest.raises(ConfigError):
            build(NotifyConfig, {"url": bad}, "run.yaml")


# --- links -----------------------------------------------------------------------------------------------------------


def test_a_link_answers_its_request_once():
    links = Links(10)
    token = links.make(7)
    assert links.help_id(token) == links.help_id(token) == links.use(token) == 7
    with pytest.raises(LinkError, match="used already"):
        links.use(token)


def test_a_link_ends_with_its_time_and_with_the_process():
    now = [1000.0]
    links = Links(1, lambda: now[0])
    token = links.make(7)
    now[0] += 61
    with pytest.raises(LinkError, match="time of this link is over"):
        links.help_id(token)
    with pytest.raises(LinkError, match="not one of this run"):
        Links(1, lambda: 1000.0).help_id(token)


@given(st.text(max_size=80))
def test_whatever_is_made_up_opens_nothing(token):
    with pytest.raises(LinkError):
        Links(10).help_id(token)


# --- answering -------------------------------------------------------------------------------------------------------


class Served:
    def __init__(self) -> None:
        self.view = RunView(example_config(), "runs/test")
        self.view.on_status(example_status())
        self.bridge, self.links = DemoBridge(self.view), Links(10)
        # another name of this machine, another origin, no cookie: only the link counts
        self.client = TestClient(create_app(self.bridge, token="secret", links=self.links), base_url="https://lab.example")

    def ask(self, **changes) -> str:
        self.view.on_help(example_help(answers=("reset", "continue", "stop"), **changes))
        return self.links.make(changes.get("id", 5))

    def answer(self, token: str, word: str):
        return self.client.post("/answer", data={"t": token, "answer": word}, headers={"origin": "https://elsewhere.example"})


def test_the_way_from_the_message_to_the_robot(receiver):
    served = Served()
    served.ask()
    told(receiver, example_help(), links=served.links, link="https://lab.example")
    receiver.wait(1)
    link = urlsplit(receiver.posts[0][0]["Click"])
    page = served.client.get(f"{link.path}?{link.query}")
    assert page.status_code == 200 and "The block has left the table." in page.text and "I have reset the scene" in page.text
    assert "script-src" not in page.headers["content-security-policy"] and "<script" not in page.text
    done = served.answer(parse_qs(link.query)["t"][0], "reset")
    assert done.status_code == 200 and "Thank you" in done.text
    assert served.bridge.commands == [("resolve_help", "reset", "link")]


def test_a_link_answers_no_other_request_and_nothing_else():
    served = Served()
    token = served.ask(id=5)
    served.ask(id=6)
    assert served.answer(token, "reset").status_code == 410
    assert served.answer(served.links.make(6), "take_over").status_code == 409
    assert served.bridge.commands == []
    assert served.client.get("/api/snapshot").status_code == 403, "the rest of the page knows neither this name nor this token"


def test_an_answer_that_did_not_arrive_can_be_given_again():
    served = Served()
    token = served.ask()
    served.bridge.answer = Answer(False, "no actor answers")
    assert served.answer(token, "reset").status_code == 503
    served.bridge.answer = Answer(True)
    assert served.answer(token, "reset").status_code == 200
    assert served.answer(token, "reset").status_code == 410


def test_what_a_request_says_is_text_and_not_markup():
    served = Served()
    token = served.ask(reason="<script>alert(1)</script>")
    page = served.client.get("/answer", params={"t": token})
    assert "<script>" not in page.text and "&lt;script&gt;" in page.text


@pytest.mark.parametrize("body", [b"", b"t=x", b"t=1.2.3&answer=reset", b"\xff" * 50, b"x" * 5000])
def test_a_post_that_is_none_of_ours_does_nothing(body):
    served = Served()
    served.ask()
    assert served.client.post("/answer", content=body).status_code in (410, 413)
    assert served.bridge.commands == []
