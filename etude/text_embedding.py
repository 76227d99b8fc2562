"""A text as a frozen vector: how instructions become an observation of language-conditioned policies.

Separate because learner and tools must make the same numbers from the same text. The robot needs none of this: the learner
sends the embeddings of the run's instructions with the weights.
"""

from __future__ import annotations

import hashlib
import math
import re
from functools import lru_cache

import numpy as np

from etude.clip_import import import_open_clip

HASHED = "hashed"
OPEN_CLIP = "open_clip:"
_KEY = b"etude-instruction-1"
_PIECES = (3, 4, 5)
_RUNS = (1, 2, 3)


class TextEmbeddingError(RuntimeError):
    """A text cannot be embedded as asked; the message says what is missing and what to do."""


@lru_cache(maxsize=4096)
def embed(kind: str, text: str, dim: int) -> np.ndarray:
    """`text` as float32 ``(dim,)`` of length 1, read-only; a text without words is all zeros.

    Args:
        kind: ``hashed``: signed feature hashing (Weinberger et al. 2009) of words, runs of words and pieces of words; no
            weights, the same numbers on every machine. ``open_clip:<model>:<weights>``: the text tower of a CLIP model (Radford
            et al. 2021), as `open_clip` names it or with a file of weights.
        dim: of the result; for CLIP the size of the model's embedding.

    Raises:
        TextEmbeddingError: unknown kind, `open_clip` is not installed or lacks the model, or `dim` is not the model's.
    """
    if kind == HASHED:
        vector = _hashed(text, dim)
    elif kind.startswith(OPEN_CLIP):
        vector = _clip(kind, text, dim)
    else:
        raise TextEmbeddingError(f"encoder.instruction is {kind!r}: use {HASHED!r} or '{OPEN_CLIP}<model>:<weights>'")
    vector.flags.writeable = False  # the cache hands out this very array
    return vector


def _hashed(text: str, dim: int) -> np.ndarray:
    vector = np.zeros(dim, np.float32)
    for feature, weight in _features(text).items():
        number = int.from_bytes(hashlib.blake2b(feature.encode(), digest_size=8, key=_KEY).digest(), "little")
        vector[(number >> 1) % dim] += weight if number & 1 else -weight
    length = math.sqrt(math.fsum(x * x for x in vector.tolist()))  # in a fixed order, unlike a library's
    return vector / np.float32(max(length, 1e-12))


def _features(text: str) -> dict[str, float]:
    """Feature -> weight: words, runs of two and three words, pieces of words (those of one word weigh as much as a word).

    Each counts once, however often it occurs, or "the" would outweigh what is meant. Runs tell "from the tray to the table"
    from its opposite, which has the same words; pieces bring "drawer" near "drawers".
    """
    words = re.findall(r"\w+", text.lower())
    features: dict[str, float] = {}
    for word in words:
        framed = f"<{word}>"
        pieces = [framed[start : start + n] for n in _PIECES for start in range(len(framed) - n + 1)]
        features |= {f"piece {piece}": 1.0 / math.sqrt(len(pieces)) for piece in pieces}
    for n in _RUNS:
        features |= {f"words {' '.join(words[start : start + n])}": 1.0 for start in range(len(words) - n + 1)}
    return features


def _clip(kind: str, text: str, dim: int) -> np.ndarray:
    model, tokenizer = _clip_text_tower(kind)
    import torch

    with torch.no_grad():
        vector = model.encode_text(tokenizer([text]), normalize=True)[0].float().numpy()
    if vector.shape != (dim,):
        raise TextEmbeddingError(
            f"encoder.instruction_dim is {dim}, but {kind} embeds texts in {len(vector)} numbers: set it to that"
        )
    return vector


@lru_cache(maxsize=1)
def _clip_text_tower(kind: str) -> tuple:
    """Model and tokenizer of ``open_clip:<model>:<weights>``, on the CPU."""
    try:
        open_clip = import_open_clip()
    except (ImportError, RuntimeError) as error:  # torchvision without its torch is a RuntimeError
        raise TextEmbeddingError(
            f"encoder.instruction {kind!r} needs open_clip ({error}): .venv/bin/pip install -e '.[vision]', or use {HASHED!r}"
        ) from error
    name, _, weights = kind.removeprefix(OPEN_CLIP).partition(":")
    try:
        model = open_clip.create_model(name, pretrained=weights, device="cpu").eval()
        return model, open_clip.get_tokenizer(name)
    except Exception as error:  # downloads and files fail in many ways
        raise TextEmbeddingError(
            f"open_clip cannot make the model {name!r} with weights {weights!r} ({error}): open_clip.list_pretrained() shows "
            "what it knows; without a network give the weights as a file"
        ) from error
