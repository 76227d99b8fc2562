"""The label queue of the page: from stored probabilities, shared with the terminal, and what it says about false positives."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from dot_world import QUICK, Writer, dot_config

from etude.episodes.store import EpisodeStore
from etude.step import UNKNOWN
from reward_classifiers import train_classifier
from reward_classifiers.calibration import Calibration
from reward_classifiers.files import save_classifier
from reward_classifiers.label_commands import label_command
from reward_classifiers.labels import Answers
from reward_classifiers.page_queue import PageQueue


class Run:
    """A run folder with attempts whose last frame a classifier gave these probabilities; its threshold is 0.8."""

    def __init__(self, folder: Path, last: list[tuple[float, bool]]) -> None:
        self.labels = folder / "labels"
        save_classifier(folder / "classifier", "cnn", {}, {"w": np.ones(1)}, Calibration.uniform(1, 0.8), {}, {})
        self._writer = Writer(folder / "episodes")
        for probability, right in last:
            self.attempt(probability, right)
        self.queue = PageQueue(folder / "classifier", folder / "episodes", self.labels)

    def attempt(self, probability: float, right: bool) -> None:
        positions = [0.3, 0.4, 0.9 if right else 0.5]
        self._writer.segment("forward", positions, terminal=False, judged_by="cnn:1", said=probability)
        self._writer.done()


def test_the_newest_successes_come_first_and_then_the_most_doubtful(tmp_path: Path) -> None:
    run = Run(tmp_path, [(0.95, True), (0.9, False), (0.75, True), (0.3, False)])
    told = run.queue.questions(4)
    assert [(q["segment"], q["kind"]) for q in told["questions"]] == [
        (2, "positive"),
        (1, "positive"),
        (3, "doubtful"),
        (4, "doubtful"),
    ]
    first = told["questions"][0]
    assert first["row"] == 2 and first["probability"] == pytest.approx(0.9) and first["cameras"] == ["top"]
    assert told["by_labels"] is None
    truth = told["by_truth"]
    assert truth["failures"] == 2 and truth["rate"] == 0.5, "one of two failures was called success; the third attempt was right"
    assert truth["low"] < 0.5 < truth["high"]


def test_an_answer_is_a_label_to_train_on_and_nobody_is_asked_again(tmp_path: Path) -> None:
    run = Run(tmp_path, [(0.95, True), (0.9, False), (0.3, False)])
    for success in (False, True):
        question = run.queue.questions()["questions"][0]
        run.queue.answer(question["key"], question["row"], success)
    told = run.queue.questions()
    assert told["answered"] == 2 and [q["kind"] for q in told["questions"]] == ["doubtful"]
    rate = told["by_labels"]
    # two of three attempts were called success and half of those labelled were: one of two failures
    assert rate["labels"] == 2 and rate["rate"] == pytest.approx(0.5) and rate["low"] < 0.5 < rate["high"]
    skipped = told["questions"][0]
    run.queue.answer(skipped["key"], skipped["row"], None)
    assert run.queue.questions()["questions"] == []
    labels = EpisodeStore.open(run.labels, "r")
    kept = [labels.read(info) for info in labels.segments()]
    assert sorted(int(segment.success[-1]) for segment in kept) == [0, 1]
    assert all(segment.judged_by[-1] == "human" and (segment.success[:-1] == UNKNOWN).all() for segment in kept)
    with pytest.raises(LookupError, match="labelled already"):
        run.queue.answer(skipped["key"], skipped["row"], True)
    with pytest.raises(LookupError, match="there is no frame 9"):
        run.queue.answer(skipped["key"], 9, True)


def test_attempts_that_are_stored_later_are_asked_about_too(tmp_path: Path) -> None:
    run = Run(tmp_path, [(0.9, True)])
    assert len(run.queue.questions()["questions"]) == 1
    run.attempt(0.3, False)
    assert [q["segment"] for q in run.queue.questions()["questions"]] == [1, 2]


def test_before_anything_is_stored_there_is_nothing_to_ask_and_a_missing_classifier_is_named(tmp_path: Path) -> None:
    empty = PageQueue(tmp_path / "classifier", tmp_path / "episodes", tmp_path / "labels")
    assert empty.questions()["questions"] == []
    Run(tmp_path / "run", [(0.9, True)])
    lacking = PageQueue(tmp_path / "classifier", tmp_path / "run" / "episodes", tmp_path / "labels")
    with pytest.raises(LookupError, match="there is no classifier"):
        lacking.questions()


def test_the_terminal_and_the_page_share_their_answers(dot_classifier, dot_stores, tmp_path: Path) -> None:
    writer = Writer(tmp_path / "run" / "episodes")
    for _ in range(3):
        writer.segment("forward", [0.3, 0.6, 0.95], terminal=False, judged_by="cnn:1", said=0.95)
    writer.done()
    run = tmp_path / "run"
    asked = ["--classifier", str(dot_classifier[0]), "--episodes", str(run), "--picture", str(tmp_path / "p.png")]
    assert label_command([*asked, "--count", "2"], ask=lambda _: "y") == 0
    known = Answers(run / "labels").known
    assert len(known) == 2
    page = PageQueue(dot_classifier[0], run / "episodes", run / "labels")
    assert not known & {(q["key"], q["row"]) for q in page.questions()["questions"]}
    labels = EpisodeStore.open(run / "labels", "r")
    report = train_classifier(dot_stores[0], dot_config(), tmp_path / "new", 0, None, [dot_stores[1], labels], QUICK)
    assert report["play_segments"] == len(dot_stores[1].segments()) + 2
