"""``etude episodes info`` and ``validate``: a person learns what a store holds, and each fault with its place and remedy."""

from __future__ import annotations

import json
import sqlite3
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from test_store import ACTION, OBSERVATION, append_all, make_segment, make_step

from etude.episodes.commands import find_store, info, validate
from etude.episodes.segment import segment_from_steps
from etude.episodes.store import EpisodeStore, StoreError
from etude.episodes.validate import segment_faults, validate_outbox, validate_store
from etude.step import Source
from etude.wire import encode_step


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run folder with a store of two forward and one backward segment of 4 steps."""
    with EpisodeStore.create(tmp_path / "episodes", OBSERVATION, ACTION, {"seed": 3}) as store:
        last = make_step(4, 3, last=True, success=1, success_truth=1, is_terminal=True)
        append_all(store, [*make_segment(1, 4)[:3], last])
        last = make_step(8, 3, last=True, segment=2, success=0, success_truth=1)
        append_all(store, [*make_segment(5, 4, segment=2, source=Source.SCRIPTED)[:3], last])
        append_all(store, make_segment(9, 4, segment=3, phase="backward", source=Source.HUMAN))
    return tmp_path


def write_outbox(path: Path, actor: str, last_sequence: int, pending: list[int]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    database = sqlite3.connect(path)
    database.execute("CREATE TABLE steps(sequence INTEGER PRIMARY KEY, payload BLOB NOT NULL)")
    database.execute("CREATE TABLE identity(actor_id, last_sequence, last_segment)")
    database.execute("INSERT INTO identity VALUES (?, ?, 1)", (actor, last_sequence))
    for sequence in pending:
        database.execute("INSERT INTO steps VALUES (?, ?)", (sequence, encode_step(make_step(sequence, 1, actor=actor))))
    database.commit()
    database.close()


# --- info ---------------------------------------------------------------------------------------------------------


def test_info_counts_per_phase_and_task(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert info([str(run), "--json"]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert (summary["segments"], summary["steps"], summary["images"]) == (3, 12, 24)
    assert summary["image_bytes"] == 12 * 3 * (8 * 6 + 4 * 4) and summary["disk_bytes"] > 0
    assert summary["last_stamp_ns"] - summary["first_stamp_ns"] == 11
    backward, forward = summary["groups"]
    assert (backward["phase"], backward["actions_by"], backward["judged"]) == ("backward", {"human": 3}, 0)
    assert (forward["success"], forward["judged"], forward["success_truth"]) == (1, 2, 2)
    assert forward["actions_by"] == {"policy": 3, "scripted": 3}


def test_info_is_readable_for_a_person(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert info([str(run / "episodes")]) == 0
    text = capsys.readouterr().out
    for part in ("3 segments, 12 steps", "front 8x6, wrist 4x4", "robot-1", "seed=3", "1/2  50%", "policy 3, scripted 3"):
        assert part in text


def test_an_empty_store_has_an_info_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    EpisodeStore.create(tmp_path, OBSERVATION, ACTION).close()
    assert info([str(tmp_path)]) == 0 and validate([str(tmp_path)]) == 0
    assert "0 segments, 0 steps" in capsys.readouterr().out


def test_a_wrong_path_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no folder"):
        find_store(tmp_path / "nothing")
    with pytest.raises(StoreError, match="no episode store at"):
        find_store(tmp_path)


# --- validate -----------------------------------------------------------------------------------------------------


def test_a_good_store_is_well(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert validate([str(run)]) == 0
    assert "all is well (3 segments, 12 steps, 1 actors)" in capsys.readouterr().out


def test_a_missing_segment_is_a_gap_and_a_damaged_one_is_named(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = run / "episodes" / "segments" / "robot-1"
    (folder / "000000000005-000004").rename(run / "aside")
    (folder / "000000000009-000004" / "image" / "front" / "c.0.0.0.0").write_bytes(b"torn")
    assert validate([str(run)]) == 1
    out = capsys.readouterr().out
    assert "steps 5 to 8 of robot-1 are missing" in out and "restore it from a copy" in out
    assert "000000000009-000004" in out and "Move that folder out of the store" in out
    assert "2 problems in 2 segments" in out


def test_a_summary_that_is_not_readable_is_a_problem(run: Path) -> None:
    (run / "episodes/segments/robot-1/000000000005-000004/zarr.json").write_text("{")
    problems = [str(problem) for problem in validate_store(EpisodeStore.open(run / "episodes"))]
    assert any("summary is not readable" in problem for problem in problems)


def test_steps_stored_twice_are_found(run: Path) -> None:
    """A copy of a segment that begins one step later: steps 6 to 8 are there twice."""
    folder = run / "episodes/segments/robot-1"
    other = EpisodeStore.create(run / "other", OBSERVATION, ACTION)
    for start in (1, 2):  # numbered as the store wants it, then moved to where a faulty writer would have put it
        append_all(other, make_segment(1 if start == 1 else 6, 5 if start == 1 else 3, segment=start))
    (copied,) = [item for item in other.segments() if item.first_sequence == 6]
    other.close()
    assert copied.path is not None
    copied.path.rename(folder / copied.path.name)
    problems = [problem.message for problem in validate_store(EpisodeStore.open(run / "episodes"))]
    assert "steps 6 to 8 of robot-1 are stored twice" in problems


GOOD = segment_from_steps(make_segment(1, 4))
FAULTS = {
    "first": ({"is_first": np.array([True, False, True, False])}, "is_first is set at steps [0, 2]"),
    "last": ({"is_last": np.zeros(4, bool)}, "is_last is set at steps []"),
    "terminal": ({"is_terminal": np.array([False, True, False, False])}, "is_terminal is set at step 1"),
    "reward at the end": ({"reward": np.ones(4, np.float32)}, "last step has an action or a reward"),
    "not finite": ({"reward": np.array([0, np.nan, 0, 0], np.float32)}, "reward is not finite at step 1"),
    "action": ({"action": np.array([[0, 3], [0, 0], [0, 0], [0, 0]], np.float32)}, "action leaves [-1, 1]"),
    "probability": ({"success_probability": np.full(4, 1.5, np.float32)}, "success_probability leaves [0, 1]"),
    "source": ({"source": np.full(4, 9, np.uint8)}, "source has unknown values [9]"),
    "sequence": ({"sequence": np.array([1, 2, 2, 3])}, "sequence numbers are not 1 to 4"),
    "phase": ({"info": replace(GOOD.info, phase="sideways")}, "phase 'sideways'"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_every_fault_inside_a_segment_is_found(name: str) -> None:
    changes, message = FAULTS[name]
    assert segment_faults(GOOD) == []
    assert any(message in fault for fault in segment_faults(replace(GOOD, **changes)))


@pytest.mark.parametrize(
    ("last", "pending", "message"),
    [
        (12, [], None),
        (15, [13, 14, 15], None),
        (15, [10, 11, 12, 13, 14, 15], None),
        (15, [14, 15], "steps 13 to 13 of robot-1 are neither"),
        (15, [13, 15], "steps 14 to 14 of robot-1 are neither"),
        (15, [13, 14], "steps 15 to 15 of robot-1 are neither"),
        (9, [], "the outbox ends at 9"),
    ],
)
def test_outbox_and_store_together_hold_every_step(run: Path, last: int, pending: list[int], message: str | None) -> None:
    outbox = run / "outbox" / "robot.sqlite"
    write_outbox(outbox, "robot-1", last, pending)
    problems = [problem.message for problem in validate_outbox(EpisodeStore.open(run / "episodes"), outbox)]
    assert problems == [] if message is None else any(message in problem for problem in problems)


def test_validate_finds_the_outboxes_of_a_run(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_outbox(run / "outbox" / "robot.sqlite", "robot-1", 13, [13])
    (run / "outbox" / "notes.txt").write_text("not an outbox")
    assert validate([str(run)]) == 0
    assert "and 1 outbox)" in capsys.readouterr().out
    write_outbox(run / "outbox" / "robot.sqlite", "robot-1", 14, [14])
    assert validate([str(run), "--outbox", str(run / "outbox" / "robot.sqlite")]) == 1


def test_an_outbox_that_cannot_be_read_is_one_clear_error(run: Path) -> None:
    store = EpisodeStore.open(run / "episodes")
    with pytest.raises(StoreError, match=r"outbox .* cannot be read"):
        validate_outbox(store, run / "absent.sqlite")
    (run / "noise.sqlite").write_bytes(b"noise" * 100)
    with pytest.raises(StoreError, match="move the file aside"):
        validate_outbox(store, run / "noise.sqlite")
