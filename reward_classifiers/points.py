"""What a network sees in one camera as a few points: where each of its features is strongest, and how strong.

For scenes that look different every time. Three convolutions, then a spatial soft-argmax (Levine et al. 2016, "End-to-End
Training of Deep Visuomotor Policies"): the same weights look everywhere, so what was learned at one place holds at the others,
and the head compares places instead of remembering pictures. Several times dearer than the blocks of `network.py`.
"""

from __future__ import annotations

from collections.abc import Iterator

import jax
import jax.numpy as jnp

from reward_classifiers.layers import Params, normalise

WIDTHS = (16, 24, 24)
"""Channels after each convolution; the last are the points."""
_SIZES = (5, 3, 3)
_STRIDES = (2, 2, 1)
FEATURES = 3 * WIDTHS[-1]
_PLACE_GAIN, _STRENGTH_GAIN = 2.0, 0.3


def point_layers(camera: str, channels: int) -> Iterator[tuple[str, tuple[int, int, int, int]]]:
    """(name, shape ``(size, size, in, out)``) of each convolution of a camera with so many `channels`."""
    for number, (size, width) in enumerate(zip(_SIZES, WIDTHS, strict=True)):
        yield f"{camera}/conv{number}", (size, size, channels, width)
        channels = width


def point_features(params: Params, camera: str, view: jax.Array) -> jax.Array:
    """Views ``(B, h, w, c)`` → ``(B, 3 P)``: row and column of P points in [-2, 2], then strengths in (-1, 1)."""
    x = view
    for number, stride in enumerate(_STRIDES):
        if number:
            x = jax.nn.relu(normalise(x))
        layer = f"{camera}/conv{number}"
        x = jax.lax.conv_general_dilated(
            x, params[f"{layer}/w"], (stride, stride), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        x = x + params[f"{layer}/b"]
    batch, height, width, points = x.shape
    x = x.reshape(batch, height * width, points)
    share = jax.nn.softmax(x, axis=1)
    rows, columns = jnp.meshgrid(jnp.linspace(-1.0, 1.0, height), jnp.linspace(-1.0, 1.0, width), indexing="ij")
    places = jnp.einsum("bnp,nd->bpd", share, jnp.stack([rows.ravel(), columns.ravel()], axis=-1))
    strength = (share * x).sum(axis=1)
    return jnp.concatenate([_PLACE_GAIN * places.reshape(batch, -1), jnp.tanh(_STRENGTH_GAIN * strength)], axis=-1)
