"""Image encoders and the observation normaliser: observation in, one feature vector out.

`patch` is the CPU default: a patch stem and matrix products only, which XLA runs several times faster on a CPU than convolution
gradients. `conv` is the DrQ stack (Yarats et al. 2021) for GPUs. In practice encoders are trained by the critic's gradient
only; while pretraining the cloning loss reaches them too, so that the first policy can see.
"""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from etude.config import EncoderConfig
from etude.specs import IMAGE_PREFIX, ObservationSpec

Arrays = dict[str, jax.Array]
INSTRUCTION_FEATURES = 32
"""Size of the learned projection of an instruction's embedding."""


class PatchEncoder(nn.Module):
    """``(B, h, w, 3)`` uint8 → ``(B, features)``: patch embedding, one mixing layer per patch, then all patches together."""

    features: int
    patch_px: int
    dtype: Any
    width: int = 64

    @nn.compact
    def __call__(self, image: jax.Array) -> jax.Array:
        batch, height, width, channels = image.shape
        p = self.patch_px
        rows, columns = height // p, width // p
        x = image[:, : rows * p, : columns * p].reshape(batch, rows, p, columns, p, channels)
        x = x.transpose(0, 1, 3, 2, 4, 5).reshape(batch * rows * columns, p * p * channels)
        x = x.astype(jnp.float32) * (2.0 / 255.0) - 1.0
        x = nn.relu(nn.LayerNorm(dtype=self.dtype)(nn.Dense(self.width, dtype=self.dtype)(x)))
        x = nn.relu(nn.Dense(self.width // 2, dtype=self.dtype)(x))
        x = x.reshape(batch, rows * columns * (self.width // 2))
        return nn.Dense(self.features, dtype=self.dtype)(x)


class ConvEncoder(nn.Module):
    """DrQ encoder: four 3×3 convolutions (stride 2, 2, 1, 1), 32 channels, then a linear bottleneck."""

    features: int
    dtype: Any

    @nn.compact
    def __call__(self, image: jax.Array) -> jax.Array:
        x = image.astype(jnp.float32) / 255.0 - 0.5
        for stride in (2, 2, 1, 1):
            x = nn.relu(nn.Conv(32, (3, 3), strides=(stride, stride), padding="VALID", dtype=self.dtype)(x))
        return nn.Dense(self.features, dtype=self.dtype)(x.reshape(x.shape[0], -1))


class ObservationEncoder(nn.Module):
    """Observation (batched, see `etude.specs`) → ``(B, d)``: per-camera features (LayerNorm, tanh) beside the normalised state,
    and as many of the embedded instruction, the entry ``instruction (B, instruction_dim)``, where the recipe reads it.

    With ``compute_dtype: bfloat16`` cameras are encoded in bfloat16 up to the LayerNorm; parameters and features are float32.
    The state's mean and standard deviation are in the collection ``statistics``: fixed numbers, exported with the weights.
    """

    spec: ObservationSpec
    config: EncoderConfig

    @nn.compact
    def __call__(self, observation: Arrays) -> jax.Array:
        mean = self.variable("statistics", "mean", jnp.zeros, self.spec.state_dim)
        std = self.variable("statistics", "std", jnp.ones, self.spec.state_dim)
        state = jnp.clip((observation["state"] - mean.value) / std.value, -5.0, 5.0)
        parts = [state]
        dtype = jnp.dtype(self.config.compute_dtype)
        share = max(1, self.config.features // max(1, len(self.spec.cameras)))
        for name in self.spec.cameras:
            image = observation[IMAGE_PREFIX + name]
            module: Any
            if self.config.kind == "patch":
                module = PatchEncoder(share, self.config.patch_px, dtype, name=f"patch_{name}")
            else:
                module = ConvEncoder(share, dtype, name=f"conv_{name}")
            parts.append(jnp.tanh(nn.LayerNorm(name=f"norm_{name}")(module(image).astype(jnp.float32))))
        if self.config.instruction != "none":
            words = nn.Dense(INSTRUCTION_FEATURES, name="instruction_projection")(observation["instruction"])
            parts.append(jnp.tanh(nn.LayerNorm(name="instruction_norm")(words)))
        return jnp.concatenate(parts, axis=-1)

    def uses_convolutions(self) -> bool:
        return self.config.kind == "conv" and bool(self.spec.cameras)
