"""Weights from a file that ``torch.save`` wrote before torch 1.6, without torch and without unpickling it.

Such a file says in pickle's language which tensors there are, and their bytes follow. The few words of it that describe tensors
are read here as data; nothing is imported or called, and any other word is an error.
"""

from __future__ import annotations

import io
import pickletools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from reward_classifiers.files import ClassifierError

MAGIC = 0x1950A86A20F9469CFC6C
_TYPES: dict[str, np.dtype[Any]] = {"torch FloatStorage": np.dtype("<f4"), "torch LongStorage": np.dtype("<i8")}
_TENSOR, _DICT = "torch._utils _rebuild_tensor_v2", "collections OrderedDict"
_VALUES = ("LONG1", "BININT", "BININT1", "BININT2", "BINUNICODE", "GLOBAL")
_CONSTANTS: dict[str, Any] = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}
_MARK = object()


@dataclass(frozen=True)
class _Tensor:
    """Part of a storage; `storage` is as torch names it: kind, type, key, place, length, and something more."""

    storage: tuple[Any, ...]
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]

    def of(self, storage: np.ndarray) -> np.ndarray:
        """`stride` counts numbers. Raises ValueError where the file is too short."""
        last = self.offset + sum((count - 1) * step for count, step in zip(self.size, self.stride, strict=True))
        if last >= len(storage):
            raise ValueError("it ends too early")
        strides = [step * storage.itemsize for step in self.stride]
        return np.lib.stride_tricks.as_strided(storage[self.offset :], self.size, strides).copy()


def read_torch_file(path: Path) -> dict[str, np.ndarray]:
    """Name -> array of a saved ``state_dict``, in its order. Raises ClassifierError."""
    try:
        data = io.BytesIO(path.read_bytes())
        if _value(data) != MAGIC:
            raise ValueError("it does not begin as torch's old format does")
        _version, _sizes = _value(data), _value(data)
        tensors: dict[str, _Tensor] = _value(data)
        keys: list[str] = _value(data)
        types: dict[str, np.dtype[Any]] = {tensor.storage[2]: _TYPES[tensor.storage[1]] for tensor in tensors.values()}
        storages = {}
        for key in keys:
            count = int.from_bytes(data.read(8), "little")
            storages[key] = np.frombuffer(data.read(count * types[key].itemsize), types[key])
        return {name: tensor.of(storages[tensor.storage[2]]) for name, tensor in tensors.items()}
    except (OSError, ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
        raise ClassifierError(f"weights {path} cannot be read ({error}): install the package that they came with anew") from error


def _value(data: io.BytesIO) -> Any:
    """The next value: numbers, texts, tuples, lists, dictionaries and tensors. Raises ValueError at a word that makes anything
    else."""
    stack: list[Any] = []
    memo: dict[int, Any] = {}

    def since_mark() -> list[Any]:
        at = max(i for i, one in enumerate(stack) if one is _MARK)
        taken = stack[at + 1 :]
        del stack[at:]
        return taken

    told: Any
    for word, told, _ in pickletools.genops(data):
        name: str = word.name
        if name in _VALUES:
            stack.append(told)
        elif name in _CONSTANTS:
            stack.append(_CONSTANTS[name])
        elif name in ("EMPTY_DICT", "EMPTY_LIST"):
            stack.append({} if name == "EMPTY_DICT" else [])
        elif name == "MARK":
            stack.append(_MARK)
        elif name == "TUPLE":
            stack.append(tuple(since_mark()))
        elif name in ("TUPLE1", "TUPLE2", "TUPLE3"):
            count = int(name[-1])
            stack[-count:] = [tuple(stack[-count:])]
        elif name in ("BINPUT", "LONG_BINPUT"):
            memo[told] = stack[-1]
        elif name in ("BINGET", "LONG_BINGET"):
            stack.append(memo[told])
        elif name in ("SETITEM", "SETITEMS"):
            items = since_mark() if name == "SETITEMS" else [stack.pop(-2), stack.pop()]
            stack[-1].update(zip(items[::2], items[1::2], strict=True))
        elif name == "APPENDS":
            items = since_mark()
            stack[-1].extend(items)
        elif name == "REDUCE":
            arguments, what = stack.pop(), stack.pop()
            stack.append(_made(what, arguments))
        elif name == "BUILD":
            stack.pop()  # notes of torch's beside the dictionary
        elif name == "STOP":
            return stack[-1]
        elif name not in ("PROTO", "BINPERSID"):  # a storage is known by the tuple that names it
            raise ValueError(f"it has the word {name}, which no list of tensors needs")
    raise ValueError("it ends too early")


def _made(what: Any, arguments: tuple[Any, ...]) -> Any:
    if what == _TENSOR:
        return _Tensor(*arguments[:4])
    if what == _DICT:
        return {}
    raise ValueError(f"it asks for {what}")
