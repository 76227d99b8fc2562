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
    from etude.episodes.segment import Segment
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
class Scores:
    """Frames with a known truth: probability ``(N,)``, truth ``(N,)`` of 0 and 1, segment ``(N,)``, lighting ``(N,)`` of str."""

    probability: np.ndarray
    truth: np.ndarray
    group: np.ndarray
    lighting: np.ndarray

    def at(self, threshold: float) -> Confusion:
        return Confusion.of(self.probability >= threshold, self.truth == 1)

    def under(self, lighting: str) -> Scores:
        rows = self.lighting == lighting
        return Scores(self.probability[rows], self.truth[rows], self.group[rows], self.lighting[rows])


@dataclass(frozen=True)
class Measurement:
    """Confusions per direction, the scores behind them, and the worst mistakes of both directions, worst first.

    `decisions` are per direction (declared, right to expect it, lighting) of every segment whose truth is known throughout.
    """

    frames: dict[str, Confusion]
    scores: dict[str, Scores]
    decisions: dict[str, list[tuple[bool, bool, str]]]
    mistakes: list[Mistake]

    @property
    def outcomes(self) -> dict[str, Confusion]:
        return {phase: _decided(decisions) for phase, decisions in self.decisions.items()}

    def by_lighting(self, phase: str, threshold: float) -> dict[str, tuple[Confusion, Confusion]]:
        """Lighting -> (frames, decisions); empty where no store says how it was lit."""
        names = [str(name) for name in np.unique(self.scores[phase].lighting) if name]
        return {
            name: (self.scores[phase].under(name).at(threshold), _decided([d for d in self.decisions[phase] if d[2] == name]))
            for name in names
        }

    def to_json(self) -> dict[str, Any]:
        return {
            phase: {"frames": self.frames[phase].to_json(), "outcomes": self.outcomes[phase].to_json()} for phase in self.frames
        }


def measure(
    judge: ImageJudge,
    stores: EpisodeStore | Sequence[EpisodeStore],
    needed: int,
    window: int | None = None,
    keep_mistakes: int = 32,
) -> Measurement:
    """Score every step of `stores` whose truth (or a person's label) is known.

    An outcome is what the control loop would have decided: success at the first frame at which `needed` of the last `window`
    frames are above the threshold, right if the truth says so there; no success is right if the truth never held that long
    either. Later frames of the segment do not count, because the segment would have ended. A store's metadata may name its
    ``lighting``.

    Raises:
        ClassifierError: other cameras than the classifier's, or nothing with a known truth.
    """
    several = [stores] if not isinstance(stores, Sequence) else list(stores)
    parts: dict[str, list[Scores]] = {phase: [] for phase in PHASES}
    decided: dict[str, list[tuple[bool, bool, str]]] = {phase: [] for phase in PHASES}
    mistakes: list[Mistake] = []
    group = 0
    for store in several:
        judge.check(store.observation_spec)
        lighting = str(store.metadata.get("lighting", ""))
        for info in store.segments():
            if info.phase not in PHASES:
                continue
            segment = store.read(info)
            truth = known_truth(segment)
            known = truth != UNKNOWN
            if not known.any():
                continue
            group += 1
            probability = judge.segment_probabilities(segment.observation, info.phase)
            threshold = judge.threshold(info.phase)
            rows = np.flatnonzero(known)
            parts[info.phase].append(
                Scores(probability[rows], truth[rows], np.full(len(rows), group), np.full(len(rows), lighting, object))
            )
            if known.all():
                decided[info.phase].append((*outcome(probability, truth, threshold, needed, window), lighting))
            for row in rows[(probability[rows] >= threshold) != (truth[rows] == 1)]:
                pictures = tuple(segment.observation[IMAGE_PREFIX + name][row] for name in judge.backend.cameras)
                mistakes.append(Mistake(info.phase, info.segment, int(row), float(probability[row]), int(truth[row]), pictures))
    if not any(parts.values()):
        raise ClassifierError(
            f"no step of {', '.join(str(store.path) for store in several)} has a known outcome (ground truth or a person's "
            "label): the classifier cannot be tested on it"
        )
    mistakes.sort(key=lambda m: abs(m.probability - m.truth), reverse=True)
    scores = {
        phase: Scores(*(np.concatenate([getattr(part, name) for part in found]) for name in Scores.__dataclass_fields__))
        for phase, found in parts.items()
        if found
    }
    return Measurement(
        frames={phase: found.at(judge.threshold(phase)) for phase, found in scores.items()},
        scores=scores,
        decisions={phase: decided[phase] for phase in scores},
        mistakes=_varied(mistakes, keep_mistakes),
    )


def known_truth(segment: Segment) -> np.ndarray:
    """int ``(T,)``: the simulator's truth, else a person's label, else UNKNOWN."""
    by_person = np.array([name == "human" for name in segment.judged_by])
    return np.where(segment.success_truth != UNKNOWN, segment.success_truth, np.where(by_person, segment.success, UNKNOWN))


def outcome(
    probability: np.ndarray, truth: np.ndarray, threshold: float, needed: int, window: int | None = None
) -> tuple[bool, bool]:
    """(the judge declared success, it was right to expect it) for one segment; see `measure`."""
    said = first_success(probability, threshold, needed, window)
    if said is not None:
        return True, bool(truth[said] == 1)
    return False, first_success((truth == 1).astype(float), 0.5, needed, window) is not None


def _decided(decisions: Sequence[tuple[bool, bool, str]]) -> Confusion:
    return Confusion.of(np.array([d[0] for d in decisions], bool), np.array([d[1] for d in decisions], bool))


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
