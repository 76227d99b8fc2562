"""One finished segment: its arrays, its summary, and its form as a zarr 3 group.

It is separate from the store so that the disk layout is in one place: two image-free arrays (``floats`` and ``integers``, whose
columns are named in the group's attributes) and one uint8 array per camera. Few files per segment keep durable writing fast.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numcodecs.blosc import Blosc
from zarr.codecs import BloscCodec
from zarr.storage import MemoryStore

from etude.specs import ActionSpec, ObservationSpec
from etude.step import Source, Step

MAX_CHUNK_STEPS = 100
_Layout = tuple[tuple[str, tuple[int, ...], str], ...]  # (name, shape, dtype name) of every array
_INTEGERS = (
    "sequence",
    "stamp_ns",
    "policy_version",
    "source",
    "is_first",
    "is_last",
    "is_terminal",
    "success",
    "success_truth",
    "judged_by",
)
# lz4 with bit shuffling: about a third of the size on renders, and far faster than the disk
_COMPRESSOR = Blosc("lz4", clevel=1, shuffle=Blosc.BITSHUFFLE)


@dataclass(frozen=True)
class Correction:
    """Words of a person that the steps `first` to `last` of a segment, places in its arrays, carried out."""

    first: int
    last: int
    instruction: str


@dataclass(frozen=True)
class SegmentInfo:
    """Summary of a stored segment; everything that a listing needs without reading arrays.

    `success` and `success_truth` are those of the last step. `first_index` is above 0 when the store was asked to cut the
    segment and the rest arrived later. `cut` says that the actor never sent a last step. Times are nanoseconds since the epoch.
    `sources` counts steps by who acted, the last step (which has no action) excluded. `instruction` is the goal; `corrections`
    are the runs of steps that carried out a person's words instead.
    """

    actor_id: str
    segment: int
    phase: str
    task: str
    instruction: str
    first_sequence: int
    length: int
    first_index: int
    success: int
    success_truth: int
    is_terminal: bool
    cut: bool
    reward_sum: float
    first_stamp_ns: int
    last_stamp_ns: int
    policy_version: int
    sources: dict[str, int]
    corrections: tuple[Correction, ...] = ()
    path: Path | None = field(default=None, compare=False)

    @property
    def last_sequence(self) -> int:
        return self.first_sequence + self.length - 1


@dataclass(frozen=True)
class Segment:
    """A segment's arrays, leading axis T = number of steps; the last step has `is_last` and no action.

    Shapes: every observation ``(T, ...)``, `action` and `policy_action` float32 ``(T, d)``, `reward` and `success_probability`
    float32 ``(T,)``, flags bool, `source` uint8, `success` and `success_truth` int8, the rest int64.
    """

    info: SegmentInfo
    observation: dict[str, np.ndarray]
    action: np.ndarray
    policy_action: np.ndarray
    reward: np.ndarray
    is_first: np.ndarray
    is_last: np.ndarray
    is_terminal: np.ndarray
    source: np.ndarray
    policy_version: np.ndarray
    success: np.ndarray
    success_probability: np.ndarray
    success_truth: np.ndarray
    stamp_ns: np.ndarray
    sequence: np.ndarray
    judged_by: list[str]

    def __len__(self) -> int:
        return len(self.reward)

    def steps(self) -> list[Step]:
        """The segment as steps; arrays are views."""
        info = self.info
        words = {t: one.instruction for one in info.corrections for t in range(one.first, one.last + 1)}
        return [
            Step(
                actor_id=info.actor_id,
                sequence=int(self.sequence[t]),
                segment=info.segment,
                index=info.first_index + t,
                stamp_ns=int(self.stamp_ns[t]),
                phase=info.phase,
                task=info.task,
                instruction=words.get(t, info.instruction),
                observation={key: array[t] for key, array in self.observation.items()},
                action=self.action[t],
                policy_action=self.policy_action[t],
                reward=float(self.reward[t]),
                is_first=bool(self.is_first[t]),
                is_last=bool(self.is_last[t]),
                is_terminal=bool(self.is_terminal[t]),
                source=Source(int(self.source[t])),
                policy_version=int(self.policy_version[t]),
                success=int(self.success[t]),
                success_probability=float(self.success_probability[t]),
                success_truth=int(self.success_truth[t]),
                judged_by=self.judged_by[t],
            )
            for t in range(len(self))
        ]


def segment_from_steps(steps: Sequence[Step]) -> Segment:
    """Stack consecutive steps of one segment. A missing last step makes the newest one last, without action, not terminal."""
    steps = list(steps)
    cut = not steps[-1].is_last
    if cut:
        nothing = np.zeros_like(steps[-1].action)
        steps[-1] = replace(steps[-1], is_last=True, is_terminal=False, action=nothing, policy_action=nothing, reward=0.0)
    first, last = steps[0], steps[-1]
    goal = _goal(steps, cut)
    if cut:
        steps[-1] = replace(steps[-1], instruction=goal)
    sources = [step.source for step in steps[:-1]]

    def column(name: str, dtype: Any) -> np.ndarray:
        return np.array([getattr(step, name) for step in steps], dtype)

    reward = column("reward", np.float32)
    is_first = np.zeros(len(steps), bool)
    is_first[0] = True
    info = SegmentInfo(
        actor_id=first.actor_id,
        segment=first.segment,
        phase=first.phase,
        task=first.task,
        instruction=goal,
        first_sequence=first.sequence,
        length=len(steps),
        first_index=first.index,
        success=int(last.success),
        success_truth=int(last.success_truth),
        is_terminal=bool(last.is_terminal),
        cut=cut,
        reward_sum=float(reward.sum()),
        first_stamp_ns=int(first.stamp_ns),
        last_stamp_ns=int(last.stamp_ns),
        policy_version=int(last.policy_version),
        sources={source.name.lower(): sources.count(source) for source in Source if source in sources},
        corrections=_corrections(steps, goal),
    )
    return Segment(
        info=info,
        observation={key: np.stack([step.observation[key] for step in steps]) for key in first.observation},
        action=np.stack([step.action for step in steps]),
        policy_action=np.stack([step.policy_action for step in steps]),
        reward=reward,
        is_first=is_first,
        is_last=column("is_last", bool),
        is_terminal=column("is_terminal", bool),
        source=column("source", np.uint8),
        policy_version=column("policy_version", np.int64),
        success=column("success", np.int8),
        success_probability=column("success_probability", np.float32),
        success_truth=column("success_truth", np.int8),
        stamp_ns=column("stamp_ns", np.int64),
        sequence=column("sequence", np.int64),
        judged_by=[step.judged_by for step in steps],
    )


def _goal(steps: Sequence[Step], cut: bool) -> str:
    """The instruction of the segment itself. A last step moved nothing and has it; of one that was cut short, what was not a
    person's doing has it."""
    own = steps[-1:] if not cut else [step for step in steps if step.source is not Source.HUMAN]
    return (own or steps)[-1].instruction


def _corrections(steps: Sequence[Step], goal: str) -> tuple[Correction, ...]:
    runs: list[Correction] = []
    for t, step in enumerate(steps):
        if step.instruction == goal:
            continue
        if runs and runs[-1].last == t - 1 and runs[-1].instruction == step.instruction:
            runs[-1] = replace(runs[-1], last=t)
        else:
            runs.append(Correction(t, t, step.instruction))
    return tuple(runs)


# --- zarr -----------------------------------------------------------------------------------------------------------


def encode_segment(segment: Segment, observation_spec: ObservationSpec, action_spec: ActionSpec) -> dict[str, bytes]:
    """The segment as files of a zarr 3 group: relative path -> content.

    zarr itself writes the metadata, once per segment length; the chunks are encoded here, 10 times faster.
    """
    judges = list(dict.fromkeys(segment.judged_by))
    judged_by = np.array([judges.index(name) for name in segment.judged_by])
    floats = [
        segment.observation["state"],
        segment.action,
        segment.policy_action,
        segment.reward[:, None],
        segment.success_probability[:, None],
    ]
    integers = [judged_by if name == "judged_by" else getattr(segment, name) for name in _INTEGERS]
    arrays = {
        "floats": np.concatenate(floats, axis=1, dtype=np.float32),
        "integers": np.stack([column.astype(np.int64) for column in integers], axis=1),
        **{key: segment.observation[key] for key in observation_spec.image_keys},
    }
    columns = {"floats": _float_columns(observation_spec, action_spec), "integers": list(_INTEGERS)}
    attributes = {"info": info_to_json(segment.info), "columns": columns, "judges": judges}
    layout = tuple((name, array.shape, array.dtype.name) for name, array in arrays.items())
    files = dict(_metadata_files(layout))
    files["zarr.json"] = json.dumps({**json.loads(files["zarr.json"]), "attributes": attributes}).encode()
    for name, array in arrays.items():
        compress = _COMPRESSOR.encode if array.dtype == np.uint8 else bytes
        steps = min(len(array), MAX_CHUNK_STEPS)
        for start in range(0, len(array), steps):
            chunk = array[start : start + steps]
            if len(chunk) < steps:  # zarr's chunks all have one size
                chunk = np.concatenate([chunk, np.zeros((steps - len(chunk), *chunk.shape[1:]), chunk.dtype)])
            files[f"{name}/{_chunk_name(start // steps, array.ndim)}"] = compress(np.ascontiguousarray(chunk))
    return files


@lru_cache(maxsize=512)
def _metadata_files(layout: _Layout) -> dict[str, bytes]:
    """The zarr.json files of a group with arrays of `layout`."""
    store: dict[str, Any] = {}
    group = zarr.create_group(store=MemoryStore(store), zarr_format=3)
    for name, shape, dtype in layout:
        codec = BloscCodec(cname="lz4", clevel=1, shuffle="bitshuffle", typesize=1) if dtype == "uint8" else None
        chunks = (min(shape[0], MAX_CHUNK_STEPS), *shape[1:])
        # chunk files lie beside zarr.json ("c.0.0"): no nested folders to fsync
        separator: Any = {"name": "default", "separator": "."}
        group.create_array(name, shape=shape, dtype=dtype, chunks=chunks, compressors=codec, chunk_key_encoding=separator)
    return {name: buffer.to_bytes() for name, buffer in store.items()}


def read_segment(info: SegmentInfo, observation_spec: ObservationSpec, action_spec: ActionSpec) -> Segment:
    """Read the group at ``info.path``. Raises ValueError, KeyError or OSError when it is not what `encode_segment` wrote."""
    assert info.path is not None
    columns = {"floats": _float_columns(observation_spec, action_spec), "integers": list(_INTEGERS)}
    attributes = json.loads((info.path / "zarr.json").read_bytes())["attributes"]
    if attributes["columns"] != columns:
        raise ValueError("its columns are not those of the store's specifications")
    layout = (
        ("floats", (info.length, len(columns["floats"])), "float32"),
        ("integers", (info.length, len(_INTEGERS)), "int64"),
        *((key, (info.length, *observation_spec.shapes()[key][0]), "uint8") for key in observation_spec.image_keys),
    )
    arrays = {name: _read_array(info.path, layout, name, shape, dtype) for name, shape, dtype in layout}
    floats, integers = arrays.pop("floats"), arrays.pop("integers")
    observation = arrays
    widths = np.cumsum([observation_spec.state_dim, action_spec.dim, action_spec.dim, 1])
    state, action, policy_action, reward, probability = (np.ascontiguousarray(part) for part in np.split(floats, widths, axis=1))
    column = {name: np.ascontiguousarray(integers[:, i]) for i, name in enumerate(_INTEGERS)}
    judges = attributes["judges"]
    return Segment(
        info=info,
        observation={"state": state, **observation},
        action=action,
        policy_action=policy_action,
        reward=reward[:, 0],
        is_first=column["is_first"].astype(bool),
        is_last=column["is_last"].astype(bool),
        is_terminal=column["is_terminal"].astype(bool),
        source=column["source"].astype(np.uint8),
        policy_version=column["policy_version"],
        success=column["success"].astype(np.int8),
        success_probability=probability[:, 0],
        success_truth=column["success_truth"].astype(np.int8),
        stamp_ns=column["stamp_ns"],
        sequence=column["sequence"],
        judged_by=[judges[i] for i in column["judged_by"]],
    )


def info_to_json(info: SegmentInfo) -> dict[str, Any]:
    data = {name: getattr(info, name) for name in SegmentInfo.__dataclass_fields__ if name != "path"}
    return data | {"corrections": [asdict(one) for one in info.corrections]}


def info_from_json(data: dict[str, Any], path: Path) -> SegmentInfo:
    """Inverse of `info_to_json`; segments written before there were corrections have none. Raises TypeError when keys are missing
    or unknown."""
    corrections = tuple(Correction(**one) for one in data.get("corrections", ()))
    return SegmentInfo(**{**data, "corrections": corrections}, path=path)


def _float_columns(observation_spec: ObservationSpec, action_spec: ActionSpec) -> list[str]:
    return [
        *(f"state.{name}" for name in observation_spec.state_names),
        *(f"action.{name}" for name in action_spec.names),
        *(f"policy_action.{name}" for name in action_spec.names),
        "reward",
        "success_probability",
    ]


def _read_array(root: Path, layout: _Layout, name: str, shape: tuple[int, ...], dtype: str) -> np.ndarray:
    """One array of the group at `root`; every chunk must be there (zarr itself would read a missing one as zeros)."""
    steps = min(shape[0], MAX_CHUNK_STEPS)
    chunks = [root / name / _chunk_name(i, len(shape)) for i in range(-(-shape[0] // steps))]
    missing = [chunk.name for chunk in chunks if not chunk.exists()]
    if missing:
        raise ValueError(f"{name} lacks its chunk file {missing[0]}")
    if (root / name / "zarr.json").read_bytes() == _metadata_files(layout)[f"{name}/zarr.json"]:
        # exactly our own encoding: 10 times faster than through zarr, which matters when a long run is resumed
        decode = _COMPRESSOR.decode if dtype == "uint8" else bytes
        parts = [np.frombuffer(decode(chunk.read_bytes()), dtype).reshape(steps, *shape[1:]) for chunk in chunks]
        array = (parts[0] if len(parts) == 1 else np.concatenate(parts))[: shape[0]]
    else:
        stored = zarr.open_array(str(root / name), mode="r")
        array = np.asarray(stored[...])
    if array.shape != shape or array.dtype != np.dtype(dtype):
        raise ValueError(f"{name} is {array.dtype}{array.shape}, expected {dtype}{shape}")
    return array


def _chunk_name(number: int, dimensions: int) -> str:
    return ".".join(["c", str(number), *["0"] * (dimensions - 1)])
