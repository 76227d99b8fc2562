"""The image network and its augmentation, in plain JAX: parameters are a flat dict of arrays, as they lie in the file.

Matrix products only: 4×4 pixel blocks are embedded, neighbouring blocks merged twice, the rest is a small MLP over all
cameras with one output per direction. On a CPU its gradient costs a fraction of a convolution's, and one frame is scored in
well under a millisecond. Of the proprioception only velocities are an input: "at rest" is often part of success and no
single picture shows it. The arm's pose is deliberately left out: success is a property of the scene, and a network that
sees the pose learns where demonstrations end instead.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from etude.specs import PHASES
from reward_classifiers.frames import motion_indices

Params = dict[str, jax.Array]
BLOCK_PX = 4
MOTION_GAIN = 25.0
"""Velocities are fed in units of 0.04 m/s or rad/s, and no further than three of them: what matters is whether things rest."""


@dataclass(frozen=True)
class Architecture:
    """Sizes of the network; written into the classifier's file and needed to read it.

    Attributes:
        cameras: camera -> (height, width) in pixels, each a multiple of 8.
        state_names: names of the proprioception of the robot that it was trained on; those that are velocities are an input.
    """

    cameras: dict[str, tuple[int, int]]
    state_names: tuple[str, ...] = ()
    block_features: int = 32
    merged_features: int = 32
    camera_features: int = 64
    hidden: int = 64

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Architecture:
        """Inverse of `dataclasses.asdict` through JSON. Raises TypeError or ValueError on anything else."""
        cameras = {str(name): (int(height), int(width)) for name, (height, width) in data["cameras"].items()}
        return cls(**{**data, "cameras": cameras, "state_names": tuple(str(name) for name in data["state_names"])})

    @property
    def motion(self) -> list[int]:
        """Indices of the velocities in ``state``."""
        return motion_indices(self.state_names)


def initialise(architecture: Architecture, key: jax.Array) -> Params:
    """Random parameters (He normal), keys ``<camera>/<layer>/w|b`` and ``head/<layer>/w|b``."""
    params: Params = {}

    def dense(name: str, inputs: int, outputs: int, gain: float = 2.0) -> None:
        nonlocal key
        key, use = jax.random.split(key)
        params[f"{name}/w"] = jax.random.normal(use, (inputs, outputs)) * np.sqrt(gain / max(1, inputs))
        params[f"{name}/b"] = jnp.zeros(outputs)

    for camera, (height, width) in architecture.cameras.items():
        dense(f"{camera}/block", BLOCK_PX * BLOCK_PX * 3, architecture.block_features)
        dense(f"{camera}/merge", 4 * architecture.block_features, architecture.merged_features)
        tokens = (height // (2 * BLOCK_PX)) * (width // (2 * BLOCK_PX))
        dense(f"{camera}/out", tokens * architecture.merged_features, architecture.camera_features)
    dense("head/motion", 2 * len(architecture.motion), 16)
    dense("head/hidden", architecture.camera_features * len(architecture.cameras) + 16, architecture.hidden)
    dense("head/out", architecture.hidden, len(PHASES), gain=0.1)
    return params


def logits(params: Params, images: dict[str, jax.Array], motion: jax.Array) -> jax.Array:
    """Images (camera -> float32 ``(B, h, w, 3)`` in [0, 1]) and velocities ``(B, m)`` → ``(B, 2)`` logits, one per direction."""
    motion = jnp.clip(motion * MOTION_GAIN, -3.0, 3.0)
    features = [jax.nn.relu(_dense(params, "head/motion", jnp.concatenate([motion, jnp.abs(motion)], axis=-1)))]
    for camera in sorted(images):
        x = _blocks(images[camera] * 2.0 - 1.0, BLOCK_PX)
        x = jax.nn.relu(_normalise(_dense(params, f"{camera}/block", x)))
        x = _blocks(x, 2)
        x = jax.nn.relu(_normalise(_dense(params, f"{camera}/merge", x)))
        features.append(jax.nn.relu(_normalise(_dense(params, f"{camera}/out", x.reshape(x.shape[0], -1)))))
    hidden = jax.nn.relu(_dense(params, "head/hidden", jnp.concatenate(features, axis=-1)))
    return _dense(params, "head/out", hidden)


def _dense(params: Params, name: str, x: jax.Array) -> jax.Array:
    return x @ params[f"{name}/w"] + params[f"{name}/b"]


def _normalise(x: jax.Array) -> jax.Array:
    """LayerNorm without parameters."""
    mean = x.mean(-1, keepdims=True)
    return (x - mean) * jax.lax.rsqrt(jnp.square(x - mean).mean(-1, keepdims=True) + 1e-5)


def _blocks(x: jax.Array, size: int) -> jax.Array:
    """``(B, h, w, c)`` → ``(B, h/size, w/size, size·size·c)``: every size×size square becomes one vector."""
    batch, height, width, channels = x.shape
    x = x.reshape(batch, height // size, size, width // size, size, channels).transpose(0, 1, 3, 2, 4, 5)
    return x.reshape(batch, height // size, width // size, size * size * channels)


def augment(images: dict[str, jax.Array], key: jax.Array, shift_px: int, jitter: float) -> dict[str, jax.Array]:
    """Random shift (edge-padded, per frame and camera) and brightness/contrast jitter; uint8 in, float32 in [0, 1] out.

    Small shifts stand for a camera that was nudged; they stay small because where things are in the picture is what success
    means.
    """
    result = {}
    for camera in sorted(images):
        image = images[camera].astype(jnp.float32) / 255.0
        key, where, light = jax.random.split(key, 3)
        batch, height, width, channels = image.shape
        if shift_px:
            pad = ((0, 0), (shift_px, shift_px), (shift_px, shift_px), (0, 0))
            offset = jax.random.randint(where, (batch, 2), 0, 2 * shift_px + 1)
            image = jax.vmap(partial(_crop, size=(height, width, channels)))(jnp.pad(image, pad, mode="edge"), offset)
        amount = jax.random.uniform(light, (2, batch, 1, 1, 1), minval=-jitter, maxval=jitter)
        result[camera] = jnp.clip((image - 0.5) * (1.0 + amount[0]) + 0.5 + amount[1], 0.0, 1.0)
    return result


def _crop(image: jax.Array, offset: jax.Array, size: tuple[int, int, int]) -> jax.Array:
    return jax.lax.dynamic_slice(image, (offset[0], offset[1], 0), size)


def to_unit(images: dict[str, jax.Array]) -> dict[str, jax.Array]:
    """uint8 → float32 in [0, 1], what `augment` gives without any change."""
    return {camera: image.astype(jnp.float32) / 255.0 for camera, image in images.items()}
