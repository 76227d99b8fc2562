"""The queue of frames worth a person's look, and labels that become training data and a precision."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from dot_world import Writer, dot_config

from etude.episodes.store import EpisodeStore
from reward_classifiers import load_judge
from reward_classifiers.calibration import Rate
from reward_classifiers.files import ClassifierError
from reward_classifiers.frames import FrameRules
from reward_classifiers.label_commands import adapt_command, import_labels_command, label_command
from reward_classifiers.labels import add_label, label_queue, open_labels, precision_of
from reward_classifiers.reweighting import labelled_logits
from reward_classifiers.train import gather


@pytest.fixture
def practice(tmp_path: Path) -> EpisodeStore:
    """What a run left: four forward attempts, two of which end at the goal; nobody labelled them."""
    writer = Writer(tmp_path / "run" / "episodes")
    for end in (0.95, 0.4, 0.6, 0.95):
        writer.segment("forward", list(np.linspace(0.1, end, 6)), terminal=False, judged_by="cnn:00000000", truth=False)
    return writer.done()


def test_the_newest_successes_and_the_most_doubtful_frames_are_asked_about(
    dot_classifier: tuple[Path, dict], practice: EpisodeStore
) -> None:
    judge = load_judge(dot_classifier[0])
    queue = label_queue(judge, practice, 4)
    positive = [q for q in queue if q.kind == "positive"]
    assert [q.info.segment for q in positive] == [4, 1], "newest first"
    assert all(q.probability >= judge.threshold("forward") for q in positive)
    doubts = [q.doubt for q in queue if q.kind == "doubtful"]
    assert len(doubts) == 2 and doubts == sorted(doubts, reverse=True)
    assert len({(q.info.segment, q.row) for q in queue}) == len(queue) == 4, "no frame twice"


def test_labels_are_training_data_with_the_frames_before_them(
    dot_classifier: tuple[Path, dict], practice: EpisodeStore, dot_stores, tmp_path: Path
) -> None:
    judge = load_judge(dot_classifier[0])
    question = label_queue(judge, practice, 2)[0]
    with open_labels(tmp_path / "labels", practice) as labels:
        add_label(labels, practice, question, True, history=3)
        labels.flush()
    with open_labels(tmp_path / "labels", practice) as labels:  # added to another day
        add_label(labels, practice, question, False, history=1)
        labels.flush()
    store = EpisodeStore.open(tmp_path / "labels")
    assert sorted(info.length for info in store.segments()) == [1, 3]
    logits, told = labelled_logits(judge, store)
    assert sorted(told["forward"].tolist()) == [0, 1] and logits["forward"].shape[1] == 2
    config = dot_config()
    frames, used = gather(dot_stores[0], [dot_stores[1], store], config.task.name, FrameRules())
    assert used["play_segments"] == 18 and len(frames) > 0


def test_labels_of_another_robot_are_refused(practice: EpisodeStore, tmp_path: Path) -> None:
    from dot_world import ACTION

    from etude.specs import ObservationSpec

    EpisodeStore.create(tmp_path / "labels", ObservationSpec(("x_m",)), ACTION).close()
    with pytest.raises(ClassifierError, match="other cameras"):
        open_labels(tmp_path / "labels", practice)


def test_a_person_labels_in_the_terminal(
    dot_classifier: tuple[Path, dict], practice: EpisodeStore, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    answers = iter(["y", "what?", "n", "s", "q"])
    command = ["--classifier", str(dot_classifier[0]), "--episodes", str(tmp_path / "run"), "--count", "4"]
    picture = tmp_path / "look.png"
    assert label_command([*command, "--picture", str(picture)], lambda _: next(answers)) == 0
    assert picture.read_bytes().startswith(b"\x89PNG")
    out = capsys.readouterr().out
    assert "2 labels added" in out and "(1/2)" in out
    assert "false positives among" in out
    assert len(EpisodeStore.open(tmp_path / "run" / "labels").segments()) == 2
    with pytest.raises(ClassifierError, match="no ensemble to reweight"):
        adapt_command(
            ["--classifier", str(dot_classifier[0]), "--labels", str(tmp_path / "run" / "labels"), "--out", str(tmp_path / "o")]
        )


def test_precision_counts_what_was_called_success() -> None:
    from reward_classifiers.labels import Question

    asked = [Question(kind, None, 0, 0.9, 0.1) for kind in ("positive", "doubtful", "positive")]  # type: ignore[arg-type]
    assert precision_of(asked, [1, 1, 0]) == Rate(1, 2)


def test_what_people_said_on_the_page_feeds_the_next_version(tmp_path, capsys):
    run = tmp_path / "run"
    writer = Writer(run / "episodes")
    for _ in range(3):
        writer.segment("forward", [0.1, 0.5, 0.6], terminal=True, judged_by="cnn:old00000")
    writer.done().close()
    lines = [{"segment": 1, "success": True}, {"segment": 1, "success": False}, {"segment": 3, "success": True}]
    lines = [json.dumps(line) for line in [*lines, {"segment": 99, "success": True}]]
    (run / "attempt_labels.jsonl").write_text("\n".join([*lines, '{"segment": 2, "succ']))
    assert import_labels_command(["--run", str(run), "--history", "2"]) == 0
    assert "2 of 3 attempts" in capsys.readouterr().out
    with EpisodeStore.open(run / "page-labels") as labels:
        segments = [labels.read(info) for info in labels.segments()]
    assert sorted(int(segment.success[-1]) for segment in segments) == [0, 1], "the newest answer counts"
    assert all(list(segment.judged_by) == ["", "human"] for segment in segments)
    with pytest.raises(ClassifierError, match="there already"):
        import_labels_command(["--run", str(run)])
