"""Checks of a whole store: every segment readable, its flags right, and no step lost or stored twice.

Separate from the store so that it trusts nothing the store does; tests and ``etude episodes validate`` call it after kills.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import numpy as np

from etude.episodes.segment import Segment, SegmentInfo
from etude.episodes.store import EpisodeStore, StoreError
from etude.specs import PHASES
from etude.step import Source
from etude.wire import WireError, decode_step


@dataclass(frozen=True)
class Problem:
    """One finding: where, what, and what a person can do."""

    where: str
    message: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.where}: {self.message}. {self.remedy}."


MOVE_AWAY = "Move that folder out of the store to go on without it"
REPORT = "The store is readable; the writer of these steps has a fault"
LOST = "If its folder was moved away, nothing is wrong; otherwise restore it from a copy"


def validate_store(store: EpisodeStore, progress: Callable[[int, int], None] | None = None) -> list[Problem]:
    """Read everything and return what is wrong, in reading order; empty when all is well. `progress` gets (done, total)."""
    infos = store.segments()
    problems = [
        Problem(str(path), f"the segment's summary is not readable ({reason})", MOVE_AWAY) for path, reason in store.damaged
    ]
    expected: dict[str, int] = {}
    for number, info in enumerate(infos):
        where, next_sequence = str(info.path), expected.get(info.actor_id, 1)
        if info.first_sequence > next_sequence:
            lost = f"steps {next_sequence} to {info.first_sequence - 1} of {info.actor_id} are missing before it"
            problems.append(Problem(where, lost, LOST))
        elif info.first_sequence < next_sequence:
            last = min(info.last_sequence, next_sequence - 1)
            twice = f"steps {info.first_sequence} to {last} of {info.actor_id} are stored twice"
            problems.append(Problem(where, twice, MOVE_AWAY))
        expected[info.actor_id] = max(next_sequence, info.last_sequence + 1)
        try:
            segment = store.read(info)
        except StoreError as error:
            problems.append(Problem(where, str(error.__cause__ or error), MOVE_AWAY))
        else:
            problems += [Problem(where, message, REPORT) for message in segment_faults(segment)]
        if progress is not None:
            progress(number + 1, len(infos))
    return problems


def segment_faults(segment: Segment) -> list[str]:
    """What is wrong inside one segment, as sentences without a full stop."""
    info, faults = segment.info, []
    if info.phase not in PHASES:
        faults.append(f"phase {info.phase!r} is none of {', '.join(PHASES)}")
    faults += _flag_faults(segment, info)
    if not np.array_equal(segment.sequence, np.arange(info.first_sequence, info.first_sequence + info.length)):
        faults.append(f"its sequence numbers are not {info.first_sequence} to {info.last_sequence}")
    arrays = {
        "state": segment.observation["state"],
        "action": segment.action,
        "policy_action": segment.policy_action,
        "reward": segment.reward,
    }
    for name, array in arrays.items():
        if not np.isfinite(array).all():
            step = int(np.argwhere(~np.isfinite(array))[0][0])
            faults.append(f"{name} is not finite at step {step}")
    for name in ("action", "policy_action"):
        if np.abs(arrays[name]).max(initial=0.0) > 1.0 + 1e-6:
            faults.append(f"{name} leaves [-1, 1]")
    known = segment.success_probability[~np.isnan(segment.success_probability)]
    if known.size and (known.min() < 0 or known.max() > 1):
        faults.append("success_probability leaves [0, 1]")
    if not np.isin(segment.source, [int(source) for source in Source]).all():
        faults.append(f"source has unknown values {sorted(set(segment.source.tolist()) - {int(s) for s in Source})}")
    return faults


def _flag_faults(segment: Segment, info: SegmentInfo) -> list[str]:
    faults = []
    first, last = np.flatnonzero(segment.is_first), np.flatnonzero(segment.is_last)
    if first.tolist() != [0]:
        faults.append(f"is_first is set at steps {first.tolist()}, expected only at 0")
    if last.tolist() != [info.length - 1]:
        faults.append(f"is_last is set at steps {last.tolist()}, expected only at {info.length - 1}")
    if segment.is_terminal[:-1].any():
        faults.append(f"is_terminal is set at step {int(np.argmax(segment.is_terminal))}, which is not the last")
    if segment.action[-1].any() or segment.reward[-1] != 0:
        faults.append("its last step has an action or a reward; it must have an observation only")
    return faults


def validate_outbox(store: EpisodeStore, outbox: Path) -> list[Problem]:
    """Whether outbox and store together hold every step that the actor ever numbered. The file is only read.

    Raises StoreError when `outbox` cannot be read.
    """
    where = str(outbox)
    try:
        database = sqlite3.connect(f"file:{quote(str(outbox.resolve()))}?mode=ro", uri=True)
        try:
            actor_id, last_sequence = database.execute("SELECT actor_id, last_sequence FROM identity").fetchone()
            rows = database.execute("SELECT sequence, payload FROM steps ORDER BY sequence").fetchall()
        finally:
            database.close()
    except (sqlite3.Error, TypeError) as error:
        raise StoreError(
            f"outbox {outbox} cannot be read ({error}): check the path, or move the file aside if it is damaged"
        ) from error
    problems = []
    for sequence, payload in rows:
        try:
            step = decode_step(payload)
            if (step.actor_id, step.sequence) != (actor_id, sequence):
                problems.append(
                    Problem(where, f"row {sequence} holds step {step.sequence} of {step.actor_id}", "Move the file aside")
                )
        except WireError as error:
            problems.append(Problem(where, f"row {sequence} is damaged ({error})", "Move the file aside; that step is lost"))
    covered = store.stored(actor_id)
    for sequence, _ in [*rows, (last_sequence + 1, None)]:
        if sequence > covered + 1:
            lost = f"steps {covered + 1} to {sequence - 1} of {actor_id} are neither in the outbox nor in the store"
            problems.append(Problem(where, lost, "They are lost, unless the store was replaced: restore the older one"))
        covered = max(covered, sequence)
    if store.stored(actor_id) > last_sequence:
        older = f"the store has step {store.stored(actor_id)} of {actor_id}, the outbox ends at {last_sequence}"
        problems.append(Problem(where, older, "The outbox is an old copy: move it aside before the actor starts again"))
    return problems
