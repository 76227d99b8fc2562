"""Durable writing: old content or new content, never a mixture."""

from __future__ import annotations

from pathlib import Path

import pytest

import etude.durable as durable
from etude.durable import write_atomic, write_trees


def test_an_atomic_write_replaces_the_file_and_leaves_nothing_beside_it(tmp_path: Path) -> None:
    write_atomic(tmp_path / "a", b"old")
    write_atomic(tmp_path / "a", memoryview(b"new" * 1000))
    assert (tmp_path / "a").read_bytes() == b"new" * 1000
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_a_failed_atomic_write_keeps_the_old_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_atomic(tmp_path / "a", b"old")

    def fail(*_: object) -> None:
        raise OSError("disk")

    monkeypatch.setattr(durable.os, "fsync", fail)
    with pytest.raises(OSError, match="disk"):
        write_atomic(tmp_path / "a", b"new")
    assert (tmp_path / "a").read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_trees_are_written_with_their_folders(tmp_path: Path) -> None:
    write_trees({tmp_path / "x": {"a": b"1", "deep/er/b": b"2"}, tmp_path / "y": {"c": b""}})
    assert (tmp_path / "x/a").read_bytes() == b"1"
    assert (tmp_path / "x/deep/er/b").read_bytes() == b"2"
    assert (tmp_path / "y/c").read_bytes() == b""
