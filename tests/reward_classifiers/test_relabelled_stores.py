"""A newer version judges what is stored: rewards move to where it sees success, people keep the last word."""

from __future__ import annotations

import numpy as np
import pytest
from dot_world import Writer

from etude.config.axes import RewardConfig
from etude.episodes.store import EpisodeStore, StoreError
from reward_classifiers.judge import load_judge
from reward_classifiers.label_commands import mine_command, relabel_command
from reward_classifiers.labels import add_label, open_labels
from reward_classifiers.relabelling import hard_negatives, judged_by_classifier, relabel, relabel_store

NAME = "cnn:01234567"
REWARD = RewardConfig(consecutive_frames=2)


def attempt(folder, positions, *, terminal, judged_by="cnn:old00000"):
    writer = Writer(folder)
    writer.segment("forward", positions, terminal=terminal, judged_by=judged_by)
    store = writer.done()
    return store.read(store.segments()[0]).steps()


def test_success_moves_to_where_the_new_version_sees_it(tmp_path):
    steps = attempt(tmp_path / "s", [0.1, 0.3, 0.5, 0.7, 0.9], terminal=False)
    told = relabel(steps, np.array([0.0, 0.1, 0.8, 0.9, 0.9]), 0.5, NAME, REWARD)
    assert len(told) == 4, "it ends at the second frame in a row"
    assert [step.reward for step in told] == [0.0, 0.0, 1.0, 0.0]
    assert [step.is_last for step in told] == [False, False, False, True] and told[-1].is_terminal
    assert [step.success for step in told] == [0, 0, 0, 1]
    assert {step.judged_by for step in told} == {NAME}
    assert not told[-1].action.any(), "the last step holds an observation only"


def test_a_success_that_the_new_version_does_not_see_is_withdrawn(tmp_path):
    steps = attempt(tmp_path / "s", [0.1, 0.5, 0.9], terminal=True)
    told = relabel(steps, np.array([0.0, 0.9, 0.1]), 0.5, NAME, REWARD)
    assert len(told) == 3 and sum(step.reward for step in told) == 0.0
    assert told[-1].is_last and not told[-1].is_terminal, "values bootstrap through it, as through a time-out"
    assert told[-1].success == 0


def test_a_start_that_looks_like_success_counts_for_nothing(tmp_path):
    steps = attempt(tmp_path / "s", [0.9, 0.9, 0.5, 0.9, 0.9], terminal=False)
    told = relabel(steps, np.array([0.9, 0.9, 0.1, 0.9, 0.9]), 0.5, NAME, REWARD)
    assert len(told) == 5 and told[3].reward == 1.0
    never = relabel(steps, np.full(5, 0.9), 0.5, NAME, REWARD)
    assert len(never) == 5 and sum(step.reward for step in never) == 0.0


def test_people_and_the_environment_keep_the_last_word():
    assert judged_by_classifier(["cnn:old00000"])
    assert not judged_by_classifier(["cnn:old00000", "human"])
    assert not judged_by_classifier(["environment"]) and not judged_by_classifier([""])


@pytest.fixture(scope="module")
def practised(tmp_path_factory):
    """A reached goal that was missed, a success that was none, and one that a person labelled."""
    writer = Writer(tmp_path_factory.mktemp("run") / "episodes")
    writer.segment("forward", list(np.linspace(0.2, 0.95, 12)), terminal=False, judged_by="cnn:old00000", wrongly=True)
    writer.segment("forward", list(np.linspace(0.2, 0.5, 12)), terminal=True, judged_by="cnn:old00000", wrongly=True)
    writer.segment("forward", list(np.linspace(0.2, 0.5, 12)), terminal=True, judged_by="human")
    return writer.done()


def test_a_store_is_written_anew_and_the_old_one_stays(practised, dot_classifier, tmp_path):
    judge = load_judge(dot_classifier[0])
    told = relabel_store(judge, practised, tmp_path / "new", REWARD)
    assert [told[key] for key in ("found", "withdrawn", "kept", "confirmed")] == [1, 1, 1, 0]
    with EpisodeStore.open(tmp_path / "new") as store:
        infos = store.segments()
        assert len(infos) == 3 and store.metadata["relabelled_by"] == judge.name
        assert [info.reward_sum for info in infos[:2]] == [1.0, 0.0]
        assert set(store.read(infos[0]).judged_by) == {judge.name} and set(store.read(infos[2]).judged_by) == {"human"}
    assert set(practised.read(practised.segments()[0]).judged_by) == {"cnn:old00000"}
    with pytest.raises(StoreError, match="already holds"):
        relabel_store(judge, practised, tmp_path / "new", REWARD)


class Gullible:
    """Calls everything success."""

    class backend:
        frames = 1

    name = "cnn:gullible"

    def check(self, spec):
        pass

    def threshold(self, phase):
        return 0.5

    def segment_probabilities(self, observation, phase):
        return np.linspace(0.6, 0.9, len(observation["state"]))


def test_false_positives_become_labels_for_the_next_version(practised, tmp_path):
    by_person = hard_negatives(Gullible(), practised, 5)
    assert [question.info.segment for question in by_person] == [3] * 3, "the truth is a label only where that was asked for"
    found = hard_negatives(Gullible(), practised, 5, truth=True)
    assert len(found) == 5 and found == sorted(found, key=lambda q: -q.probability)
    counts = [sum(q.info.segment == segment for q in found) for segment in (1, 2, 3)]
    assert max(counts) <= 3, "neighbouring frames look alike"
    for question in found:
        assert practised.read(question.info).success_truth[question.row] == 0
    with open_labels(tmp_path / "labels", practised) as labels:
        for question in found:
            add_label(labels, practised, question, False, 1)
        labels.flush()
        assert [info.success for info in labels.segments()] == [0] * 5


def test_the_commands_say_what_they_did(practised, dot_classifier, tmp_path, capsys):
    where = ["--classifier", str(dot_classifier[0]), "--episodes", str(practised.path)]
    assert relabel_command([*where, "--out", str(tmp_path / "new")]) == 0
    assert "confirmed 0, withdrawn 1, found 1" in capsys.readouterr().out
    assert mine_command([*where, "--out", str(tmp_path / "labels")]) == 0
    assert "wrongly calls success" in capsys.readouterr().out
