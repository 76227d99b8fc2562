"""Numbers over time, to files: JSON lines for programs and TensorBoard event files for people.

Separate from the components so that they only say ``write(step, {"critic/loss": 0.1})`` and know nothing of formats.
"""

from __future__ import annotations

import json
import math
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any


class MetricsWriter:
    """Writes every call as one JSON line ``{"time_s": …, "step": …, "<name>": …}`` and as TensorBoard scalars. Thread-safe.

    Values that are not finite are ``null`` in JSON. An existing file is continued; a line torn by a kill is ended first.
    `etude.summary.read_json_lines` reads the file.
    """

    def __init__(self, jsonl_path: str | Path | None, tensorboard_dir: str | Path | None = None) -> None:
        self._lock = threading.Lock()
        self._file = _open_lines(Path(jsonl_path)) if jsonl_path is not None else None
        self._board: Any = None
        if tensorboard_dir is not None:
            from tensorboardX import SummaryWriter  # imports protobuf: only where it is used

            self._board = SummaryWriter(str(tensorboard_dir), flush_secs=10)

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Record `values` at `step` (environment steps), now."""
        now = time.time()
        numbers = {name: float(value) for name, value in values.items()}
        line: dict[str, Any] = {"time_s": round(now, 3), "step": int(step)}
        line.update({name: number if math.isfinite(number) else None for name, number in numbers.items()})
        with self._lock:
            if self._file is not None:
                self._file.write(json.dumps(line) + "\n")
                self._file.flush()
            if self._board is not None:
                for name, number in numbers.items():
                    self._board.add_scalar(name, number, int(step), walltime=now)

    def flush(self) -> None:
        with self._lock:
            if self._board is not None:
                self._board.flush()

    def close(self) -> None:
        with self._lock:
            if self._file is not None:
                self._file.close()
                self._file = None
            if self._board is not None:
                self._board.close()
                self._board = None


def _open_lines(path: Path) -> Any:
    path.parent.mkdir(parents=True, exist_ok=True)
    torn = path.exists() and path.stat().st_size > 0 and not path.read_bytes().endswith(b"\n")
    file = path.open("a", encoding="utf-8")
    if torn:
        file.write("\n")
    return file
