"""A few new labels move trust between the members of an ensemble, without any training (HyRe, Lee et al. 2024, eq. 3).

w_k ∝ exp(−Σ_n NLL(f_k(x_n), y_n)): the generalised Bayesian posterior over members under a uniform prior. It needs members
that differ where the old labels do not decide, which is what the heads' random priors and bootstrap are for.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from etude.specs import PHASES
from reward_classifiers.calibration import Calibration, calibrate
from reward_classifiers.files import ClassifierError, read_classifier, save_classifier
from reward_classifiers.frames import FrameRules, label_segment
from reward_classifiers.judge import ImageJudge, load_judge

if TYPE_CHECKING:
    from etude.episodes.store import EpisodeStore


def hyre_weights(member_logits: np.ndarray, label: np.ndarray, temperature: float = 1.0) -> tuple[float, ...]:
    """Logits ``(K, N)`` and labels ``(N,)`` of 0 and 1 → K weights that sum to 1. Without labels all are equal."""
    logits = np.asarray(member_logits, np.float64) / temperature
    log_likelihood = -np.logaddexp(0.0, np.where(label == 1, -logits, logits)).sum(axis=1)
    weights = np.exp(log_likelihood - log_likelihood.max())
    return tuple(float(weight) for weight in weights / weights.sum())


def effective_members(weights: Sequence[float]) -> float:
    """1 / Σ w²: K when all count the same, 1 when one member decides alone."""
    return float(1.0 / np.square(weights).sum())


def reweighted(
    calibration: Calibration,
    member_logits: Mapping[str, np.ndarray],
    labels: Mapping[str, np.ndarray],
    held_out: tuple[np.ndarray, np.ndarray],
    max_false_positive_rate: float,
) -> Calibration:
    """The calibration after new labels; a direction without any keeps its weights.

    Temperature and thresholds are chosen anew, under the new weights, on the *old* held-out frames: a few labels are far too few
    to say anything about a rate of 1%.

    Args:
        member_logits, labels: per direction ``(K, n)`` and ``(n,)`` of the new labels.
        held_out: out-of-fold logits ``(K, N, 2)`` and labels ``(N, 2)`` from training.
    """
    weights = {
        phase: hyre_weights(member_logits[phase], labels[phase], calibration.temperature[phase])
        if len(labels[phase])
        else calibration.weights[phase]
        for phase in PHASES
    }
    temperature, thresholds = calibrate(*held_out, weights, max_false_positive_rate)
    return Calibration(temperature, thresholds, weights)


def adapt_classifier(
    folder: Path, store: EpisodeStore, out: Path, most_labels: int | None = None, seed: int = 0
) -> dict[str, Any]:
    """Reweight the classifier in `folder` by a person's labels in `store` and write it into `out`, as a new version.

    Args:
        most_labels: use only so many per direction, drawn at random, half of each kind where there are enough.

    Raises:
        ClassifierError: a classifier with one member or without held-out logits, other cameras, or no labels.
    """
    started = time.monotonic()
    description, tensors, calibration = read_classifier(folder)
    judge = load_judge(folder)
    held_out = tensors["held_out/logits"]
    if judge.backend.members < 2 or len(held_out) != judge.backend.members:
        raise ClassifierError(
            f"classifier {judge.name} has no ensemble to reweight: train one with recipe.reward.classifier.backend=probe and "
            "classifier.heads above 1"
        )
    judge.check(store.observation_spec)
    logits, labels = labelled_logits(judge, store)
    rng = np.random.default_rng(seed)
    for phase in PHASES:
        rows = _few(labels[phase], most_labels, rng)
        logits[phase], labels[phase] = logits[phase][:, rows], labels[phase][rows]
    if not any(len(label) for label in labels.values()):
        raise ClassifierError(f"{store.path} has no frames that a person labelled: label some with etude classifier label")
    wanted = float(description["settings"]["max_false_positive_rate"])
    calibration = reweighted(calibration, logits, labels, (held_out, tensors["held_out/labels"]), wanted)
    report = {
        **description["report"],
        "reweighted_from": description["digest"],
        "labels": {phase: len(labels[phase]) for phase in PHASES},
        "effective_members": {phase: effective_members(calibration.weights[phase]) for phase in PHASES},
        "seconds": round(time.monotonic() - started, 2),
    }
    backend, architecture, settings = description["backend"], description["architecture"], description["settings"]
    report["digest"] = save_classifier(out, backend, architecture, tensors, calibration, report, settings)
    return report


def labelled_logits(judge: ImageJudge, store: EpisodeStore) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Per direction the members' logits ``(K, n)`` and the labels ``(n,)`` of all frames that a person judged."""
    logits: dict[str, list[np.ndarray]] = {phase: [np.zeros((judge.backend.members, 0))] for phase in PHASES}
    labels: dict[str, list[np.ndarray]] = {phase: [np.zeros(0, np.int8)] for phase in PHASES}
    for info in store.segments():
        if info.phase not in PHASES:
            continue
        segment = store.read(info)
        if "human" not in segment.judged_by:
            continue
        known = label_segment(segment, info.phase, FrameRules())
        for column, phase in enumerate(PHASES):
            rows = known[:, column] >= 0
            if rows.any():
                logits[phase].append(judge.segment_logits(segment.observation, phase)[:, rows])
                labels[phase].append(known[rows, column])
    return {phase: np.concatenate(logits[phase], axis=1) for phase in PHASES}, {
        phase: np.concatenate(labels[phase]) for phase in PHASES
    }


def _few(label: np.ndarray, most: int | None, rng: np.random.Generator) -> np.ndarray:
    """At most `most` rows, half of each kind where there are enough."""
    if most is None or len(label) <= most:
        return np.arange(len(label))
    yes, no = (rng.permutation(np.flatnonzero(label == value)) for value in (1, 0))
    successes = min(len(yes), max(most // 2, most - len(no)))
    return np.concatenate([yes[:successes], no[: most - successes]])
