"""The last minutes of a run, attempt by attempt, and when a person was waited for: what the page draws as a strip.

From the episode store and ``help.jsonl``, so that it is there when the page is opened late, and in `etude replay`.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from etude.episodes.segment import SegmentInfo
from etude.run_folder import RunFolder
from etude.tail import JsonLines

SPAN_S = 600.0
KEPT_S = 1.5
"""Made anew at most this often, whoever asks."""
Row = dict[str, Any]


class Timeline:
    """Reads what is new when it is asked. Every method may be called from any thread.

    `now_ns` is the right end of the strip; None: the end of the last event, for a run that is over.
    """

    def __init__(
        self,
        folder: RunFolder,
        segments: Callable[[], Sequence[SegmentInfo]],
        now_ns: Callable[[], int] | None = time.time_ns,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._segments, self._now_ns, self._clock = segments, now_ns, clock
        self._lines = JsonLines(folder.help_log)
        self._help: list[Row] = []
        self._lock = threading.Lock()
        self._made: tuple[float, Row] | None = None

    def data(self) -> Row:
        """Times in milliseconds since the epoch::

        {"begin_ms", "end_ms",
         "segments": [{key, segment, phase, success (None: not judged), sources, begin_ms, end_ms}],
         "help": [{reason, begin_ms, end_ms (None: nobody has answered)}]}
        """
        with self._lock:
            now = self._clock()
            if self._made is None or now - self._made[0] >= KEPT_S:
                self._made = now, self._make()
            return self._made[1]

    def _make(self) -> Row:
        for row in self._lines.new():
            self._hear(row)
        segments = self._segments()
        ends = [info.last_stamp_ns for info in segments] + [row["end_ns"] or row["begin_ns"] for row in self._help]
        end = self._now_ns() if self._now_ns else max(ends, default=0)
        begin = end - int(SPAN_S * 1e9)
        recent = sorted((i for i in segments if begin < i.last_stamp_ns <= end), key=lambda info: info.first_stamp_ns)
        self._help = [row for row in self._help if row["end_ns"] is None or row["end_ns"] > begin or not self._now_ns]
        waits = [row for row in self._help if row["end_ns"] is None or row["end_ns"] > begin]
        return {
            "begin_ms": begin // 10**6,
            "end_ms": end // 10**6,
            "segments": [_segment(info) for info in recent],
            "help": [
                {
                    "reason": row["reason"],
                    "begin_ms": max(begin, row["begin_ns"]) // 10**6,
                    "end_ms": row["end_ns"] and row["end_ns"] // 10**6,
                }
                for row in waits
            ],
        }

    def _hear(self, row: Row) -> None:
        """One line of the help log: a request opens a wait, and an answer, or the next request, ends it."""
        stamp, event = row.get("stamp_ns"), row.get("event")
        if not isinstance(stamp, int):
            return
        if event == "asked":
            if self._help and self._help[-1]["end_ns"] is None:
                self._help[-1]["end_ns"] = stamp
            self._help.append({"id": row.get("id"), "reason": str(row.get("reason", "")), "begin_ns": stamp, "end_ns": None})
        elif event == "answered" and self._help and self._help[-1]["id"] == row.get("id"):
            # an answer repeats the request's own stamp; runs of before `logged_ns` do not say when it came
            self._help[-1]["end_ns"] = max(int(row.get("logged_ns") or stamp), self._help[-1]["begin_ns"])


def _segment(info: SegmentInfo) -> Row:
    return {
        "key": f"{info.actor_id}:{info.first_sequence}",
        "segment": info.segment,
        "phase": info.phase,
        "success": {0: False, 1: True}.get(info.success),
        "sources": info.sources,
        "begin_ms": info.first_stamp_ns // 10**6,
        "end_ms": info.last_stamp_ns // 10**6,
    }
