"""The dashboard process over real ROS 2: topics of a stand-in actor reach the page, the page's commands reach its services."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("etude_msgs", reason="the ROS interfaces are not built")

import httpx
import rclpy
from demo_bridge import example_config, example_help, example_status, picture
from etude_msgs import msg, srv
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from sensor_msgs.msg import CompressedImage
from std_msgs.msg import Bool
from std_srvs.srv import SetBool
from websockets.sync.client import connect

from etude.config import save_config
from etude.run_folder import RunFolder
from etude.status import Mode
from etude_nodes import convert, qos

DOMAIN = 83


def wait_until(condition, timeout_s: float = 15.0):
    deadline = time.monotonic() + timeout_s
    while not (value := condition()):
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)
    return value


class StandIn(Node):
    """An actor and a learner without robot and policy: publishes what it is told to and remembers what it is asked."""

    def __init__(self, context: Context) -> None:
        super().__init__("stand_in", context=context)
        self.asked: list[tuple] = []
        self.status = self.create_publisher(msg.PracticeStatus, "/robot/practice_status", qos.latched())
        self.help = self.create_publisher(msg.HelpRequest, "/robot/help_request", qos.latched())
        self.metrics = self.create_publisher(msg.Metrics, qos.METRICS_TOPIC, qos.METRICS)
        self.beauty = self.create_publisher(CompressedImage, qos.camera_topic("robot", "beauty"), qos.SENSOR)
        self.create_subscription(Bool, "/robot/software_stop", lambda m: self.asked.append(("topic", m.data)), qos.SOFTWARE_STOP)
        self.create_service(SetBool, "/robot/software_stop", lambda q, a: self._take(a, "software_stop", q.data))
        self.create_service(srv.SetMode, "/robot/set_mode", lambda q, a: self._take(a, "set_mode", q.mode))
        self.create_service(srv.ResolveHelp, "/robot/resolve_help", lambda q, a: self._take(a, "help", q.id, q.answer))
        self.create_service(srv.LimitSpeed, "/robot/limit_speed", lambda q, a: self._take(a, "speed", round(q.share, 3)))
        self.create_service(srv.Label, "/robot/label", lambda q, a: self._take(a, "label", q.segment, q.succeeded))

    def _take(self, answer, *asked):
        self.asked.append(asked)
        answer.success, answer.message = asked != ("set_mode", "idle"), "noted"
        return answer


@pytest.fixture(scope="module")
def stand_in() -> Iterator[StandIn]:
    context = Context()
    rclpy.init(context=context, domain_id=DOMAIN)
    node = StandIn(context)
    executor = SingleThreadedExecutor(context=context)
    executor.add_node(node)
    thread = threading.Thread(target=executor.spin, daemon=True)
    thread.start()
    yield node
    executor.shutdown()
    thread.join(timeout=3)
    node.destroy_node()
    context.try_shutdown()


def start(folder: RunFolder) -> subprocess.Popen:
    command = [sys.executable, "-m", "etude_nodes.dashboard_node", "--run", str(folder.root)]
    environment = {**os.environ, "ROS_DOMAIN_ID": str(DOMAIN)}
    return subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)


def make_run(path: Path, **dashboard) -> RunFolder:
    folder = RunFolder(path)
    folder.create()
    save_config(example_config(dashboard={"port": 0, **dashboard}), folder.config)
    return folder


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory) -> RunFolder:
    return make_run(tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="module")
def url(run_folder: RunFolder, stand_in: StandIn) -> Iterator[str]:
    folder = run_folder
    record = {"time_s": 90, "env_steps": 700, "phase": "forward", "episodes": 20, "successes": 15, "kind": "interval"}
    folder.evaluations.write_text(json.dumps(record) + "\nbroken\n" + json.dumps({**record, "phase": "up"}) + "\n")
    stand_in.status.publish(convert.status_to_message(example_status(), "robot", "a1"))  # before the page exists: latched
    process = start(folder)
    status = folder.root / "dashboard_status.json"
    wait_until(status.exists)
    yield json.loads(status.read_text())["url"]
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=10) == 0, process.stderr.read()


def snapshot(url: str) -> dict:
    return httpx.get(f"{url}/api/snapshot").json()


def test_a_late_page_shows_status_help_metrics_and_evaluations(url: str, stand_in: StandIn) -> None:
    status = wait_until(lambda: snapshot(url)["status"])
    assert status["env_steps"] == 6231 and status["success"]["forward"]["successes"] == 17
    stand_in.help.publish(convert.help_to_message(example_help(), "robot"))
    assert wait_until(lambda: snapshot(url)["help"])["reason"] == "The block has left the table."
    stand_in.metrics.publish(convert.metrics_to_message("learner", 6231, 500, {"critic/loss": 0.25}))
    metrics = wait_until(lambda: snapshot(url)["learner"]["metrics"])
    assert metrics["critic/loss"] == 0.25 and metrics["updates"] == 500
    evaluations = wait_until(lambda: snapshot(url)["history"]["evaluations"])
    assert [e["rate"] for e in evaluations] == [0.75]


def test_what_nodes_say_of_themselves_reaches_the_page(url: str, stand_in: StandIn) -> None:
    diagnostics = stand_in.create_publisher(convert.DiagnosticArray, qos.DIAGNOSTICS_TOPIC, qos.DIAGNOSTICS)
    stamp = stand_in.get_clock().now().to_msg()

    def told() -> dict:
        diagnostics.publish(convert.diagnostics_to_message(stamp, "robot.safety", "warn", "late", {"late_turns": 3}))
        return {node["name"]: node for node in snapshot(url)["nodes"]}

    nodes = wait_until(lambda: {"robot.safety", "dashboard"} <= told().keys() and told())
    assert (nodes["robot.safety"]["level"], nodes["robot.safety"]["values"]) == ("warn", {"late_turns": "3"})
    assert "cameras" in nodes["dashboard"]["values"]


def test_a_malformed_status_is_dropped(url: str, stand_in: StandIn) -> None:
    broken = convert.status_to_message(example_status(env_steps=1), "robot", "a1")
    broken.mode = "dancing"
    stand_in.status.publish(broken)
    stand_in.status.publish(convert.status_to_message(example_status(env_steps=6300, mode=Mode.PAUSED), "robot", "a1"))
    wait_until(lambda: snapshot(url)["status"]["env_steps"] == 6300)


def test_commands_become_service_calls(url: str, stand_in: StandIn, run_folder: RunFolder) -> None:
    def post(path: str, body: dict) -> dict:
        return httpx.post(f"{url}/api/{path}", json=body).json()

    wait_until(lambda: post("mode", {"mode": "pause"})["ok"])
    stand_in.asked.clear()
    assert post("software_stop", {"active": True}) == {"ok": True, "message": "noted"}
    wait_until(lambda: sorted(stand_in.asked) == [("software_stop", True), ("topic", True)])
    stand_in.asked.clear()
    assert post("help", {"answer": "reset"})["ok"] and post("label", {"segment": 3, "success": False})["ok"]
    assert post("speed", {"share": 0.3})["ok"]
    assert stand_in.asked == [("help", 5, "reset"), ("label", 3, False), ("speed", 0.3)]
    kept = [json.loads(line) for line in run_folder.attempt_labels.read_text().splitlines()]
    assert [(line["segment"], line["success"]) for line in kept] == [(3, False)], "labels are kept for the next classifier"
    assert post("mode", {"mode": "idle"}) == {"ok": False, "message": "noted"}


def test_pictures_are_asked_for_only_while_somebody_looks(url: str, stand_in: StandIn) -> None:
    assert stand_in.beauty.get_subscription_count() == 0
    with connect(url.replace("http", "ws") + "/live") as live:
        wait_until(lambda: stand_in.beauty.get_subscription_count() == 1)
        stand_in.beauty.publish(CompressedImage(format="jpeg", data=convert.to_uint8(b"no picture")))
        jpeg = picture(64, 40, 0.0)
        stand_in.beauty.publish(CompressedImage(format="jpeg", data=convert.to_uint8(jpeg)))
        messages = (live.recv(timeout=5) for _ in range(20))
        assert next(message for message in messages if isinstance(message, bytes)) == b"\x06beauty" + jpeg
    wait_until(lambda: stand_in.beauty.get_subscription_count() == 0)


def test_an_occupied_port_is_one_clear_error(tmp_path: Path, url: str) -> None:
    port = int(url.rpartition(":")[2])
    process = start(make_run(tmp_path, port=port))
    assert process.wait(timeout=20) == 2
    text = process.stderr.read()
    assert text.startswith(f"dashboard: the page cannot be served on 127.0.0.1:{port}") and "Traceback" not in text


def test_without_an_actor_a_command_says_so(tmp_path: Path) -> None:
    folder = make_run(tmp_path)
    command = [sys.executable, "-m", "etude_nodes.dashboard_node", "--run", str(folder.root)]
    process = subprocess.Popen(command, env={**os.environ, "ROS_DOMAIN_ID": str(DOMAIN + 1)}, stderr=subprocess.DEVNULL)
    try:
        status = folder.root / "dashboard_status.json"
        url = json.loads(wait_until(lambda: status.exists() and status.read_text()))["url"]
        answer = httpx.post(f"{url}/api/software_stop", json={"active": True})
        assert answer.status_code == 503
        message = answer.json()["message"]
        assert "No actor answers on /robot/software_stop" in message and "stays published" in message
    finally:
        process.terminate()
        process.wait(timeout=10)
