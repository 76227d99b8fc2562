"""`etude demo record --by browser`: what a page says over its WebSocket becomes a stored demonstration. No ROS."""

from __future__ import annotations

import json
import threading
import time

import httpx
import pytest
from point_robot import PointRobot, point_config
from websockets.sync.client import connect

from actor import demonstration_quality, operator_demonstrations
from actor.operator_demonstrations import Session, Stage
from actor.teleop.command import TeleopError
from etude.episodes.store import EpisodeStore
from etude.step import Source
from etude_nodes.demonstrate import Page, demonstrate, run


@pytest.fixture
def config():
    return point_config(
        reset__kind="human",
        task__forward={"instruction": "go right", "max_steps": 100},
        robot__control_rate_hz=20.0,
        run__dashboard={"port": 0},
    )


def test_keys_held_on_the_page_become_a_demonstration(tmp_path, config, monkeypatch):
    monkeypatch.setattr(operator_demonstrations, "COUNTDOWN_S", 0.3)
    monkeypatch.setattr(demonstration_quality, "LONGEST_IDLE_SHARE", 1.0)  # of a busy machine, not of the person
    robot = PointRobot()
    robot.x_m = 0.7
    store = EpisodeStore.create(tmp_path / "store", robot.observation_spec, robot.action_spec, {})
    session = Session(config, robot, store, 1)
    page = Page(config, session, robot)
    recording = threading.Thread(target=run, args=(session, page.turn), daemon=True)
    recording.start()
    with connect(page.url.replace("http", "ws") + "/teleop") as socket:
        operator = json.loads(socket.recv())["operator"]
        deadline = time.monotonic() + 30
        seen = set()
        while recording.is_alive() and time.monotonic() < deadline:
            keys = ["KeyW"] if session.moment.stage is Stage.RECORDING else []
            socket.send(json.dumps({"taken": True, "keys": keys, "pad": [0, 0], "t_ms": time.monotonic() * 1000}))
            socket.recv()
            if len(seen) < 5 and keys and robot.x_m > 0.72:
                status = httpx.get(f"{page.url}/api/snapshot").json()["status"]
                seen.add((status["authority"], status["operator_name"], status["message"].split(" ")[0]))
            time.sleep(0.03)
    recording.join(5)
    page.close()
    store.close()
    assert session.moment.stage is Stage.DONE, session.moment
    assert ("human", f"{operator} (browser)", "Recording") in seen
    with EpisodeStore.open(tmp_path / "store", "r") as stored:
        (info,) = stored.segments()
        segment = stored.read(info)
    assert (segment.source[:-1] == Source.HUMAN).all() and segment.is_terminal[-1] and segment.observation["state"][-1, 0] >= 0.8


def test_a_device_that_is_not_there_is_said_before_anything_is_recorded(tmp_path, config, monkeypatch):
    monkeypatch.setattr("actor.teleop.gamepad.find", list)
    robot = PointRobot()
    store = EpisodeStore.create(tmp_path / "store", robot.observation_spec, robot.action_spec, {})
    with pytest.raises(TeleopError, match="no gamepad was found"):
        demonstrate(config, robot, store, 1, "gamepad")
    store.close()


def test_off_loopback_the_page_wants_the_token_of_its_address(config, tmp_path, monkeypatch):
    monkeypatch.setattr("etude_nodes.demonstrate.is_loopback", lambda host: False)
    robot = PointRobot()
    store = EpisodeStore.create(tmp_path / "store", robot.observation_spec, robot.action_spec, {})
    page = Page(config, Session(config, robot, store, 1), robot)
    try:
        with httpx.Client(follow_redirects=True) as client:
            assert client.get(page.url.partition("?")[0]).status_code in (401, 403)
            assert client.get(page.url).status_code == 200
    finally:
        page.close()
        store.close()
