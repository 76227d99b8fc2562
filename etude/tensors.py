"""Named arrays plus text metadata as safetensors bytes: the one container that the project reads from a network or a disk.

It is separate so that the wire format and the policy file share one strict reader. Nothing here can execute what it reads.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

import numpy as np
import safetensors
import safetensors.numpy

_MAX_HEADER_BYTES = 16 << 20


class TensorsError(ValueError):
    """Bytes are not a readable safetensors container."""


def pack_tensors(tensors: Mapping[str, np.ndarray], metadata: Mapping[str, str]) -> bytes:
    """Arrays and metadata as safetensors bytes; the inverse of `unpack_tensors`. Arrays of any memory layout are taken."""
    contiguous = {name: np.ascontiguousarray(array).reshape(np.shape(array)) for name, array in tensors.items()}
    return safetensors.numpy.save(contiguous, metadata=dict(metadata))


def unpack_tensors(data: bytes | bytearray | memoryview) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Arrays and metadata of safetensors bytes. Raises TensorsError when the bytes are torn, damaged or something else."""
    data = bytes(data)
    if len(data) < 8:
        raise TensorsError(f"{len(data)} bytes are too few for a safetensors container")
    header_bytes = int.from_bytes(data[:8], "little")
    if header_bytes > min(_MAX_HEADER_BYTES, len(data) - 8):
        raise TensorsError(f"the safetensors header claims {header_bytes} bytes, but {len(data) - 8} bytes follow")
    try:
        tensors = safetensors.numpy.load(data)
        metadata = json.loads(data[8 : 8 + header_bytes]).get("__metadata__", {})
    except (safetensors.SafetensorError, ValueError, KeyError, TypeError) as error:
        raise TensorsError(f"the safetensors container is damaged: {error}") from error
    return tensors, metadata
