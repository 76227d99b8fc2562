"""Curves and the strip of the last minutes, from run folders."""

from __future__ import annotations

import dataclasses
import json
import math

import numpy as np
import pytest
from demo_bridge import example_config
from starlette.testclient import TestClient
from stored_run import ATTEMPTS, BEGAN_NS, make_store

from dashboard.curves import LIMIT, Buckets, Curves
from dashboard.episodes import Episodes
from dashboard.replay import replay_app
from dashboard.timeline import SPAN_S, Timeline
from etude.run_folder import RunFolder
from etude.status import wilson_interval

BEGAN_S = BEGAN_NS / 1e9


@pytest.fixture
def folder(tmp_path) -> RunFolder:
    folder = RunFolder(tmp_path / "run")
    folder.create()
    return folder


def write(path, rows) -> None:
    with path.open("a") as file:
        file.write("".join(json.dumps(row) + "\n" for row in rows))


def chart(curves: Curves, name: str) -> dict:
    return next(one for one in curves.data()["charts"] if one["name"] == name)


def curves_of(folder: RunFolder, segments=()) -> Curves:
    now = iter(range(0, 10**6, 100))
    return Curves(folder, lambda: segments, lambda: float(next(now)))  # never the same moment: made anew at every call


def actor_rows(count: int, **more) -> list[dict]:
    """A row per second; the run was paused from 100 s to 200 s."""
    return [
        {"time_s": BEGAN_S + i + (100 if i > 100 else 0), "run_time_s": float(i), "step": i, **more} | {"weight_age_s": i % 7}
        for i in range(count)
    ]


# --- buckets ----------------------------------------------------------------------------------------------------------


def test_a_series_stays_small_and_spans_everything_however_long_it_grows() -> None:
    series = Buckets(1.0, "mean", limit=50)
    for x in range(10_000):
        series.add(x, x)
    x, y = series.points()
    assert 20 <= len(x) <= 50 and np.all(np.diff(x) > 0)
    assert x[0] < 300 and x[-1] > 9_700 and np.allclose(x, y)


def test_spikes_survive_where_the_largest_is_kept_and_counters_end_at_their_last_value() -> None:
    spiky, counter = Buckets(1.0, "max", limit=10), Buckets(1.0, "last", limit=10)
    for x in range(1000):
        spiky.add(x, 500.0 if x == 333 else 1.0)
        counter.add(x, x)
    assert spiky.points()[1].max() == 500.0 and counter.points()[1][-1] == 999


# --- curves -----------------------------------------------------------------------------------------------------------


def test_an_empty_run_says_of_every_curve_when_it_appears(folder: RunFolder) -> None:
    charts = curves_of(folder).data()["charts"]
    assert {one["name"] for one in charts} == {
        "success",
        "reward",
        "critic_losses",
        "policy_losses",
        "interventions",
        "loop_period_p99_ms",
        "weight_age_s",
    }
    assert all(one["series"] == [] and one["empty"].startswith("Appears ") for one in charts)
    assert "run/logs/learner.log" in next(one["empty"] for one in charts if one["name"] == "critic_losses")


def test_success_and_reward_are_those_of_the_stored_attempts(folder: RunFolder) -> None:
    store = make_store(folder.episodes)
    curves = curves_of(folder, store.segments())
    backward = chart(curves, "success")["series"][1]
    assert backward["label"] == "backward" and backward["y"] == pytest.approx([0.0, 0.5, 2 / 3], abs=1e-5)
    low, high = wilson_interval(2, 3)
    assert backward["low"][-1] == pytest.approx(low, abs=1e-5) and backward["high"][-1] == pytest.approx(high, abs=1e-5)
    forward = chart(curves, "reward")["series"][0]
    assert forward["y"] == pytest.approx([0.0, 0.0, 1 / 3], abs=1e-5)  # the fifth of the attempts 1, 3, 5
    assert np.all(np.diff(forward["x"]) > 0)
    store.close()


def test_time_is_practice_and_stands_still_in_a_pause(folder: RunFolder) -> None:
    write(folder.metrics("actor"), actor_rows(300))
    moments = (-60, 50, 150, 199, 250)
    losses = [{"time_s": BEGAN_S + at, "step": 0, "critic/td_loss/forward": at, "critic/q_mean/forward": 1} for at in moments]
    write(folder.metrics("learner"), losses)
    (series,) = chart(curves_of(folder), "critic_losses")["series"]
    assert series["label"] == "td loss forward" and series["phase"] == "forward"
    assert series["x"] == pytest.approx([-1.0, 50 / 60, 100 / 60, 100 / 60, 150 / 60], abs=0.1)


def test_interventions_per_hour_are_of_the_last_ten_minutes(folder: RunFolder) -> None:
    rows = [{"time_s": BEGAN_S + i, "run_time_s": i, "interventions": min(i // 60, 10)} for i in range(0, 2400, 5)]
    write(folder.metrics("actor"), rows)
    (series,) = chart(curves_of(folder), "interventions")["series"]
    at = dict(zip(np.round(series["x"]), series["y"], strict=True))
    assert at[8] == pytest.approx(60, abs=10) and at[39] == 0.0
    assert min(series["x"]) >= 1.0


def test_what_is_not_a_number_is_left_out_and_files_may_grow_late(folder: RunFolder) -> None:
    curves = curves_of(folder)
    assert chart(curves, "weight_age_s")["series"] == []
    write(folder.metrics("actor"), [{"time_s": "x"}, {"time_s": BEGAN_S, "run_time_s": 1, "weight_age_s": None}, {}])
    assert chart(curves, "weight_age_s")["series"] == []
    write(folder.metrics("actor"), actor_rows(30, loop_period_p99_ms=math.nan))
    assert max(chart(curves, "weight_age_s")["series"][0]["y"]) == 6.0
    assert chart(curves, "loop_period_p99_ms")["series"] == []
    json.dumps(curves.data(), allow_nan=False)


def test_a_long_run_is_a_few_hundred_points(folder: RunFolder) -> None:
    store = make_store(folder.episodes)
    one = store.segments()[0]
    store.close()
    later = [dataclasses.replace(one, last_stamp_ns=one.last_stamp_ns + n * 10**9) for n in range(5000)]
    write(folder.metrics("actor"), actor_rows(20_000))
    curves = curves_of(folder, later)
    assert len(chart(curves, "success")["series"][0]["x"]) == LIMIT
    assert 100 < len(chart(curves, "weight_age_s")["series"][0]["x"]) <= LIMIT
    assert len(json.dumps(curves.data())) < 200_000


# --- the strip --------------------------------------------------------------------------------------------------------


def test_the_strip_ends_now_and_goes_ten_minutes_back(folder: RunFolder) -> None:
    store = make_store(folder.episodes)
    last = store.segments()[-1]
    now = [last.last_stamp_ns]
    clock = iter(range(0, 10**6, 100))
    timeline = Timeline(folder, store.segments, lambda: now[0], lambda: float(next(clock)))
    data = timeline.data()
    assert [one["segment"] for one in data["segments"]] == list(range(1, ATTEMPTS + 1))
    second = data["segments"][1]
    assert second["phase"] == "backward" and second["success"] is False and second["sources"] == {"policy": 3, "human": 2}
    assert second["end_ms"] - second["begin_ms"] == 500 and data["end_ms"] - data["begin_ms"] == 1000 * SPAN_S
    now[0] += int((SPAN_S - 5) * 1e9)
    assert [one["segment"] for one in timeline.data()["segments"]] == [ATTEMPTS]
    store.close()


def test_waits_for_help_begin_when_it_is_asked_and_end_with_the_answer(folder: RunFolder) -> None:
    clock = iter(range(0, 10**6, 100))
    timeline = Timeline(folder, lambda: [], lambda: BEGAN_NS + 100 * 10**9, lambda: float(next(clock)))
    asked = {"event": "asked", "id": 1, "reason": "It is stuck.", "stamp_ns": BEGAN_NS}
    write(folder.help_log, [{"event": "labelled"}, asked])
    assert timeline.data()["help"] == [{"reason": "It is stuck.", "begin_ms": BEGAN_NS // 10**6, "end_ms": None}]
    write(folder.help_log, [{**asked, "event": "repeated"}, {**asked, "event": "answered", "logged_ns": BEGAN_NS + 30 * 10**9}])
    (wait,) = timeline.data()["help"]
    assert wait["end_ms"] - wait["begin_ms"] == 30_000


def test_a_replay_has_curves_and_the_last_minutes_of_the_run(folder: RunFolder) -> None:
    make_store(folder.episodes).close()
    client = TestClient(replay_app(folder, example_config()), base_url="http://127.0.0.1:8430")
    assert client.get("/api/curves").json()["charts"][0]["series"]
    strip = client.get("/api/timeline").json()
    infos = Episodes(folder.episodes).infos()
    assert strip["end_ms"] == infos[-1].last_stamp_ns // 10**6 and len(strip["segments"]) == ATTEMPTS
