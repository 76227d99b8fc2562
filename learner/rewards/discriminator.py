"""A discriminator of demonstrated states against visited ones, and the reward that it makes: MEDAL and VICE.

VICE (Fu et al. 2018) rewards the forward policy for looking like the end of a demonstration, MEDAL (Sharma et al. 2022) the
backward one for looking like any of its states; only the choice of the positives differs (`learner.replay.contrast`).
Spectral normalisation and mix-up on features are MEDAL++'s (Sharma et al. 2023, §4). Pure functions on an explicit state.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import optax

from etude.config import DiscriminatorConfig, EncoderConfig
from etude.specs import ObservationSpec
from learner.networks.encoders import ObservationEncoder
from learner.networks.mlp import MLP

Params = Any
Arrays = dict[str, jax.Array]
EPSILON = 1e-10
"""Inside the logarithms, so that rewards are finite: at most 23.03 (MEDAL's release)."""
POWER_STEPS = 5


@flax.struct.dataclass
class DiscriminatorState:
    """What a discriminator learns.

    Attributes:
        params: ``{"encoder", "head"}``, before spectral normalisation.
        vectors: path of each layer -> unit vector ``(outputs,)`` of its largest singular value; empty without normalisation.
        optimiser: of `params`.
        prior: what the weights of the positives need (`learner.rewards.q_weighted`), else empty.
    """

    params: Params
    vectors: Arrays
    optimiser: optax.OptState
    prior: Params


class Discriminator:
    """The functions of one discriminator; holds no arrays. Its encoder is its own: it shares nothing with the agent's.

    Observations are dicts of ``(B, …)``; `statistics` normalise the state as for the agent.
    """

    def __init__(self, config: DiscriminatorConfig, encoder: EncoderConfig, spec: ObservationSpec) -> None:
        self.config = config
        self.spec = spec
        own = encoder.model_copy(update={"features": config.trunk_features, "instruction": "none"})
        self.encoder = ObservationEncoder(spec, own)
        self.head = MLP(config.hidden, 1, layer_norm=False)
        self.optimiser = optax.adam(config.learning_rate)

    def init(self, key: jax.Array, statistics: Params) -> DiscriminatorState:
        encoder_key, head_key, vector_key = jax.random.split(key, 3)
        example = {name: jnp.zeros((1, *shape), dtype) for name, (shape, dtype) in self.spec.shapes().items()}
        encoder = self.encoder.init(encoder_key, example).get("params", {})
        features = self.encoder.apply({"params": encoder, "statistics": statistics}, example)
        params = {"encoder": encoder, "head": self.head.init(head_key, features)["params"]}
        vectors = first_vectors(params, vector_key) if self.config.spectral_norm else {}
        return DiscriminatorState(params, vectors, self.optimiser.init(params), prior={})

    def reward(self, state: DiscriminatorState, statistics: Params, next_observation: Arrays) -> jax.Array:
        """``(B,)`` of the state that was reached, no gradient; with the discriminator as it is now, whenever that was."""
        params = self._normalised(state.params, state.vectors)
        logits = self._logits(params, self._features(params, statistics, next_observation))
        return jax.lax.stop_gradient(self.config.scale * reward_of_logits(logits, self.config.form))

    def loss(
        self,
        params: Params,
        vectors: Arrays,
        statistics: Params,
        positives: Arrays,
        negatives: Arrays,
        weights: jax.Array,
        key: jax.Array,
    ) -> jax.Array:
        """Mixed-up cross-entropy, scalar. Positives ``(P, …)`` with `weights` ``(P,)``, negatives ``(N, …)`` with weight 1."""
        params = self._normalised(params, vectors)
        positive, negative = (self._features(params, statistics, observation) for observation in (positives, negatives))
        features = jnp.concatenate([positive, negative])
        labels = jnp.concatenate([jnp.ones(len(positive)), jnp.zeros(len(negative))])
        weights = jnp.concatenate([weights, jnp.ones(len(negative))])
        mixed, partner, share = mix_up(features, key)
        logits = self._logits(params, mixed)
        # cross-entropy is linear in its label, so that two weighted halves are one mixed label where all weights are 1
        own, other = (optax.sigmoid_binary_cross_entropy(logits, label) for label in (labels, labels[partner]))
        return (share * weights * own + (1.0 - share) * weights[partner] * other).mean()

    def update(
        self,
        state: DiscriminatorState,
        statistics: Params,
        positives: Arrays,
        negatives: Arrays,
        weights: jax.Array,
        key: jax.Array,
    ) -> tuple[DiscriminatorState, jax.Array]:
        """One gradient step, and its loss."""
        vectors = power_iteration(state.params, state.vectors)
        value, gradient = jax.value_and_grad(self.loss)(state.params, vectors, statistics, positives, negatives, weights, key)
        changes, optimiser = self.optimiser.update(gradient, state.optimiser, state.params)
        params = optax.apply_updates(state.params, changes)
        return dataclasses.replace(state, params=params, vectors=vectors, optimiser=optimiser), value

    def _features(self, params: Params, statistics: Params, observation: Arrays) -> jax.Array:
        return self.encoder.apply({"params": params["encoder"], "statistics": statistics}, observation)

    def _logits(self, params: Params, features: jax.Array) -> jax.Array:
        return self.head.apply({"params": params["head"]}, features)[..., 0]

    def _normalised(self, params: Params, vectors: Arrays) -> Params:
        return spectrally_normalised(params, vectors) if self.config.spectral_norm else params


def reward_of_logits(logits: jax.Array, form: str) -> jax.Array:
    """``−log(1 − D + ε)`` at least 0, or ``log(D + ε)`` at most 0, with D = sigmoid(logits)."""
    if form == "log_d":
        return jnp.minimum(jnp.log(jax.nn.sigmoid(logits) + EPSILON), 0.0)
    return -jnp.log(1.0 - jax.nn.sigmoid(logits) + EPSILON)


def mix_up(features: jax.Array, key: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Mix-up (Zhang et al. 2018) with Beta(1, 1): ``λ x_i + (1 − λ) x_j``, partners j ``(B,)``, shares λ ``(B,)``."""
    partner_key, share_key = jax.random.split(key)
    partner = jax.random.permutation(partner_key, len(features))
    share = jax.random.uniform(share_key, (len(features),))
    column = share.reshape(-1, *(1 for _ in features.shape[1:]))
    return column * features + (1.0 - column) * features[partner], partner, share


# --- spectral normalisation (Miyato et al. 2018) -----------------------------------------------------------------------


def first_vectors(params: Params, key: jax.Array) -> Arrays:
    """Random unit vectors ``(outputs,)`` for every kernel in `params`, then enough power iteration to be right."""
    kernels = _kernels(params)
    keys = jax.random.split(key, len(kernels))
    vectors = {
        name: _unit(jax.random.normal(k, (kernel.shape[-1],))) for k, (name, kernel) in zip(keys, kernels.items(), strict=True)
    }
    for _ in range(10):
        vectors = power_iteration(params, vectors)
    return vectors


def power_iteration(params: Params, vectors: Arrays) -> Arrays:
    """A few steps for every layer: v ← normalised ``Wᵀ W v``, no gradient.

    One per update is usual; a layer could then exceed 1 by several per cent, because its largest values lie close together.
    """
    kernels = _kernels(params)
    stepped = {}
    for name, vector in vectors.items():
        matrix = jax.lax.stop_gradient(_matrix(kernels[name]))
        for _ in range(POWER_STEPS):
            vector = _unit(matrix.T @ _unit(matrix @ vector))
        stepped[name] = vector
    return stepped


def spectrally_normalised(params: Params, vectors: Arrays) -> Params:
    """`params` with every kernel (linear or convolution, as a matrix of all inputs by outputs) divided by ``‖W v‖``."""

    def divide(path: Any, leaf: jax.Array) -> jax.Array:
        vector = vectors.get(jax.tree_util.keystr(path))
        return leaf if vector is None else leaf / (jnp.linalg.norm(_matrix(leaf) @ vector) + 1e-12)

    return jax.tree_util.tree_map_with_path(divide, params)


def _kernels(params: Params) -> Arrays:
    leaves = jax.tree_util.tree_leaves_with_path(params)
    return {jax.tree_util.keystr(path): leaf for path, leaf in leaves if path[-1].key == "kernel"}


def _matrix(kernel: jax.Array) -> jax.Array:
    return kernel.reshape(-1, kernel.shape[-1])


def _unit(vector: jax.Array) -> jax.Array:
    return vector / (jnp.linalg.norm(vector) + 1e-12)
