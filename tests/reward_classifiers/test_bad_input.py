"""Recordings and frames that cannot work: each is refused with a sentence that names the thing and the remedy."""

from __future__ import annotations

import numpy as np
import pytest
from dot_world import ACTION, QUICK, Writer, dot

from etude.episodes.store import EpisodeStore
from etude.specs import ObservationSpec
from reward_classifiers import ClassifierError, load_judge, train_classifier
from reward_classifiers.judge import load_live_judge
from reward_classifiers.worker import DeadlineJudge


def refuse(store, config, tmp_path, match, play=None):
    with pytest.raises(ClassifierError, match=match):
        train_classifier(store, config, tmp_path / "out", 0, None, play, QUICK)
    assert not (tmp_path / "out" / "classifier.json").exists(), "nothing half made is left"


def test_no_successes_are_refused(config, tmp_path):
    writer = Writer(tmp_path / "s")
    for _ in range(6):
        for phase in ("forward", "backward"):
            writer.segment(phase, [0.4, 0.5, 0.6], terminal=False)
    refuse(writer.done(), config, tmp_path, r"no successful frames for the forward direction \(0 positives, 18 negatives\)")


def test_only_successes_are_refused(config, tmp_path):
    writer = Writer(tmp_path / "s")
    for _ in range(6):
        writer.segment("forward", [0.9, 0.92], terminal=False, judged_by="human")
    refuse(writer.done(), config, tmp_path, "no unsuccessful frames for the forward direction")


def test_an_empty_store_is_refused(config, tmp_path):
    refuse(Writer(tmp_path / "s").done(), config, tmp_path, r"0 positives, 0 negatives.*Record demonstrations of both directions")


def test_pictures_of_an_odd_size_are_refused(config, tmp_path):
    spec = ObservationSpec(("x_m",), {"top": (20, 12)})
    store = EpisodeStore.create(tmp_path / "s", spec, ACTION)
    refuse(store, config, tmp_path, r"camera 'top' has 12x20 pixels: a classifier needs multiples of 8 \(task\.image_size_px\)")


def test_play_of_another_robot_is_refused(dot_stores, config, tmp_path):
    other = EpisodeStore.create(tmp_path / "p", ObservationSpec(("x_m",), {"side": (16, 16)}), ACTION)
    refuse(dot_stores[0], config, tmp_path, "record both with the same robot", other)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda seen: seen.pop("image/top"), "'image/top' is missing"),
        (lambda seen: seen.update({"image/top": np.zeros((8, 8, 3), np.uint8)}), r"'image/top' has shape \(8, 8, 3\)"),
        (lambda seen: seen.update({"state": np.zeros(5, np.float32)}), r"'state' has shape \(5,\)"),
    ],
    ids=["view missing", "wrong size", "another state"],
)
def test_a_frame_that_does_not_fit_is_named_and_the_next_one_is_judged(dot_classifier, change, message):
    judge = load_judge(dot_classifier[0])
    seen = dot(0.9)
    change(seen)
    with pytest.raises(ClassifierError, match=message):
        judge.probability(seen, "forward")
    assert judge.probability(dot(0.95), "forward") > judge.probability(dot(0.1), "forward")


def test_a_live_judge_follows_its_folder_and_keeps_its_deadline(dot_classifier, config):
    classifier = config.recipe.reward.classifier.model_copy(update={"deadline_s": 0.5})
    judge = load_live_judge(dot_classifier[0], classifier)
    try:
        assert isinstance(judge._judge, DeadlineJudge)
        assert judge.name == load_judge(dot_classifier[0]).name
    finally:
        judge.close()
