"""What goes to W&B, read back from an offline run of the real package. Skipped where the extra is not installed."""

from __future__ import annotations

import json
import struct
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from exported_run import START_NS, lines

from etude.durable import write_atomic
from etude.run_folder import RunFolder
from etude.sinks.commands import runs_export
from etude.sinks.errors import ExportError

pytest.importorskip("wandb", reason="the extra wandb is not installed")
from wandb.proto.wandb_internal_pb2 import Record

from etude.sinks import wandb_run

BLOCK, HEADER = 32768, 7


class Sent(NamedTuple):
    name: str
    project: str
    config: dict[str, Any]
    history: list[dict[str, Any]]
    summary: dict[str, Any]
    metrics: dict[str, str]


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """The variables are read once per process, or after a teardown."""
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    monkeypatch.setenv("WANDB_SILENT", "true")
    yield
    wandb_run.wandb.teardown()


def records(path: Path) -> Iterator[Record]:
    """The records of an offline run: a log of LevelDB, blocks of 32 KiB with records in one or more pieces."""
    data, at, pieces = path.read_bytes(), HEADER, b""
    while at + HEADER <= len(data):
        if BLOCK - at % BLOCK < HEADER:  # too little room for a header: zeros up to the next block
            at += BLOCK - at % BLOCK
            continue
        _, length, kind = struct.unpack("<IHB", data[at : at + HEADER])
        pieces += data[at + HEADER : at + HEADER + length]
        at += HEADER + length
        if kind in (1, 4):  # whole, or the last piece
            yield Record.FromString(pieces)
            pieces = b""


def sent(folder: Path) -> Sent:
    """The one run under `folder`, when W&B's process has written all of it."""
    wandb_run.wandb.teardown()
    [path] = folder.glob("wandb/offline-run-*/*.wandb")
    found = Sent("", "", {}, [], {}, {})
    for record in records(path):
        if record.HasField("run"):
            found = found._replace(name=record.run.display_name, project=record.run.project)
        for run_config in (record.run.config, record.config):
            found.config.update({item.key: json.loads(item.value_json) for item in run_config.update if item.key})
        if record.HasField("history"):
            row = {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in record.history.item}
            found.history.append({key: value for key, value in row.items() if not key.startswith("_")})
        if record.HasField("summary"):
            items = record.summary.update
            found.summary.update({item.key or ".".join(item.nested_key): json.loads(item.value_json) for item in items})
        if record.HasField("metric"):
            found.metrics[record.metric.name or record.metric.glob_name] = record.metric.step_metric
    return found


def test_every_measurement_is_sent_with_its_step(run: RunFolder, tmp_path: Path, capsys) -> None:
    assert runs_export([str(run.root), "--wandb", "bench"]) == 0
    found = sent(tmp_path)
    assert (found.name, found.project) == ("one", "bench")
    assert found.history == [
        {"env_steps": 3, "actor/loop_rate_hz": 10.0},
        {"env_steps": 4, "evaluation/forward": 0.75, "evaluation/forward_episodes": 20.0},
        {"env_steps": 6, "critic/td_loss/forward": 0.125},
        {"env_steps": 9, "actor/loop_rate_hz": 9.5, "actor/weight_age_s": 0.5},
    ]
    assert found.metrics["*"] == "env_steps"
    assert "4 measurements sent to W&B project bench" in capsys.readouterr().out


def test_settings_and_summary_are_sent_and_no_secret_of_the_page(run: RunFolder, tmp_path: Path) -> None:
    runs_export([str(run.root), "--wandb", "bench"])
    found = sent(tmp_path)
    assert found.config["seed"] == 7 and found.config["recipe"]["critic"]["kind"] and "dashboard" not in found.config
    assert found.summary["forward_success"] == 0.75 and found.summary["packages.jax"] == "1"
    assert "minutes_to_85" not in found.summary and "evaluations" not in found.summary
    written = b"".join(path.read_bytes() for path in tmp_path.glob("wandb/**/*") if path.is_file())
    assert b"hush" not in written


def test_a_run_without_measurements_is_refused_unless_it_is_followed(folder: RunFolder) -> None:
    with pytest.raises(ExportError, match=r"no measurements yet.*--follow"):
        runs_export([str(folder.root), "--wandb", "bench"])


def test_a_run_is_followed_until_it_is_over(folder: RunFolder, tmp_path: Path) -> None:
    told: list[str] = []

    def practise() -> None:
        for step in range(1, 4):
            lines(folder.metrics("actor"), {"time_s": START_NS / 1e9 + step, "step": step, "loop_rate_hz": 10.0})
            time.sleep(0.2)
        write_atomic(folder.summary, json.dumps({"forward_success": 0.5}).encode())

    thread = threading.Thread(target=practise)
    thread.start()
    wandb_run.send_to_wandb(folder, "bench", follow=True, say=told.append, poll_s=0.05)
    thread.join()
    found = sent(tmp_path)
    assert [row["env_steps"] for row in found.history] == [1, 2, 3] and found.summary["forward_success"] == 0.5
    assert told == ["one: 3 measurements sent to W&B project bench (the run has ended)"]


def test_ctrl_c_ends_following_in_order(folder: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines(folder.metrics("actor"), {"time_s": START_NS / 1e9, "step": 1, "loop_rate_hz": 10.0})
    told: list[str] = []

    def interrupt(_: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(wandb_run.time, "sleep", interrupt)
    wandb_run.send_to_wandb(folder, "bench", follow=True, say=told.append)
    assert [row["env_steps"] for row in sent(tmp_path).history] == [1]
    assert told == ["one: 1 measurements sent to W&B project bench (interrupted; the run itself goes on)"]


def test_what_wandb_refuses_is_one_sentence(run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(**_: Any) -> None:
        raise wandb_run.wandb.Error("No API key configured.")

    monkeypatch.setattr(wandb_run.wandb, "init", refuse)
    with pytest.raises(ExportError, match=r"No API key configured.*wandb login.*WANDB_MODE=offline"):
        runs_export([str(run.root), "--wandb", "bench"])
