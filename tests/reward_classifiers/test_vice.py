"""VICE as a judge: which frames it learns from, what its trap costs, and what a person's labels are for."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from dot_world import QUICK, Writer, dot, dot_config

from etude.config import ClassifierConfig, RunConfig
from etude.episodes.store import EpisodeStore
from etude.run_folder import RunFolder
from etude.specs import PHASES
from reward_classifiers import ClassifierError, load_judge, train_classifier
from reward_classifiers.files import read_classifier
from reward_classifiers.frames import IGNORE, FrameSet
from reward_classifiers.measure import measure
from reward_classifiers.retraining import retrain
from reward_classifiers.sampling import class_pools, draw
from reward_classifiers.train import gather, newest
from reward_classifiers.vice import PERSON, VISITED, ViceRules, frames_to_calibrate

RULES = ViceRules(positive_last=3, most_played=1000)
FORWARD, BACKWARD = 0, 1


def vice_config(**settings) -> RunConfig:
    config = dot_config()
    reward = config.recipe.reward.model_copy(update={"classifier": ClassifierConfig(backend="vice", **settings)})
    return config.model_copy(update={"recipe": config.recipe.model_copy(update={"reward": reward})})


def visits(path: Path, judged_by: str, segments: int = 8) -> EpisodeStore:
    """Random dots, a fifth of them at the goal."""
    writer, rng = Writer(path), np.random.default_rng(0)
    for _ in range(segments):
        for phase in PHASES:
            writer.segment(phase, list(rng.uniform(0.0, 1.0, 40)), terminal=False, judged_by=judged_by)
    return writer.done()


@pytest.fixture
def fresh(tmp_path: Path) -> EpisodeStore:
    writer = Writer(tmp_path / "fresh")
    writer.play(8, seed=9)
    return writer.done()


# --- which frames -------------------------------------------------------------------------------------------------------


def test_of_a_demonstration_only_the_end_is_a_positive_and_nothing_else_teaches(tmp_path: Path) -> None:
    writer = Writer(tmp_path / "s")
    writer.segment("forward", list(np.linspace(0, 0.9, 10)), terminal=True)
    store = writer.done()
    labels = RULES.demonstration(store.read(store.segments()[0]), "forward")
    assert labels[:, FORWARD].tolist() == [IGNORE] * 7 + [1] * 3
    assert (labels[:, BACKWARD] == IGNORE).all()


def test_a_demonstration_that_failed_teaches_nothing(tmp_path: Path) -> None:
    writer = Writer(tmp_path / "s")
    writer.segment("forward", [0.1] * 10, terminal=False)
    store = writer.done()
    assert (RULES.demonstration(store.read(store.segments()[0]), "forward") == IGNORE).all()


@pytest.mark.parametrize("judged_by", ["environment", "human", "cnn:1"])
def test_whatever_was_visited_is_a_negative_of_its_direction_whoever_called_it_success(tmp_path: Path, judged_by: str) -> None:
    writer = Writer(tmp_path / "s")
    writer.segment("backward", [0.5, 0.3, 0.1, 0.1], terminal=True, judged_by=judged_by)
    store = writer.done()
    labels = RULES.played(store.read(store.segments()[0]), "backward")
    assert (labels[:, BACKWARD] == 0).all() and (labels[:, FORWARD] == IGNORE).all()


def test_demonstrations_and_visits_are_told_apart_by_where_they_are_stored(dot_stores, tmp_path: Path) -> None:
    frames, used = gather(dot_stores[0], dot_stores[1], "dot", RULES)
    assert (used["demonstration_segments"], used["play_segments"]) == (16, 16)
    for phase in PHASES:
        assert frames.count(phase) == (8 * 3, 8 * 20), "ends of 8 demonstrations, all of 8 segments of play"


def test_a_batch_has_as_many_ends_as_visits_of_each_direction(dot_stores) -> None:
    frames, _ = gather(dot_stores[0], dot_stores[1], "dot", RULES)
    rows = draw(class_pools(frames, QUICK.near_frames, QUICK.near_weight), 32, np.random.default_rng(0))
    for column in range(len(PHASES)):
        assert [(frames.labels[rows, column] == value).sum() for value in (1, 0)] == [8, 8]


def test_the_newest_visits_of_either_direction_count_to_the_next_whole_segment(dot_stores) -> None:
    infos = dot_stores[1].segments()  # 8 of either direction, 20 frames each, one after the other
    assert newest(infos, None) == infos
    assert newest(infos, 30) == infos[-4:]
    frames, used = gather(dot_stores[0], dot_stores[1], "dot", ViceRules(positive_last=1, most_played=30))
    assert used["play_segments"] == 4 and frames.count("forward") == (8, 40)


# --- the judge -----------------------------------------------------------------------------------------------------------


def test_it_is_a_judge_like_the_others(dot_stores, fresh: EpisodeStore, tmp_path: Path) -> None:
    report = train_classifier(dot_stores[0], vice_config(), tmp_path / "c", 0, None, dot_stores[1], QUICK)
    description = read_classifier(tmp_path / "c")[0]
    assert description["settings"]["rules"] == {"positive_last": 1, "most_played": 3000}
    judge = load_judge(tmp_path / "c")
    assert judge.name == f"vice:{report['digest'][:8]}" and judge.backend.members == QUICK.members
    assert judge.probability(dot(0.95), "forward") > judge.probability(dot(0.5), "forward")
    assert judge.probability(dot(0.05), "backward") > judge.probability(dot(0.5), "backward")
    assert measure(judge, fresh, 2).frames["forward"].false_positive_rate.value < 0.1


def test_visited_successes_push_the_threshold_too_high_and_a_person_s_labels_mend_it(
    dot_stores, fresh: EpisodeStore, tmp_path: Path
) -> None:
    """The known trap: a fifth of the visited frames are successes, and without labels they count as failures."""
    recall = {}
    for judged_by, whose in (("cnn:1", VISITED), ("human", PERSON)):
        out = tmp_path / judged_by.replace(":", "-")
        report = train_classifier(dot_stores[0], vice_config(), out, 0, None, visits(tmp_path / f"v{out.name}", judged_by), QUICK)
        assert report["threshold_from"] == dict.fromkeys(PHASES, whose)
        frames = measure(load_judge(out), fresh, 2).frames
        recall[whose] = [frames[phase].recall.value for phase in PHASES]
        assert all(frames[phase].false_positive_rate.value < 0.1 for phase in PHASES)
    assert max(recall[VISITED]) < 0.3 and min(recall[PERSON]) > 0.6, recall
    networks = [read_classifier(tmp_path / name)[1]["0/head/out/w"] for name in ("cnn-1", "human")]
    np.testing.assert_array_equal(*networks, err_msg="labels set the threshold, they are not trained on")


def test_labels_are_enough_when_they_can_say_something_about_the_wanted_rate() -> None:
    labels = np.full((220, 2), IGNORE, np.int8)
    labels[:20, 0], labels[20:, 0] = 1, 0
    judged = np.full_like(labels, IGNORE)
    judged[20:119, 0], judged[119, 0] = 0, 1
    frames = FrameSet({}, np.zeros((220, 0), np.float32), labels, np.arange(220, dtype=np.int32), judged)
    same, whose = frames_to_calibrate(frames, 0.01)
    assert whose["forward"] == VISITED, "99 failures cannot show a rate of 1%"
    np.testing.assert_array_equal(same.labels, labels)
    judged[120, 0] = 0
    chosen, whose = frames_to_calibrate(frames, 0.01)
    assert whose == {"forward": PERSON, "backward": VISITED}
    assert chosen.count("forward") == (21, 100) and (chosen.labels[121:, 0] == IGNORE).all()


# --- commands ------------------------------------------------------------------------------------------------------------


def test_without_visits_the_remedy_is_named(dot_stores, tmp_path: Path) -> None:
    message = r"no unsuccessful frames for the forward direction \(8 positives, 0 negatives\).*--play runs/<name>"
    with pytest.raises(ClassifierError, match=message):
        train_classifier(dot_stores[0], vice_config(), tmp_path / "c", 0, None, None, QUICK)


def test_the_command_takes_a_run_folder_and_says_what_the_threshold_is_worth(
    dot_stores, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    from reward_classifiers import commands, train

    visits(tmp_path / "run" / "episodes", "cnn:1")
    given = {}

    def quick(store, config, out, seed, progress, play):
        given["play"] = [one.path for one in play]
        return train_classifier(store, config, out, seed, progress, play, QUICK)

    monkeypatch.setattr(train, "train_classifier", quick)
    monkeypatch.setattr(commands, "_config", lambda arguments: vice_config())
    paths = ["--demonstrations", str(dot_stores[0].path), "--play", str(tmp_path / "run"), "--out", str(tmp_path / "c")]
    assert commands.train_command(["--task", "dot", *paths]) == 0
    assert given["play"] == [tmp_path / "run" / "episodes"]
    assert capsys.readouterr().out.count("take every visited frame for a failure") == 2


def test_training_again_during_practice_sees_what_the_run_visited(
    dot_stores, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ETUDE_DATA", str(tmp_path / "data"))
    folder = RunFolder(tmp_path / "run")
    visits(folder.episodes, "vice:1", segments=3)
    config = vice_config().model_copy(update={"demonstrations": str(dot_stores[0].path)})
    assert retrain(folder, config, 0, QUICK)["play_segments"] == 6
    shutil.rmtree(folder.episodes)
    with pytest.raises(ClassifierError, match="what was visited"):
        retrain(folder, config, 0, QUICK)
