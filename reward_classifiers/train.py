"""Training: demonstrations (and labelled play) in, a classifier folder and an honest report out.

Cross-fitting: every member of the small ensemble holds out another fold of *segments*; thresholds and the report come only
from frames that the scoring member never saw.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from etude.config import RunConfig
from etude.specs import PHASES, ObservationSpec
from reward_classifiers.calibration import Confusion, choose_threshold
from reward_classifiers.frames import IGNORE, FrameRules, FrameSet, folds, frames_of, join
from reward_classifiers.judge import ClassifierError, save_classifier
from reward_classifiers.network import Architecture, Params, augment, initialise, logits, to_unit

if TYPE_CHECKING:
    from etude.episodes.store import EpisodeStore

Progress = Callable[[int, int, str], None]
"""(updates done, updates in all, a sentence)."""


@dataclass(frozen=True)
class TrainingSettings:
    """Everything that shapes the result besides data and seed. Saved with the classifier.

    Attributes:
        members: networks in the ensemble, each holding out another fold of segments.
        updates: gradient updates per member at most. patience: evaluations without improvement after which a member stops.
        near_weight: how many times as often frames are drawn that lie within `near_frames` of the other label in their
            segment: there the decision is made.
        shift_px, jitter: augmentation, see `network.augment`.
    """

    members: int = 3
    updates: int = 600
    evaluate_every: int = 50
    patience: int = 6
    batch_size: int = 64
    learning_rate: float = 2e-3
    weight_decay: float = 1e-3
    near_frames: int = 3
    near_weight: float = 3.0
    shift_px: int = 1
    jitter: float = 0.1
    rules: FrameRules = field(default_factory=FrameRules)


def train_classifier(
    store: EpisodeStore,
    config: RunConfig,
    out: Path,
    seed: int,
    progress: Progress | None = None,
    play: EpisodeStore | None = None,
    settings: TrainingSettings | None = None,
) -> dict[str, Any]:
    """Train on demonstrations `store` and, if given, on frames of `play` that a person labelled; write the classifier into `out`.

    Returns the report: per direction the threshold, frame counts and the held-out precision, recall and false-positive rate
    with 95% Wilson intervals. The same arguments give the same classifier.

    Raises:
        ClassifierError: no cameras, or a direction without positives or negatives, or too few segments to hold any out.
    """
    settings = settings or TrainingSettings()
    started = time.monotonic()
    frames, used = gather(store, play, config.task.name, settings.rules)
    spec = store.observation_spec
    architecture = Architecture(spec.cameras, spec.state_names)
    fold = _checked_folds(frames, settings.members, np.random.default_rng(seed))
    members: list[Params] = []
    held_out = np.zeros((len(frames), len(PHASES)), np.float32)
    for number in range(settings.members):
        train, test = fold != number, fold == number
        note = _note(progress, number, settings)
        member = fit(frames.take(train), frames.take(test), architecture, settings, seed * 1000 + number, note)
        members.append(member)
        held_out[test] = _score(member, frames.take(test))
    report: dict[str, Any] = {"task": config.task.name, "frames": len(frames), **used, "phases": {}}
    thresholds = {}
    for column, phase in enumerate(PHASES):
        rows = frames.labels[:, column] != IGNORE
        probability, label = held_out[rows, column], frames.labels[rows, column]
        thresholds[phase] = choose_threshold(probability, label, config.recipe.reward.max_false_positive_rate)
        positives, negatives = frames.count(phase)
        confusion = Confusion.of(probability >= thresholds[phase], label == 1)
        report["phases"][phase] = {
            "threshold": thresholds[phase],
            "positive_frames": positives,
            "negative_frames": negatives,
            "held_out": confusion.to_json(),
        }
    report["seconds"] = round(time.monotonic() - started, 1)
    saved = {**asdict(settings), "seed": seed, "max_false_positive_rate": config.recipe.reward.max_false_positive_rate}
    report["digest"] = save_classifier(out, architecture, members, thresholds, report, saved)
    return report


def gather(store: EpisodeStore, play: EpisodeStore | None, task: str, rules: FrameRules) -> tuple[FrameSet, dict[str, int]]:
    """All labelled frames of `task`, and how many segments they came from."""
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
    if play is not None and play.observation_spec != spec:
        raise ClassifierError(
            f"the demonstrations have {spec} but the play frames have {play.observation_spec}: record both with the same robot"
        )
    sets, used = [], {"demonstration_segments": 0, "play_segments": 0}
    first_group = 0
    for key, source in (("demonstration_segments", store), ("play_segments", play)):
        if source is None:
            continue
        infos = [info for info in source.segments() if info.task == task and info.phase in PHASES]
        sets.append(frames_of(((info.phase, source.read(info)) for info in infos), spec, rules, first_group))
        used[key] = len(infos)
        first_group += len(infos)
    frames = join(sets)
    for phase in PHASES:
        positives, negatives = frames.count(phase)
        if not positives or not negatives:
            lacking = "successful" if not positives else "unsuccessful"
            raise ClassifierError(
                f"the episodes of task {task!r} have no {lacking} frames for the {phase} direction "
                f"({positives} positives, {negatives} negatives). Record demonstrations of both directions: "
                f"etude demo record --task {task}"
            )
    return frames, used


def fit(
    train: FrameSet,
    test: FrameSet,
    architecture: Architecture,
    settings: TrainingSettings,
    seed: int,
    note: Callable[[int, float], None],
) -> Params:
    """One member: balanced mini-batches, early stopping on the held-out loss. Returns the best parameters."""
    rng = np.random.default_rng(seed)
    key, start = jax.random.split(jax.random.key(seed))
    params = initialise(architecture, start)
    optimiser = _optimiser(settings.learning_rate, settings.weight_decay, settings.updates)
    state = optimiser.init(params)
    pools = [np.flatnonzero(train.labels[:, column] == value) for column in range(len(PHASES)) for value in (1, 0)]
    near = near_the_other_label(train, settings.near_frames)
    chances = []
    for number, pool in enumerate(pools):
        weight = np.where(near[pool, number // 2], settings.near_weight, 1.0)
        chances.append(weight / weight.sum())
    share = max(1, settings.batch_size // len(pools))
    best, best_loss, waited = jax.tree.map(jnp.copy, params), np.inf, 0
    for done in range(1, settings.updates + 1):
        rows = np.concatenate([rng.choice(pool, share, p=chance) for pool, chance in zip(pools, chances, strict=True)])
        key, use = jax.random.split(key)
        images = {name: array[rows] for name, array in train.images.items()}
        params, state = _update(params, state, images, train.motion[rows], train.labels[rows], use, settings)
        if done % settings.evaluate_every == 0 or done == settings.updates:
            held_out = _loss_of(params, test)
            note(done, held_out)
            if held_out < best_loss:
                best, best_loss, waited = jax.tree.map(jnp.copy, params), held_out, 0
            else:
                waited += 1
                if waited >= settings.patience:
                    break
    return best


def near_the_other_label(frames: FrameSet, reach: int) -> np.ndarray:
    """bool ``(N, 2)``: within `reach` rows there is a frame of the same segment with the opposite label of that direction."""
    near = np.zeros(frames.labels.shape, bool)
    for step in range(1, min(reach, len(frames) - 1) + 1):
        together = (frames.group[step:] == frames.group[:-step])[:, None]
        opposite = together & (
            frames.labels[step:] + frames.labels[:-step] == 1
        )  # 0 and 1; IGNORE is -1 and adds up to 1 with nothing
        near[step:] |= opposite
        near[:-step] |= opposite
    return near


def _optimiser(learning_rate: float, weight_decay: float, updates: int) -> optax.GradientTransformation:
    schedule = optax.warmup_cosine_decay_schedule(
        0.0, learning_rate, max(1, updates // 20), max(2, updates), learning_rate * 0.05
    )
    return optax.adamw(schedule, weight_decay=weight_decay)


@partial(jax.jit, static_argnames="settings", donate_argnames=("params", "state"))
def _update(
    params: Params,
    state: Any,
    images: dict[str, jax.Array],
    motion: jax.Array,
    labels: jax.Array,
    key: jax.Array,
    settings: TrainingSettings,
) -> tuple[Params, Any]:
    def loss(p: Params) -> jax.Array:
        changed = augment(images, key, settings.shift_px, settings.jitter)
        return balanced_loss(logits(p, changed, motion), labels)

    changes, state = _optimiser(settings.learning_rate, settings.weight_decay, settings.updates).update(
        jax.grad(loss)(params), state, params
    )
    return optax.apply_updates(params, changes), state


def balanced_loss(logit: jax.Array, labels: jax.Array) -> jax.Array:
    """Mean binary cross-entropy of ``(B, 2)``; in each direction positives and negatives weigh the same in all, ignored
    labels nothing."""
    total = jnp.zeros(())
    for value in (1, 0):
        mask = (labels == value).astype(jnp.float32)
        nll = jax.nn.softplus(-logit if value == 1 else logit)
        total += ((nll * mask).sum(axis=0) / jnp.maximum(mask.sum(axis=0), 1.0)).mean()
    return total / 2.0


@jax.jit
def _forward(params: Params, images: dict[str, jax.Array], motion: jax.Array) -> jax.Array:
    return logits(params, to_unit(images), motion)


def _logits_in_batches(params: Params, frames: FrameSet, size: int = 128) -> np.ndarray:
    """``(N, 2)``; the last batch is padded so that one compiled program serves all."""
    rows = np.arange(-(-len(frames) // size) * size) % max(1, len(frames))
    parts = []
    for start in range(0, len(rows), size):
        chosen = rows[start : start + size]
        parts.append(_forward(params, {name: array[chosen] for name, array in frames.images.items()}, frames.motion[chosen]))
    return np.concatenate(parts)[: len(frames)] if parts else np.zeros((0, len(PHASES)), np.float32)


def _loss_of(params: Params, frames: FrameSet) -> float:
    return float(balanced_loss(jnp.asarray(_logits_in_batches(params, frames)), jnp.asarray(frames.labels)))


def _score(params: Params, frames: FrameSet) -> np.ndarray:
    return np.asarray(jax.nn.sigmoid(_logits_in_batches(params, frames)))


def _checked_folds(frames: FrameSet, count: int, rng: np.random.Generator) -> np.ndarray:
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
                        "record more demonstrations"
                    )
    return fold


def _note(progress: Progress | None, member: int, settings: TrainingSettings) -> Callable[[int, float], None]:
    total = settings.members * settings.updates

    def note(done: int, held_out_loss: float) -> None:
        if progress is not None:
            text = f"reward classifier {member + 1}/{settings.members}, held-out loss {held_out_loss:.3f}"
            progress(member * settings.updates + done, total, text)

    return note
