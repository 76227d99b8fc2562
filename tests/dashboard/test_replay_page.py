"""`etude replay`: the page over a run folder."""

from __future__ import annotations

import json

import pytest
from demo_bridge import example_config
from starlette.testclient import TestClient
from stored_run import ATTEMPTS, BEGAN_NS, STEPS, make_store

from dashboard.app import create_app
from dashboard.episodes import Episodes
from dashboard.replay import Replay, replay_command
from etude.config import ConfigError, save_config
from etude.run_folder import RunFolder


@pytest.fixture
def folder(tmp_path):
    """A run folder: six attempts, an evaluation before them, a request for help that was answered after the third."""
    folder = RunFolder(tmp_path / "old-run")
    folder.create()
    save_config(example_config(), folder.config)
    make_store(folder.episodes).close()
    evaluation = {"phase": "forward", "episodes": 20, "successes": 5, "env_steps": 0, "time_s": 0.0, "stamp_ns": BEGAN_NS}
    folder.evaluations.write_text(json.dumps(evaluation) + "\nnonsense\n")
    asked = {
        "event": "asked",
        "id": 1,
        "reason": "It is stuck.",
        "phase": "forward",
        "stamp_ns": BEGAN_NS + 35 * 10**9,
        "env_steps": 15,
    }
    answered = {**asked, "event": "answered", "meanwhile": "Answered by me: reset."}
    folder.help_log.write_text("".join(json.dumps(line) + "\n" for line in (asked, answered)))
    return folder


def test_counters_rates_and_curves_are_those_of_the_run(folder):
    data = Replay(folder, example_config()).snapshot()
    assert data["run"]["replay"] and data["status"]["mode"] == "idle"
    assert data["status"]["env_steps"] == ATTEMPTS * STEPS
    assert data["status"]["success"]["forward"]["successes"] == 1 and data["status"]["success"]["backward"]["successes"] == 2
    assert data["status"]["interventions"] == 1
    assert data["status"]["help_requests"] == 1 and data["status"]["hard_resets"] == 1
    assert data["status"]["judge"]["precision"] == pytest.approx(2 / 3)
    assert data["history"]["evaluations"][0]["successes"] == 5
    assert data["history"]["help"] == pytest.approx([1.5])  # seconds of practice, after three attempts of half a second
    assert [note["kind"] for note in data["journal"]] == ["mode", "answer", "help", "evaluation"]


def test_ages_are_of_the_end_of_the_run(folder):
    data = Replay(folder, example_config()).snapshot()
    help_asked = next(note for note in data["journal"] if note["kind"] == "help")
    assert help_asked["age_s"] == pytest.approx(25.5)
    assert not data["actor"]["silent"] and not data["learner"]["silent"]


def test_nothing_can_be_commanded(folder):
    client = TestClient(create_app(Replay(folder, example_config())), base_url="http://127.0.0.1:8430")
    for path, body in (
        ("mode", {"mode": "practise"}),
        ("software_stop", {"active": True}),
        ("label", {"segment": 1, "success": True}),
    ):
        answer = client.post(f"/api/{path}", json=body)
        assert answer.status_code == 503 and "etude practice resume" in answer.json()["message"]


def test_a_run_that_never_began_is_an_empty_page(tmp_path):
    folder = RunFolder(tmp_path / "new")
    folder.create()
    data = Replay(folder, example_config()).snapshot()
    assert data["status"] is None and Episodes(folder.episodes).listing()["total"] == 0


def test_a_folder_that_is_no_run_is_said_so(tmp_path):
    with pytest.raises(ConfigError, match="is no run folder"):
        replay_command([str(tmp_path)])
