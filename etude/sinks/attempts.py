"""Which stored attempts are exported, and what every sink needs of one: where it stands in the run, and its pictures.

Separate from the sinks because they all choose, count and encode alike.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np

from etude.episodes.commands import progress_bar
from etude.episodes.segment import Segment, SegmentInfo
from etude.episodes.store import EpisodeStore
from etude.run_folder import RunFolder
from etude.sinks.errors import ExportError
from etude.specs import ActionSpec, ObservationSpec

JPEG_QUALITY = 95
"""Pictures of 64 pixels a side show every loss."""
LISTED = 5
"""Numbers that do not exist, in a message."""


@dataclass(frozen=True)
class Attempt:
    """A stored attempt and `env_steps`, the environment steps that the run had made before it."""

    info: SegmentInfo
    env_steps: int


@dataclass(frozen=True)
class Selection:
    """What of a run is exported. `lossless`: pictures as PNG instead of JPEG."""

    folder: RunFolder
    store: EpisodeStore
    attempts: Sequence[Attempt] = field(repr=False)
    lossless: bool = False

    @property
    def name(self) -> str:
        return self.folder.root.resolve().name

    @property
    def observation_spec(self) -> ObservationSpec:
        return self.store.observation_spec

    @property
    def action_spec(self) -> ActionSpec:
        return self.store.action_spec

    @property
    def image_format(self) -> str:
        """As ``image/<format>`` names it."""
        return "png" if self.lossless else "jpeg"

    def segments(self) -> Iterator[tuple[Attempt, Segment]]:
        """Every attempt with its arrays, one in memory at a time; a person at a terminal sees how far it is.

        Raises:
            StoreError: the files of an attempt are damaged.
        """
        show = progress_bar()
        for done, attempt in enumerate(self.attempts, 1):
            yield attempt, self.store.read(attempt.info)
            if show is not None:
                show(done, len(self.attempts))

    def picture(self, image: np.ndarray) -> bytes:
        """An image, uint8 RGB ``(h, w, 3)``, as a file of `image_format`."""
        options = [] if self.lossless else [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY]
        done, data = cv2.imencode(f".{self.image_format}", np.ascontiguousarray(image[:, :, ::-1]), options)
        assert done
        return data.tobytes()


def stored_attempts(store: EpisodeStore) -> list[Attempt]:
    """All of a store, in order of time."""
    attempts, before = [], 0
    for info in sorted(store.segments(), key=lambda one: (one.first_stamp_ns, one.first_sequence)):
        attempts.append(Attempt(info, before))
        before += info.length - 1  # nothing is done in the last step
    return attempts


def chosen(attempts: Sequence[Attempt], numbers: Collection[int] | None = None, newest: int | None = None) -> list[Attempt]:
    """Those with these numbers (``segment``, as the page shows them), or the newest so many, or all.

    Where several actors have an attempt of one number, or an attempt was cut in two, all of them are meant.

    Raises:
        ExportError: a number is not stored, or nothing is.
    """
    if not attempts:
        raise ExportError("no attempt is stored yet: the first one is when it ends and the learner has acknowledged it")
    if numbers is None:
        return list(attempts[-newest:] if newest is not None else attempts)
    known = {attempt.info.segment for attempt in attempts}
    missing = sorted(set(numbers) - known)
    if missing:
        named = ", ".join(map(str, missing[:LISTED])) + (", …" if len(missing) > LISTED else "")
        raise ExportError(f"attempt {named} is not stored; the run has {len(known)} of them, from {min(known)} to {max(known)}")
    return [attempt for attempt in attempts if attempt.info.segment in numbers]
