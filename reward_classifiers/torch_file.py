"""Weights from a file that ``torch.save`` wrote before torch 1.6, without torch: it names arrays and where their bytes are.

The pickle in it may call nothing but what builds a dictionary of tensors; anything else is refused.
"""

from __future__ import annotations

import io
import pickle
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from reward_classifiers.files import ClassifierError

MAGIC = 0x1950A86A20F9469CFC6C


@dataclass(frozen=True)
class _Tensor:
    """Part of a storage: key and type of the storage, where the tensor begins in it, size and stride in numbers."""

    storage: tuple[str, np.dtype[Any]]
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]

    def of(self, storage: np.ndarray) -> np.ndarray:
        """Raises ValueError where the file is too short."""
        last = self.offset + sum((count - 1) * step for count, step in zip(self.size, self.stride, strict=True))
        if last >= len(storage):
            raise ValueError("it ends too early")
        strides = [step * storage.itemsize for step in self.stride]
        return np.lib.stride_tricks.as_strided(storage[self.offset :], self.size, strides).copy()


_ALLOWED: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): OrderedDict,
    ("torch._utils", "_rebuild_tensor_v2"): lambda storage, offset, size, stride, *_: _Tensor(storage, offset, size, stride),
    ("torch", "FloatStorage"): np.dtype("<f4"),
    ("torch", "LongStorage"): np.dtype("<i8"),
}


class _Reader(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ALLOWED:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}")
        return _ALLOWED[module, name]

    def persistent_load(self, told: Any) -> Any:
        _, dtype, key, *_ = told
        return key, dtype


def read_torch_file(path: Path) -> dict[str, np.ndarray]:
    """Name -> array of a saved ``state_dict``, in its order. Raises ClassifierError."""
    try:
        data = io.BytesIO(path.read_bytes())
        if _Reader(data).load() != MAGIC:
            raise pickle.UnpicklingError("its first number is not torch's")
        _version, _sizes = _Reader(data).load(), _Reader(data).load()
        tensors: dict[str, _Tensor] = _Reader(data).load()
        types = dict(tensor.storage for tensor in tensors.values())
        storages = {}
        for key in _Reader(data).load():
            count = int.from_bytes(data.read(8), "little")
            storages[key] = np.frombuffer(data.read(count * types[key].itemsize), types[key])
        return {name: tensor.of(storages[tensor.storage[0]]) for name, tensor in tensors.items()}
    except (OSError, pickle.UnpicklingError, ValueError, KeyError, TypeError, IndexError, EOFError, AttributeError) as error:
        raise ClassifierError(f"weights {path} cannot be read ({error}): install the package that they came with anew") from error
