"""Frozen image encoders: pictures in, embeddings out, nothing trained. What is learned on top is in `heads.py`, without torch.

``hog`` has no weights at all; ``efficientnet_lite0`` (`efficientnet.py`) has those that a package brings; and
``open_clip:<model>:<weights>`` is the image tower of a CLIP model (Radford et al. 2021) as `open_clip` names it.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Protocol

import numpy as np

from etude.clip_import import import_open_clip
from reward_classifiers.files import ClassifierError

HOG = "hog"
EFFICIENTNET = "efficientnet_lite0"
OPEN_CLIP = "open_clip:"
_CELLS, _COLOUR_CELLS, _DIRECTIONS = 8, 16, 9


class Encoder(Protocol):
    """Frozen: the same picture gives the same numbers. `name` holds the version, the weights' checksum included."""

    name: str

    def encode(self, images: np.ndarray) -> np.ndarray:
        """uint8 ``(N, h, w, 3)`` RGB → float32 ``(N, dim)``."""
        ...


def load_encoder(spec: str) -> Encoder:
    """``hog``, ``efficientnet_lite0`` or ``open_clip:<model>:<weights>``. Raises ClassifierError."""
    if spec == HOG:
        return Hog()
    if spec == EFFICIENTNET:
        from reward_classifiers.efficientnet import EfficientNet

        return EfficientNet()
    if spec.startswith(OPEN_CLIP):
        return ClipEncoder(spec)
    raise ClassifierError(f"encoder {spec!r} is not known: use {HOG!r}, {EFFICIENTNET!r} or '{OPEN_CLIP}<model>:<weights>'")


class Hog:
    """Histograms of oriented gradients (Dalal & Triggs 2005) on an 8×8 grid beside mean colours on a 16×16 grid."""

    name = HOG

    def encode(self, images: np.ndarray) -> np.ndarray:
        """See `Encoder.encode`; at least 16×16 pixels."""
        unit = images.astype(np.float32) / 255.0
        grey = unit.mean(axis=-1)
        dy, dx = np.gradient(grey, axis=(1, 2))
        strength = np.hypot(dx, dy)
        angle = np.mod(np.arctan2(dy, dx), np.pi) * (_DIRECTIONS / np.pi)  # unsigned: light on dark is dark on light
        low = np.floor(angle).astype(int) % _DIRECTIONS
        share = (angle - np.floor(angle))[..., None]
        one_hot = np.eye(_DIRECTIONS, dtype=np.float32)
        votes = strength[..., None] * ((1.0 - share) * one_hot[low] + share * one_hot[(low + 1) % _DIRECTIONS])
        edges = _mean_in_cells(votes, _CELLS)
        energy = np.linalg.norm(edges, axis=-1, keepdims=True)
        edges = edges / (energy + energy.mean(axis=(1, 2), keepdims=True) + 1e-6)
        colours = _mean_in_cells(unit, _COLOUR_CELLS)
        count = len(images)
        return np.concatenate([edges.reshape(count, -1), colours.reshape(count, -1)], axis=1).astype(np.float32)


def _mean_in_cells(x: np.ndarray, cells: int) -> np.ndarray:
    """``(N, h, w, c)`` → ``(N, cells, cells, c)``; sizes need not divide."""
    for axis in (1, 2):
        edges = np.linspace(0, x.shape[axis], cells + 1).round().astype(int)
        shape = [1] * x.ndim
        shape[axis] = cells
        x = np.add.reduceat(x, edges[:-1], axis=axis) / np.diff(edges).reshape(shape)
    return x


class ClipEncoder:
    """Image tower of a CLIP model, embeddings of length 1; also its text tower, for zero-shot."""

    def __init__(self, spec: str) -> None:
        """Load it; weights by tag (downloaded once) or as a file. Raises ClassifierError."""
        try:
            self._open_clip = import_open_clip()
            import torch
        except (ImportError, RuntimeError) as error:
            raise ClassifierError(
                f"encoder {spec!r} needs open_clip ({error}): .venv/bin/pip install -e '.[vision]', or use encoder {HOG!r}"
            ) from error
        self._torch = torch
        self._model_name, _, weights = spec.removeprefix(OPEN_CLIP).partition(":")
        schema = self._model_name in ("local-dir", "hf-hub")
        if not schema and _looks_like_a_file(weights) and not Path(weights).is_file():
            raise ClassifierError(
                f"encoder {spec!r}: there is no file {weights}. Give weights by tag, or the path of a checkpoint"
            )
        try:
            if schema:
                self._model_name = f"{self._model_name}:{weights}"
            self._model = self._open_clip.create_model(self._model_name, pretrained=None if schema else weights).eval()
        except Exception as error:  # downloads, files and shapes fail in many ways
            raise ClassifierError(
                f"open_clip cannot make the model {self._model_name!r} with weights {weights!r} ({error}). Weights of another "
                "model do not fit; open_clip.list_pretrained() shows which tags it knows; without a network give a file"
            ) from error
        self._device = "cuda" if torch.cuda.is_available() else "cpu"
        self._model.to(self._device)
        preprocess = self._model.visual.preprocess_cfg
        size = preprocess["size"]
        self._size = (size, size) if isinstance(size, int) else tuple(size)
        self._mean = torch.tensor(preprocess["mean"], device=self._device).view(1, 3, 1, 1)
        self._std = torch.tensor(preprocess["std"], device=self._device).view(1, 3, 1, 1)
        self.name = f"{OPEN_CLIP}{self._model_name}@{self._weights_digest()}"

    @property
    def logit_scale(self) -> float:
        """What cosines are multiplied by in CLIP's softmax."""
        return float(self._model.logit_scale.detach().exp())

    def encode(self, images: np.ndarray) -> np.ndarray:
        """See `Encoder.encode`. Pictures are stretched to the model's square: robot cameras see the task to their very edges."""
        torch = self._torch
        with torch.no_grad():
            x = torch.from_numpy(np.ascontiguousarray(images)).to(self._device).permute(0, 3, 1, 2).float() / 255.0
            x = torch.nn.functional.interpolate(x, self._size, mode="bicubic", align_corners=False, antialias=True)
            vectors = self._model.encode_image((x.clamp(0, 1) - self._mean) / self._std, normalize=True)
        return vectors.float().cpu().numpy()

    def encode_texts(self, texts: list[str]) -> np.ndarray:
        """float32 ``(N, dim)``, length 1."""
        tokens = self._open_clip.get_tokenizer(self._model_name)(texts).to(self._device)
        with self._torch.no_grad():
            return self._model.encode_text(tokens, normalize=True).float().cpu().numpy()

    def _weights_digest(self) -> str:
        """Of the loaded parameters: a tag or a path may hold something else tomorrow."""
        total = hashlib.blake2b(digest_size=4)
        for name, parameter in sorted(self._model.state_dict().items()):
            total.update(name.encode())
            total.update(np.ascontiguousarray(parameter.detach().float().cpu().numpy()).tobytes())
        return total.hexdigest()


def _looks_like_a_file(weights: str) -> bool:
    return any(mark in weights for mark in ("/", "\\")) or Path(weights).suffix in (".pt", ".pth", ".bin", ".safetensors")
