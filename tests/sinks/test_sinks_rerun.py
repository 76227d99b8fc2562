"""The recording of Rerun has pictures, numbers, words and curves on both timelines. Skipped where the extra is not installed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from exported_run import START_NS

from etude.episodes.store import EpisodeStore
from etude.run_folder import RunFolder
from etude.sinks.commands import runs_export

pytest.importorskip("rerun", reason="the extra rerun is not installed")
from rerun.chunk import RrdReader

from etude.sinks.rerun_file import told

Rows = list[tuple[int, int, Any]]


def read(path: Path) -> dict[str, Rows]:
    """Entity -> (step, nanoseconds since the epoch, value) in order of steps."""
    reader = RrdReader(str(path))
    assert [entry.recording_id for entry in reader.recordings()] == ["one"] and len(reader.blueprints()) == 1
    rows: dict[str, Rows] = {}
    for chunk in reader.stream():
        if chunk.is_static:
            continue
        table = chunk.to_record_batch()
        name = next(n for n in table.schema.names if n.endswith((":scalars", ":text", ":blob")))
        columns = (table["step"].to_pylist(), table["time"].cast("int64").to_pylist(), table[name].to_pylist())
        rows.setdefault(chunk.entity_path, []).extend((step, at, value[0]) for step, at, value in zip(*columns, strict=True))
    return {entity: sorted(values, key=lambda row: row[:2]) for entity, values in rows.items()}


def values(rows: Rows) -> list[tuple[int, Any]]:
    return [(step, value) for step, _, value in rows]


@pytest.fixture
def recording(run: RunFolder, tmp_path: Path) -> dict[str, Rows]:
    out = tmp_path / "run.rrd"
    assert runs_export([str(run.root), "--rerun", str(out)]) == 0
    return read(out)


def test_numbers_stand_at_their_steps_and_times(recording, run):
    store = EpisodeStore.open(run.episodes)
    steps = [step for info in store.segments() for step in store.read(info).steps()]
    counted = [
        0,
        1,
        2,
        3,
        3,
        4,
        5,
        6,
        7,
        7,
        8,
        9,
    ]  # the last step of an attempt does nothing, so the next one begins at its count
    assert sorted(recording["/state/tcp_x_m"]) == [
        (count, step.stamp_ns, float(step.observation["state"][0])) for count, step in zip(counted, steps, strict=True)
    ]
    acting = [(count, step) for count, step in zip(counted, steps, strict=True) if not step.is_last]
    assert values(recording["/action/x"]) == [(count, pytest.approx(float(step.action[0]))) for count, step in acting]
    assert values(recording["/policy_action/gripper"]) == [(count, 1.0) for count, _ in acting]
    assert values(recording["/reward"]) == [(count, 0.5) for count, _ in acting]
    assert [value for _, value in values(recording["/source"])] == [0, 0, 0, 0, 1, 0, 0, 0, 0]


def test_what_nobody_judged_is_left_out(recording):
    assert [value for _, _, value in recording["/judge/success_probability"]] == [0.25] * (3 + 4 + 2)
    assert [value for _, _, value in recording["/judge/success"]] == [1.0, 0.0, 0.0]


def test_pictures_are_those_of_the_cameras(recording):
    first = np.frombuffer(bytes(recording["/camera/front"][0][2]), np.uint8)
    assert cv2.imdecode(first, cv2.IMREAD_COLOR).shape == (16, 12, 3)
    assert len(recording["/camera/wrist.left" if "/camera/wrist.left" in recording else "/camera/wrist\\.left"]) == 12


def test_curves_stand_over_environment_steps(recording):
    assert values(recording["/curves/actor/loop_rate_hz"]) == [(3, 10.0), (9, 9.5)]
    assert values(recording["/curves/critic/td_loss/forward"]) == [(6, 0.125)]
    assert recording["/curves/evaluation/forward"] == [(4, pytest.approx(START_NS + 10**9, abs=1000), 0.75)]


def test_an_attempt_is_told_in_words(recording, run):
    store = EpisodeStore.open(run.episodes)
    first, second, _ = (store.read(info) for info in store.segments())
    assert list(told(first)) == [(0, "attempt 1, forward: slide it forward"), (3, "attempt 1 succeeded")]
    assert list(told(second)) == [
        (0, "attempt 2, backward: slide it backward"),
        (1, "human acts"),
        (1, "in words: a bit to the left"),
        (2, "policy acts"),
        (4, "attempt 2 failed"),
    ]
    assert [text for _, text in values(recording["/told"])].count("attempt 3, forward: slide it forward") == 1
    assert len(recording["/told"]) == 2 + 5 + 2


def test_attempts_can_be_chosen_and_keep_their_steps(run, tmp_path):
    runs_export([str(run.root), "--rerun", str(tmp_path / "run.rrd"), "--newest", "1", "--png"])
    rows = read(tmp_path / "run.rrd")["/camera/front"]
    assert [step for step, _, _ in rows] == [7, 8, 9] and bytes(rows[0][2]).startswith(b"\x89PNG")
