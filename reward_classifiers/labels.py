"""Which frames a person should look at, and their labels as an episode store that training and reweighting read.

Two kinds of questions: frames that the classifier is most unsure about teach it most; the newest frames that it called success
tell how often it is wrong while the robot practises.
"""

from __future__ import annotations

import json
import math
import time
import uuid
from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from etude.episodes.store import EpisodeStore
from etude.specs import IMAGE_PREFIX, PHASES, ObservationSpec
from etude.step import UNKNOWN, Step
from etude.summary import read_json_lines
from reward_classifiers.calibration import Rate, disagreement
from reward_classifiers.files import ClassifierError
from reward_classifiers.judge import ImageJudge

if TYPE_CHECKING:
    from etude.episodes.segment import SegmentInfo

STORE_NAME = "labels"
Frame = tuple[str, int]
"""``<actor>:<first sequence>`` of a segment, as the page names attempts, and the row."""
DOUBT_SHARE = 0.5
HISTORY = 4
"""Frames that are stored with a label: judges of up to this many may learn from it, whichever one asked."""


@dataclass(frozen=True)
class Question:
    """One frame to label: `row` of the segment `info`. `doubt`: 0 sure to 1 as unsure as can be."""

    kind: Literal["doubtful", "positive"]
    info: SegmentInfo
    row: int
    probability: float
    doubt: float


@dataclass(frozen=True)
class Look:
    """What a judge says about a segment, arrays ``(T,)``: `free` are the frames that no person has judged."""

    info: SegmentInfo
    free: np.ndarray
    probability: np.ndarray
    doubt: np.ndarray
    threshold: float

    @property
    def called(self) -> int | None:
        """The first frame that was called success, where practice would have stopped."""
        rows = np.flatnonzero(self.free & (self.probability >= self.threshold))
        return int(rows[0]) if len(rows) else None


def doubt_of(probability: np.ndarray, threshold: float) -> np.ndarray:
    """How near to the threshold, 0 to 1."""
    side = np.where(probability >= threshold, 1.0 - threshold, threshold)
    return 1.0 - np.abs(probability - threshold) / side


def label_queue(judge: ImageJudge, store: EpisodeStore, count: int, known: Container[Frame] = ()) -> list[Question]:
    """`choose` among the segments of `store`. Doubt is how near the probability lies to the threshold, or how far members
    disagree, whichever is more."""
    looks = []
    for info in store.segments():
        if info.phase not in PHASES:
            continue
        segment = store.read(info)
        free = np.array([name != "human" for name in segment.judged_by])
        if not free.any():
            continue
        logits = judge.segment_logits(segment.observation, info.phase)
        probability = judge.segment_probabilities(segment.observation, info.phase)
        threshold = judge.threshold(info.phase)
        doubt = np.maximum(doubt_of(probability, threshold), 2.0 * disagreement(logits, judge.calibration, info.phase))
        looks.append(Look(info, free, probability, doubt, threshold))
    return choose(looks, count, known)


def choose(looks: Iterable[Look], count: int, known: Container[Frame] = ()) -> list[Question]:
    """At most `count` frames: half of them the most doubtful, one per segment; the others the newest that were called success,
    newest first. Frames that a person has judged are left out, and so are those in `known`."""
    doubtful: list[Question] = []
    positive: list[Question] = []
    for look in looks:
        row = int(np.argmax(np.where(look.free, look.doubt, -1.0)))
        doubtful.append(Question("doubtful", look.info, row, float(look.probability[row]), float(look.doubt[row])))
        if look.called is not None:
            row = look.called
            positive.append(Question("positive", look.info, row, float(look.probability[row]), float(look.doubt[row])))
    doubtful, positive = ([q for q in part if frame_of(q.info, q.row) not in known] for part in (doubtful, positive))
    positive.sort(key=lambda q: q.info.last_stamp_ns, reverse=True)
    positive = positive[: count - round(count * DOUBT_SHARE)]
    taken = {frame_of(q.info, q.row) for q in positive}
    doubtful = [q for q in doubtful if frame_of(q.info, q.row) not in taken]
    doubtful.sort(key=lambda q: q.doubt, reverse=True)
    return [*positive, *doubtful[: count - len(positive)]]


def calls(judge: ImageJudge, store: EpisodeStore) -> tuple[int, int]:
    """(attempts with a frame that `judge` calls success, attempts) of `store`; those that a person judged are left out, as in
    `label_queue`."""
    called = attempts = 0
    for info in store.segments():
        if info.phase not in PHASES:
            continue
        segment = store.read(info)
        free = np.array([name != "human" for name in segment.judged_by])
        if free.any():
            attempts += 1
            probability = judge.segment_probabilities(segment.observation, info.phase)
            called += bool((free & (probability >= judge.threshold(info.phase))).any())
    return called, attempts


def page_labels(path: Path) -> dict[int, bool]:
    """Segment -> success, as a person said on the page (``attempt_labels.jsonl`` of a run); the newest answer counts. Lines
    that a crash cut short are skipped."""
    told: dict[int, bool] = {}
    for text in path.read_text(encoding="utf-8").splitlines() if path.is_file() else []:
        try:
            line = json.loads(text)
            told[int(line["segment"])] = bool(line["success"])
        except (ValueError, KeyError, TypeError):
            continue
    return told


def questions_about(store: EpisodeStore, segments: Iterable[int]) -> list[Question]:
    """The last frames of these segments, where what the person saw is. A number that several actors have says too little and is
    left out, and so is one that is not stored yet."""
    found: dict[int, list[SegmentInfo]] = {}
    for info in store.segments():
        found.setdefault(info.segment, []).append(info)
    return [
        Question("positive", found[number][0], found[number][0].length - 1, math.nan, math.nan)
        for number in segments
        if len(found.get(number, [])) == 1
    ]


def frame_of(info: SegmentInfo, row: int) -> Frame:
    return f"{info.actor_id}:{info.first_sequence}", row


class Answers:
    """What people said about single frames: JSON lines beside a store of labels, which the terminal and the page share, so that
    nobody is asked twice. Skipped frames are in it too.

    Attributes:
        known: frames that were asked about.
    """

    def __init__(self, labels: Path) -> None:
        self._path = labels.with_name(labels.name + ".jsonl")
        self._said: dict[Frame, dict[str, Any]] = {}
        for line in read_json_lines(self._path):
            if isinstance(line.get("key"), str) and isinstance(line.get("row"), int):
                self._said[line["key"], line["row"]] = line

    @property
    def known(self) -> set[Frame]:
        return set(self._said)

    def positives(self) -> Rate:
        """Of the frames that were called success and then labelled, how many were."""
        told = [line["success"] for line in self._said.values() if line.get("kind") == "positive"]
        told = [success for success in told if success is not None]
        return Rate(sum(map(bool, told)), len(told))

    def add(self, question: Question, success: bool | None, judge: str) -> None:
        """`success` None: skipped. `judge`: whose call it was."""
        key, row = frame_of(question.info, question.row)
        line = {
            "key": key,
            "row": row,
            "kind": question.kind,
            "phase": question.info.phase,
            "success": success,
            "probability": question.probability,
            "judge": judge,
            "stamp_ns": time.time_ns(),
        }
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        self._said[key, row] = line


def precision_of(questions: Sequence[Question], labels: Sequence[int]) -> Rate:
    """Of the frames that were called success and then labelled, how many were."""
    told = [label for question, label in zip(questions, labels, strict=True) if question.kind == "positive"]
    return Rate(sum(told), len(told))


def add_label(labels: EpisodeStore, source: EpisodeStore, question: Question, success: bool, history: int) -> None:
    """Append the frame with a person's label, and the `history - 1` frames before it without one, as a segment of its own."""
    first = max(0, question.row + 1 - history)
    steps = source.read(question.info).steps()[first : question.row + 1]
    actor = f"label-{uuid.uuid4().hex[:12]}"
    for number, step in enumerate(steps):
        last = number == len(steps) - 1
        labels.append(
            replace(
                step,
                actor_id=actor,
                sequence=number + 1,
                segment=1,
                index=number,
                is_first=number == 0,
                is_last=last,
                is_terminal=False,
                success=int(success) if last else UNKNOWN,
                judged_by="human" if last else "",
            )
        )


def open_labels(path: Path, source: EpisodeStore) -> EpisodeStore:
    """The store at `path` for append, made when missing. Raises ClassifierError when it is of another robot."""
    if not path.is_dir():
        return EpisodeStore.create(path, source.observation_spec, source.action_spec, {"kind": "labels"})
    labels = EpisodeStore.open(path, "a")
    if labels.observation_spec != source.observation_spec:
        labels.close()
        raise ClassifierError(f"the labels in {path} are of other cameras than {source.path}: choose another --out")
    return labels


def picture(source: EpisodeStore, question: Question, path: Path, scale: int = 4) -> None:
    """Write the frame's views side by side, enlarged, for a person."""
    from PIL import Image

    observation = _step(source, question).observation
    views = np.concatenate([observation[IMAGE_PREFIX + name] for name in _same_height(source.observation_spec)], axis=1)
    image = Image.fromarray(views)
    image.resize((image.width * scale, image.height * scale), Image.Resampling.NEAREST).save(path)


def _same_height(spec: ObservationSpec) -> list[str]:
    """The cameras that are as high as the first one; others would not stand beside it."""
    height = next(iter(spec.cameras.values()))[0]
    return [name for name, (h, _) in spec.cameras.items() if h == height]


def _step(source: EpisodeStore, question: Question) -> Step:
    return source.read(question.info).steps()[question.row]
