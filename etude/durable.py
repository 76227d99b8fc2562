"""Writing files so that a power cut or a kill leaves either the old content or the new one, never a torn mixture.

Separate because the episode store, the policy file and whoever else keeps state on disk need the same three steps: write aside,
fsync, rename.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
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
        _write_all(descriptor, data)
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


def write_trees(trees: Mapping[Path, Mapping[str, bytes | memoryview]]) -> None:
    """Create every folder of `trees` with its files (relative path -> content) and return when all of it is durable.

    The fsyncs run side by side: the file system then commits them together, which is several times faster than one by one.
    Rename the folders into place afterwards.
    """
    descriptors: list[int] = []
    try:
        for root, files in trees.items():
            folders = {root}
            for name in files:
                folder = (root / name).parent
                while folder not in folders:
                    folders.add(folder)
                    folder = folder.parent
            for folder in sorted(folders):
                folder.mkdir()
            for name, data in files.items():
                descriptors.append(os.open(root / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644))
                _write_all(descriptors[-1], data)
            descriptors += [os.open(folder, os.O_RDONLY | os.O_DIRECTORY) for folder in folders]
        with ThreadPoolExecutor(max_workers=8) as pool:
            list(pool.map(os.fsync, descriptors))
    finally:
        for descriptor in descriptors:
            os.close(descriptor)


def _write_all(descriptor: int, data: bytes | memoryview) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]
