"""Writing files so that a power cut or a kill leaves either the old content or the new one, never a torn mixture.

Separate because the episode store, the policy file and whoever else keeps state on disk need the same three steps: write aside,
fsync, rename.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path


def fsync_folder(path: Path) -> None:
    """Make renames and new names inside `path` durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_durable(path: Path, data: bytes | memoryview) -> None:
    """Create or overwrite `path` and fsync it. Not atomic: use it for files that nobody looks for yet."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    try:
        view = memoryview(data)
        while view:
            view = view[os.write(descriptor, view) :]
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_atomic(path: Path, data: bytes | memoryview) -> None:
    """Replace `path` by `data`: written aside in the same folder, fsynced, renamed into place."""
    aside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        write_durable(aside, data)
        os.replace(aside, path)
    finally:
        aside.unlink(missing_ok=True)
    fsync_folder(path.parent)


def write_tree(root: Path, files: Mapping[str, bytes | memoryview]) -> None:
    """Create the folder `root` with `files` (relative path -> content), all of it fsynced. Rename `root` into place afterwards."""
    folders = {root}
    for name in files:
        folder = (root / name).parent
        while folder not in folders:
            folders.add(folder)
            folder = folder.parent
    for folder in sorted(folders):
        folder.mkdir()
    for name, data in files.items():
        write_durable(root / name, data)
    for folder in sorted(folders, reverse=True):
        fsync_folder(folder)
