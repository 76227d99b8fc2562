"""Metrics go to JSON lines and TensorBoard files, and survive a kill."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import numpy as np

from etude.metrics import MetricsWriter
from etude.summary import read_json_lines


def test_every_write_is_one_line_with_time_and_step(tmp_path: Path) -> None:
    path = tmp_path / "run" / "metrics.jsonl"
    writer = MetricsWriter(path)
    writer.write(10, {"critic/loss": np.float32(0.5)})
    writer.write(20, {"critic/loss": float("nan"), "critic/q_mean": 1})
    first, second = read_json_lines(path)  # readable while the writer is open
    writer.close()
    assert first["step"] == 10 and first["critic/loss"] == 0.5 and first["time_s"] > 1.6e9
    assert second["critic/loss"] is None and second["critic/q_mean"] == 1.0
    assert all(json.loads(line) for line in path.read_text().splitlines())


def test_a_continued_file_keeps_its_lines_and_skips_a_torn_one(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    MetricsWriter(path).write(1, {"a": 1})
    with path.open("a") as file:
        file.write('{"step": 2, "a"')
    writer = MetricsWriter(path)
    writer.write(3, {"a": 3})
    assert [line["step"] for line in read_json_lines(path)] == [1, 3]
    assert read_json_lines(tmp_path / "absent.jsonl") == []


def test_threads_do_not_tear_each_others_lines(tmp_path: Path) -> None:
    writer = MetricsWriter(tmp_path / "metrics.jsonl")
    threads = [threading.Thread(target=lambda n=n: [writer.write(i, {f"thread/{n}": i}) for i in range(100)]) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    writer.close()
    assert len(read_json_lines(tmp_path / "metrics.jsonl")) == 400


def test_tensorboard_gets_the_same_numbers(tmp_path: Path) -> None:
    writer = MetricsWriter(tmp_path / "metrics.jsonl", tmp_path / "tensorboard")
    writer.write(5, {"forward/success_rate": 0.75})
    writer.flush()
    writer.close()
    (events,) = (tmp_path / "tensorboard").iterdir()
    assert b"forward/success_rate" in events.read_bytes()
