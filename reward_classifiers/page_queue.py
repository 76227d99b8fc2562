"""The label queue of a running practice, for the page: the terminal's questions, from what is stored with every step.

No judge is asked: the control loop has stored what it said about each frame, so the page needs no GPU and costs no computation.
Answers go where `etude classifier label` puts them.
"""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np

from etude.episodes.store import EpisodeStore, StoreError
from etude.specs import PHASES
from etude.status import labelled_false_positives
from etude.step import UNKNOWN
from reward_classifiers.calibration import Rate
from reward_classifiers.files import ClassifierError, read_description
from reward_classifiers.labels import HISTORY, Answers, Look, Question, add_label, choose, doubt_of, frame_of, open_labels

NEWEST = 300
"""Attempts that questions are about at most; what is older says little about the judge of today."""


class PageQueue:
    """`dashboard.app.Frames`. Every method may be called from any thread; the first look at a long run takes seconds."""

    def __init__(self, classifier: Path, episodes: Path, labels: Path) -> None:
        self._classifier, self._episodes, self._labels = classifier, episodes, labels
        self._lock = threading.Lock()
        self._store: EpisodeStore | None = None
        self._seen: dict[str, tuple[Look, np.ndarray]] = {}

    def questions(self, count: int = 20) -> dict[str, Any]:
        """What to ask now, and how often failures were called success: by the answers so far and by the simulator's truth, each
        with a 95% interval, None where nothing can be said. Raises LookupError with a reason for people."""
        with self._lock:
            store, looks = self._looks()
            if store is None:
                return {"questions": [], "answered": 0, "by_labels": None, "by_truth": None}
            answers = Answers(self._labels)
            cameras = list(store.observation_spec.cameras)
            chosen = choose([look for look, _ in looks], count, answers.known)
            return {
                "questions": [_told(question, cameras) for question in chosen],
                "answered": len(answers.known),
                "by_labels": _by_labels(answers, [look for look, _ in looks]),
                "by_truth": _by_truth(looks),
            }

    def answer(self, key: str, row: int, success: bool | None) -> None:
        """Store a person's label of one frame; None: skipped. Raises LookupError with a reason for people."""
        with self._lock:
            store, _ = self._looks()
            look, _ = self._seen.get(key, (None, None))
            if store is None or look is None or not 0 <= row < look.info.length:
                raise LookupError(f"there is no frame {row} of an attempt {key!r}")
            kind: Any = "positive" if row == look.called else "doubtful"
            question = Question(kind, look.info, row, float(look.probability[row]), float(look.doubt[row]))
            answers = Answers(self._labels)
            if frame_of(look.info, row) in answers.known:
                raise LookupError("this frame has been labelled already, here or in the terminal")
            if success is not None:
                try:
                    with open_labels(self._labels, store) as labels:
                        add_label(labels, store, question, success, HISTORY)
                        labels.flush()
                except (ClassifierError, StoreError) as error:
                    raise LookupError(str(error)) from error
            answers.add(question, success, self._judge())

    def _looks(self) -> tuple[EpisodeStore | None, list[tuple[Look, np.ndarray]]]:
        """The newest attempts that the classifier judged, and their truth ``(T,)``."""
        if self._store is None:
            try:
                self._store = EpisodeStore.open(self._episodes, "r")
            except StoreError:
                return None, []
        store = self._store
        infos = [info for info in store.segments() if info.phase in PHASES]
        infos = sorted(infos, key=lambda info: info.last_stamp_ns)[-NEWEST:]
        thresholds = self._description()["calibration"]["thresholds"]
        seen = {}
        for info in infos:
            key, _ = frame_of(info, 0)
            if key not in self._seen:
                segment = store.read(info)
                probability = np.asarray(segment.success_probability, float)
                free = np.isfinite(probability) & np.array([name != "human" for name in segment.judged_by])
                threshold = thresholds[info.phase]
                probability = np.where(np.isfinite(probability), probability, 0.0)
                self._seen[key] = (
                    Look(info, free, probability, doubt_of(probability, threshold), threshold),
                    segment.success_truth,
                )
            seen[key] = self._seen[key]
        self._seen = seen
        return store, [(look, truth) for look, truth in seen.values() if look.free.any()]

    def _description(self) -> dict[str, Any]:
        try:
            return read_description(self._classifier)
        except ClassifierError as error:
            raise LookupError(str(error)) from error

    def _judge(self) -> str:
        description = self._description()
        return f"{description['backend']}:{description['digest'][:8]}"


def _told(question: Question, cameras: list[str]) -> dict[str, Any]:
    info = question.info
    return {
        "key": frame_of(info, 0)[0],
        "row": question.row,
        "kind": question.kind,
        "segment": info.segment,
        "phase": info.phase,
        "instruction": info.instruction,
        "probability": question.probability,
        "cameras": cameras,
    }


def _by_labels(answers: Answers, looks: list[Look]) -> dict[str, Any] | None:
    right = answers.positives()
    called = sum(look.called is not None for look in looks)
    rate, low, high = labelled_false_positives(right.successes, right.trials, called, len(looks))
    return {"rate": rate, "low": low, "high": high, "labels": right.trials} if right.trials and looks else None


def _by_truth(looks: list[tuple[Look, np.ndarray]]) -> dict[str, Any] | None:
    """Of the attempts that were no success where practice stopped, or at their end, how many were called one."""
    wrong = failures = 0
    for look, truth in looks:
        told = truth[-1 if look.called is None else look.called]
        if told != UNKNOWN and not told:
            failures += 1
            wrong += look.called is not None
    rate = Rate(wrong, failures)
    low, high = rate.interval
    return {"rate": rate.value, "low": low, "high": high, "failures": failures} if failures else None
