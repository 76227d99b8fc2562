"""The project's types to ROS messages and back. The one place that knows the fields of etude_msgs.

``uint8[]`` fields are filled from ``array.array('B')`` and read with ``np.frombuffer``: assigning an ndarray also works,
silently, and is 500 times slower.
"""

from __future__ import annotations

import array
import dataclasses
import time
from typing import Any

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from etude_msgs import msg
from sensor_msgs.msg import CompressedImage

from etude.specs import PHASES
from etude.status import HelpRequest, Mode, PracticeStatus, StuckLabels, SuccessRate
from etude.step import Source, Step
from etude_nodes.weights import Chunk

DTYPES = ("float32", "uint8")
MAX_ARRAY_BYTES = 256 * 1024**2


class MessageError(ValueError):
    """A message that arrived cannot be understood; the message names the field and the value."""


# --- bytes and arrays -----------------------------------------------------------------------------------------------


def to_uint8(data: bytes | memoryview | np.ndarray) -> array.array:
    """Bytes for a ``uint8[]`` field."""
    field = array.array("B")
    field.frombytes(memoryview(data).cast("B") if not isinstance(data, bytes) else data)
    return field


def to_bytes(field: Any) -> bytes:
    """Bytes of a received ``uint8[]`` field."""
    return np.frombuffer(field, np.uint8).tobytes() if len(field) else b""


def to_float32(values: np.ndarray) -> array.array:
    return array.array("f", np.ascontiguousarray(values, np.float32).tobytes())


def array_to_message(key: str, value: np.ndarray) -> msg.Array:
    """A named array. Raises MessageError on a dtype that the wire does not know."""
    if value.dtype.name not in DTYPES:
        raise MessageError(f"array {key!r} is {value.dtype.name}; the wire knows {', '.join(DTYPES)}")
    value = np.ascontiguousarray(value)
    shape = array.array("I", value.shape)
    data = to_uint8(value) if value.size else array.array("B")
    return msg.Array(key=key, dtype=value.dtype.name, shape=shape, data=data)


def array_from_message(message: msg.Array) -> np.ndarray:
    """The array; a view of the message's own memory, read-only. Raises MessageError when dtype, shape and length disagree."""
    if message.dtype not in DTYPES:
        raise MessageError(f"array {message.key!r} has dtype {message.dtype!r}; known are {', '.join(DTYPES)}")
    shape = tuple(int(n) for n in message.shape)
    dtype = np.dtype(message.dtype)
    size = int(np.prod(shape, dtype=object)) * dtype.itemsize
    if size != len(message.data) or size > MAX_ARRAY_BYTES:
        raise MessageError(f"array {message.key!r} of shape {shape} needs {size} bytes, {len(message.data)} arrived")
    if size == 0:
        return np.zeros(shape, dtype)
    value = np.frombuffer(message.data, dtype).reshape(shape)
    value.flags.writeable = False
    return value


# --- steps ----------------------------------------------------------------------------------------------------------


def step_to_message(step: Step) -> msg.Step:
    return msg.Step(
        actor_id=step.actor_id,
        sequence=step.sequence,
        segment=step.segment,
        index=step.index,
        stamp_ns=step.stamp_ns,
        phase=step.phase,
        task=step.task,
        instruction=step.instruction,
        observation=[array_to_message(key, value) for key, value in step.observation.items()],
        action=to_float32(step.action),
        policy_action=to_float32(step.policy_action),
        reward=float(step.reward),
        is_first=bool(step.is_first),
        is_last=bool(step.is_last),
        is_terminal=bool(step.is_terminal),
        source=int(step.source),
        policy_version=int(step.policy_version),
        success=int(step.success),
        success_probability=float(step.success_probability),
        success_truth=int(step.success_truth),
        judged_by=step.judged_by,
    )


def step_from_message(message: msg.Step) -> Step:
    """Inverse of `step_to_message` (float32 precision). Raises MessageError naming what is malformed."""
    if message.phase not in PHASES:
        raise MessageError(f"step {message.sequence} of {message.actor_id!r} has phase {message.phase!r}, not one of {PHASES}")
    try:
        source = Source(message.source)
    except ValueError:
        raise MessageError(f"step {message.sequence} of {message.actor_id!r} has unknown source {message.source}") from None
    return Step(
        actor_id=message.actor_id,
        sequence=message.sequence,
        segment=message.segment,
        index=message.index,
        stamp_ns=message.stamp_ns,
        phase=message.phase,
        task=message.task,
        instruction=message.instruction,
        observation={entry.key: array_from_message(entry) for entry in message.observation},
        action=np.frombuffer(message.action, np.float32).copy() if len(message.action) else np.zeros(0, np.float32),
        policy_action=np.frombuffer(message.policy_action, np.float32).copy()
        if len(message.policy_action)
        else np.zeros(0, np.float32),
        reward=message.reward,
        is_first=message.is_first,
        is_last=message.is_last,
        is_terminal=message.is_terminal,
        source=source,
        policy_version=message.policy_version,
        success=message.success,
        success_probability=message.success_probability,
        success_truth=message.success_truth,
        judged_by=message.judged_by,
    )


# --- policy ---------------------------------------------------------------------------------------------------------


def program_to_message(program: bytes, run_id: str, program_digest: str, description: str) -> msg.PolicyProgram:
    return msg.PolicyProgram(
        run_id=run_id, digest=program_digest, description=description, stamp_ns=time.time_ns(), data=to_uint8(program)
    )


def chunk_to_message(chunk: Chunk) -> msg.PolicyWeights:
    return msg.PolicyWeights(
        run_id=chunk.run_id,
        learner_id=chunk.learner_id,
        version=chunk.version,
        index=chunk.index,
        count=chunk.count,
        program_digest=chunk.program_digest,
        blob_sha256=chunk.blob_sha256,
        total_bytes=chunk.total_bytes,
        stamp_ns=time.time_ns(),
        data=to_uint8(chunk.data),
    )


def chunk_from_message(message: msg.PolicyWeights) -> Chunk:
    return Chunk(
        run_id=message.run_id,
        learner_id=message.learner_id,
        version=message.version,
        index=message.index,
        count=message.count,
        program_digest=message.program_digest,
        blob_sha256=message.blob_sha256,
        total_bytes=message.total_bytes,
        data=to_bytes(message.data),
    )


# --- status, help, metrics, diagnostics -----------------------------------------------------------------------------

_PLAIN_STATUS_FIELDS = tuple(
    field.name
    for field in dataclasses.fields(PracticeStatus)
    if field.name not in ("mode", "success", "success_truth", "holding")
)


def status_to_message(status: PracticeStatus, robot: str, actor_id: str) -> msg.PracticeStatus:
    return msg.PracticeStatus(
        robot=robot,
        actor_id=actor_id,
        stamp_ns=time.time_ns(),
        mode=status.mode.value,
        success=[_rate_to_message(phase, rate) for phase, rate in status.success.items()],
        success_truth=[_rate_to_message(phase, rate) for phase, rate in status.success_truth.items()],
        holding=list(status.holding),
        **{name: getattr(status, name) for name in _PLAIN_STATUS_FIELDS},
    )


def status_from_message(message: msg.PracticeStatus) -> PracticeStatus:
    try:
        mode = Mode(message.mode)
    except ValueError:
        raise MessageError(f"practice status of {message.robot!r} has unknown mode {message.mode!r}") from None
    return PracticeStatus(
        mode=mode,
        success={rate.phase: _rate_from_message(rate) for rate in message.success},
        success_truth={rate.phase: _rate_from_message(rate) for rate in message.success_truth},
        holding=tuple(message.holding),
        **{name: getattr(message, name) for name in _PLAIN_STATUS_FIELDS},
    )


def _rate_to_message(phase: str, rate: SuccessRate) -> msg.SuccessRate:
    return msg.SuccessRate(phase=phase, successes=rate.successes, attempts=rate.attempts, total_attempts=rate.total_attempts)


def _rate_from_message(message: msg.SuccessRate) -> SuccessRate:
    return SuccessRate(message.successes, message.attempts, message.total_attempts)


_HELP_FIELDS = tuple(field.name for field in dataclasses.fields(HelpRequest))


def help_to_message(request: HelpRequest, robot: str) -> msg.HelpRequest:
    fields = {name: getattr(request, name) for name in _HELP_FIELDS}
    return msg.HelpRequest(
        robot=robot, **{**fields, "answers": list(request.answers), "image_jpeg": to_uint8(request.image_jpeg)}
    )


def help_from_message(message: msg.HelpRequest) -> HelpRequest:
    fields = {name: getattr(message, name) for name in _HELP_FIELDS}
    return HelpRequest(**{**fields, "answers": tuple(message.answers), "image_jpeg": to_bytes(message.image_jpeg)})


def stuck_labels_to_message(labels: StuckLabels, actor_id: str) -> msg.StuckLabels:
    (first_segment, first_index), (last_segment, last_index) = labels.first, labels.last
    stuck_segment, stuck_index = labels.stuck_from or (0, 0)
    return msg.StuckLabels(
        actor_id=actor_id,
        first_segment=first_segment,
        first_index=first_index,
        last_segment=last_segment,
        last_index=last_index,
        found=labels.stuck_from is not None,
        stuck_segment=stuck_segment,
        stuck_index=stuck_index,
    )


def stuck_labels_from_message(message: msg.StuckLabels) -> StuckLabels:
    return StuckLabels(
        (message.first_segment, message.first_index),
        (message.last_segment, message.last_index),
        (message.stuck_segment, message.stuck_index) if message.found else None,
    )


def metrics_to_message(process: str, env_steps: int, updates: int, values: dict[str, float]) -> msg.Metrics:
    return msg.Metrics(
        process=process,
        env_steps=int(env_steps),
        updates=int(updates),
        stamp_ns=time.time_ns(),
        names=list(values),
        values=[float(value) for value in values.values()],
    )


def metrics_from_message(message: msg.Metrics) -> dict[str, float]:
    return dict(zip(message.names, message.values, strict=False))


DIAGNOSTIC_LEVELS = {
    "ok": DiagnosticStatus.OK,
    "warn": DiagnosticStatus.WARN,
    "error": DiagnosticStatus.ERROR,
    "stale": DiagnosticStatus.STALE,
}


def diagnostics_from_message(message: DiagnosticArray) -> list[tuple[str, str, str, dict[str, str]]]:
    """(name, level, message, values) of every status; a level that nobody defined counts as an error."""
    names = {level: name for name, level in DIAGNOSTIC_LEVELS.items()}
    return [
        (status.name, names.get(status.level, "error"), status.message, {pair.key: pair.value for pair in status.values})
        for status in message.status
    ]


def diagnostics_to_message(stamp: Any, name: str, level: str, message: str, values: dict[str, Any]) -> DiagnosticArray:
    """One status on ``/diagnostics``. `level` is "ok", "warn", "error" or "stale"; `stamp` a builtin_interfaces Time."""
    status = DiagnosticStatus(
        level=DIAGNOSTIC_LEVELS[level],
        name=name,
        hardware_id=name,
        message=message,
        values=[
            KeyValue(key=key, value=f"{value:.4g}" if isinstance(value, float) else str(value)) for key, value in values.items()
        ],
    )
    report = DiagnosticArray(status=[status])
    report.header.stamp = stamp
    return report


# --- pictures -------------------------------------------------------------------------------------------------------


def jpeg_message(picture: np.ndarray, camera: str, stamp: Any, quality: int = 85) -> CompressedImage:
    """`picture` uint8 RGB ``(h, w, 3)`` as a JPEG message; `frame_id` is the camera's name."""
    import cv2  # here, because the learner never needs it

    done, encoded = cv2.imencode(".jpg", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality])
    if not done:
        raise MessageError(f"picture of camera {camera!r} with shape {picture.shape} cannot be encoded as JPEG")
    message = CompressedImage(format="jpeg", data=to_uint8(encoded.tobytes()))
    message.header.stamp = stamp
    message.header.frame_id = camera
    return message
