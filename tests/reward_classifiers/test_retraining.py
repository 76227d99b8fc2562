"""A new version of a run's classifier from labels that people give while it practises, and the judge that takes it up."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import pytest
from dot_world import QUICK, Writer, dot, dot_config

from etude.run_folder import RunFolder
from reward_classifiers import ClassifierError
from reward_classifiers.labels import Question, add_label, open_labels
from reward_classifiers.reloading import ReloadingJudge
from reward_classifiers.retraining import labels_of, retrain, retrain_command


def test_labels_become_a_new_version_that_judges_from_the_next_attempt_on(
    dot_classifier, dot_stores, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ETUDE_DATA", str(tmp_path / "data"))
    folder = RunFolder(tmp_path / "run")
    shutil.copytree(dot_classifier[0], folder.classifier)
    writer = Writer(folder.episodes)
    for _ in range(3):
        writer.segment("forward", [0.3, 0.5, 0.7], terminal=False, judged_by="cnn:1")
    source = writer.done()
    assert labels_of(folder) == 0
    with open_labels(folder.root / "labels", source) as labels:
        for info in source.segments():
            add_label(labels, source, Question("positive", info, 2, 0.9, 0.5), False, 1)
        labels.flush()
    assert labels_of(folder) == 3
    judge = ReloadingJudge(folder.classifier, look_every_s=0.05)
    before = judge.name
    config = dot_config().model_copy(update={"demonstrations": str(dot_stores[0].path)})
    report = retrain(folder, config, 3, QUICK)
    assert report["play_segments"] == 3
    new = f"cnn:{report['digest'][:8]}"
    end = time.monotonic() + 60.0
    while judge.name != new and time.monotonic() < end:
        time.sleep(0.1)
        assert judge.name == before, "within an attempt the version stays"
        judge.forget()
    assert judge.name == new != before, "steps are stored with this name"
    assert 0.0 <= judge.probability(dot(0.9), "forward") <= 1.0
    judge.close()


def test_what_is_no_run_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(ClassifierError, match="is no run folder"):
        retrain_command(["--run", str(tmp_path), "--once"])
