"""What the slow proofs in tools/ share: runs in processes of their own, a few at a time, and their rows in one file."""

from __future__ import annotations

import json
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

R = TypeVar("R")
Row = dict[str, Any]

ONE_THREAD = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"


def one_thread(environ: Mapping[str, str]) -> dict[str, str]:
    """`environ` for a worker with one thread on the CPU."""
    flags = f"{environ.get('XLA_FLAGS', '')} {ONE_THREAD}".strip()
    return {**environ, "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu", "OMP_NUM_THREADS": "1"}


def without_waiting(environ: Mapping[str, str]) -> dict[str, str]:
    """As `one_thread`, and an action is computed where it is asked for: without asynchronous dispatch that is several times
    faster than waking another thread for it."""
    return {**one_thread(environ), "JAX_CPU_ENABLE_ASYNC_DISPATCH": "false"}


def recorded(file: Path) -> list[Row]:
    """What earlier calls recorded."""
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else []


def write_rows(file: Path, rows: Sequence[Row]) -> None:
    """The file is replaced whole, so that an interrupted proof leaves a good one."""
    file.parent.mkdir(parents=True, exist_ok=True)
    aside = file.with_suffix(".writing")
    aside.write_text("[\n" + ",\n".join(json.dumps(row) for row in rows) + "\n]\n", encoding="utf-8")
    aside.replace(file)


def run_all(runs: Sequence[R], jobs: int, start: Callable[[R, Path, int], subprocess.Popen]) -> Iterator[tuple[R, Any | None]]:
    """Every run in a process of its own, `jobs` at a time.

    Args:
        start: begins a run that writes JSON to a file; its number, 0 to `jobs` - 1, is of no other run at the same time.

    Yields:
        Each run with what it wrote, or None when it failed.
    """
    waiting, working = list(runs), dict[subprocess.Popen, tuple[R, Path, int]]()
    free = list(range(jobs))
    with tempfile.TemporaryDirectory(prefix="etude-proof-") as folder:
        try:
            while waiting or working:
                while waiting and free:
                    run, number = waiting.pop(0), free.pop(0)
                    out = Path(folder) / f"{len(waiting)}.json"
                    working[start(run, out, number)] = (run, out, number)
                time.sleep(0.2)
                for process in [p for p in working if p.poll() is not None]:
                    run, out, number = working.pop(process)
                    free.append(number)
                    good = process.returncode == 0 and out.is_file()
                    yield run, json.loads(out.read_text(encoding="utf-8")) if good else None
        finally:
            for process in working:
                process.terminate()
            for process in working:
                process.wait()
