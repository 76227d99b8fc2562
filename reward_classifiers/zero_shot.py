"""Backend ``zero_shot``: CLIP and two sentences per direction, nothing trained. The baseline that a few labels have to beat.

P(success) is the softmax over the two sentences (Radford et al. 2021), its log-odds averaged over the views. Labels only set
temperature and threshold.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from etude.config import ClassifierConfig, TaskConfig
from etude.specs import PHASES, ObservationSpec
from reward_classifiers.embeddings import EmbeddingCache, cache_folder
from reward_classifiers.encoders import ClipEncoder, load_encoder
from reward_classifiers.files import ClassifierError, Tensors, broken
from reward_classifiers.frames import FrameSet
from reward_classifiers.judge import Images
from reward_classifiers.trained import Trained


class ZeroShotBackend:
    """`reward_classifiers.judge.Backend`. `texts`: float32 ``(2 directions, 2 sentences, D)``, the one of success first."""

    kind = "zero_shot"
    frames = 1
    members = 1
    state_names: tuple[str, ...] = ()

    def __init__(self, cache: EmbeddingCache, cameras: dict[str, tuple[int, int]], texts: np.ndarray, scale: float) -> None:
        self.cameras = cameras
        self._cache, self._texts, self._scale = cache, texts, scale

    @classmethod
    def load(cls, folder: Path, architecture: dict[str, Any], tensors: Tensors) -> ZeroShotBackend:
        """From what `files.read_classifier` gave. Raises ClassifierError, TypeError, KeyError or ValueError."""
        encoder = load_encoder(architecture["encoder"])
        if encoder.name != architecture["encoder_version"]:
            raise broken(folder, f"was made with {architecture['encoder_version']}, and the encoder here is {encoder.name}")
        cameras = {str(name): (int(height), int(width)) for name, (height, width) in architecture["cameras"].items()}
        return cls(EmbeddingCache(encoder), cameras, tensors["texts"], float(architecture["scale"]))

    def member_logits(self, images: Images, state: np.ndarray, phase: str) -> np.ndarray:
        done, undone = self._texts[PHASES.index(phase)]
        views = [self._cache.embed(images[name][:, -1]) for name in sorted(images)]
        return (self._scale * np.mean([view @ (done - undone) for view in views], axis=0))[None].astype(np.float32)


def make_zero_shot(frames: FrameSet, spec: ObservationSpec, task: TaskConfig, config: ClassifierConfig) -> Trained:
    """The logits of all `frames`; none was trained on. Raises ClassifierError when the encoder has no text tower."""
    encoder = load_encoder(config.encoder)
    if not isinstance(encoder, ClipEncoder):
        raise ClassifierError(
            f"classifier.backend 'zero_shot' compares pictures with sentences, which encoder {config.encoder!r} cannot: use "
            "'open_clip:<model>:<weights>'"
        )
    sentences = [sentence for phase in PHASES for sentence in sentences_of(task, phase)]
    texts = encoder.encode_texts(sentences).reshape(len(PHASES), 2, -1)
    backend = ZeroShotBackend(EmbeddingCache(encoder, cache_folder(encoder)), spec.cameras, texts, encoder.logit_scale)
    empty = np.zeros((len(frames), 0), np.float32)
    logits = np.stack([backend.member_logits(frames.images, empty, phase) for phase in PHASES], axis=-1)
    architecture = {
        "encoder": config.encoder,
        "encoder_version": encoder.name,
        "cameras": spec.cameras,
        "scale": encoder.logit_scale,
        "sentences": sentences,
    }
    return Trained("zero_shot", architecture, 1, {"texts": texts.astype(np.float32)}, logits, config.model_dump())


def sentences_of(task: TaskConfig, phase: str) -> tuple[str, str]:
    """(success, failure): the task file's `done_text` and `undone_text`, or made of the instruction."""
    direction = {"forward": task.forward, "backward": task.backward}[phase]
    return (
        direction.done_text or f"a photo after the robot has finished the task: {direction.instruction}",
        direction.undone_text or f"a photo before the robot has finished the task: {direction.instruction}",
    )
