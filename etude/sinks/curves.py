"""What a run has measured, as numbers over environment steps, from its JSON-lines files; and whether more will come.

Separate from the sinks because more than one draws the same curves, and following a run that goes on is worth testing alone.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from etude.run_folder import RunFolder
from etude.tail import JsonLines

QUIET_S = 600.0
"""A run that has written nothing for so long does not go on, however it ended: a status is written every second."""
_METRICS = "metrics-"
_AXES = ("time_s", "step")


@dataclass(frozen=True)
class Point:
    """What was measured at one moment: `env_steps` of the run, `time_s` since the epoch, finite `values` by name."""

    env_steps: int
    time_s: float
    values: Mapping[str, float]


class Curves:
    """Every metric of every process, and every evaluation, of one run.

    Names keep the part before their slash (``critic/td_loss/forward``) or get their process's (``actor/loop_rate_hz``);
    ``evaluation/<phase>`` is a success rate, ``evaluation/<phase>_episodes`` of how many attempts.
    """

    def __init__(self, folder: RunFolder) -> None:
        self._folder = folder
        self._files: dict[Path, JsonLines] = {}

    def new(self) -> list[Point]:
        """What was written since the last call, in order of time. A line that is no measurement is skipped."""
        points = []
        for path in sorted(self._folder.root.glob(f"{_METRICS}*.jsonl")):
            process = path.stem.removeprefix(_METRICS)
            points += [_of_metrics(row, process) for row in self._lines(path)]
        points += [_of_evaluation(row) for row in self._lines(self._folder.evaluations)]
        return sorted((point for point in points if point is not None and point.values), key=lambda point: point.time_s)

    def _lines(self, path: Path) -> list[dict[str, Any]]:
        return self._files.setdefault(path, JsonLines(path)).new()


def why_over(folder: RunFolder, now_s: float | None = None) -> str | None:
    """Why nothing more will be written into a run's folder, for people; None while it goes on, or may."""
    written = {path.name: path.stat().st_mtime for path in folder.root.iterdir() if path.is_file()}
    # the summary is written when every process has ended; a run that was resumed has a newer status
    if folder.summary.name in written and written[folder.summary.name] >= written.get("actor_status.json", 0.0):
        return "the run has ended"
    quiet_s = (time.time() if now_s is None else now_s) - max(written.values(), default=0.0)
    return f"the run has written nothing for {quiet_s / 60:.0f} minutes" if quiet_s > QUIET_S else None


def _of_metrics(row: Mapping[str, Any], process: str) -> Point | None:
    at, step = _number(row.get("time_s")), _number(row.get("step"))
    if at is None or step is None:
        return None
    numbers = {name: number for name in row if name not in _AXES and (number := _number(row[name])) is not None}
    return Point(int(step), at, {name if "/" in name else f"{process}/{name}": number for name, number in numbers.items()})


def _of_evaluation(row: Mapping[str, Any]) -> Point | None:
    stamp, step = _number(row.get("stamp_ns")), _number(row.get("env_steps"))
    episodes, successes = _number(row.get("episodes")), _number(row.get("successes"))
    if stamp is None or step is None or not episodes or successes is None or "phase" not in row:
        return None
    name = f"evaluation/{row['phase']}"
    return Point(int(step), stamp / 1e9, {name: successes / episodes, f"{name}_episodes": episodes})


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)
