"""Which frames a person should look at, and their labels as an episode store that training and reweighting read.

Two kinds of questions: frames that the classifier is most unsure about teach it most; the newest frames that it called success
tell how often it is wrong while the robot practises.
"""

from __future__ import annotations

import json
import math
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from etude.episodes.store import EpisodeStore
from etude.specs import IMAGE_PREFIX, PHASES, ObservationSpec
from etude.step import UNKNOWN, Step
from reward_classifiers.calibration import Rate, disagreement
from reward_classifiers.files import ClassifierError
from reward_classifiers.judge import ImageJudge

if TYPE_CHECKING:
    from etude.episodes.segment import SegmentInfo

STORE_NAME = "labels"
DOUBT_SHARE = 0.5


@dataclass(frozen=True)
class Question:
    """One frame to label: `row` of the segment `info`. `doubt`: 0 sure to 1 as unsure as can be."""

    kind: Literal["doubtful", "positive"]
    info: SegmentInfo
    row: int
    probability: float
    doubt: float


def label_queue(judge: ImageJudge, store: EpisodeStore, count: int) -> list[Question]:
    """At most `count` frames of `store`: half of them the most doubtful, one per segment; the others the newest that were called
    success, newest first.

    Doubt is how near the probability lies to the threshold, or how far members disagree, whichever is more. Frames that a
    person has judged are left out.
    """
    doubtful, positive = [], []
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
        side = np.where(probability >= threshold, 1.0 - threshold, threshold)
        doubt = np.maximum(
            1.0 - np.abs(probability - threshold) / side, 2.0 * disagreement(logits, judge.calibration, info.phase)
        )
        row = int(np.argmax(np.where(free, doubt, -1.0)))
        doubtful.append(Question("doubtful", info, row, float(probability[row]), float(doubt[row])))
        called = np.flatnonzero(free & (probability >= threshold))
        if len(called):
            row = int(called[0])  # where practice would have stopped
            positive.append(Question("positive", info, row, float(probability[row]), float(doubt[row])))
    positive.sort(key=lambda q: q.info.last_stamp_ns, reverse=True)
    positive = positive[: count - round(count * DOUBT_SHARE)]
    taken = {(q.info.actor_id, q.info.segment, q.row) for q in positive}
    doubtful = [q for q in doubtful if (q.info.actor_id, q.info.segment, q.row) not in taken]
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
