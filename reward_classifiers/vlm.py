"""Backend ``vlm``: a yes/no question per direction to a vision-language model; P(yes) against P(no) at the first answer token.

Never sampled text (RoboFuME's paper; its release samples, which is not copied). The model is a Hugging Face image-text-to-text
model in this process, or one behind an endpoint (`endpoint.py`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from etude.config import ClassifierConfig, TaskConfig
from etude.specs import PHASES, ObservationSpec
from reward_classifiers.endpoint import Endpoint
from reward_classifiers.files import Tensors, broken
from reward_classifiers.frames import FrameRules, FrameSet, folds
from reward_classifiers.judge import Images
from reward_classifiers.trained import Progress, Trained

ROBOFUME_RULES = FrameRules(positive_last=3, ambiguous_before=10)
"""RoboFuME's data: the last 3 frames of a demonstration are positives, the 10 before are left out, earlier ones and failures are
negatives (Yang et al. 2023, release)."""


ADAPTER = "adapter"
"""Folder of tuned weights inside a classifier's folder."""


class Answerer(Protocol):
    """A model that answers yes or no."""

    def log_odds(self, images: Sequence[Sequence[np.ndarray]], question: str) -> np.ndarray:
        """B times the views of a frame, uint8 ``(h, w, 3)`` each → float32 ``(B,)``, log P(yes) − log P(no)."""
        ...


class VlmBackend:
    """`reward_classifiers.judge.Backend`."""

    kind = "vlm"
    frames = 1
    members = 1
    state_names: tuple[str, ...] = ()

    def __init__(self, answerer: Answerer, cameras: dict[str, tuple[int, int]], questions: dict[str, str], batch: int) -> None:
        self.cameras = cameras
        self._answerer, self._questions, self._batch = answerer, questions, batch

    @classmethod
    def load(cls, folder: Path, architecture: dict[str, Any], tensors: Tensors) -> VlmBackend:
        """From what `files.read_classifier` gave. Raises ClassifierError, TypeError, KeyError or ValueError."""
        adapter = folder / ADAPTER if architecture["adapter"] else None
        if adapter is not None:
            from reward_classifiers.vlm_tuning import adapter_digest

            if adapter_digest(adapter) != architecture["adapter"]:
                raise broken(adapter, "does not hold the tuned weights that the description names")
        answerer = make_answerer(architecture["model"], architecture["endpoint"], adapter)
        cameras = {str(name): (int(height), int(width)) for name, (height, width) in architecture["cameras"].items()}
        return cls(answerer, cameras, dict(architecture["questions"]), int(architecture["batch"]))

    def member_logits(self, images: Images, state: np.ndarray, phase: str) -> np.ndarray:
        newest = [images[name][:, -1] for name in sorted(images)]
        frames = list(zip(*newest, strict=True))
        parts = [
            self._answerer.log_odds(frames[start : start + self._batch], self._questions[phase])
            for start in range(0, len(frames), self._batch)
        ]
        return np.concatenate(parts)[None].astype(np.float32)


def make_answerer(model: str, endpoint: str, adapter: Path | None = None) -> Answerer:
    """The model behind `endpoint`, or where that is empty the Hugging Face `model` in this process. Raises ClassifierError."""
    if endpoint:
        return Endpoint(endpoint, model)
    from reward_classifiers.huggingface import HuggingFace

    return HuggingFace(model, adapter)


def make_vlm(
    frames: FrameSet,
    spec: ObservationSpec,
    task: TaskConfig,
    config: ClassifierConfig,
    out: Path,
    seed: int,
    progress: Progress | None,
) -> tuple[Trained, FrameSet]:
    """The logits of labelled frames, for temperature and threshold, and those frames: `calibration_frames` of each kind, and with
    tuning only of segments that the model was not tuned on. The tuned weights go into `out`. Raises ClassifierError."""
    rng = np.random.default_rng(seed)
    questions = {phase: question_of(task, phase) for phase in PHASES}
    answerer: Any = make_answerer(config.model, config.endpoint)
    adapter = ""
    if config.tuning_updates:
        from reward_classifiers.vlm_tuning import save_adapter, tune

        fold = folds(frames, 2, rng)
        shown = frames.take(np.flatnonzero(fold == 0))
        words = tuple(questions[phase] for phase in PHASES)
        tune(answerer, shown, words, config.tuning_updates, config.tuning_batch, config.tuning_modules, seed, progress)
        adapter = save_adapter(answerer, out / ADAPTER)
        frames = frames.take(np.flatnonzero(fold == 1))
    frames = thinned(frames, config.calibration_frames, rng)
    architecture = {
        "model": config.model,
        "endpoint": config.endpoint,
        "questions": questions,
        "cameras": spec.cameras,
        "batch": config.vlm_batch,
        "adapter": adapter,
    }
    backend = VlmBackend(answerer, spec.cameras, questions, config.vlm_batch)
    logits = np.zeros((1, len(frames), len(PHASES)), np.float32)
    for column, phase in enumerate(PHASES):
        for start in range(0, len(frames), config.vlm_batch):
            rows = np.arange(start, min(start + config.vlm_batch, len(frames)))
            part = frames.take(rows)
            logits[:, rows, column] = backend.member_logits(part.images, part.motion[:, :0], phase)
            if progress is not None:
                progress(column * len(frames) + rows[-1] + 1, len(PHASES) * len(frames), "questions answered")
    return Trained("vlm", architecture, 1, {}, logits, config.model_dump()), frames


def question_of(task: TaskConfig, phase: str) -> str:
    """The task file's `question`, or made of the instruction."""
    direction = {"forward": task.forward, "backward": task.backward}[phase]
    return direction.question or (
        f"The robot was told to do this: {direction.instruction}. Does the picture show that it is finished? Answer yes or no."
    )


def thinned(frames: FrameSet, most: int, rng: np.random.Generator) -> FrameSet:
    """`most` frames of each label of each direction, and what was drawn for the other one: a large model answers a few hundred
    questions, not thousands."""
    kept: set[int] = set()
    for column in range(len(PHASES)):
        for value in (1, 0):
            rows = rng.permutation(np.flatnonzero(frames.labels[:, column] == value))
            kept.update(rows[:most].tolist())
    return frames.take(np.array(sorted(kept)))


def robofume_batches(frames: FrameSet, batch_size: int, rng: np.random.Generator) -> Iterator[tuple[np.ndarray, np.ndarray, int]]:
    """Endless training batches after RoboFuME: (rows, labels, column of the direction), half of each batch successes.

    `frames` were labelled with `ROBOFUME_RULES`; directions take turns, because each has its own question.
    """
    while True:
        for column in range(len(PHASES)):
            yes, no = (np.flatnonzero(frames.labels[:, column] == value) for value in (1, 0))
            half = batch_size // 2
            rows = np.concatenate([rng.choice(yes, half), rng.choice(no, batch_size - half)])
            yield rows, frames.labels[rows, column], column
