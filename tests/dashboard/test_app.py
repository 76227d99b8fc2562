"""The web application on a bridge without a robot: what it serves, what it refuses, and how it pushes."""

from __future__ import annotations

import json
import socket

import pytest
from demo_bridge import DemoBridge, example_config, example_status, picture
from starlette.testclient import TestClient
from starlette.websockets import WebSocketDisconnect

from dashboard.app import Answer, create_app
from dashboard.guard import refusal
from dashboard.live import MAX_UNDRAWN
from dashboard.run_view import RunView
from dashboard.server import DashboardError, open_port

HOME = "http://127.0.0.1:8420"
LIVE = "ws://127.0.0.1:8420/live"


@pytest.fixture
def bridge() -> DemoBridge:
    bridge = DemoBridge(RunView(example_config(), "runs/test"))
    bridge.view.on_status(example_status())
    return bridge


@pytest.fixture
def client(bridge: DemoBridge) -> TestClient:
    return TestClient(create_app(bridge), base_url=HOME)


# --- serving ----------------------------------------------------------------------------------------------------------


def test_the_page_needs_nothing_from_elsewhere(client: TestClient) -> None:
    page = client.get("/")
    assert page.status_code == 200 and "default-src 'self'" in page.headers["content-security-policy"]
    for name in ("app.js", "view.js", "charts.js", "style.css", "icon.svg"):
        text = client.get(f"/static/{name}").text
        assert "//cdn" not in text and "https://" not in text


def test_nothing_outside_the_static_folder_is_served(client: TestClient) -> None:
    for path in ("/static/../app.py", "/static/%2e%2e/app.py", "/docs", "/openapi.json"):
        assert client.get(path).status_code == 404


def test_a_camera_without_a_picture_says_so(client: TestClient, bridge: DemoBridge) -> None:
    answer = client.get("/api/image/beauty.jpg")
    assert answer.status_code == 404 and "no picture of camera 'beauty'" in answer.json()["message"]
    bridge.view.on_image("beauty", b"\xff\xd8...")
    assert client.get("/api/image/beauty.jpg").content == b"\xff\xd8..."


# --- commands ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "body", "expected"),
    [
        ("mode", {"mode": "pause"}, ("set_mode", "pause")),
        ("software_stop", {"active": True}, ("software_stop", True)),
        ("software_stop", {"active": False}, ("software_stop", False)),
        ("help", {"answer": "reset", "operator": "ada"}, ("resolve_help", "reset", "ada")),
        ("label", {"segment": 7, "success": True}, ("label", 7, True)),
        ("speed", {"share": 0.3}, ("limit_speed", 0.3)),
        ("speed", {"share": 1}, ("limit_speed", 1.0)),
        ("correct", {"text": "a bit to the left"}, ("correct", "a bit to the left")),
    ],
)
def test_each_command_reaches_the_bridge_once(
    client: TestClient, bridge: DemoBridge, path: str, body: dict, expected: tuple
) -> None:
    assert client.post(f"/api/{path}", json=body).json() == {"ok": True, "message": ""}
    assert bridge.commands == [expected]


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("mode", {"mode": "dance"}),
        ("mode", {}),
        ("mode", ["pause"]),
        ("software_stop", {"active": "yes"}),
        ("software_stop", {"active": 1}),
        ("software_stop", {"active": True, "extra": 1}),
        ("help", {"answer": ""}),
        ("help", {"answer": "x" * 500}),
        ("label", {"segment": 0, "success": True}),
        ("label", {"segment": "7", "success": True}),
    ],
)
def test_malformed_commands_are_refused_and_do_nothing(client: TestClient, bridge: DemoBridge, path: str, body) -> None:
    answer = client.post(f"/api/{path}", json=body)
    assert answer.status_code == 422 and answer.json()["message"].startswith("the request is malformed: ")
    assert bridge.commands == []


def test_a_body_that_is_not_json_is_refused(client: TestClient, bridge: DemoBridge) -> None:
    for content, kind in [(b"\xff{", "application/json"), (b"{", "application/json"), (b'{"active": false}', "text/plain")]:
        answer = client.post("/api/software_stop", content=content, headers={"content-type": kind})
        assert answer.status_code in (400, 422)
    assert bridge.commands == []


def test_a_command_that_the_robot_did_not_take_says_why(client: TestClient, bridge: DemoBridge) -> None:
    bridge.answer = Answer(False, "No actor answers.")
    answer = client.post("/api/software_stop", json={"active": True})
    assert answer.status_code == 503 and answer.json() == {"ok": False, "message": "No actor answers."}


# --- who may ask ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "origin", ["http://evil.example", "https://127.0.0.1.evil.example", "null", "http://127.0.0.1:9999", "[", ""]
)
def test_other_web_sites_cannot_command_the_robot(client: TestClient, bridge: DemoBridge, origin: str) -> None:
    answer = client.post("/api/software_stop", json={"active": False}, headers={"origin": origin})
    assert answer.status_code == 403 and bridge.commands == []
    with pytest.raises(WebSocketDisconnect), client.websocket_connect(LIVE, headers={"origin": origin}):
        pass
    assert bridge.viewer_counts == []


def test_a_foreign_host_name_is_refused_because_it_may_be_rebound(client: TestClient) -> None:
    answer = client.get("/api/snapshot", headers={"host": "evil.example:8420"})
    assert answer.status_code == 403 and "not to Host 'evil.example:8420'" in answer.json()["message"]


def test_who_is_welcome() -> None:
    welcome = [
        ("127.0.0.1:8420", None),
        ("127.0.0.1:8420", HOME),
        ("localhost:8420", "http://localhost:8420"),
        ("[::1]:8420", "http://[::1]:8420"),
        ("10.0.0.5:8420", "http://10.0.0.5:8420"),
    ]
    assert [refusal(host, origin, "10.0.0.5") for host, origin in welcome] == [None] * 5
    assert refusal("10.0.0.6:8420", None, "10.0.0.5") and refusal("", None, "10.0.0.5") and refusal("[", None, "10.0.0.5")


# --- the live connection ----------------------------------------------------------------------------------------------


def test_a_browser_gets_the_snapshot_at_once_and_history_only_when_it_changes(client: TestClient, bridge: DemoBridge) -> None:
    with client.websocket_connect(LIVE, headers={"origin": HOME}) as live:
        assert "history" in live.receive_json()
        assert "history" not in live.receive_json()
        bridge.view.on_evaluation({"time_s": 1, "env_steps": 10, "phase": "forward", "episodes": 2, "successes": 1})
        assert any("history" in live.receive_json() for _ in range(3))
        assert bridge.viewer_counts == [1]
    assert bridge.viewer_counts == [1, 0]


def test_pictures_are_sent_newest_only_and_no_faster_than_they_are_drawn(client: TestClient, bridge: DemoBridge) -> None:
    def pictures(live, messages: int) -> list[bytes]:
        received = [live.receive() for _ in range(messages)]
        return [message["bytes"] for message in received if message.get("bytes")]

    with client.websocket_connect(LIVE) as live:
        seen = []
        for number in range(8):
            bridge.view.on_image("front", b"%d" % number)
            seen += pictures(live, 2)
        assert len(seen) == MAX_UNDRAWN and seen[0] == b"\x05front0"
        live.send_text("drawn")
        assert pictures(live, 3) == [b"\x05front7"]


@pytest.mark.parametrize("message", ["stop", "", '{"active": false}', b"drawn"])
def test_a_socket_that_says_anything_else_is_closed(client: TestClient, bridge: DemoBridge, message) -> None:
    with client.websocket_connect(LIVE) as live:
        live.send_bytes(message) if isinstance(message, bytes) else live.send_text(message)
        with pytest.raises(WebSocketDisconnect) as closed:
            for _ in range(5):
                live.receive_json()
        assert closed.value.code == 1003
    assert bridge.commands == [] and bridge.viewer_counts[-1] == 0


# --- the port ---------------------------------------------------------------------------------------------------------


def test_an_occupied_port_names_the_remedy() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(DashboardError, match=rf"127.0.0.1:{port}.*dashboard.port"):
            open_port("127.0.0.1", port)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", ""])  # noqa: S104
def test_it_never_listens_on_every_network(host: str) -> None:
    with pytest.raises(DashboardError, match="ssh -L"):
        open_port(host, 0)


def test_an_address_of_another_machine_is_refused() -> None:
    with pytest.raises(DashboardError, match=r"192\.0\.2\.1"):
        open_port("192.0.2.1", 0)


def test_demo_pictures_are_jpeg() -> None:
    assert picture(32, 32, 0.0).startswith(b"\xff\xd8")


# --- taking over ------------------------------------------------------------------------------------------------------

TELEOP = "ws://127.0.0.1:8420/teleop"
HELD = {"taken": True, "keys": ["KeyW"], "pad": [0.0, 0.5], "t_ms": 12.5}


def test_what_is_held_reaches_the_bridge_and_its_time_comes_back(client: TestClient, bridge: DemoBridge) -> None:
    with client.websocket_connect(TELEOP, headers={"origin": HOME}) as page, client.websocket_connect(TELEOP) as other:
        names = [socket.receive_json()["operator"] for socket in (page, other)]
        assert len(set(names)) == 2, "two pages are two operators"
        page.send_json(HELD)
        assert page.receive_json() == {"t_ms": 12.5}
        _, operator, held = bridge.held[-1]
        assert operator == names[0] and held.taken and held.keys == ["KeyW"] and held.pad == (0.0, 0.5)


def test_a_page_that_vanishes_while_it_has_the_robot_holds_nothing_any_more_and_gives_nothing_back(
    client: TestClient, bridge: DemoBridge
) -> None:
    with client.websocket_connect(TELEOP) as page:
        page.receive_json()
        page.send_json(HELD)
        page.receive_json()
    last = bridge.held[-1][2]
    assert last.taken and last.keys == [] and last.pad == (0.0, 0.0)
    with client.websocket_connect(TELEOP) as page:
        page.receive_json()
        page.send_json({**HELD, "taken": False})
        page.receive_json()
    assert not bridge.held[-1][2].taken and len(bridge.held) == 3


@pytest.mark.parametrize(
    "message",
    [
        "drawn",
        "{}",
        "[]",
        '{"taken": 1, "keys": [], "t_ms": 1}',
        '{"taken": true, "keys": ["<script>"], "t_ms": 1}',
        '{"taken": true, "keys": [], "pad": [2, 0], "t_ms": 1}',
        '{"taken": true, "keys": [], "pad": [NaN, 0], "t_ms": 1}',
        json.dumps({"taken": True, "keys": ["KeyW"] * 17, "t_ms": 1}),
    ],
)
def test_a_teleop_socket_that_says_anything_else_is_closed(client: TestClient, bridge: DemoBridge, message: str) -> None:
    with client.websocket_connect(TELEOP) as page:
        page.receive_json()
        page.send_text(message)
        with pytest.raises(WebSocketDisconnect) as closed:
            page.receive_json()
        assert closed.value.code == 1003
    assert bridge.held == []


@pytest.mark.parametrize("origin", ["http://evil.example", "null"])
def test_other_web_sites_cannot_take_over(client: TestClient, bridge: DemoBridge, origin: str) -> None:
    with pytest.raises(WebSocketDisconnect), client.websocket_connect(TELEOP, headers={"origin": origin}):
        pass
    assert bridge.held == []


# --- the token --------------------------------------------------------------------------------------------------------

NET = "http://10.0.0.5:8420"


@pytest.fixture
def guarded(bridge: DemoBridge) -> TestClient:
    return TestClient(create_app(bridge, "10.0.0.5", token="t0k-en"), base_url=NET, follow_redirects=False)


def test_beyond_loopback_nothing_is_served_without_the_token(guarded: TestClient, bridge: DemoBridge) -> None:
    answers = [guarded.get("/"), guarded.get("/static/app.js"), guarded.get("/api/snapshot"), guarded.get("/?token=wrong")]
    answers.append(guarded.post("/api/software_stop", json={"active": False}))
    answers.append(guarded.get("/", headers={"cookie": "etude_token=wrong"}))
    assert {answer.status_code for answer in answers} == {401} and "its token" in answers[0].json()["message"]
    for url in ("ws://10.0.0.5:8420/live", "ws://10.0.0.5:8420/teleop"):
        with pytest.raises(WebSocketDisconnect), guarded.websocket_connect(url):
            pass
    assert bridge.commands == [] and bridge.held == []


def test_the_address_with_the_token_gives_a_cookie_and_disappears(guarded: TestClient) -> None:
    welcome = guarded.get("/?token=t0k-en")
    assert welcome.status_code == 303 and welcome.headers["location"] == "/"
    assert {"HttpOnly", "SameSite=strict"} <= set(welcome.headers["set-cookie"].split("; "))
    assert guarded.get("/").status_code == 200 and guarded.post("/api/mode", json={"mode": "pause"}).status_code == 200
    foreign = {"origin": "http://evil.example"}
    assert guarded.post("/api/mode", json={"mode": "pause"}, headers=foreign).status_code == 403


def test_a_script_sends_the_token_as_a_bearer(guarded: TestClient) -> None:
    assert guarded.get("/api/snapshot", headers={"authorization": "Bearer t0k-en"}).status_code == 200
