"""Small heads on frozen embeddings, in JAX: linear, MLP, or attention over views and last frames. K of them are one array.

Heads differ by their start, by a fixed random function added to each (randomised priors, Osband et al. 2018) and by weights of
the episodes that they learn from (Bayesian bootstrap, Rubin 1981). Where the labels decide, they agree; elsewhere they do not.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import optax

from etude.specs import PHASES
from reward_classifiers.files import Tensors

Params = dict[str, jax.Array]
MOTION_GAIN = 25.0
"""As in `network.py`: velocities in units of 0.04, clipped at three of them."""
_ATTENTION = 32
_MOST_ROWS = 400


@dataclass(frozen=True)
class HeadSpec:
    """Sizes, as they stand in the classifier's file.

    Attributes:
        frames, views, features: F, V and P of the embeddings that it sees (after `Projection`).
        motion: number of velocities.
    """

    kind: Literal["linear", "mlp", "attention"]
    frames: int
    views: int
    features: int
    motion: int
    hidden: int = 64
    prior_scale: float = 1.0


@dataclass(frozen=True)
class Projection:
    """From raw embeddings to what heads see: standardised, then the main components of the training frames, view by view.

    Attributes:
        mean, scale: float32 ``(V, D)``. basis: float32 ``(V, D, P)``.
    """

    mean: np.ndarray
    scale: np.ndarray
    basis: np.ndarray

    @classmethod
    def fit(cls, embeddings: np.ndarray, features: int) -> Projection:
        """From embeddings ``(N, V, D)``, of which `_MOST_ROWS` are enough; P is `features` or as many as there are. Components
        keep their relative sizes and have a mean variance of 1."""
        embeddings = embeddings[:: -(-len(embeddings) // _MOST_ROWS)]
        mean, scale = embeddings.mean(axis=0), embeddings.std(axis=0)
        scale = np.where(scale < 1e-6, 1.0, scale)
        bases = []
        for view in range(embeddings.shape[1]):
            x = (embeddings[:, view] - mean[view]) / scale[view]
            _, size, components = np.linalg.svd(x, full_matrices=False)
            count = min(features, len(x), x.shape[1])
            bases.append(components[:count].T / np.sqrt(max(np.square(size[:count]).mean() / len(x), 1e-6)))
        return cls(mean.astype(np.float32), scale.astype(np.float32), np.stack(bases).astype(np.float32))

    def __call__(self, embeddings: np.ndarray) -> np.ndarray:
        """``(…, V, D)`` → float32 ``(…, V, P)``."""
        return np.einsum("...vd,vdp->...vp", (embeddings - self.mean) / self.scale, self.basis).astype(np.float32)


def motion_features(motion: np.ndarray) -> np.ndarray:
    """Velocities ``(B, m)`` → ``(B, 2m)``."""
    scaled = np.clip(motion * MOTION_GAIN, -3.0, 3.0)
    return np.concatenate([scaled, np.abs(scaled)], axis=-1).astype(np.float32)


def initialise(spec: HeadSpec, key: jax.Array) -> Params:
    """Random parameters of one head."""
    keys = iter(jax.random.split(key, 8))
    params: Params = {}

    def dense(name: str, inputs: int, outputs: int, gain: float) -> None:
        params[f"{name}/w"] = jax.random.normal(next(keys), (inputs, outputs)) * np.sqrt(gain / max(1, inputs))
        params[f"{name}/b"] = jnp.zeros(outputs)

    flat = spec.frames * spec.views * spec.features + 2 * spec.motion
    match spec.kind:
        case "linear":
            dense("out", flat, len(PHASES), 1.0)
        case "mlp":
            dense("hidden", flat, spec.hidden, 2.0)
            dense("out", spec.hidden, len(PHASES), 1.0)
        case "attention":
            dense("token", spec.features, _ATTENTION, 1.0)
            dense("motion", 2 * spec.motion, _ATTENTION, 1.0)
            dense("value", _ATTENTION, _ATTENTION, 2.0)
            dense("out", _ATTENTION, len(PHASES), 1.0)
            params["place"] = 0.5 * jax.random.normal(next(keys), (spec.frames * spec.views, _ATTENTION))
            params["query"] = jax.random.normal(next(keys), (len(PHASES), _ATTENTION)) / np.sqrt(_ATTENTION)
    return params


def apply(params: Params, kind: str, tokens: jax.Array, motion: jax.Array) -> jax.Array:
    """One head: tokens ``(B, F, V, P)`` and motion features ``(B, 2m)`` → logits ``(B, 2)``."""
    batch = tokens.shape[0]
    if kind == "attention":
        x = _dense(params, "token", tokens.reshape(batch, -1, tokens.shape[-1])) + params["place"]
        x = jnp.concatenate([x, _dense(params, "motion", motion)[:, None]], axis=1)
        share = jax.nn.softmax(jnp.einsum("qd,btd->bqt", params["query"], x) / np.sqrt(_ATTENTION), axis=-1)
        seen = jnp.einsum("bqt,btd->bqd", share, jax.nn.relu(_dense(params, "value", x)))
        return jnp.einsum("bqd,dq->bq", seen, params["out/w"]) + params["out/b"]
    x = jnp.concatenate([tokens.reshape(batch, -1), motion], axis=-1)
    if kind == "mlp":
        x = jax.nn.relu(_dense(params, "hidden", x))
    return _dense(params, "out", x)


@partial(jax.jit, static_argnames="spec")
def ensemble_logits(heads: Params, priors: Params, spec: HeadSpec, tokens: jax.Array, motion: jax.Array) -> jax.Array:
    """``(K, B, 2)`` of stacked heads and their fixed priors."""
    every = jax.vmap(lambda params: apply(params, spec.kind, tokens, motion))
    return every(heads) + spec.prior_scale * every(priors)


def fit_heads(
    spec: HeadSpec,
    tokens: np.ndarray,
    motion: np.ndarray,
    labels: np.ndarray,
    episode_weights: np.ndarray,
    batches: np.ndarray,
    learning_rate: float,
    weight_decay: float,
    seed: int,
) -> tuple[Params, Params]:
    """Train K heads at once; returns (heads, priors), stacked.

    Args:
        tokens, motion, labels: ``(N, F, V, P)``, ``(N, 2m)``, int ``(N, 2)`` with negative for unknown.
        episode_weights: float ``(K, N)``, the bootstrap's weight of each row for each head.
        batches: int ``(updates, B)`` of rows.
    """
    count = len(episode_weights)
    heads, priors = (_several(spec, jax.random.key(seed + offset), count) for offset in (0, 1_000_003))
    arrays = tuple(map(jnp.asarray, (tokens, motion, labels, episode_weights)))
    return _train(heads, priors, spec, arrays, jnp.asarray(batches), learning_rate, weight_decay), priors


@partial(jax.jit, static_argnames=("spec", "count"))
def _several(spec: HeadSpec, key: jax.Array, count: int) -> Params:
    return jax.vmap(partial(initialise, spec))(jax.random.split(key, count))


@partial(jax.jit, static_argnames=("spec", "learning_rate", "weight_decay"))
def _train(
    heads: Params,
    priors: Params,
    spec: HeadSpec,
    arrays: tuple[jax.Array, ...],
    batches: jax.Array,
    learning_rate: float,
    weight_decay: float,
) -> Params:
    tokens, motion, labels, weights = arrays
    warm_up, updates = max(1, len(batches) // 20), max(2, len(batches))
    schedule = optax.warmup_cosine_decay_schedule(0.0, learning_rate, warm_up, updates, learning_rate * 0.05)
    optimiser = optax.adamw(schedule, weight_decay=weight_decay)

    def step(carry: Any, rows: jax.Array) -> tuple[Any, None]:
        heads, state = carry

        def loss(heads: Params) -> jax.Array:
            logits = ensemble_logits(heads, priors, spec, tokens[rows], motion[rows])
            return balanced_loss(logits, labels[rows], weights[:, rows]).sum()

        changes, state = optimiser.update(jax.grad(loss)(heads), state, heads)
        return (optax.apply_updates(heads, changes), state), None

    return jax.lax.scan(step, (heads, optimiser.init(heads)), batches)[0][0]


def balanced_loss(logits: jax.Array, labels: jax.Array, weights: jax.Array) -> jax.Array:
    """Binary cross-entropy of each head, ``(K,)``, from logits ``(K, B, 2)``, labels ``(B, 2)`` and row weights ``(K, B)``.

    In each direction successes and failures weigh the same in all; unknown labels weigh nothing.
    """
    total = jnp.zeros(len(logits))
    for value in (1, 0):
        share = weights[:, :, None] * (labels == value)
        nll = jax.nn.softplus(-logits if value == 1 else logits)
        total += ((nll * share).sum(axis=1) / jnp.maximum(share.sum(axis=1), 1e-6)).mean(axis=-1)
    return total / 2.0


def _dense(params: Params, name: str, x: jax.Array) -> jax.Array:
    return x @ params[f"{name}/w"] + params[f"{name}/b"]


def to_tensors(projection: Projection, heads: Params, priors: Params) -> Tensors:
    """Arrays as they lie in the classifier's file."""
    stacked = {
        f"{kind}/{name}": array for kind, params in (("heads", heads), ("priors", priors)) for name, array in params.items()
    }
    return {
        **{name: np.asarray(array, np.float32) for name, array in stacked.items()},
        **{f"projection/{name}": array for name, array in asdict(projection).items()},
    }
