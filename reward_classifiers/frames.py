"""Which stored frames teach which label, per direction: what counts as a positive is decided here, and for VICE in `vice.py`.

Separate from the network because the labels carry the risk: a start frame of one direction often *is* the goal of the other, and
must be neither a positive nor a negative unless somebody labelled it.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeAlias

import numpy as np

from etude.specs import IMAGE_PREFIX, PHASES, ObservationSpec
from etude.step import UNKNOWN

if TYPE_CHECKING:
    from etude.episodes.segment import Segment

IGNORE = -1
"""Label of a frame that says nothing about a direction."""
FLICKER_FRAMES = 2
"""So few frames of failure between two of success are a slip of whoever judged, see `without_flicker`."""
Labeller: TypeAlias = "Callable[[Segment, str], np.ndarray]"
"""A segment and its phase → int8 ``(T, 2)`` labels: 1, 0 or IGNORE, columns as `etude.specs.PHASES`."""


class Rules(Protocol):
    """How frames of demonstrations and of play, or of a run, become labels."""

    @property
    def most_played(self) -> int | None:
        """Of each store of play the newest segments count, until one direction has so many frames; None: all of them."""
        ...

    def demonstration(self, segment: Segment, phase: str) -> np.ndarray:
        """See `Labeller`."""
        ...

    def played(self, segment: Segment, phase: str) -> np.ndarray:
        """See `Labeller`."""
        ...

    def remedy(self, task: str, positives: int) -> str:
        """What to do where a direction has no successes (`positives` 0) or no failures."""
        ...


@dataclass(frozen=True)
class FrameRules:
    """How unlabelled demonstration frames become labels. All counts are frames of one demonstration.

    Attributes:
        positive_last: the last frames of a successful demonstration are positives.
        ambiguous_before: the frames just before those are dropped: nearly there, and nobody said which.
        other_direction_tail: share of a demonstration, from its end, that is a negative for the *other* direction. Its first
            part is dropped, because it starts where the other direction's goal is.
    """

    positive_last: int = 1
    ambiguous_before: int = 3
    other_direction_tail: float = 0.3

    @property
    def most_played(self) -> None:
        return None

    def demonstration(self, segment: Segment, phase: str) -> np.ndarray:
        return label_segment(segment, phase, self)

    def played(self, segment: Segment, phase: str) -> np.ndarray:
        return label_segment(segment, phase, self)

    def remedy(self, task: str, positives: int) -> str:
        return f"Record demonstrations of both directions: etude demo record --task {task}"


@dataclass(frozen=True)
class FrameSet:
    """Labelled frames.

    Attributes:
        images: camera -> uint8 ``(N, F, h, w, 3)``: the frame and those before it in its segment, oldest first.
        motion: float32 ``(N, m)``, the velocities among the proprioception, see `motion_indices`.
        labels: int8 ``(N, 2)``, columns as `etude.specs.PHASES`: 1, 0 or IGNORE.
        group: int32 ``(N,)``, number of the segment that the frame came from; splits keep a group together.
        judged: int8 ``(N, 2)``, what a person said about the frame, else IGNORE, whether or not `labels` heed it.
    """

    images: dict[str, np.ndarray]
    motion: np.ndarray
    labels: np.ndarray
    group: np.ndarray
    judged: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, rows: np.ndarray) -> FrameSet:
        images = {name: array[rows] for name, array in self.images.items()}
        return FrameSet(images, self.motion[rows], self.labels[rows], self.group[rows], self.judged[rows])

    def count(self, phase: str) -> tuple[int, int]:
        """(positives, negatives) of a direction."""
        column = self.labels[:, PHASES.index(phase)]
        return int((column == 1).sum()), int((column == 0).sum())


def windows(length: int, history: int) -> np.ndarray:
    """int ``(length, history)``: rows of the last `history` frames at each time, oldest first; the first row stands in for those
    before it."""
    return np.maximum(np.arange(length)[:, None] + np.arange(1 - history, 1)[None], 0)


def motion_indices(state_names: Sequence[str]) -> list[int]:
    """Elements of ``state`` that are velocities. The only proprioception a classifier sees: one picture cannot show whether
    things are at rest."""
    return [i for i, name in enumerate(state_names) if "velocity" in name]


def said_by_person(segment: Segment, phase: str) -> np.ndarray:
    """int8 ``(T, 2)``: what a person said about each frame (``judged_by == "human"``), else IGNORE. Success in one direction is
    failure in the other."""
    labels = np.full((len(segment.success), len(PHASES)), IGNORE, np.int8)
    own = PHASES.index(phase)
    known = np.array([judge == "human" for judge in segment.judged_by], bool) & (segment.success != UNKNOWN)
    labels[known, own] = segment.success[known]
    labels[known & (segment.success == 1), 1 - own] = 0
    return labels


def label_segment(segment: Segment, phase: str, rules: FrameRules) -> np.ndarray:
    """int8 ``(T, 2)`` labels of one segment.

    Frames that a person judged (``judged_by == "human"``) keep that label, and a person's success in one direction is a
    failure in the other. Otherwise a segment that ended in success is read as a demonstration by `rules`, and one that did
    not is all failure in its direction.
    """
    labels = said_by_person(segment, phase)
    if (labels != IGNORE).any():
        return labels
    length = len(labels)
    own, other = PHASES.index(phase), 1 - PHASES.index(phase)
    if not segment.is_terminal[-1]:
        labels[:, own] = 0
        return labels
    first_positive = max(0, length - rules.positive_last)
    labels[first_positive:, own] = 1
    labels[: max(0, first_positive - rules.ambiguous_before), own] = 0
    tail = max(rules.positive_last, round(length * rules.other_direction_tail))
    labels[max(0, length - tail) :, other] = 0
    return labels


def frames_of(
    segments: Iterable[tuple[str, Segment]], spec: ObservationSpec, label: Labeller, first_group: int = 0, history: int = 1
) -> FrameSet:
    """Labelled frames of ``(phase, segment)`` pairs, each with those before it, `history` in all; frames that teach nothing in
    either direction are left out."""
    images: dict[str, list[np.ndarray]] = {name: [] for name in spec.cameras}
    velocities = motion_indices(spec.state_names)
    motions: list[np.ndarray] = []
    labels: list[np.ndarray] = []
    groups: list[np.ndarray] = []
    judged: list[np.ndarray] = []
    for number, (phase, segment) in enumerate(segments, first_group):
        told = label(segment, phase)
        keep = (told != IGNORE).any(axis=1)
        for name in spec.cameras:
            images[name].append(segment.observation[IMAGE_PREFIX + name][windows(len(keep), history)[keep]])
        motions.append(segment.observation["state"][keep][:, velocities])
        labels.append(told[keep])
        groups.append(np.full(int(keep.sum()), number, np.int32))
        judged.append(said_by_person(segment, phase)[keep])
    if not labels:
        return empty_frames(spec, history)
    stacked = {name: np.concatenate(parts) for name, parts in images.items()}
    return FrameSet(stacked, np.concatenate(motions), np.concatenate(labels), np.concatenate(groups), np.concatenate(judged))


def empty_frames(spec: ObservationSpec, history: int = 1) -> FrameSet:
    images = {name: np.zeros((0, history, height, width, 3), np.uint8) for name, (height, width) in spec.cameras.items()}
    none = np.zeros((0, len(PHASES)), np.int8)
    return FrameSet(images, np.zeros((0, len(motion_indices(spec.state_names))), np.float32), none, np.zeros(0, np.int32), none)


def join(sets: Sequence[FrameSet]) -> FrameSet:
    """One set of several; groups must already differ (`frames_of(first_group=…)`)."""
    images = {name: np.concatenate([s.images[name] for s in sets]) for name in sets[0].images}
    parts = (np.concatenate([getattr(s, field) for s in sets]) for field in ("motion", "labels", "group", "judged"))
    return FrameSet(images, *parts)


def mislabel(labels: np.ndarray, share: float, rng: np.random.Generator) -> np.ndarray:
    """Every success of ``(T, 2)`` labels, in either direction, becomes a failure with probability `share`: what a careless person
    does."""
    wrong = (labels == 1) & (rng.random(labels.shape) < share)
    return np.where(wrong, 0, labels).astype(np.int8)


def without_flicker(labels: np.ndarray) -> np.ndarray:
    """``(T, 2)`` labels in which at most `FLICKER_FRAMES` failures between two successes say nothing.

    An object hardly leaves its goal and is back two or three frames later, so that is a slip of the person who judged. Left as
    failures such frames look right to every scorer, and a threshold that allows 1% of false positives refuses the true successes
    with them. A failure whose neighbours nobody judged stays one: a label given to a single frame is a segment of its own.
    """
    steady = labels.copy()
    for column in range(labels.shape[1]):
        successes = np.flatnonzero(labels[:, column] == 1)
        for before, after in itertools.pairwise(successes):
            between = labels[before + 1 : after, column]
            if 0 < len(between) <= FLICKER_FRAMES and (between == 0).all():
                steady[before + 1 : after, column] = IGNORE
    return steady


def folds(frames: FrameSet, count: int, rng: np.random.Generator) -> np.ndarray:
    """int32 ``(N,)`` fold of every frame: by segment, never by frame, and each direction's positives spread over all folds.

    Neighbouring frames of a segment look alike; with a split by frame the held-out part would only measure memory.
    """
    fold_of: dict[int, int] = {}
    # deal segments like cards, those with most positives of each direction first, so that no fold lacks a class
    kinds: dict[tuple[bool, ...], list[int]] = {}
    for group in np.unique(frames.group):
        has = tuple(bool(x) for x in (frames.labels[frames.group == group] == 1).any(axis=0))
        kinds.setdefault(has, []).append(int(group))
    dealt = 0
    for has in sorted(kinds, reverse=True):
        for group in rng.permutation(kinds[has]):
            fold_of[int(group)] = dealt % count
            dealt += 1
    return np.array([fold_of[int(g)] for g in frames.group], np.int32)
