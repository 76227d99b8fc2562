"""Training on the world of one dot, the files, and the judge that the control loop gets."""

from __future__ import annotations

import json
import shutil
import time
from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from dot_world import ACTION, OBSERVATION, QUICK, SIZE, Writer, dot

from etude.config import RunConfig
from etude.episodes.store import EpisodeStore
from etude.specs import ObservationSpec
from reward_classifiers import ClassifierError, load_judge, train_classifier
from reward_classifiers.cnn import CnnBackend
from reward_classifiers.cnn_training import TrainingSettings, balanced_loss, train_cnn
from reward_classifiers.files import DESCRIPTION_FILE, WEIGHTS_FILE
from reward_classifiers.frames import IGNORE, FrameSet
from reward_classifiers.measure import draw_mistakes, measure
from reward_classifiers.network import Architecture, augment, initialise, logits, stacked
from reward_classifiers.report import write_report
from reward_classifiers.sampling import near_the_other_label


def test_it_learns_both_goals_and_tells_them_apart(dot_classifier: tuple[Path, dict]) -> None:
    judge = load_judge(dot_classifier[0])
    for x, forward, backward in ((0.95, True, False), (0.05, False, True), (0.5, False, False)):
        assert (judge.probability(dot(x), "forward") >= judge.threshold("forward")) is forward
        assert (judge.probability(dot(x), "backward") >= judge.threshold("backward")) is backward


def test_the_report_counts_frames_and_gives_held_out_rates_with_intervals(dot_classifier: tuple[Path, dict]) -> None:
    folder, report = dot_classifier
    assert (report["demonstration_segments"], report["play_segments"]) == (16, 16)
    forward = report["phases"]["forward"]
    assert forward["held_out"]["false_positive_rate"]["trials"] == forward["negative_frames"]
    assert forward["held_out"]["recall"]["trials"] == forward["positive_frames"]
    low, high = forward["held_out"]["recall"]["interval"]
    assert low <= forward["held_out"]["recall"]["value"] <= high
    assert json.loads((folder / DESCRIPTION_FILE).read_text())["report"]["phases"] == report["phases"]


def test_the_judge_is_named_after_its_content_and_quick(dot_classifier: tuple[Path, dict]) -> None:
    judge = load_judge(dot_classifier[0])
    assert judge.name == f"cnn:{dot_classifier[1]['digest'][:8]}"
    observation = dot(0.3)
    durations = []
    for _ in range(50):
        started = time.perf_counter()
        judge.probability(observation, "forward")
        durations.append(time.perf_counter() - started)
    assert np.median(durations) < 0.01  # 0.2 ms on a free core


def test_the_same_data_and_seed_give_the_same_classifier(
    dot_stores: tuple[EpisodeStore, EpisodeStore], config: RunConfig, tmp_path: Path
) -> None:
    from dataclasses import replace

    brief = replace(QUICK, updates=20)
    names = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        train_classifier(dot_stores[0], config, tmp_path / name, seed, settings=brief)
        names.append((tmp_path / name / WEIGHTS_FILE).read_bytes())
    assert names[0] == names[1] != names[2]


def test_training_reports_progress(dot_stores: tuple[EpisodeStore, EpisodeStore], config: RunConfig, tmp_path: Path) -> None:
    from dataclasses import replace

    seen: list[tuple[int, int, str]] = []
    train_classifier(dot_stores[0], config, tmp_path, 0, lambda *note: seen.append(note), settings=replace(QUICK, updates=20))
    assert [done for done, _, _ in seen] == [20, 40]
    assert all(total == 40 and "held-out loss" in text for _, total, text in seen)


# --- refusals ---------------------------------------------------------------------------------------------------------


def test_without_cameras_it_names_the_remedy(config: RunConfig, tmp_path: Path) -> None:
    store = EpisodeStore.create(tmp_path / "store", ObservationSpec(("x_m",)), ACTION)
    with pytest.raises(ClassifierError, match=r"no camera images.*--observation pixels"):
        train_classifier(store, config, tmp_path / "out", 0)


def test_one_direction_only_is_refused(config: RunConfig, tmp_path: Path) -> None:
    writer = Writer(tmp_path / "store")
    writer.segment("forward", list(np.linspace(0, 0.9, 14)), terminal=True)
    with pytest.raises(ClassifierError, match="no successful frames for the backward direction"):
        train_classifier(writer.done(), config, tmp_path / "out", 0)


def test_too_few_segments_to_hold_any_out_are_refused(config: RunConfig, tmp_path: Path) -> None:
    writer = Writer(tmp_path / "store")
    writer.demonstrations(1)
    with pytest.raises(ClassifierError, match="only 2 labelled segments"):
        train_classifier(writer.done(), config, tmp_path / "out", 0)


def broken(folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(folder, tmp_path / "copy"))


def test_a_missing_classifier_names_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(ClassifierError, match=r"no classifier in .*etude classifier train"):
        load_judge(tmp_path)


def test_cut_or_changed_weights_are_refused(dot_classifier: tuple[Path, dict], tmp_path: Path) -> None:
    folder = broken(dot_classifier[0], tmp_path)
    data = bytearray((folder / WEIGHTS_FILE).read_bytes())
    data[-5] ^= 1
    for content in (bytes(data), bytes(data[:-100]), b""):
        (folder / WEIGHTS_FILE).write_bytes(content)
        with pytest.raises(ClassifierError, match=r"classifier\.safetensors does not have the checksum"):
            load_judge(folder)


def test_a_changed_threshold_is_noticed(dot_classifier: tuple[Path, dict], tmp_path: Path) -> None:
    folder = broken(dot_classifier[0], tmp_path)
    path = folder / DESCRIPTION_FILE
    description = json.loads(path.read_text())
    description["calibration"]["thresholds"]["forward"] = 0.01
    path.write_text(json.dumps(description))
    with pytest.raises(ClassifierError, match="changed after training"):
        load_judge(folder)


@pytest.mark.parametrize(
    ("text", "message"),
    [("{", "cannot be read"), ("[]", "is not an etude"), ('{"format": "etude-image-classifier", "version": 9}', "has version 9")],
)
def test_unreadable_descriptions_are_named(dot_classifier: tuple[Path, dict], tmp_path: Path, text: str, message: str) -> None:
    folder = broken(dot_classifier[0], tmp_path)
    (folder / DESCRIPTION_FILE).write_text(text)
    with pytest.raises(ClassifierError, match=message):
        load_judge(folder)


def test_another_robot_or_a_missing_camera_is_refused(dot_classifier: tuple[Path, dict]) -> None:
    judge = load_judge(dot_classifier[0])
    judge.check(OBSERVATION)
    with pytest.raises(ClassifierError, match=r"top 16x16.*has cameras side 16x16"):
        judge.check(ObservationSpec(OBSERVATION.state_names, {"side": (SIZE, SIZE)}))
    with pytest.raises(ClassifierError, match="'image/top' is missing"):
        judge.probability({"state": dot(0.5)["state"]}, "forward")


# --- the parts ----------------------------------------------------------------------------------------------------------


def test_ignored_labels_weigh_nothing_and_classes_weigh_the_same() -> None:
    logit = jnp.array([[2.0, 5.0], [-1.0, 5.0], [-1.0, 5.0], [9.0, -5.0]])
    labels = jnp.array([[1, IGNORE], [0, IGNORE], [0, IGNORE], [IGNORE, 0]], jnp.int8)
    expected_forward = (np.log1p(np.exp(-2.0)) + np.log1p(np.exp(-1.0))) / 2
    expected_backward = np.log1p(np.exp(-5.0)) / 2
    assert float(balanced_loss(logit, labels)) == pytest.approx((expected_forward + expected_backward) / 2, rel=1e-5)


def test_frames_near_the_other_label_are_found_within_a_segment_only() -> None:
    labels = np.array([[0, IGNORE], [0, IGNORE], [0, 0], [1, 0], [1, 1], [0, 0]], np.int8)
    group = np.array([0, 0, 0, 0, 0, 1], np.int32)
    frames = FrameSet({}, np.zeros((6, 0), np.float32), labels, group, labels)
    near = near_the_other_label(frames, 1)
    assert near[:, 0].tolist() == [False, False, True, True, False, False]
    assert near[:, 1].tolist() == [False, False, False, True, True, False]


def test_augmentation_moves_and_lights_the_picture_but_keeps_its_range() -> None:
    image = jnp.asarray(np.random.default_rng(0).integers(0, 256, (5, SIZE, SIZE, 3), np.uint8))
    changed = augment({"top": image}, jax.random.key(0), shift_px=2, jitter=0.3)["top"]
    assert changed.shape == image.shape and changed.dtype == jnp.float32
    assert float(changed.min()) >= 0.0 and float(changed.max()) <= 1.0
    same = augment({"top": image}, jax.random.key(0), shift_px=0, jitter=0.0)["top"]
    np.testing.assert_allclose(same, image / 255.0, atol=1e-6)


def test_a_robot_without_velocities_is_fine() -> None:
    architecture = Architecture({"top": (SIZE, SIZE)}, ("x_m",))
    out = logits(initialise(architecture, jax.random.key(0)), {"top": jnp.zeros((3, SIZE, SIZE, 3))}, jnp.zeros((3, 0)))
    assert out.shape == (3, 2)


@pytest.mark.parametrize("network", ["blocks", "points"])
def test_the_frame_before_shows_whether_the_thing_rests(network: str) -> None:
    """Success forward is a dot that has not moved, wherever it is: the newest picture alone says nothing."""
    rng = np.random.default_rng(0)
    rests = np.arange(160) % 2 == 0
    places = rng.uniform(0.3, 1.0, 160)
    before = np.where(rests, places, places - 0.2)
    views = np.stack([[dot(x)["image/top"] for x in (old, new)] for old, new in zip(before, places, strict=True)])
    labels = np.stack([rests, ~rests], axis=1).astype(np.int8)
    group = np.arange(160, dtype=np.int32) // 4
    frames = FrameSet({"top": views}, np.zeros((160, 1), np.float32), labels, group, np.full_like(labels, IGNORE))
    settings = replace(TrainingSettings.of(network), members=2, updates=120, evaluate_every=40, batch_size=32)
    trained = train_cnn(frames, OBSERVATION, group % 2, settings, 0, None)
    assert ((trained.held_out[0, :, 0] > 0.0) == rests).mean() > 0.9
    backend = CnnBackend.load(Path("classifier"), trained.architecture, trained.tensors)
    assert backend.frames == 2
    said = backend.member_logits({"top": views}, np.zeros((160, 2), np.float32), "forward").mean(axis=0)
    assert ((said > 0.0) == rests).mean() > 0.9


def test_frames_of_one_row_are_shifted_and_lit_alike() -> None:
    image = np.random.default_rng(0).integers(60, 120, (4, SIZE, SIZE, 3), np.uint8)
    pair = stacked(np.stack([image, image], axis=1))
    changed = augment({"top": jnp.asarray(pair)}, jax.random.key(0), shift_px=2, jitter=0.1, light=0.5, tint=0.1)["top"]
    np.testing.assert_array_equal(changed[..., :3], changed[..., 3:])


# --- measuring ----------------------------------------------------------------------------------------------------------


def test_measuring_compares_frames_and_decisions_with_the_truth(dot_classifier: tuple[Path, dict], tmp_path: Path) -> None:
    judge = load_judge(dot_classifier[0])
    writer = Writer(tmp_path / "store")
    writer.segment("forward", [0.1, 0.5, 0.95, 0.95], terminal=True)
    writer.segment("forward", [0.1, 0.1, 0.1, 0.1], terminal=False)
    writer.segment("backward", [0.95, 0.05, 0.05], terminal=False, judged_by="human", truth=False)
    result = measure(judge, writer.done(), 2)
    assert result.frames["forward"].recall.trials == 2 and result.frames["forward"].recall.value == 1.0
    assert (result.outcomes["forward"].true_positives, result.outcomes["forward"].true_negatives) == (1, 1)
    assert result.outcomes["backward"].true_positives == 1  # a person's labels stand in where there is no ground truth


def test_the_worst_mistakes_are_drawn(dot_classifier: tuple[Path, dict], tmp_path: Path) -> None:
    judge = load_judge(dot_classifier[0])
    writer = Writer(tmp_path / "store")
    writer.segment("forward", [0.1, 0.5, 0.95, 0.95], terminal=True)
    store = writer.done()
    judge.calibration.thresholds["forward"] = 1.1
    result = measure(judge, store, 1)
    assert [mistake.truth for mistake in result.mistakes] == [1, 1]
    draw_mistakes(result.mistakes, tmp_path / "pictures" / "worst.png")
    assert (tmp_path / "pictures" / "worst.png").read_bytes().startswith(b"\x89PNG")


def test_a_report_tells_lights_apart_and_draws_what_a_person_should_see(
    dot_classifier: tuple[Path, dict], tmp_path: Path
) -> None:
    judge = load_judge(dot_classifier[0])
    stores = []
    for lighting in ("bright", "dim"):
        writer = Writer(tmp_path / lighting, {"lighting": lighting})
        writer.play(3, seed=len(lighting))
        stores.append(writer.done())
    report = write_report(judge, measure(judge, stores, 1, 2), tmp_path / "report")
    lit = report["phases"]["forward"]["lighting"]
    assert set(lit) == {"bright", "dim"}
    parts = [lit[name]["frames"]["recall"]["trials"] for name in lit]
    assert sum(parts) == report["phases"]["forward"]["frames"]["recall"]["trials"] > 0
    assert json.loads((tmp_path / "report" / "report.json").read_text())["classifier"] == judge.name
    assert (tmp_path / "report" / "reliability.png").read_bytes().startswith(b"\x89PNG")
    assert "frames, dim light" in (tmp_path / "report" / "report.md").read_text()


def test_episodes_without_any_known_outcome_are_refused(dot_classifier: tuple[Path, dict], tmp_path: Path) -> None:
    writer = Writer(tmp_path / "store")
    writer.segment("forward", [0.1, 0.9], terminal=False, judged_by="cnn:00000000", truth=False)
    with pytest.raises(ClassifierError, match="known outcome"):
        measure(load_judge(dot_classifier[0]), writer.done(), 2)
