"""Attempts and curves as one recording of Rerun (``.rrd``), with a layout, so that the viewer opens on something to look at.

Every value stands on two timelines: ``time``, the steps' own time of day, and ``step``, environment steps of the run.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import rerun as rr
import rerun.blueprint as rrb

from etude.episodes.segment import Segment
from etude.sinks.attempts import Attempt, Selection
from etude.sinks.curves import Curves, Point
from etude.specs import IMAGE_PREFIX
from etude.step import Source

APPLICATION = "etude"
OUTCOMES = {1: "succeeded", 0: "failed"}


def write_rrd(selection: Selection, out: Path) -> None:
    """Make the file `out`.

    Raises:
        StoreError: an attempt's files are damaged.
    """
    points = Curves(selection.folder).new()
    recording = rr.RecordingStream(APPLICATION, recording_id=selection.name)
    recording.save(out, default_blueprint=_layout(selection, points))
    try:
        recording.send_recording_name(selection.name)
        for attempt, segment in selection.segments():
            _send_attempt(recording, selection, attempt, segment)
        _send_curves(recording, points)
        recording.flush()
    finally:
        recording.disconnect()


def _send_attempt(recording: rr.RecordingStream, selection: Selection, attempt: Attempt, segment: Segment) -> None:
    times, steps = segment.stamp_ns, attempt.env_steps + np.arange(len(segment))

    def send(entity: str, columns: Any, rows: slice | np.ndarray = slice(None)) -> None:
        recording.send_columns(entity, _timelines(times[rows], steps[rows]), columns)

    for camera in selection.observation_spec.cameras:
        pictures = [selection.picture(image) for image in segment.observation[IMAGE_PREFIX + camera]]
        kinds = [f"image/{selection.image_format}"] * len(pictures)
        send(f"camera/{camera}", rr.EncodedImage.columns(blob=pictures, media_type=kinds))
    for i, name in enumerate(selection.observation_spec.state_names):
        send(f"state/{name}", _scalars(segment.observation["state"][:, i]))
    judged = np.flatnonzero(np.isfinite(segment.success_probability))
    if len(judged):
        send("judge/success_probability", _scalars(segment.success_probability[judged]), judged)
    for name, values in (("judge/success", segment.success), ("judge/success_truth", segment.success_truth)):
        known = np.flatnonzero(values >= 0)
        if len(known):
            send(name, _scalars(values[known]), known)
    acted = np.flatnonzero(~segment.is_last)  # nothing is done in the last step
    if len(acted):
        for i, name in enumerate(selection.action_spec.names):
            send(f"action/{name}", _scalars(segment.action[acted, i]), acted)
            send(f"policy_action/{name}", _scalars(segment.policy_action[acted, i]), acted)
        send("reward", _scalars(segment.reward[acted]), acted)
        send("source", _scalars(segment.source[acted]), acted)
    rows, texts = zip(*told(segment), strict=True)
    send("told", rr.TextLog.columns(text=texts), np.array(rows))


def told(segment: Segment) -> Iterator[tuple[int, str]]:
    """What happened in an attempt in words, each with its step: how it began, who took over, what was said, how it ended."""
    info, last = segment.info, len(segment) - 1
    yield 0, f"attempt {info.segment}, {info.phase}: {info.instruction or info.task}"
    events = [(one.first, f"in words: {one.instruction}") for one in info.corrections]
    for t in range(last):
        before = Source.POLICY if t == 0 else Source(int(segment.source[t - 1]))
        if (now := Source(int(segment.source[t]))) is not before:
            events.append((t, f"{now.name.lower()} acts"))
    yield from sorted(events)
    yield last, f"attempt {info.segment} {OUTCOMES.get(info.success, 'was not judged')}" + (", cut short" if info.cut else "")


def _send_curves(recording: rr.RecordingStream, points: Sequence[Point]) -> None:
    series: dict[str, list[tuple[float, int, float]]] = {}
    for point in points:
        for name, value in point.values.items():
            series.setdefault(name, []).append((point.time_s, point.env_steps, value))
    for name, rows in series.items():
        times, steps, values = (np.array(column) for column in zip(*rows, strict=True))
        recording.send_columns(f"curves/{name}", _timelines((times * 1e9).astype(np.int64), steps), _scalars(values))


def _timelines(stamps_ns: np.ndarray, steps: np.ndarray) -> list[rr.TimeColumn]:
    return [
        rr.TimeColumn("time", timestamp=stamps_ns.astype("datetime64[ns]")),
        rr.TimeColumn("step", sequence=steps.astype(np.int64)),
    ]


def _scalars(values: np.ndarray) -> Any:
    return rr.Scalars.columns(scalars=values.astype(np.float64))


def _layout(selection: Selection, points: Sequence[Point]) -> rrb.Blueprint:
    cameras = [rrb.Spatial2DView(origin=f"camera/{name}", name=name) for name in selection.observation_spec.cameras]
    judged = rrb.TimeSeriesView(name="reward and judge", contents=["/reward", "/judge/**", "/source"])
    parts = [
        rrb.Horizontal(*cameras, rrb.TextLogView(origin="told", name="what happened"), column_shares=[2] * len(cameras) + [3]),
        rrb.Horizontal(
            rrb.TimeSeriesView(origin="state", name="state"), rrb.TimeSeriesView(origin="action", name="action"), judged
        ),
    ]
    tabs: list[rrb.Container] = [rrb.Vertical(*parts, name="attempts")]
    groups = sorted({name.partition("/")[0] for point in points for name in point.values})
    if groups:
        curves = [rrb.TimeSeriesView(origin=f"curves/{group}", name=group) for group in groups]
        tabs.append(rrb.Grid(*curves, name="curves"))
    # on the timeline of steps attempts follow each other without the waits between them
    return rrb.Blueprint(rrb.Tabs(*tabs), rrb.TimePanel(timeline="step"), rrb.SelectionPanel(state="collapsed"))
