"""How good a classifier is on recorded episodes whose truth is known: by frame, and by what the control loop would have decided.

Separate from training, because these episodes were never trained on and need not be demonstrations.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from etude.specs import IMAGE_PREFIX, PHASES
from etude.step import UNKNOWN
from reward_classifiers.calibration import Confusion, first_success
from reward_classifiers.files import ClassifierError
from reward_classifiers.judge import ImageJudge

if TYPE_CHECKING:
    from etude.episodes.store import EpisodeStore


@dataclass(frozen=True)
class Mistake:
    """One frame on the wrong side of the threshold. `images` are uint8 ``(h, w, 3)``, one per camera."""

    phase: str
    segment: int
    index: int
    probability: float
    truth: int
    images: tuple[np.ndarray, ...]


@dataclass(frozen=True)
class Measurement:
    """Confusions per direction, and the worst mistakes of both directions, worst first."""

    frames: dict[str, Confusion]
    outcomes: dict[str, Confusion]
    mistakes: list[Mistake]

    def to_json(self) -> dict[str, Any]:
        return {
            phase: {"frames": self.frames[phase].to_json(), "outcomes": self.outcomes[phase].to_json()} for phase in self.frames
        }


def measure(judge: ImageJudge, store: EpisodeStore, consecutive_frames: int, keep_mistakes: int = 32) -> Measurement:
    """Score every step of `store` whose truth (or a person's label) is known.

    An outcome is what the control loop would have decided: success at the first frame that ends `consecutive_frames` in a
    row above the threshold, right if the truth says so there; no success is right if the truth never held that long either.
    Later frames of the segment do not count, because the segment would have ended.

    Raises:
        ClassifierError: other cameras than the classifier's, or nothing with a known truth.
    """
    judge.check(store.observation_spec)
    frames: dict[str, list[tuple[np.ndarray, np.ndarray]]] = {phase: [] for phase in PHASES}
    decided: dict[str, list[tuple[bool, bool]]] = {phase: [] for phase in PHASES}
    mistakes: list[Mistake] = []
    for info in store.segments():
        if info.phase not in PHASES:
            continue
        segment = store.read(info)
        images = {name: segment.observation[IMAGE_PREFIX + name] for name in judge.backend.cameras}
        probability = judge.segment_probabilities(segment.observation, info.phase)
        by_person = np.array([name == "human" for name in segment.judged_by])
        truth = np.where(segment.success_truth != UNKNOWN, segment.success_truth, np.where(by_person, segment.success, UNKNOWN))
        known = truth != UNKNOWN
        if not known.any():
            continue
        threshold = judge.threshold(info.phase)
        frames[info.phase].append((probability[known] >= threshold, truth[known] == 1))
        if known.all():
            decided[info.phase].append(outcome(probability, truth, threshold, consecutive_frames))
        for row in np.flatnonzero(known & ((probability >= threshold) != (truth == 1))):
            pictures = tuple(array[row] for array in images.values())
            mistakes.append(Mistake(info.phase, info.segment, int(row), float(probability[row]), int(truth[row]), pictures))
    if not any(frames.values()):
        raise ClassifierError(
            f"no step of {store.path} has a known outcome (ground truth or a person's label): "
            "the classifier cannot be tested on it"
        )
    mistakes.sort(key=lambda m: abs(m.probability - m.truth), reverse=True)
    return Measurement(
        frames={phase: _confusion(parts) for phase, parts in frames.items() if parts},
        outcomes={
            phase: _confusion([(np.array([said]), np.array([is_])) for said, is_ in decided[phase]])
            for phase, parts in frames.items()
            if parts
        },
        mistakes=_varied(mistakes, keep_mistakes),
    )


def outcome(probability: np.ndarray, truth: np.ndarray, threshold: float, consecutive_frames: int) -> tuple[bool, bool]:
    """(the judge declared success, it was right to expect it) for one segment; see `measure`."""
    said = first_success(probability, threshold, consecutive_frames)
    if said is not None:
        return True, bool(truth[said] == 1)
    return False, first_success((truth == 1).astype(float), 0.5, consecutive_frames) is not None


def _confusion(parts: Sequence[tuple[np.ndarray, np.ndarray]]) -> Confusion:
    if not parts:
        return Confusion(0, 0, 0, 0)
    return Confusion.of(np.concatenate([said for said, _ in parts]), np.concatenate([truth for _, truth in parts]))


def _varied(mistakes: list[Mistake], count: int, per_segment: int = 3) -> list[Mistake]:
    """The worst ones, but few of each segment: neighbouring frames look alike."""
    taken: dict[tuple[str, int], int] = {}
    chosen = []
    for mistake in mistakes:
        key = (mistake.phase, mistake.segment)
        taken[key] = taken.get(key, 0) + 1
        if taken[key] <= per_segment:
            chosen.append(mistake)
    return chosen[:count]


def draw_mistakes(mistakes: Sequence[Mistake], path: Path, columns: int = 4, scale: int = 2) -> None:
    """Write a PNG: one tile per mistake, all cameras side by side, with direction, probability and truth above."""
    from PIL import Image, ImageDraw

    if not mistakes:
        return
    pictures = [np.concatenate(mistake.images, axis=1) for mistake in mistakes]
    height, width = pictures[0].shape[0] * scale, pictures[0].shape[1] * scale
    caption, gap = 16, 6
    rows = -(-len(pictures) // columns)
    columns = min(columns, len(pictures))
    canvas = Image.new("RGB", (columns * (width + gap) + gap, rows * (height + caption + gap) + gap), (24, 26, 30))
    draw = ImageDraw.Draw(canvas)
    for i, (mistake, picture) in enumerate(zip(mistakes, pictures, strict=True)):
        x, y = gap + (i % columns) * (width + gap), gap + (i // columns) * (height + caption + gap)
        kind = "missed" if mistake.truth else "false"
        draw.text(
            (x + 2, y + 2),
            f"{kind} {mistake.phase} p={mistake.probability:.2f} seg {mistake.segment}.{mistake.index}",
            fill=(235, 235, 235),
        )
        canvas.paste(Image.fromarray(picture).resize((width, height), Image.Resampling.NEAREST), (x, y + caption))
    path.parent.mkdir(parents=True, exist_ok=True)
    canvas.save(path)
