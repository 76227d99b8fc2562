"""A policy as two containers: the program (what to compute, StableHLO) and the weights (with which numbers).

Separate from learner and actor because both sides, the network and the disk use exactly these bytes. Reading them runs nothing
and unpickles nothing; a wrong size, digest or checksum is an error before any of it is used.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from etude.durable import write_atomic
from etude.specs import digest
from etude.tensors import TensorsError, pack_tensors, unpack_tensors

PROGRAM_FILE = "policy.program"
WEIGHTS_FILE = "policy.safetensors"
_MAGIC = b"ETUDEPOLICY1"
_LENGTH_BYTES = 8

ParameterShapes = dict[str, tuple[tuple[int, ...], str]]
"""Leaf name -> (shape, dtype name)."""


class PolicyFileError(ValueError):
    """Bytes or a folder are not a usable policy; the message says what is wrong and what to do."""


@dataclass(frozen=True)
class PolicyProgram:
    """An exported inference function.

    ``program(params, observation, key, explore) -> float32 (action_dim,)`` in [-1, 1], or the next h actions ``(h, action_dim)``
    of a policy that plans chunks, where `params` has the leaves of
    `parameters`, `observation` the unbatched arrays of the ObservationSpec plus ``phase`` (float32 one-hot ``(2,)``), `key` is
    uint32 ``(2,)`` and `explore` a float32 scalar (0 deterministic, 1 sampling). With `candidates` K > 0 there is one more input,
    float32 ``(K, action_dim)`` in [-1, 1]: K actions that a policy server would do at the observation.

    Attributes:
        serialized: bytes of a ``jax.export.Exported``.
        specs_json: as `etude.specs.specs_to_json`.
        parameters: shape and dtype of every leaf.
        description: one line for people.
        candidates: K, actions of a policy server that the program wants with each observation; 0 for none.
    """

    serialized: bytes
    specs_json: str
    parameters: ParameterShapes
    description: str = ""
    candidates: int = 0

    def __post_init__(self) -> None:
        shapes = {name: (tuple(int(n) for n in shape), str(dtype)) for name, (shape, dtype) in self.parameters.items()}
        object.__setattr__(self, "parameters", shapes)

    @cached_property
    def digest(self) -> str:
        """SHA-256 over everything; weights name the program that they fit by it."""
        return digest(self._header() + self.serialized)

    def _header(self) -> bytes:
        header: dict[str, Any] = {
            "specs": self.specs_json,
            "parameters": self.parameters,
            "description": self.description,
            "size": len(self.serialized),
        }
        if self.candidates:
            header["candidates"] = self.candidates
        return json.dumps(header, sort_keys=True).encode()

    def to_bytes(self) -> bytes:
        header = self._header()
        return b"".join(
            (_MAGIC, len(header).to_bytes(_LENGTH_BYTES, "little"), bytes.fromhex(self.digest), header, self.serialized)
        )

    @classmethod
    def from_bytes(cls, data: bytes) -> PolicyProgram:
        """Inverse of `to_bytes`. Raises PolicyFileError on anything torn, damaged or of another kind."""
        data = bytes(data)
        start = len(_MAGIC) + _LENGTH_BYTES + hashlib.sha256().digest_size
        if not data.startswith(_MAGIC) or len(data) < start:
            raise PolicyFileError(
                f"{len(data)} bytes are not a policy program (they begin with {data[:12]!r}): export the policy again"
            )
        size = int.from_bytes(data[len(_MAGIC) : len(_MAGIC) + _LENGTH_BYTES], "little")
        expected = data[start - hashlib.sha256().digest_size : start].hex()
        if digest(data[start:]) != expected:
            raise PolicyFileError("the policy program is torn or damaged (its digest is wrong): get it again")
        try:
            header: dict[str, Any] = json.loads(data[start : start + size])
            serialized = data[start + size :]
            if len(serialized) != header["size"]:
                raise ValueError(f"it holds {len(serialized)} bytes of program, its header says {header['size']}")
            parameters = {name: (tuple(shape), dtype) for name, (shape, dtype) in header["parameters"].items()}
            return cls(serialized, header["specs"], parameters, header["description"], int(header.get("candidates", 0)))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise PolicyFileError(f"the policy program's header is not readable: {error}") from error


@dataclass(frozen=True)
class PolicyWeights:
    """The leaves that fit one program.

    Attributes:
        run_id: the run that made them.
        version: counts up while a run publishes; 0 is reserved for "no policy".
        program_digest: `PolicyProgram.digest` of the program that they fit.
        parameters: leaf name -> array, as many and as large as the program says.
    """

    run_id: str
    version: int
    program_digest: str
    parameters: dict[str, np.ndarray] = field(repr=False)

    def to_bytes(self) -> bytes:
        metadata = {"run_id": self.run_id, "version": str(self.version), "program_digest": self.program_digest}
        return pack_tensors(self.parameters, {**metadata, "checksum": _checksum(self.parameters, metadata)})

    @classmethod
    def from_bytes(cls, data: bytes) -> PolicyWeights:
        """Inverse of `to_bytes`. Raises PolicyFileError when the bytes are torn or the checksum is wrong."""
        try:
            parameters, metadata = unpack_tensors(data)
            checksum = metadata.pop("checksum")
            weights = cls(metadata["run_id"], int(metadata["version"]), metadata["program_digest"], parameters)
        except TensorsError as error:
            raise PolicyFileError(f"the policy weights are torn or damaged ({error}): get them again") from error
        except (KeyError, ValueError, AttributeError) as error:
            raise PolicyFileError(
                f"the policy weights lack the metadata {error}: they were not written by this program"
            ) from error
        if _checksum(parameters, metadata) != checksum:
            raise PolicyFileError(
                f"the checksum of policy weights version {weights.version} is wrong: they were damaged on the way"
            )
        return weights


def _checksum(parameters: dict[str, np.ndarray], metadata: dict[str, str]) -> str:
    hasher = hashlib.sha256(json.dumps(metadata, sort_keys=True).encode())
    for name in sorted(parameters):
        array = np.ascontiguousarray(parameters[name])
        hasher.update(f"{name}|{array.dtype.name}|{np.shape(parameters[name])}|".encode())
        hasher.update(array.reshape(-1).view(np.uint8).data if array.size else b"")
    return hasher.hexdigest()


def save_policy(folder: str | Path, program: PolicyProgram, weights: PolicyWeights) -> None:
    """Write both files into `folder`; a kill leaves old or new files, never torn ones."""
    if weights.program_digest != program.digest:
        raise PolicyFileError(
            f"weights version {weights.version} belong to the program {weights.program_digest[:12]}, not to {program.digest[:12]}"
        )
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    write_atomic(folder / PROGRAM_FILE, program.to_bytes())
    write_atomic(folder / WEIGHTS_FILE, weights.to_bytes())


def load_policy(folder: str | Path) -> tuple[PolicyProgram, PolicyWeights]:
    """Read both files. Raises PolicyFileError when one is missing or damaged, or they do not fit each other."""
    folder = Path(folder)
    parts: dict[str, bytes] = {}
    for name in (PROGRAM_FILE, WEIGHTS_FILE):
        try:
            parts[name] = (folder / name).read_bytes()
        except OSError as error:
            raise PolicyFileError(
                f"there is no policy in {folder}: {name} cannot be read ({error.strerror}). Export one, or name a run folder"
            ) from error
    try:
        program, weights = PolicyProgram.from_bytes(parts[PROGRAM_FILE]), PolicyWeights.from_bytes(parts[WEIGHTS_FILE])
    except PolicyFileError as error:
        raise PolicyFileError(f"the policy in {folder} cannot be used: {error}") from error
    if weights.program_digest != program.digest:
        raise PolicyFileError(
            f"the two files in {folder} do not belong together (a write was cut between them): export the policy again"
        )
    return program, weights
