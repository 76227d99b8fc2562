"""Heads on frozen embeddings: encoders, the cache, training in the world of one dot, and a tiny CLIP of random weights."""

from __future__ import annotations

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from dot_world import SIZE, Writer, dot, dot_config

from etude.clip_import import import_open_clip
from etude.config import ClassifierConfig, RunConfig
from etude.episodes.store import EpisodeStore
from reward_classifiers import ClassifierError, load_judge, train_classifier
from reward_classifiers.embeddings import EmbeddingCache
from reward_classifiers.encoders import Hog, load_encoder
from reward_classifiers.files import read_classifier
from reward_classifiers.frames import FrameRules
from reward_classifiers.heads import HeadSpec, Projection, apply, balanced_loss, initialise
from reward_classifiers.measure import measure
from reward_classifiers.train import gather

Stores = tuple[EpisodeStore, EpisodeStore]


def probe_config(**settings) -> RunConfig:
    config = dot_config()
    chosen = ClassifierConfig(**{"backend": "probe", "heads": 4, "updates": 100, "augmented_copies": 1, **settings})
    reward = config.recipe.reward.model_copy(update={"classifier": chosen})
    return config.model_copy(update={"recipe": config.recipe.model_copy(update={"reward": reward})})


@pytest.fixture(autouse=True)
def data_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ETUDE_DATA", str(tmp_path / "data"))


@pytest.mark.parametrize(("head", "frames"), [("linear", 1), ("mlp", 1), ("attention", 2)])
def test_every_head_learns_both_goals(dot_stores: Stores, tmp_path: Path, head: str, frames: int) -> None:
    config = probe_config(head=head, frames=frames, updates=300)  # after 100 a linear head has hardly left its random start
    report = train_classifier(dot_stores[0], config, tmp_path / "c", 0, None, dot_stores[1])
    assert report["backend"] == "probe"
    judge = load_judge(tmp_path / "c")
    assert judge.name == f"probe:{report['digest'][:8]}" and judge.backend.frames == frames
    fresh = Writer(tmp_path / "test")
    fresh.play(6, seed=9)
    result = measure(judge, fresh.done(), 2)
    for phase in ("forward", "backward"):
        # a column of pixels is 8% of all frames, and the one at the goal's edge shows successes and failures alike
        assert result.frames[phase].false_positive_rate.value < 0.1
        assert result.frames[phase].recall.value > 0.7
    assert judge.probability(dot(0.95), "forward") > 0.5 > judge.probability(dot(0.05), "forward")


def test_a_member_is_the_same_one_in_every_part_of_the_data(dot_stores: Stores, tmp_path: Path) -> None:
    """Thresholds and HyRe's weights are chosen on out-of-fold members; untrained ones differ by nothing."""
    untrained = probe_config(head="linear", updates=1, learning_rate=1e-9)
    train_classifier(dot_stores[0], untrained, tmp_path / "c", 0)
    held_out = read_classifier(tmp_path / "c")[1]["held_out/logits"]
    frames, _ = gather(dot_stores[0], None, "dot", FrameRules())
    backend = load_judge(tmp_path / "c").backend
    state = np.zeros((len(frames), len(backend.state_names)), np.float32)
    final = backend.member_logits(frames.images, state, "forward")
    np.testing.assert_allclose(held_out[:, :, 0], final, atol=1e-4)


def test_the_same_data_and_seed_give_the_same_probe(dot_stores: Stores, tmp_path: Path) -> None:
    digests = [
        (tmp_path / name / "classifier.safetensors").read_bytes()
        for name, seed in (("a", 1), ("b", 1), ("c", 2))
        if train_classifier(dot_stores[0], probe_config(updates=10), tmp_path / name, seed)
    ]
    assert digests[0] == digests[1] != digests[2]


def test_frames_shown_again_are_not_embedded_again_nor_counted_twice(dot_stores: Stores, tmp_path: Path) -> None:
    train_classifier(dot_stores[0], probe_config(frames=2, updates=20), tmp_path / "c", 0)
    judge = load_judge(tmp_path / "c")
    encoded = judge.backend._cache.encoded  # type: ignore[attr-defined]
    judge.probability(dot(0.2), "forward")
    newest = dot(0.9)
    after_one = judge.probability(newest, "forward")
    assert judge.probability(newest, "forward") == after_one, "still the window (0.2, 0.9)"
    assert judge.backend._cache.encoded == encoded + 2  # type: ignore[attr-defined]
    assert 0.0 <= judge.doubt(newest, "forward") <= 0.5
    resting = judge.probability(dot(0.9), "forward")
    assert judge.backend._cache.encoded == encoded + 2 and resting != after_one, "the next frame, nothing moved: (0.9, 0.9)"  # type: ignore[attr-defined]
    judge.forget()
    segment = {key: np.stack([array]) for key, array in dot(0.9).items()}
    first = judge.segment_probabilities(segment, "forward")[0]
    assert judge.probability(dot(0.9), "forward") == pytest.approx(first, abs=1e-6) != after_one, "a new attempt: (0.9, 0.9)"


def test_embeddings_are_kept_on_disk_by_the_picture(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (70, SIZE, SIZE, 3), np.uint8)
    first = EmbeddingCache(Hog(), tmp_path / "cache")
    given = first.embed(np.concatenate([images, images[:5]]))
    assert first.encoded == 70
    again = EmbeddingCache(Hog(), tmp_path / "cache")
    np.testing.assert_array_equal(again.embed(images[::-1]), given[:70][::-1])
    assert again.encoded == 0
    next((tmp_path / "cache").glob("*.npz")).write_bytes(b"no")
    with pytest.raises(ClassifierError, match="delete that file"):
        EmbeddingCache(Hog(), tmp_path / "cache")


def test_a_cache_in_memory_forgets_the_oldest_and_still_answers() -> None:
    images = np.random.default_rng(0).integers(0, 256, (20, SIZE, SIZE, 3), np.uint8)
    small = EmbeddingCache(Hog(), most=4)
    np.testing.assert_array_equal(small.embed(images), Hog().encode(images))
    np.testing.assert_array_equal(small.embed(images[-4:]), Hog().encode(images[-4:]))
    assert small.encoded == 20


def test_hog_sees_edges_whatever_their_sign_and_colours_where_they_are() -> None:
    image = np.zeros((1, 32, 32, 3), np.uint8)
    image[:, :, 16:] = 255
    vector = Hog().encode(image)[0]
    edges, colours = vector[: 8 * 8 * 9].reshape(8, 8, 9), vector[8 * 8 * 9 :].reshape(16, 16, 3)
    assert edges[:, 3:5, 0].min() > 0.5 and edges[:, :, 1:].max() == 0.0, "a vertical edge has a horizontal gradient"
    np.testing.assert_array_equal(colours[:, :8], 0.0)
    np.testing.assert_array_equal(colours[:, 8:], 1.0)
    np.testing.assert_allclose(Hog().encode(255 - image)[0][: 8 * 8 * 9], vector[: 8 * 8 * 9], atol=1e-6)
    assert Hog().encode(np.zeros((2, 17, 23, 3), np.uint8)).shape == (2, 8 * 8 * 9 + 16 * 16 * 3), "sizes need not divide"


def test_a_linear_head_is_a_matrix_product() -> None:
    spec = HeadSpec("linear", frames=2, views=3, features=4, motion=1)
    params = initialise(spec, jax.random.key(0))
    tokens, motion = jax.random.normal(jax.random.key(1), (5, 2, 3, 4)), jnp.ones((5, 2))
    expected = np.concatenate([np.asarray(tokens).reshape(5, -1), np.ones((5, 2))], axis=1) @ np.asarray(params["out/w"])
    np.testing.assert_allclose(apply(params, "linear", tokens, motion), expected, rtol=1e-5)


def test_attention_attends_to_every_view_and_frame() -> None:
    spec = HeadSpec("attention", frames=2, views=3, features=4, motion=1)
    params = initialise(spec, jax.random.key(0))
    tokens = jax.random.normal(jax.random.key(1), (1, 2, 3, 4))
    by_token = jax.grad(lambda t: apply(params, "attention", t, jnp.ones((1, 2)))[0, 0])(tokens)
    assert (np.abs(np.asarray(by_token)).max(axis=-1) > 0).all()


def test_a_head_s_loss_balances_classes_and_follows_the_episodes_weights() -> None:
    logits = jnp.array([[[2.0, 0.0], [-1.0, 0.0], [3.0, 0.0]]])
    labels = jnp.array([[1, -1], [0, -1], [0, -1]])
    weights = jnp.array([[1.0, 3.0, 1.0]])
    softplus = lambda x: np.log1p(np.exp(x))  # noqa: E731
    forward = softplus(-2.0) + (3 * softplus(-1.0) + softplus(3.0)) / 4
    assert float(balanced_loss(logits, labels, weights)[0]) == pytest.approx(forward / 2 / 2, rel=1e-6)


def test_a_projection_keeps_distances_of_what_varies() -> None:
    rng = np.random.default_rng(0)
    flat = rng.normal(size=(40, 1, 3)) @ rng.normal(size=(3, 10)) + 5.0
    projection = Projection.fit(flat, features=3)
    seen = projection(flat)
    assert seen.shape == (40, 1, 3)
    np.testing.assert_allclose(np.square(seen).mean(), 1.0, rtol=1e-3)
    standard = (flat - flat.mean(0)) / flat.std(0)
    one, other = np.linalg.norm(standard[0] - standard[1]), np.linalg.norm(seen[0] - seen[1])
    two, more = np.linalg.norm(standard[5] - standard[9]), np.linalg.norm(seen[5] - seen[9])
    assert one / two == pytest.approx(other / more, rel=1e-3)


def test_what_an_encoder_lacks_is_said() -> None:
    with pytest.raises(ClassifierError, match="'resnet' is not known: use 'hog'"):
        load_encoder("resnet")
    with pytest.raises(ValueError, match="compares pictures with sentences"):
        ClassifierConfig(backend="zero_shot")
    with pytest.raises(ValueError, match="frames 2 is for cnn, vice and probe; vlm looks at one"):
        ClassifierConfig(backend="vlm", model="m", deadline_s=2.0, frames=2)


# --- CLIP -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def tiny_clip(tmp_path: Path) -> str:
    """Encoder specification of a CLIP of two layers with random weights on disk."""
    try:
        open_clip = import_open_clip()
    except (ImportError, RuntimeError) as error:
        pytest.skip(f"needs open_clip (extra vision): {error}")
    import torch
    from safetensors.torch import save_file

    sizes = {"image_size": 32, "layers": 2, "width": 64, "patch_size": 8, "head_width": 16}
    text = {"context_length": 16, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1}
    (tmp_path / "tiny-eye.json").write_text(json.dumps({"embed_dim": 32, "vision_cfg": sizes, "text_cfg": text}))
    open_clip.add_model_config(tmp_path)
    torch.manual_seed(0)
    model = open_clip.create_model("tiny-eye")
    save_file({name: tensor.contiguous() for name, tensor in model.state_dict().items()}, tmp_path / "tiny.safetensors")
    return f"open_clip:tiny-eye:{tmp_path / 'tiny.safetensors'}"


def test_clip_embeds_as_open_clip_s_own_preprocessing_does(tiny_clip: str) -> None:
    import torch
    from PIL import Image

    encoder = load_encoder(tiny_clip)
    image = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    open_clip = import_open_clip()
    model, _, preprocess = open_clip.create_model_and_transforms("tiny-eye", pretrained=tiny_clip.split(":", 2)[2])
    with torch.no_grad():
        expected = model.eval().encode_image(preprocess(Image.fromarray(image))[None], normalize=True).numpy()
    np.testing.assert_allclose(encoder.encode(image[None]), expected, atol=1e-5)


def test_a_probe_and_zero_shot_on_clip(tiny_clip: str, dot_stores: Stores, tmp_path: Path) -> None:
    on_clip = probe_config(encoder=tiny_clip, augmented_copies=0)
    train_classifier(dot_stores[0], on_clip, tmp_path / "probe", 0, None, dot_stores[1])
    judge = load_judge(tmp_path / "probe")
    fresh = Writer(tmp_path / "test")
    fresh.play(4, seed=9)
    assert measure(judge, fresh.done(), 2).frames["forward"].recall.value > 0.5, "even random features show where the dot is"
    zero = probe_config(encoder=tiny_clip, backend="zero_shot")
    train_classifier(dot_stores[0], zero, tmp_path / "zero", 0)
    judge = load_judge(tmp_path / "zero")
    assert judge.name.startswith("zero_shot:") and 0.0 <= judge.probability(dot(0.5), "forward") <= 1.0


def test_other_weights_are_refused(tiny_clip: str, dot_stores: Stores, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    train_classifier(dot_stores[0], probe_config(encoder=tiny_clip, augmented_copies=0, updates=5), tmp_path / "probe", 0)
    path = Path(tiny_clip.split(":", 2)[2])
    tensors = load_file(path)
    tensors["visual.proj"] = tensors["visual.proj"] + 1.0
    save_file(tensors, path)
    with pytest.raises(ClassifierError, match="was trained on embeddings of"):
        load_judge(tmp_path / "probe")
    with pytest.raises(ClassifierError, match="Weights of another model do not fit"):
        load_encoder(f"open_clip:ViT-B-32:{path}")
    with pytest.raises(ClassifierError, match="there is no file"):
        load_encoder(f"open_clip:tiny-eye:{tmp_path / 'absent.pt'}")
