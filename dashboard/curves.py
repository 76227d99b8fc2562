"""The run's history as curves over minutes of practice, from the files of its folder: `metrics-*.jsonl` and the stored attempts.

From files and not from what the page has heard, so that curves are complete whenever a page or its server starts, and the same in
`etude replay`. Memory stays bounded however long a run is: a series is a few hundred buckets that grow wider.
"""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from etude.episodes.segment import SegmentInfo
from etude.run_folder import RunFolder
from etude.specs import PHASES
from etude.status import wilson_interval
from etude.tail import JsonLines

LIMIT = 400
"""Points of one series at most: about one per two pixels of a wide chart."""
KEPT_S = 4.0
"""Curves are made anew at most this often, whoever asks."""
WINDOW = 20
"""Attempts of one direction in a success rate and in a mean reward, as in the status."""
HOURLY_OVER_S = 600.0
"""Interventions per hour are those of the last ten minutes of practice, times six."""
SHORTEST_S = 60.0
"""Before this much practice a rate per hour would say nothing."""
LOSSES = {"critic": "Critic losses", "policy": "Policy losses"}

Row = dict[str, Any]


class Buckets:
    """A series over x in at most `limit` buckets of equal width; their width doubles when there are more.

    `combine` makes one value of those of a bucket: ``max`` keeps spikes, ``mean`` smooths, ``last`` follows a counter.
    """

    def __init__(self, width: float, combine: str = "mean", limit: int = LIMIT) -> None:
        self._width, self._combine, self._limit = width, combine, limit
        self._cells: dict[int, tuple[float, float, int]] = {}  # number of the bucket -> (x, y, count), sums for ``mean``

    def add(self, x: float, y: float) -> None:
        self._put(math.floor(x / self._width), x, y, 1)
        while len(self._cells) > self._limit:
            cells, self._cells, self._width = self._cells, {}, 2 * self._width
            for cell, values in cells.items():
                self._put(cell // 2, *values)

    def points(self) -> tuple[np.ndarray, np.ndarray]:
        """(x, y), float64 ``(n,)`` each, in order of x. A mean stands at the mean of its x, other values at their last x."""
        rows = np.array([self._cells[cell] for cell in sorted(self._cells)], np.float64).reshape(-1, 3)
        counts = rows[:, 2] if self._combine == "mean" else 1.0
        return rows[:, 0] / counts, rows[:, 1] / counts

    def _put(self, cell: int, x: float, y: float, count: int) -> None:
        before_x, before, counted = self._cells.get(cell, (0.0, 0.0, 0))
        if counted and self._combine == "mean":
            x, y = before_x + x, before + y
        elif counted and self._combine == "max":
            y = max(before, y)
        self._cells[cell] = x, y, counted + count


class Curves:
    """Reads what is new in the run's files when it is asked. Every method may be called from any thread."""

    def __init__(
        self,
        folder: RunFolder,
        segments: Callable[[], Sequence[SegmentInfo]],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._segments, self._clock = segments, clock
        self._lock = threading.Lock()
        self._actor, self._learner = JsonLines(folder.metrics("actor")), JsonLines(folder.metrics("learner"))
        self._log = f"{folder.logs.parent.name}/logs"
        self._practice = Buckets(1.0, "last")  # time of day -> seconds of practice
        self._counted: deque[tuple[float, float]] = deque()  # (seconds of practice, interventions), the last ten minutes
        self._of_actor = {
            "interventions": Buckets(5.0, "last"),
            "loop_period_p99_ms": Buckets(5.0, "max"),
            "weight_age_s": Buckets(5.0, "max"),
        }
        self._losses: dict[str, Buckets] = {}
        self._made: tuple[float, Row] | None = None

    def data(self) -> Row:
        """``{"charts": [{name, title, unit, empty, series: [{label, phase, x, y, low?, high?}]}]}``, x in minutes of practice."""
        with self._lock:
            now = self._clock()
            if self._made is None or now - self._made[0] >= KEPT_S:
                self._read()
                self._made = now, {"charts": self._charts()}
            return self._made[1]

    # --- reading ------------------------------------------------------------------------------------------------------

    def _read(self) -> None:
        for row in self._actor.new():
            at, practised = _number(row, "time_s"), _number(row, "run_time_s")
            if at is None or practised is None:
                continue
            self._practice.add(at, practised)
            for name in ("loop_period_p99_ms", "weight_age_s"):
                value = _number(row, name)
                if value is not None:
                    self._of_actor[name].add(practised, value)
            self._count(practised, _number(row, "interventions"))
        for row in self._learner.new():
            at = _number(row, "time_s")
            if at is None:
                continue
            for name in row:
                value = _number(row, name)
                if value is not None and name.partition("/")[0] in LOSSES and "loss" in name:
                    self._losses.setdefault(name, Buckets(5.0)).add(at, value)

    def _count(self, practised: float, interventions: float | None) -> None:
        if interventions is None:
            return
        if self._counted and practised < self._counted[-1][0]:
            self._counted.clear()
        self._counted.append((practised, interventions))
        while len(self._counted) > 1 and self._counted[1][0] <= practised - HOURLY_OVER_S:
            self._counted.popleft()
        since, before = self._counted[0] if practised > HOURLY_OVER_S else (0.0, 0.0)
        if practised - since >= SHORTEST_S:
            self._of_actor["interventions"].add(practised, (interventions - before) * 3600.0 / (practised - since))

    # --- drawing ------------------------------------------------------------------------------------------------------

    def _charts(self) -> list[Row]:
        segments = sorted(self._segments(), key=lambda info: info.last_stamp_ns)
        minutes = self._minutes(segments)
        success, reward = _rolling(segments, minutes)
        first_attempt = "Appears when the first attempt has ended and the learner has written it to disk."
        while_practising = (
            "Appears when practice has begun. Until then the journal and the learner's number above say what happens."
        )
        charts = [
            _chart("success", f"Success of the last {WINDOW}, with 95% interval", "share", first_attempt, success),
            _chart("reward", f"Reward per attempt, mean of {WINDOW}", "", first_attempt, reward),
        ]
        for kind, title in LOSSES.items():
            series = []
            for name in sorted(self._losses, key=lambda n: (n.rpartition("/")[0], n.endswith(PHASES[1]))):  # forward first
                if name.startswith(f"{kind}/"):
                    x, y = self._losses[name].points()
                    series.append({**_label(name), "x": minutes(x), "y": y})
            empty = f"Appears with the learner's first numbers, every 5 s while it trains. If none come: {self._log}/learner.log"
            charts.append(_chart(f"{kind}_losses", title, "", empty, series))
        for name, title, unit in (
            ("interventions", "Interventions per hour, of the last 10 min", ""),
            ("loop_period_p99_ms", "Control loop's period, 99th percentile", "ms"),
            ("weight_age_s", "Age of the weights that act", "s"),
        ):
            x, y = self._of_actor[name].points()
            series = [{"label": title.partition(",")[0].lower(), "phase": "", "x": x / 60.0, "y": y}] if len(x) else []
            charts.append(_chart(name, title, unit, while_practising, series))
        return charts

    def _minutes(self, segments: Sequence[SegmentInfo]) -> Callable[[np.ndarray], np.ndarray]:
        """Time of day, seconds since the epoch -> minutes of practice. What was before practice has negative ones."""
        at, practised = self._practice.points()
        if not len(at):  # nobody has practised, or the actor's file is gone
            starts = [segments[0].first_stamp_ns / 1e9] if segments else []
            starts += [series.points()[0][0] for series in self._losses.values()]
            start = min(starts, default=0.0)
            return lambda stamps: (np.asarray(stamps) - start) / 60.0

        def minutes(stamps: np.ndarray) -> np.ndarray:
            stamps = np.asarray(stamps, np.float64)
            early = np.minimum(0.0, stamps - at[0] + practised[0])
            return np.where(stamps < at[0], early, np.interp(stamps, at, practised)) / 60.0

        return minutes


def _rolling(segments: Sequence[SegmentInfo], minutes: Callable[[np.ndarray], np.ndarray]) -> tuple[list[Row], list[Row]]:
    """Success with its Wilson interval, and mean reward, over the last `WINDOW` attempts of each direction."""
    success, reward = [], []
    for phase in PHASES:
        mine = [info for info in segments if info.phase == phase and not info.cut]
        judged = [info for info in mine if info.success in (0, 1)]
        if judged:
            ends, windows = _windows(judged)
            counts = [(sum(info.success for info in window), len(window)) for window in windows]
            bounds = [wilson_interval(*count) for count in counts]
            columns = {"y": [a / b for a, b in counts], "low": [low for low, _ in bounds], "high": [high for _, high in bounds]}
            success.append(_series(phase, minutes(ends), columns))
        if mine:
            ends, windows = _windows(mine)
            means = [sum(info.reward_sum for info in window) / len(window) for window in windows]
            reward.append(_series(phase, minutes(ends), {"y": means}))
    return success, reward


def _windows(segments: Sequence[SegmentInfo]) -> tuple[np.ndarray, list[Sequence[SegmentInfo]]]:
    """Ends (seconds since the epoch) and windows of at most `LIMIT` of the segments, the first and the newest among them."""
    kept = np.unique(np.linspace(1, len(segments), min(LIMIT, len(segments))).astype(int))
    ends = np.array([segments[n - 1].last_stamp_ns / 1e9 for n in kept], np.float64)
    return ends, [segments[max(0, n - WINDOW) : n] for n in kept]


def _series(phase: str, x: np.ndarray, columns: dict[str, list[float]]) -> Row:
    return {"label": phase, "phase": phase, "x": x, **{name: np.array(column) for name, column in columns.items()}}


def _label(name: str) -> Row:
    """``critic/td_loss/forward`` -> its words and its direction."""
    parts = name.split("/")[1:]
    phase = next((part for part in parts if part in PHASES), "")
    return {"label": " ".join(parts).replace("_", " "), "phase": phase}


def _chart(name: str, title: str, unit: str, empty: str, series: list[Row]) -> Row:
    plain = [
        {key: [float(f"{v:.6g}") for v in value] if isinstance(value, np.ndarray) else value for key, value in one.items()}
        for one in series
    ]
    return {"name": name, "title": title, "unit": unit, "empty": empty, "series": plain}


def _number(row: Row, name: str) -> float | None:
    value = row.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)
