"""Exports appear whole or not at all: written aside, then renamed. Nothing is overwritten unless a person says so.

Unlike `etude.durable`, for files and folders that a library writes by itself.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from etude.sinks.errors import ExportError


def require_free(out: Path, force: bool) -> None:
    """Check before a long export that `out` may be written.

    Raises:
        ExportError: it exists and `force` is not given, or it is a folder with more in it than a bag.
    """
    if not out.parent.is_dir():
        raise ExportError(f"there is no folder {out.parent}: make it, or name another place")
    if not out.exists():
        return
    if not force:
        raise ExportError(f"{out} is there already: name another place, or replace it with --force")
    if out.is_dir() and not _is_bag(out):
        raise ExportError(f"{out} is a folder that holds more than a bag, so --force does not replace it: name another place")


@contextmanager
def written_aside(out: Path, force: bool) -> Iterator[Path]:
    """A path of the same name in a hidden folder beside `out`. What is written there takes the place of `out` when the block has
    ended, and is removed when it fails or is interrupted.

    Raises:
        ExportError: as `require_free`.
    """
    require_free(out, force)
    aside = out.with_name(f".{out.name}.{os.getpid()}.tmp")
    aside.mkdir()
    try:
        yield aside / out.name
        require_free(out, force)
        if out.is_dir():  # a folder that is not empty cannot be renamed over
            os.rename(out, aside / "replaced")
        os.replace(aside / out.name, out)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _is_bag(folder: Path) -> bool:
    return all(entry.name == "metadata.yaml" or entry.suffix in (".mcap", ".db3") for entry in folder.iterdir())
