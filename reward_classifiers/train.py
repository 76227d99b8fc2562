"""Training: demonstrations (and labelled play) in, a classifier folder and an honest report out.

Cross-fitting, whatever the backend: temperature, thresholds and the report come only from frames of *segments* that the scorer
never saw.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from etude.config import ClassifierConfig, RunConfig
from etude.specs import PHASES, ObservationSpec
from reward_classifiers.calibration import (
    Calibration,
    Confusion,
    calibrate,
    combine,
    expected_calibration_error,
    interval_by_segment,
)
from reward_classifiers.cnn_training import TrainingSettings, train_cnn
from reward_classifiers.files import ClassifierError, save_classifier
from reward_classifiers.frames import IGNORE, FrameSet, Labeller, Rules, folds, frames_of, join, mislabel, without_flicker
from reward_classifiers.probe import train_probe
from reward_classifiers.trained import Progress, Trained
from reward_classifiers.vice import ViceRules, frames_to_calibrate, train_vice
from reward_classifiers.vlm import ROBOFUME_RULES, make_vlm
from reward_classifiers.zero_shot import make_zero_shot

if TYPE_CHECKING:
    from etude.episodes.segment import Segment, SegmentInfo
    from etude.episodes.store import EpisodeStore


def train_classifier(
    store: EpisodeStore,
    config: RunConfig,
    out: Path,
    seed: int,
    progress: Progress | None = None,
    play: EpisodeStore | Sequence[EpisodeStore] | None = None,
    settings: TrainingSettings | None = None,
) -> dict[str, Any]:
    """Train on demonstrations `store` and, if given, on frames of `play` that a person labelled (for ``vice``: that were visited)
    and write the classifier into `out`.

    Returns the report: per direction the threshold, frame counts and the held-out precision, recall and false-positive rate
    with 95% Wilson intervals. The same arguments give the same classifier.

    Raises:
        ClassifierError: no cameras, or a direction without positives or negatives, or too few segments to hold any out.
    """
    started = time.monotonic()
    chosen, wanted = config.recipe.reward.classifier, config.recipe.reward.max_false_positive_rate
    settings = settings or TrainingSettings.of(chosen.network)
    history = chosen.frames if chosen.backend in ("cnn", "vice", "probe") else 1
    settings = replace(settings, rules=rules_of(chosen, settings.rules))
    slips = np.random.default_rng([seed, 0x3AB])

    def careless(labels: np.ndarray) -> np.ndarray:
        return mislabel(labels, chosen.mislabelled_share, slips)

    frames, used = gather(store, play, config.task.name, settings.rules, history, careless)
    fold = checked_folds(frames, settings.members, np.random.default_rng(seed))
    spec = store.observation_spec
    match chosen.backend:
        case "cnn":
            trained = train_cnn(frames, spec, fold, settings, seed, progress)
        case "vice":
            trained = train_vice(frames, spec, fold, settings, seed, progress)
            frames, used["threshold_from"] = frames_to_calibrate(frames, wanted)
        case "probe":
            trained = train_probe(frames, spec, fold, chosen, seed, progress)
        case "zero_shot":
            trained = make_zero_shot(frames, spec, config.task, chosen)
        case "vlm":
            trained, frames = make_vlm(frames, spec, config.task, chosen, out, seed, progress)
    calibration = _calibrate(trained, frames, wanted)
    report: dict[str, Any] = {"task": config.task.name, "backend": trained.backend, "frames": len(frames), **used}
    report["phases"] = held_out_report(trained.held_out, frames, calibration, np.random.default_rng(seed))
    report["seconds"] = round(time.monotonic() - started, 1)
    saved = {**trained.settings, "seed": seed, "max_false_positive_rate": wanted}
    tensors = {
        **trained.tensors,
        "held_out/logits": trained.held_out,
        "held_out/labels": frames.labels,
        "held_out/group": frames.group,
    }
    report["digest"] = save_classifier(out, trained.backend, trained.architecture, tensors, calibration, report, saved)
    return report


def rules_of(config: ClassifierConfig, usual: Rules) -> Rules:
    """What the backend makes of unlabelled frames; `usual` where it has no rules of its own."""
    if config.backend == "vlm":
        return ROBOFUME_RULES
    if config.backend == "vice":
        return ViceRules(config.vice_last_frames, config.vice_visited_frames)
    return usual


def _calibrate(trained: Trained, frames: FrameSet, max_false_positive_rate: float) -> Calibration:
    scorers = Calibration.uniform(len(trained.held_out)).weights
    temperature, thresholds = calibrate(trained.held_out, frames.labels, scorers, max_false_positive_rate)
    return Calibration(temperature, thresholds, Calibration.uniform(trained.members).weights)


def held_out_report(
    logits: np.ndarray, frames: FrameSet, calibration: Calibration, rng: np.random.Generator
) -> dict[str, dict[str, Any]]:
    """Per direction what out-of-fold logits ``(J, N, 2)`` say at the chosen threshold, with intervals."""
    report = {}
    for column, phase in enumerate(PHASES):
        known = frames.labels[:, column] != IGNORE
        label, group = frames.labels[known, column], frames.group[known]
        probability = combine(logits[:, known, column], calibration.temperature[phase], (1.0 / len(logits),) * len(logits))
        said = probability >= calibration.thresholds[phase]
        positives, negatives = frames.count(phase)
        report[phase] = {
            "threshold": calibration.thresholds[phase],
            "temperature": calibration.temperature[phase],
            "positive_frames": positives,
            "negative_frames": negatives,
            "held_out": Confusion.of(said, label == 1).to_json(),
            "false_positive_rate_by_segment": list(interval_by_segment(said[label == 0], group[label == 0], rng)),
            "expected_calibration_error": expected_calibration_error(probability, label),
        }
    return report


def gather(
    store: EpisodeStore,
    play: EpisodeStore | Sequence[EpisodeStore] | None,
    task: str,
    rules: Rules,
    history: int = 1,
    spoil: Callable[[np.ndarray], np.ndarray] = lambda labels: labels,
) -> tuple[FrameSet, dict[str, Any]]:
    """All labelled frames of `task`, each with those before it, and how many segments they came from.

    `spoil` makes mistakes in the labels ``(T, 2)`` of a segment, for experiments.
    """
    spec: ObservationSpec = store.observation_spec
    if not spec.cameras:
        raise ClassifierError(
            "the episode store has no camera images, so no image classifier can be trained on it. "
            f"Record demonstrations with images: etude demo record --task {task} --observation pixels"
        )
    for name, (height, width) in spec.cameras.items():
        if height % 8 or width % 8:
            raise ClassifierError(
                f"camera {name!r} has {width}x{height} pixels: a classifier needs multiples of 8 (task.image_size_px)"
            )
    played = [] if play is None else list(play) if isinstance(play, Sequence) else [play]
    for one in played:
        if one.observation_spec != spec:
            raise ClassifierError(
                f"the demonstrations have {spec} but the play frames in {one.path} have {one.observation_spec}: record both with "
                "the same robot"
            )
    sets = []
    used: dict[str, Any] = {"demonstration_segments": 0, "play_segments": 0}
    first_group = 0
    demonstrated = ("demonstration_segments", rules.demonstration, None, store)
    for key, label, most, source in (demonstrated, *(("play_segments", rules.played, rules.most_played, one) for one in played)):
        infos = newest([info for info in source.segments() if info.task == task and info.phase in PHASES], most)

        def labels_of(segment: Segment, phase: str, label: Labeller = label) -> np.ndarray:
            return without_flicker(spoil(label(segment, phase)))

        sets.append(frames_of(((info.phase, source.read(info)) for info in infos), spec, labels_of, first_group, history))
        used[key] += len(infos)
        first_group += len(infos)
    frames = join(sets)
    for phase in PHASES:
        positives, negatives = frames.count(phase)
        if not positives or not negatives:
            lacking = "successful" if not positives else "unsuccessful"
            raise ClassifierError(
                f"the episodes of task {task!r} have no {lacking} frames for the {phase} direction "
                f"({positives} positives, {negatives} negatives). {rules.remedy(task, positives)}"
            )
    return frames, used


def newest(infos: list[SegmentInfo], most: int | None) -> list[SegmentInfo]:
    """Those of either direction that ended last, until they have `most` frames; None: all."""
    if most is None:
        return infos
    frames, taken = dict.fromkeys(PHASES, 0), []
    for info in sorted(infos, key=lambda info: info.last_stamp_ns, reverse=True):
        if frames[info.phase] < most:
            frames[info.phase] += info.length
            taken.append(info)
    return taken[::-1]


def checked_folds(frames: FrameSet, count: int, rng: np.random.Generator) -> np.ndarray:
    groups = len(np.unique(frames.group))
    if groups < 2 * count:
        raise ClassifierError(
            f"there are only {groups} labelled segments; {2 * count} are needed, so that some can be held out to choose the "
            "threshold. Record more: etude demo record --task <task> --count 20"
        )
    fold = folds(frames, count, rng)
    for number in range(count):
        for phase, column in zip(PHASES, frames.labels.T, strict=True):
            for value, word in ((1, "successful"), (0, "unsuccessful")):
                if not (column[fold != number] == value).any():
                    raise ClassifierError(
                        f"only one of {count} parts of the data has {word} frames for the {phase} direction: "
                        "record more demonstrations, or more play"
                    )
    return fold
