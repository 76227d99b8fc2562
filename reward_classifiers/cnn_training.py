"""Training of the backend ``cnn``: balanced mini-batches, early stopping on the segments that the member holds out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import optax

from etude.specs import PHASES, ObservationSpec
from reward_classifiers.cnn import in_batches
from reward_classifiers.files import Tensors
from reward_classifiers.frames import FrameRules, FrameSet, Rules
from reward_classifiers.network import Architecture, Params, augment, initialise, logits, stacked, to_unit
from reward_classifiers.sampling import class_pools, draw
from reward_classifiers.trained import Progress, Trained


@dataclass(frozen=True)
class TrainingSettings:
    """Everything that shapes the result besides data and seed. Saved with the classifier.

    Attributes:
        members: networks in the ensemble, each holding out another fold of segments.
        updates: gradient updates per member at most. patience: evaluations without improvement after which a member stops.
        near_weight: how many times as often frames are drawn that lie within `near_frames` of the other label in their
            segment: there the decision is made.
        shift_px, jitter, light, tint: augmentation, see `network.augment`.
        network: see `network.Architecture.layout`.
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
    light: float = 0.0
    tint: float = 0.0
    network: Literal["blocks", "points"] = "blocks"
    rules: Rules = field(default_factory=FrameRules)

    @classmethod
    def of(cls, network: Literal["blocks", "points"]) -> TrainingSettings:
        """What suits a network. Points see the same thing wherever it is and however it is lit, so they are shown more."""
        if network == "blocks":
            return cls()
        return cls(
            updates=300, patience=300, batch_size=48, learning_rate=3e-3, shift_px=2, light=0.5, tint=0.1, network="points"
        )


def train_cnn(
    frames: FrameSet, spec: ObservationSpec, fold: np.ndarray, settings: TrainingSettings, seed: int, progress: Progress | None
) -> Trained:
    """One network per fold, trained on the others and scored on it. The same arguments give the same networks."""
    history = next(iter(frames.images.values())).shape[1]
    architecture = Architecture(spec.cameras, spec.state_names, layout=settings.network, frames=history)
    tensors: Tensors = {}
    held_out = np.zeros((1, len(frames), len(PHASES)), np.float32)
    for number in range(settings.members):
        train, test = fold != number, fold == number
        note = _note(progress, number, settings)
        member = fit(frames.take(train), frames.take(test), architecture, settings, seed * 1000 + number, note)
        tensors |= {f"{number}/{name}": np.asarray(array, np.float32) for name, array in member.items()}
        held_out[0, test] = _logits_in_batches(member, frames.take(test))
    return Trained(
        "cnn", {**asdict(architecture), "members": settings.members}, settings.members, tensors, held_out, asdict(settings)
    )


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
    pools = class_pools(train, settings.near_frames, settings.near_weight)
    best, best_loss, waited = jax.tree.map(jnp.copy, params), np.inf, 0
    for done in range(1, settings.updates + 1):
        rows = draw(pools, settings.batch_size, rng)
        key, use = jax.random.split(key)
        images = {name: stacked(array[rows]) for name, array in train.images.items()}
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
        changed = augment(images, key, settings.shift_px, settings.jitter, settings.light, settings.tint)
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


def _logits_in_batches(params: Params, frames: FrameSet) -> np.ndarray:
    """``(N, 2)``."""
    if not len(frames):
        return np.zeros((0, len(PHASES)), np.float32)
    images = {name: stacked(array) for name, array in frames.images.items()}
    return in_batches(lambda images, motion: _forward(params, images, motion)[None], images, frames.motion)[0]


def _loss_of(params: Params, frames: FrameSet) -> float:
    return float(balanced_loss(jnp.asarray(_logits_in_batches(params, frames)), jnp.asarray(frames.labels)))


def _note(progress: Progress | None, member: int, settings: TrainingSettings) -> Callable[[int, float], None]:
    total = settings.members * settings.updates

    def note(done: int, held_out_loss: float) -> None:
        if progress is not None:
            text = f"reward classifier {member + 1}/{settings.members}, held-out loss {held_out_loss:.3f}"
            progress(member * settings.updates + done, total, text)

    return note
