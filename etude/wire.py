"""One step as bytes: the format of the actor's outbox and of anything else that keeps single steps.

It is separate from the store because a step must be durable on the actor long before its segment is finished.
Layout: safetensors; the arrays ``action``, ``policy_action`` and ``observation/<key>``; everything else as JSON metadata.
"""

from __future__ import annotations

import json
import math
from typing import Any

from etude.step import Source, Step
from etude.tensors import TensorsError, pack_tensors, unpack_tensors

WIRE_VERSION = 1
_OBSERVATION = "observation/"
_FIELDS: dict[str, type] = {
    "actor_id": str,
    "sequence": int,
    "segment": int,
    "index": int,
    "stamp_ns": int,
    "phase": str,
    "task": str,
    "instruction": str,
    "reward": float,
    "is_first": bool,
    "is_last": bool,
    "is_terminal": bool,
    "source": int,
    "policy_version": int,
    "success": int,
    "success_truth": int,
    "judged_by": str,
}


class WireError(ValueError):
    """Bytes are not a step of this wire version; the message names the field that is wrong."""


def encode_step(step: Step) -> bytes:
    """`step` as bytes; `decode_step` gives back an equal step, bit by bit. Raises WireError when the reward is not finite."""
    values: dict[str, Any] = {name: kind(getattr(step, name)) for name, kind in _FIELDS.items()}
    _require_finite(values)
    probability = float(step.success_probability)
    values["success_probability"] = None if math.isnan(probability) else probability
    values["version"] = WIRE_VERSION
    tensors = {_OBSERVATION + key: array for key, array in step.observation.items()}
    tensors["action"] = step.action
    tensors["policy_action"] = step.policy_action
    return pack_tensors(tensors, {"step": json.dumps(values)})


def decode_step(data: bytes) -> Step:
    """Inverse of `encode_step`. Raises WireError on anything that is not a step of this version."""
    try:
        tensors, metadata = unpack_tensors(data)
        values = json.loads(metadata["step"])
    except TensorsError as error:
        raise WireError(f"not a step: {error}") from error
    except (KeyError, ValueError, TypeError) as error:
        raise WireError(f"not a step: its metadata is not readable ({error})") from error
    if not isinstance(values, dict) or values.get("version") != WIRE_VERSION:
        found = values.get("version") if isinstance(values, dict) else values
        raise WireError(f"step has wire version {found!r}, this program reads {WIRE_VERSION}: update both sides to one version")
    fields = {name: _field(values, name, kind) for name, kind in _FIELDS.items()}
    try:
        fields["source"] = Source(fields["source"])
    except ValueError:
        raise WireError(f"step field 'source' is {fields['source']}, known are {[int(s) for s in Source]}") from None
    _require_finite(fields)
    probability = values.get("success_probability")
    probability = math.nan if probability is None else _field(values, "success_probability", float)
    for name in ("action", "policy_action"):
        if name not in tensors:
            raise WireError(f"step lacks the array {name!r}")
    return Step(
        observation={key.removeprefix(_OBSERVATION): array for key, array in tensors.items() if key.startswith(_OBSERVATION)},
        action=tensors["action"],
        policy_action=tensors["policy_action"],
        success_probability=probability,
        **fields,
    )


def _require_finite(values: dict[str, Any]) -> None:
    if not math.isfinite(values["reward"]):
        raise WireError(
            f"step {values['sequence']} of segment {values['segment']} has the reward {values['reward']}, not a finite one"
        )


def _field(values: dict[str, Any], name: str, kind: type) -> Any:
    value = values.get(name)
    right = isinstance(value, (int, float)) and not isinstance(value, bool) if kind is float else type(value) is kind
    if not right:
        raise WireError(f"step field {name!r} is {value!r}, expected {kind.__name__}")
    return kind(value)
