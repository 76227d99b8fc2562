"""The image network and its augmentation, in plain JAX: parameters are a flat dict of arrays, as they lie in the file.

Matrix products only: 4×4 pixel blocks are embedded, neighbouring blocks merged twice, the rest is a small MLP over all
cameras with one output per direction. On a CPU its gradient costs a fraction of a convolution's, and one frame is scored in
well under a millisecond. Of the proprioception only velocities are an input: "at rest" is often part of success and no
single picture shows it. Whether the thing itself rests, which may move when the arm does not, a frame before the judged one
shows (`Architecture.frames`): the network sees the newest picture and by how much it differs from those before. The arm's
pose is deliberately left out: success is a property of the scene, and a network that sees the pose learns where demonstrations
end instead.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from etude.specs import PHASES
from reward_classifiers.frames import motion_indices
from reward_classifiers.layers import Params, blocks, dense, normalise
from reward_classifiers.points import FEATURES, point_features, point_layers

BLOCK_PX = 4
MOTION_GAIN = 25.0
"""Velocities are fed in units of 0.04 m/s or rad/s, and no further than three of them: what matters is whether things rest."""


@dataclass(frozen=True)
class Architecture:
    """Sizes of the network; written into the classifier's file and needed to read it.

    Attributes:
        cameras: camera -> (height, width) in pixels, each a multiple of 8.
        state_names: names of the proprioception of the robot that it was trained on; those that are velocities are an input.
        layout: what sees a camera: ``blocks`` as above, or the ``points`` of `points.py`.
        frames: F, the judged frame and those before it that are seen.
    """

    cameras: dict[str, tuple[int, int]]
    state_names: tuple[str, ...] = ()
    block_features: int = 32
    merged_features: int = 32
    camera_features: int = 64
    hidden: int = 64
    layout: Literal["blocks", "points"] = "blocks"
    frames: int = 1

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

    def layer(name: str, *shape: int, gain: float = 2.0) -> None:
        nonlocal key
        key, use = jax.random.split(key)
        inputs = int(np.prod(shape[:-1]))
        params[f"{name}/w"] = jax.random.normal(use, shape) * np.sqrt(gain / max(1, inputs))
        params[f"{name}/b"] = jnp.zeros(shape[-1])

    channels = 3 * architecture.frames
    for camera, (height, width) in architecture.cameras.items():
        if architecture.layout == "points":
            for name, shape in point_layers(camera, channels):
                layer(name, *shape)
            continue
        layer(f"{camera}/block", BLOCK_PX * BLOCK_PX * channels, architecture.block_features)
        layer(f"{camera}/merge", 4 * architecture.block_features, architecture.merged_features)
        tokens = (height // (2 * BLOCK_PX)) * (width // (2 * BLOCK_PX))
        layer(f"{camera}/out", tokens * architecture.merged_features, architecture.camera_features)
    layer("head/motion", 2 * len(architecture.motion), 16)
    seen = FEATURES if architecture.layout == "points" else architecture.camera_features
    layer("head/hidden", seen * len(architecture.cameras) + 16, architecture.hidden)
    layer("head/out", architecture.hidden, len(PHASES), gain=0.1)
    return params


def logits(params: Params, images: dict[str, jax.Array], motion: jax.Array) -> jax.Array:
    """Images (camera -> float32 ``(B, h, w, 3 F)`` in [0, 1], as `stacked` gives them) and velocities ``(B, m)`` → ``(B, 2)``
    logits, one per direction."""
    motion = jnp.clip(motion * MOTION_GAIN, -3.0, 3.0)
    features = [jax.nn.relu(dense(params, "head/motion", jnp.concatenate([motion, jnp.abs(motion)], axis=-1)))]
    for camera in sorted(images):
        see = block_features if f"{camera}/block/w" in params else point_features
        features.append(see(params, camera, _with_changes(images[camera])))
    hidden = jax.nn.relu(dense(params, "head/hidden", jnp.concatenate(features, axis=-1)))
    return dense(params, "head/out", hidden)


def stacked(frames: np.ndarray) -> np.ndarray:
    """Frames ``(B, F, h, w, 3)``, oldest first → one picture ``(B, h, w, 3 F)``."""
    batch, count, height, width, colours = frames.shape
    return np.moveaxis(frames, 1, 3).reshape(batch, height, width, count * colours)


def _with_changes(image: jax.Array) -> jax.Array:
    """``(B, h, w, 3 F)`` in [0, 1] → the newest frame in [-1, 1], then by how much it differs from each before it, in [-2, 2]."""
    newest, before = image[..., -3:], image[..., :-3]
    changes = (jnp.tile(newest, before.shape[-1] // 3) - before) * 2.0
    return jnp.concatenate([newest * 2.0 - 1.0, changes], axis=-1)


def block_features(params: Params, camera: str, view: jax.Array) -> jax.Array:
    """Views ``(B, h, w, c)`` → ``(B, camera_features)``."""
    x = jax.nn.relu(normalise(dense(params, f"{camera}/block", blocks(view, BLOCK_PX))))
    x = jax.nn.relu(normalise(dense(params, f"{camera}/merge", blocks(x, 2))))
    return jax.nn.relu(normalise(dense(params, f"{camera}/out", x.reshape(x.shape[0], -1))))


def augment(
    images: dict[str, jax.Array], key: jax.Array, shift_px: int, jitter: float, light: float = 0.0, tint: float = 0.0
) -> dict[str, jax.Array]:
    """Random shift (edge-padded, per row and camera) and brightness/contrast jitter; uint8 in, float32 in [0, 1] out. Frames that
    are `stacked` are changed alike.

    `light` is the largest logarithm of a factor on the whole picture, `tint` the standard deviation of that on each colour.

    Small shifts stand for a camera that was nudged; they stay small because where things are in the picture is what success
    means.
    """
    result = {}
    for camera in sorted(images):
        image = images[camera].astype(jnp.float32) / 255.0
        key, where, how = jax.random.split(key, 3)
        batch, height, width, channels = image.shape
        if shift_px:
            pad = ((0, 0), (shift_px, shift_px), (shift_px, shift_px), (0, 0))
            offset = jax.random.randint(where, (batch, 2), 0, 2 * shift_px + 1)
            image = jax.vmap(partial(_crop, size=(height, width, channels)))(jnp.pad(image, pad, mode="edge"), offset)
        if light or tint:
            lit, tinted = jax.random.split(jax.random.fold_in(how, 1))
            logarithm = jax.random.uniform(lit, (batch, 1, 1, 1), minval=-light, maxval=light)
            colour = jnp.tile(jax.random.normal(tinted, (batch, 1, 1, 3)), channels // 3)
            image = image * jnp.exp(logarithm + tint * colour)
        amount = jax.random.uniform(how, (2, batch, 1, 1, 1), minval=-jitter, maxval=jitter)
        result[camera] = jnp.clip((image - 0.5) * (1.0 + amount[0]) + 0.5 + amount[1], 0.0, 1.0)
    return result


def _crop(image: jax.Array, offset: jax.Array, size: tuple[int, int, int]) -> jax.Array:
    return jax.lax.dynamic_slice(image, (offset[0], offset[1], 0), size)


def to_unit(images: dict[str, jax.Array]) -> dict[str, jax.Array]:
    """uint8 → float32 in [0, 1], what `augment` gives without any change."""
    return {camera: image.astype(jnp.float32) / 255.0 for camera, image in images.items()}
