"""Observation and action specifications: what an array means, in which unit, in which order.

Every component (simulation, actor, wire, store, learner, exported policy) speaks these three types.
They travel as JSON: with the policy program, with the episode store and with the run's configuration.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field

import numpy as np

Observation = dict[str, np.ndarray]
"""One observation: ``"state"`` float32 ``(d,)`` and one ``"image/<camera>"`` uint8 ``(h, w, 3)`` RGB per camera."""

IMAGE_PREFIX = "image/"
PHASES = ("forward", "backward")
"""The two directions of practice; the index in this tuple is the policy's one-hot ``phase`` input."""


SIDES = ("left", "right")
"""Of a robot with two arms; its names begin with the side: ``left_x``."""


def side_of(name: str) -> str:
    """The arm that an element of an action belongs to; empty for a robot with one arm."""
    side = name.partition("_")[0]
    return side if side in SIDES else ""


def bare(name: str) -> str:
    """`name` without the arm that it belongs to: ``left_x`` is ``x``."""
    return name.removeprefix(f"{side_of(name)}_") if side_of(name) else name


class SpecError(ValueError):
    """An array does not fit its specification; the message names the key, what it is and what it should be."""


@dataclass(frozen=True)
class ObservationSpec:
    """Layout of an observation.

    Attributes:
        state_names: one name per element of ``state``, unit included, e.g. ``"tcp_x_m"`` (base frame).
        cameras: camera name -> ``(height, width)`` in pixels; images are uint8 RGB.
    """

    state_names: tuple[str, ...]
    cameras: dict[str, tuple[int, int]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "state_names", tuple(self.state_names))
        object.__setattr__(self, "cameras", {name: (int(h), int(w)) for name, (h, w) in self.cameras.items()})

    @property
    def state_dim(self) -> int:
        return len(self.state_names)

    @property
    def image_keys(self) -> tuple[str, ...]:
        return tuple(IMAGE_PREFIX + name for name in self.cameras)

    def shapes(self) -> dict[str, tuple[tuple[int, ...], str]]:
        """Key -> (shape, dtype name) for every array of an observation."""
        shapes: dict[str, tuple[tuple[int, ...], str]] = {"state": ((self.state_dim,), "float32")}
        for name, (height, width) in self.cameras.items():
            shapes[IMAGE_PREFIX + name] = ((height, width, 3), "uint8")
        return shapes

    def check(self, observation: Observation) -> None:
        """Raise SpecError when `observation` lacks a key, or a shape, dtype or value (non-finite state) is wrong."""
        for key, (shape, dtype) in self.shapes().items():
            if key not in observation:
                raise SpecError(f"observation lacks {key!r}; it has {sorted(observation)}")
            array = observation[key]
            if array.shape != shape or array.dtype != np.dtype(dtype):
                raise SpecError(f"observation {key!r} is {array.dtype}{array.shape}, expected {dtype}{shape}")
        if not np.isfinite(observation["state"]).all():
            bad = [self.state_names[i] for i in np.flatnonzero(~np.isfinite(observation["state"]))]
            raise SpecError(f"observation 'state' is not finite in {', '.join(bad)}")

    def zeros(self) -> Observation:
        return {key: np.zeros(shape, dtype) for key, (shape, dtype) in self.shapes().items()}


@dataclass(frozen=True)
class ActionSpec:
    """Layout of an action. Policies and the store use normalised actions in [-1, 1]; `scale` gives the physical size of 1.

    Attributes:
        names: one per element, e.g. ``("x", "y", "z", "yaw", "gripper")``. x, y, z are displacements of the tool centre
            point in the base frame per control step, yaw a rotation about the base z axis per step, gripper an absolute
            opening (-1 closed, +1 open). Names that end in ``_joint`` are absolute joint targets around the robot's stance.
        scale: physical size of an action of 1: metres for x, y, z; radians for yaw and joints; 1 for gripper.
    """

    names: tuple[str, ...]
    scale: tuple[float, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "names", tuple(self.names))
        object.__setattr__(self, "scale", tuple(float(s) for s in self.scale))
        if len(self.names) != len(self.scale):
            raise SpecError(f"action has {len(self.names)} names but {len(self.scale)} scales")

    @property
    def dim(self) -> int:
        return len(self.names)

    def check(self, action: np.ndarray) -> None:
        """Raise SpecError unless `action` is a finite float32 ``(dim,)`` within [-1, 1]."""
        if action.shape != (self.dim,) or action.dtype != np.float32:
            raise SpecError(f"action is {action.dtype}{action.shape}, expected float32({self.dim},) for {self.names}")
        if not np.isfinite(action).all() or np.abs(action).max(initial=0.0) > 1.0 + 1e-6:
            raise SpecError(f"action {action} is not finite or outside [-1, 1]")

    def zeros(self) -> np.ndarray:
        return np.zeros(self.dim, np.float32)


def specs_to_json(observation: ObservationSpec, action: ActionSpec) -> str:
    """Both specs as one canonical JSON text (sorted keys), so that equal specs have equal digests."""
    return json.dumps({"observation": asdict(observation), "action": asdict(action)}, sort_keys=True)


def specs_from_json(text: str) -> tuple[ObservationSpec, ActionSpec]:
    """Inverse of `specs_to_json`. Raises SpecError on malformed text."""
    try:
        data = json.loads(text)
        return ObservationSpec(**data["observation"]), ActionSpec(**data["action"])
    except (ValueError, KeyError, TypeError) as error:
        raise SpecError(f"specification text is not readable: {error}") from error


def digest(data: bytes | str) -> str:
    """SHA-256 hex digest, the project's only content digest."""
    return hashlib.sha256(data.encode() if isinstance(data, str) else data).hexdigest()
