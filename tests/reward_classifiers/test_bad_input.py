"""Recordings, frames and files that cannot work: each is refused with a sentence that names the thing and the remedy.

Where a fault lies before the backends, each of them is asked, so that none loads a model first or fails in its own words.
"""

from __future__ import annotations

import shutil

import numpy as np
import pytest
from dot_world import ACTION, OBSERVATION, QUICK, SIZE, Writer, dot, dot_config

from etude.config import ClassifierConfig
from etude.episodes.store import EpisodeStore
from etude.specs import ObservationSpec
from reward_classifiers import ClassifierError, load_judge, train_classifier, zero_shot
from reward_classifiers.calibration import Calibration
from reward_classifiers.embeddings import EmbeddingCache
from reward_classifiers.encoders import Hog
from reward_classifiers.files import read_classifier, save_classifier
from reward_classifiers.judge import ImageJudge, load_live_judge
from reward_classifiers.vlm import VlmBackend
from reward_classifiers.worker import DeadlineJudge

NOWHERE = "/nowhere/weights.pt"
BACKENDS = {
    "cnn": ClassifierConfig(),
    "vice": ClassifierConfig(backend="vice"),
    "probe": ClassifierConfig(backend="probe", heads=2, updates=100, augmented_copies=0),
    "probe on clip": ClassifierConfig(backend="probe", encoder=f"open_clip:no-such-model:{NOWHERE}"),
    "zero_shot": ClassifierConfig(backend="zero_shot", encoder=f"open_clip:no-such-model:{NOWHERE}"),
    "vlm": ClassifierConfig(backend="vlm", model="no/such-model", deadline_s=1.0),
    "vlm endpoint": ClassifierConfig(backend="vlm", model="eye", endpoint="http://127.0.0.1:9", deadline_s=1.0),
}
every_backend = pytest.mark.parametrize("backend", BACKENDS)


@pytest.fixture(autouse=True)
def data_folder(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("ETUDE_DATA", str(tmp_path / "data"))


def config_of(backend: str):
    config = dot_config()
    reward = config.recipe.reward.model_copy(update={"classifier": BACKENDS[backend]})
    return config.model_copy(update={"recipe": config.recipe.model_copy(update={"reward": reward})})


def refuse(store, backend, tmp_path, match, play=None):
    with pytest.raises(ClassifierError, match=match):
        train_classifier(store, config_of(backend), tmp_path / "out", 0, None, play, QUICK)
    assert not (tmp_path / "out" / "classifier.json").exists(), "nothing half made is left"


# --- recordings ---------------------------------------------------------------------------------------------------------


@every_backend
def test_no_successes_are_refused(backend, tmp_path):
    writer = Writer(tmp_path / "s")
    for _ in range(6):
        for phase in ("forward", "backward"):
            writer.segment(phase, [0.4, 0.5, 0.6], terminal=False)
    negatives = 0 if backend == "vice" else 18  # vice: what was demonstrated is no failure
    message = rf"no successful frames for the forward direction \(0 positives, {negatives} negatives\).*etude demo record"
    refuse(writer.done(), backend, tmp_path, message)


@every_backend
def test_only_successes_are_refused(backend, tmp_path):
    writer = Writer(tmp_path / "s")
    for _ in range(6):
        writer.segment("forward", [0.9, 0.92], terminal=False, judged_by="human")
    refuse(writer.done(), backend, tmp_path, "no unsuccessful frames for the forward direction")


@every_backend
def test_one_direction_only_is_refused(backend, tmp_path):
    demonstrations, play = Writer(tmp_path / "s"), Writer(tmp_path / "p")
    for _ in range(6):
        demonstrations.segment("forward", list(np.linspace(0, 0.9, 14)), terminal=True)
        play.segment("forward", [0.4, 0.5, 0.6], terminal=False)
    refuse(demonstrations.done(), backend, tmp_path, "no successful frames for the backward direction", play.done())


@every_backend
def test_an_empty_store_is_refused(backend, tmp_path):
    message = r"0 positives, 0 negatives.*Record demonstrations of both directions"
    refuse(Writer(tmp_path / "s").done(), backend, tmp_path, message)


@every_backend
def test_pictures_of_an_odd_size_are_refused(backend, tmp_path):
    spec = ObservationSpec(("x_m",), {"top": (20, 12)})
    store = EpisodeStore.create(tmp_path / "s", spec, ACTION)
    refuse(store, backend, tmp_path, r"camera 'top' has 12x20 pixels: a classifier needs multiples of 8 \(task\.image_size_px\)")


@every_backend
def test_play_without_a_view_or_of_another_size_is_refused(backend, dot_stores, tmp_path):
    for name, cameras in (("side", {"side": (SIZE, SIZE)}), ("large", {"top": (32, 32)})):
        other = EpisodeStore.create(tmp_path / name, ObservationSpec(OBSERVATION.state_names, cameras), ACTION)
        refuse(dot_stores[0], backend, tmp_path, "record both with the same robot", other)


@pytest.mark.parametrize(
    ("backend", "message"),
    [
        ("probe on clip", "no file /nowhere/weights.pt|needs open_clip"),
        ("zero_shot", "no file /nowhere/weights.pt|needs open_clip"),
        ("vlm endpoint", "endpoint http://127.0.0.1:9.* does not answer .*start the server"),
    ],
)
def test_a_model_that_is_not_there_is_named_and_nothing_is_written(backend, message, dot_stores, tmp_path):
    refuse(dot_stores[0], backend, tmp_path, message, dot_stores[1])


# --- frames -------------------------------------------------------------------------------------------------------------


class SeesTheRightEnd:
    """`reward_classifiers.vlm.Answerer`."""

    def log_odds(self, images, question):
        return np.array([float(views[0][7, :, 0].argmax()) - SIZE / 2 for views in images], np.float32)


@pytest.fixture(scope="module")
def trained(dot_stores, tmp_path_factory):
    """Folders of classifiers that can be trained here, by backend."""
    folders = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ETUDE_DATA", str(tmp_path_factory.mktemp("data")))
        for backend in ("cnn", "vice", "probe"):
            folders[backend] = tmp_path_factory.mktemp(backend)
            train_classifier(dot_stores[0], config_of(backend), folders[backend], 0, None, dot_stores[1], QUICK)
    return folders


@pytest.fixture(params=["cnn", "vice", "probe", "zero_shot", "vlm"])
def judge(request, trained) -> ImageJudge:
    if request.param in trained:
        return load_judge(trained[request.param])
    cameras = {"top": (SIZE, SIZE)}
    if request.param == "vlm":
        backend = VlmBackend(SeesTheRightEnd(), cameras, {"forward": "right?", "backward": "left?"}, 8)
    else:
        empty, right = (Hog().encode(dot(x)["image/top"][None])[0] for x in (0.0, 0.95))
        backend = zero_shot.ZeroShotBackend(EmbeddingCache(Hog()), cameras, np.array([[right, empty]] * 2), 1.0)
    return ImageJudge(backend, Calibration.uniform(1), "0" * 16, {})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda seen: seen.pop("image/top"), "'image/top' is missing; classifier .* expects"),
        (lambda seen: seen.update({"image/top": np.zeros((8, 8, 3), np.uint8)}), r"'image/top' has shape \(8, 8, 3\)"),
        (lambda seen: seen.update({"state": np.zeros(5, np.float32)}), r"'state' has shape \(5,\)"),
    ],
    ids=["view missing", "wrong size", "another state"],
)
def test_a_frame_that_does_not_fit_is_named_and_the_next_one_is_judged(judge, change, message):
    seen = dot(0.9)
    change(seen)
    if "state" not in message or judge.backend.state_names:
        with pytest.raises(ClassifierError, match=message):
            judge.probability(seen, "forward")
    assert judge.probability(dot(0.95), "forward") > judge.probability(dot(0.1), "forward")


def test_a_robot_that_does_not_fit_is_told_what_the_classifier_was_trained_with(judge):
    judge.check(OBSERVATION)
    for cameras, has in (({"side": (SIZE, SIZE)}, "side 16x16"), ({"top": (32, 32)}, "top 32x32"), ({}, "none")):
        with pytest.raises(ClassifierError, match=f"trained with cameras top 16x16 and state .+, but the robot has .*{has}"):
            judge.check(ObservationSpec(OBSERVATION.state_names, cameras))


def test_a_live_judge_follows_its_folder_and_keeps_its_deadline(dot_classifier, config):
    classifier = config.recipe.reward.classifier.model_copy(update={"deadline_s": 0.5})
    judge = load_live_judge(dot_classifier[0], classifier)
    try:
        assert isinstance(judge._judge, DeadlineJudge)
        assert judge.name == load_judge(dot_classifier[0]).name
    finally:
        judge.close()


# --- weights that do not fit the model that the description names ---------------------------------------------------------


def altered(folder, out, change, backend=None):
    """`folder` with other arrays or another backend's name, the digests right again."""
    description, tensors, calibration = read_classifier(folder)
    change(tensors)
    save_classifier(out, backend or description["backend"], description["architecture"], tensors, calibration, {}, {})
    return out


@pytest.mark.parametrize(
    ("backend", "tensor", "message"),
    [
        ("cnn", "0/top/block/w", r"tensor 0/top/block/w .*expected float32\(48, 32\)"),
        ("vice", "1/head/out/w", r"tensor 1/head/out/w .*expected float32\(64, 2\)"),
        ("probe", "heads/out/w", r"tensor heads/out/w is .*expected float32"),
        ("probe", "projection/basis", "holds arrays that do not fit each other or its model"),
    ],
)
def test_arrays_of_another_network_are_refused(backend, tensor, message, trained, tmp_path):
    def shorter(tensors):
        tensors[tensor] = tensors[tensor][..., :-1, :]

    with pytest.raises(ClassifierError, match=rf"{message}.*Train it again"):
        load_judge(altered(trained[backend], tmp_path / "other", shorter))
    with pytest.raises(ClassifierError, match=r"(is missing|is not understood).*Train it again"):
        load_judge(altered(trained[backend], tmp_path / "less", lambda tensors: tensors.pop(tensor)))


def test_sentences_of_another_text_tower_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(zero_shot, "load_encoder", lambda spec: Hog())
    architecture = {"encoder": "hog", "encoder_version": "hog", "cameras": {"top": (SIZE, SIZE)}, "scale": 1.0}
    texts = {"texts": np.ones((2, 2, 7), np.float32)}
    save_classifier(tmp_path, "zero_shot", architecture, texts, Calibration.uniform(1), {}, {})
    with pytest.raises(ClassifierError, match="holds arrays that do not fit each other or its model"):
        load_judge(tmp_path)
    save_classifier(tmp_path, "zero_shot", {**architecture, "encoder_version": "old"}, texts, Calibration.uniform(1), {}, {})
    with pytest.raises(ClassifierError, match="was made with old, and the encoder here is hog"):
        load_judge(tmp_path)


@pytest.mark.parametrize(
    ("backend", "message"),
    [("probe", "is not understood: 'head'"), ("oracle", "has backend 'oracle', which this program does not know")],
)
def test_another_backend_s_name_is_refused(backend, message, trained, tmp_path):
    folder = shutil.copytree(trained["cnn"], tmp_path / "c")
    with pytest.raises(ClassifierError, match=message):
        load_judge(altered(folder, tmp_path / "other", lambda tensors: None, backend))
