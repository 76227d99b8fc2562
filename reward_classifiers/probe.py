"""Backend ``probe``: heads on a frozen encoder's embeddings, and how it is trained from a few labelled episodes.

The encoder is the costly part and sees every picture once (`embeddings.py`); training all heads takes seconds.
"""

from __future__ import annotations

from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from etude.config import ClassifierConfig
from etude.specs import PHASES, ObservationSpec
from reward_classifiers.cnn import in_batches
from reward_classifiers.embeddings import EmbeddingCache, cache_folder
from reward_classifiers.encoders import Encoder, load_encoder
from reward_classifiers.files import WEIGHTS_FILE, Tensors, broken
from reward_classifiers.frames import FrameSet, motion_indices
from reward_classifiers.heads import (
    HeadSpec,
    Params,
    Projection,
    ensemble_logits,
    fit_heads,
    initialise,
    motion_features,
    to_tensors,
)
from reward_classifiers.judge import Images
from reward_classifiers.network import augment
from reward_classifiers.sampling import class_pools, draw
from reward_classifiers.trained import Progress, Trained

FEATURES = 128
BATCH_SIZE = 128
NEAR_FRAMES, NEAR_WEIGHT = 3, 3.0
SHIFT_PX, JITTER = 1, 0.2


class ProbeBackend:
    """`reward_classifiers.judge.Backend`."""

    kind = "probe"

    def __init__(
        self,
        encoder: Encoder,
        spec: HeadSpec,
        cameras: dict[str, tuple[int, int]],
        state_names: tuple[str, ...],
        projection: Projection,
        heads: Params,
        priors: Params,
    ) -> None:
        self.cameras, self.state_names, self.frames = cameras, state_names, spec.frames
        self.members = len(next(iter(heads.values())))
        self._spec, self._projection, self._heads, self._priors = spec, projection, heads, priors
        self._cache = EmbeddingCache(encoder)
        self._motion = motion_indices(state_names)

    @classmethod
    def load(cls, folder: Path, architecture: dict[str, Any], tensors: Tensors) -> ProbeBackend:
        """From what `files.read_classifier` gave. Raises ClassifierError, TypeError, KeyError or ValueError."""
        spec = HeadSpec(**architecture["head"])
        cameras = {str(name): (int(height), int(width)) for name, (height, width) in architecture["cameras"].items()}
        shapes = {name: array.shape for name, array in initialise(spec, jax.random.key(0)).items()}
        count = int(architecture["members"])
        parts: dict[str, Params] = {}
        for kind in ("heads", "priors"):
            parts[kind] = {name: jnp.asarray(tensors[f"{kind}/{name}"]) for name in shapes}
            for name, array in parts[kind].items():
                if array.shape != (count, *shapes[name]):
                    expected = (count, *shapes[name])
                    raise broken(folder / WEIGHTS_FILE, f"tensor {kind}/{name} is {array.shape}, expected float32{expected}")
        projection = Projection(*(tensors[f"projection/{name}"] for name in ("mean", "scale", "basis")))
        encoder = load_encoder(architecture["encoder"])
        if encoder.name != architecture["encoder_version"]:
            raise broken(
                folder, f"was trained on embeddings of {architecture['encoder_version']}, and the encoder here is {encoder.name}"
            )
        return cls(encoder, spec, cameras, tuple(architecture["state_names"]), projection, parts["heads"], parts["priors"])

    def member_logits(self, images: Images, state: np.ndarray, phase: str) -> np.ndarray:
        tokens = self._projection(embed(self._cache, images))
        motion = motion_features(state[:, self._motion])
        spec, heads, priors = self._spec, self._heads, self._priors
        return in_batches(lambda *x: ensemble_logits(heads, priors, spec, *x), tokens, motion)[:, :, PHASES.index(phase)]


def embed(cache: EmbeddingCache, images: Images) -> np.ndarray:
    """Camera -> uint8 ``(B, F, h, w, 3)``  →  float32 ``(B, F, V, D)``, views in the order of their names."""
    views = []
    for name in sorted(images):
        batch, frames, *size = images[name].shape
        views.append(cache.embed(images[name].reshape(batch * frames, *size)).reshape(batch, frames, -1))
    return np.stack(views, axis=2)


def train_probe(
    frames: FrameSet, spec: ObservationSpec, fold: np.ndarray, config: ClassifierConfig, seed: int, progress: Progress | None
) -> Trained:
    """Heads on all frames; out-of-fold logits from heads that were trained without that fold.

    Member k has the same start, prior and episode weights in every part of the data, and all see one projection, which knows
    pictures but no labels: what is chosen on out-of-fold members (temperature, thresholds, also under HyRe's weights) fits the
    final ones.

    Raises:
        ClassifierError: the encoder cannot be loaded.
    """
    encoder = load_encoder(config.encoder)
    cache = EmbeddingCache(encoder, cache_folder(encoder))
    copies = [frames.images, *(_augmented(frames.images, seed, copy) for copy in range(config.augmented_copies))]
    embedded = []
    for number, images in enumerate(copies):
        embedded.append(embed(cache, images))
        if progress is not None:
            progress(number + 1, len(copies), f"{encoder.name}: pictures embedded, {cache.encoded} of them new")
    embeddings = np.stack(embedded)  # (copies, N, F, V, D)
    projection = Projection.fit(embeddings.reshape(-1, *embeddings.shape[3:]), FEATURES)
    tokens, motion = projection(embeddings), motion_features(frames.motion)
    head = HeadSpec(
        kind=config.head,
        frames=tokens.shape[2],
        views=tokens.shape[3],
        features=tokens.shape[4],
        motion=frames.motion.shape[1],
        prior_scale=config.prior_scale,
    )
    held_out = np.zeros((config.heads, len(frames), len(PHASES)), np.float32)
    parts = [*np.unique(fold), None]
    for number, part in enumerate(parts):
        rows = np.flatnonzero(fold != part) if part is not None else np.arange(len(frames))
        heads, priors = _fit(frames, tokens, rows, head, config, seed)
        if part is not None:
            out = np.flatnonzero(fold == part)
            model = partial(ensemble_logits, heads, priors, head)
            held_out[:, out] = in_batches(model, tokens[0, out], motion[out])
        if progress is not None:
            progress(number + 1, len(parts), f"{config.heads} heads trained")
    architecture = {
        "encoder": config.encoder,
        "encoder_version": encoder.name,
        "head": asdict(head),
        "cameras": spec.cameras,
        "state_names": spec.state_names,
        "members": config.heads,
    }
    return Trained("probe", architecture, config.heads, to_tensors(projection, heads, priors), held_out, config.model_dump())


def _fit(
    frames: FrameSet, tokens: np.ndarray, rows: np.ndarray, head: HeadSpec, config: ClassifierConfig, seed: int
) -> tuple[Params, Params]:
    """(heads, priors) from `rows` of all copies, tokens ``(copies, N, F, V, P)``."""
    rng = np.random.default_rng([seed, 0x9E0B])
    copies, total = tokens.shape[:2]
    _, episode = np.unique(frames.group, return_inverse=True)
    weights = rng.exponential(size=(config.heads, episode.max() + 1))[:, episode] if config.heads > 1 else np.ones((1, total))
    pools = class_pools(frames.take(rows), NEAR_FRAMES, NEAR_WEIGHT)
    batches = rows[np.stack([draw(pools, BATCH_SIZE, rng) for _ in range(config.updates)])]
    batches = batches + total * rng.integers(0, copies, batches.shape)
    return fit_heads(  # arrays of all frames, so that one compiled program serves all parts; only `rows` are drawn
        head,
        tokens.reshape(copies * total, *tokens.shape[2:]),
        np.tile(motion_features(frames.motion), (copies, 1)),
        np.tile(frames.labels, (copies, 1)),
        np.tile(weights, (1, copies)).astype(np.float32),
        batches,
        config.learning_rate,
        config.weight_decay,
        seed,
    )


def _augmented(images: Images, seed: int, copy: int) -> Images:
    """Shifted and relit, all frames of a window alike."""
    flat = {}
    for name, array in images.items():
        batch, count, height, width, _ = array.shape
        flat[name] = array.transpose(0, 2, 3, 1, 4).reshape(batch, height, width, count * 3)
    result = {}
    for name, array in augment(flat, jax.random.fold_in(jax.random.key(seed), copy), SHIFT_PX, JITTER).items():
        batch, count, height, width, _ = images[name].shape
        pixels = np.asarray(jnp.round(array * 255.0)).astype(np.uint8)
        result[name] = pixels.reshape(batch, height, width, count, 3).transpose(0, 3, 1, 2, 4)
    return result
