"""Stored attempts for the page: the list, one attempt, its pictures, and everything that is not there."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient
from stored_run import ACTOR, ATTEMPTS, STEPS, make_store, steps_of

from dashboard.app import create_app
from dashboard.episodes import Episodes, NoSuchEpisode
from dashboard.run_view import RunView


@pytest.fixture
def store(tmp_path):
    with make_store(tmp_path / "episodes") as store:
        yield store


@pytest.fixture
def episodes(store):
    return Episodes(store.path)


def test_the_list_begins_with_the_newest_attempt_and_goes_on_where_it_ended(episodes):
    first = episodes.listing(count=4)
    assert [attempt["segment"] for attempt in first["attempts"]] == [6, 5, 4, 3]
    assert first["more"] and first["total"] == ATTEMPTS
    rest = episodes.listing(first["attempts"][-1]["key"], count=4)
    assert [attempt["segment"] for attempt in rest["attempts"]] == [2, 1] and not rest["more"]


def test_an_attempt_says_step_by_step_who_acted_and_what_the_judge_said(episodes):
    key = next(a["key"] for a in episodes.listing()["attempts"] if a["segment"] == 2)
    detail = episodes.detail(key)
    assert detail["sources"] == ["policy", "policy", "human", "human", "policy"]
    assert detail["cameras"] == ["front"] and detail["judged_by"] == "cnn-1"
    assert len(detail["reward"]) == len(detail["probability"]) == STEPS + 1
    assert detail["probability"][-1] == pytest.approx(0.9)
    assert detail["success"] is False and detail["steps"] == STEPS


def test_a_judge_that_was_wrong_can_be_seen(episodes):
    wrong = [a["segment"] for a in episodes.listing()["attempts"] if a["success"] != a["success_truth"]]
    assert wrong == [4]


def test_pictures_are_those_that_the_policy_saw(episodes):
    key = episodes.listing()["attempts"][0]["key"]
    image = np.asarray(Image.open(io.BytesIO(episodes.picture(key, "front", 3))))
    assert image.shape == (16, 16, 3) and abs(int(image.mean()) - 120) <= 2


def test_attempts_that_are_written_later_appear(store, episodes):
    assert episodes.listing()["total"] == ATTEMPTS
    for step in steps_of(ATTEMPTS + 1, ATTEMPTS * (STEPS + 1) + 1):
        store.append(step)
    store.flush()
    assert episodes.listing()["attempts"][0]["segment"] == ATTEMPTS + 1


@pytest.mark.parametrize("key", ["", "robot-1", f"{ACTOR}:999", "../../etc:1", "a b:1"])
def test_an_attempt_that_is_not_there_is_said_so(episodes, key):
    with pytest.raises(NoSuchEpisode):
        episodes.detail(key)


def test_a_run_without_a_store_has_no_attempts(tmp_path):
    assert Episodes(tmp_path / "none").listing() == {"attempts": [], "more": False, "total": 0}


def test_over_http(episodes):
    from demo_bridge import DemoBridge, example_config

    bridge = DemoBridge(RunView(example_config(), "runs/test"))
    client = TestClient(create_app(bridge, episodes=episodes), base_url="http://127.0.0.1:8420")
    key = client.get("/api/episodes").json()["attempts"][0]["key"]
    assert client.get(f"/api/episodes/{key}").json()["segment"] == ATTEMPTS
    picture = client.get(f"/api/episodes/{key}/front/0.jpg")
    assert picture.headers["content-type"] == "image/jpeg" and picture.content[:2] == b"\xff\xd8"
    for path in (
        f"/api/episodes/{key}/front/99.jpg",
        f"/api/episodes/{key}/side/0.jpg",
        "/api/episodes/x",
        "/api/episodes?before=x",
    ):
        answer = client.get(path)
        assert answer.status_code == 404 and answer.json()["message"]
    assert client.get(f"/api/episodes/{key}/front/x.jpg").status_code == 422
    assert TestClient(create_app(bridge), base_url="http://127.0.0.1:8420").get("/api/episodes").status_code == 404
