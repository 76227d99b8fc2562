"""Exports appear whole or not at all: written aside, then renamed. Nothing is overwritten unless a person says so.

Unlike `etude.durable`, for files and folders that a library writes by itself.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from etude.sinks.errors import ExportError


def require_free(out: Path, force: bool) -> None:
    """Check before a long export that `out` may be written.

    Raises:
        ExportError: it exists and `force` is not given, or it is a folder with other things in it than one bag.
    """
    if not out.parent.is_dir():
        raise ExportError(f"there is no folder {out.parent}: make it, or name another place")
    if not out.exists():
        return
    if not force:
        raise ExportError(f"{out} is there already: name another place, or replace it with --force")
    if out.is_dir() and not _is_bag(out):
        raise ExportError(
            f"{out} is a folder that holds other things than one bag, so --force does not replace it: name another place"
        )


@contextmanager
def written_aside(out: Path, force: bool) -> Iterator[Path]:
    """A path of the same name in a hidden folder beside `out`. What is written there takes the place of `out` when the block has
    ended, and is removed when it fails or is interrupted.

    Raises:
        ExportError: as `require_free`.
    """
    require_free(out, force)
    aside = Path(tempfile.mkdtemp(prefix=f".{out.name}.", suffix=".tmp", dir=out.parent))
    new, old = aside / out.name, aside / f"{out.name}.replaced"
    try:
        yield new
        require_free(out, force)
        if out.exists() and (out.is_dir() or new.is_dir()):  # only a file can be renamed over a file
            os.rename(out, old)
        os.replace(new, out)
    finally:
        if old.exists() and not out.exists():
            os.rename(old, out)
        shutil.rmtree(aside, ignore_errors=True)


def _is_bag(folder: Path) -> bool:
    """Or an empty folder. One of recordings alone is somebody's collection."""
    names = {entry.name for entry in folder.iterdir()}
    return not names or ("metadata.yaml" in names and all(Path(n).suffix in (".mcap", ".db3") for n in names - {"metadata.yaml"}))
