"""Embeddings by frame digest, kept on disk: an expensive encoder sees every picture once, however often heads are trained.

One folder per encoder version; every batch of new embeddings is one ``.npz`` file, written aside and renamed, so several
processes may add at once.
"""

from __future__ import annotations

import hashlib
import io
from collections import OrderedDict
from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from etude.durable import write_atomic
from etude.run_folder import data_root
from reward_classifiers.encoders import Encoder
from reward_classifiers.files import ClassifierError

BATCH = 64
_KEY_BYTES = 16


class EmbeddingCache:
    """`embed` through an encoder, remembering what it gave.

    Args:
        folder: where to keep them, or None: in memory only, the `most` newest ones (for a running robot).
    """

    def __init__(self, encoder: Encoder, folder: Path | None = None, most: int = 256) -> None:
        self.encoder = encoder
        self.encoded = 0
        self._folder, self._most = folder, most
        self._known: OrderedDict[bytes, np.ndarray] = OrderedDict()
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
            for path in sorted(folder.glob("*.npz")):
                self._known.update(_read(path))

    def embed(self, images: np.ndarray) -> np.ndarray:
        """uint8 ``(N, h, w, 3)`` → float32 ``(N, dim)``."""
        keys = [_key(image) for image in images]
        new: dict[bytes, int] = {}
        for row, key in enumerate(keys):
            if key not in self._known:
                new.setdefault(key, row)
        found = dict(self._known) if self._folder is None and new else self._known  # eviction must not lose what is asked for
        for start in range(0, len(new), BATCH):
            part = dict(list(new.items())[start : start + BATCH])
            vectors = self.encoder.encode(images[list(part.values())])
            self.encoded += len(part)
            fresh = dict(zip(part, vectors, strict=True))
            found.update(fresh)
            self._keep(fresh)
        return np.stack([found[key] for key in keys])

    def _keep(self, fresh: dict[bytes, np.ndarray]) -> None:
        self._known.update(fresh)
        if self._folder is None:
            while len(self._known) > self._most:
                self._known.popitem(last=False)
            return
        content = io.BytesIO()
        keys = np.frombuffer(b"".join(fresh), np.uint8).reshape(-1, _KEY_BYTES)
        np.savez(content, keys=keys, embeddings=np.stack(list(fresh.values())).astype(np.float32))
        name = hashlib.blake2b(keys.tobytes(), digest_size=12).hexdigest()
        write_atomic(self._folder / f"{name}.npz", content.getvalue())


def cache_folder(encoder: Encoder) -> Path:
    """``data/embeddings/<digest of the encoder's version>``."""
    return data_root() / "embeddings" / hashlib.blake2b(encoder.name.encode(), digest_size=8).hexdigest()


def _key(image: np.ndarray) -> bytes:
    content = np.ascontiguousarray(image)
    return hashlib.blake2b(content.tobytes() + repr(content.shape).encode(), digest_size=_KEY_BYTES).digest()


def _read(path: Path) -> dict[bytes, np.ndarray]:
    try:
        with np.load(path, allow_pickle=False) as file:
            keys, embeddings = file["keys"], file["embeddings"]
    except (OSError, ValueError, KeyError, BadZipFile) as error:
        raise ClassifierError(f"cached embeddings {path} cannot be read ({error}): delete that file") from error
    return {key.tobytes(): vector for key, vector in zip(keys, embeddings, strict=True)}
