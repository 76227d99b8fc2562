"""The classifier on disk and the judge that the control loop asks: two files, no training code.

``classifier.safetensors`` holds the weights of all members, ``classifier.json`` everything needed to use and to trust them
(architecture, cameras, thresholds, held-out report, checksum). Nothing is unpickled.
"""

from __future__ import annotations

import json
import math
import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

import jax
import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load as load_tensors
from safetensors.numpy import save as save_tensors

from etude.specs import IMAGE_PREFIX, PHASES, Observation, ObservationSpec, digest
from reward_classifiers.network import Architecture, Params, initialise, mean_probability

FORMAT = "etude-image-classifier"
VERSION = 1
WEIGHTS_FILE = "classifier.safetensors"
DESCRIPTION_FILE = "classifier.json"


class ClassifierError(ValueError):
    """A classifier cannot be trained, read or used; the message names the file or the data and the remedy."""


class ImageJudge:
    """`etude.robot.Judge` from images: the mean of a few small networks. One call scores both directions and is jitted and warm.

    Attributes:
        name: ``"cnn:<first 8 hex digits of the digest>"``, stored with every step that it judges.
    """

    def __init__(
        self,
        architecture: Architecture,
        members: list[dict[str, np.ndarray]],
        thresholds: dict[str, float],
        content_digest: str,
        report: dict,
    ) -> None:
        self.name = f"cnn:{content_digest[:8]}"
        self.architecture = architecture
        self.report = report
        self._thresholds = dict(thresholds)
        self._members = [{name: jax.device_put(array) for name, array in member.items()} for member in members]
        self._apply = jax.jit(mean_probability)
        zeros = {name: np.zeros((1, *size, 3), np.uint8) for name, size in architecture.cameras.items()}
        self.probabilities(zeros, np.zeros((1, len(architecture.state_names)), np.float32))  # compiles

    def probability(self, observation: Observation, phase: str) -> float:
        """P(the goal of `phase` is reached in `observation`). Raises ClassifierError when an array is missing or has
        another shape."""
        images = {
            name: self._array(observation, IMAGE_PREFIX + name, (*size, 3))[None]
            for name, size in self.architecture.cameras.items()
        }
        state = self._array(observation, "state", (len(self.architecture.state_names),))
        return float(self.probabilities(images, state[None])[0, PHASES.index(phase)])

    def threshold(self, phase: str) -> float:
        return self._thresholds[phase]

    def probabilities(self, images: dict[str, np.ndarray], state: np.ndarray) -> np.ndarray:
        """Camera -> uint8 ``(B, h, w, 3)`` and state ``(B, d)``  →  float32 ``(B, 2)``, one column per direction."""
        return np.asarray(self._apply(self._members, images, state[:, self.architecture.motion]))

    def check(self, spec: ObservationSpec) -> None:
        """Raise ClassifierError unless a robot with `spec` has the cameras and velocities that this classifier was trained on."""
        wanted = self.architecture
        if any(spec.cameras.get(name) != size for name, size in wanted.cameras.items()) or spec.state_names != wanted.state_names:
            raise ClassifierError(
                f"classifier {self.name} was trained with cameras {_cameras(wanted.cameras)} and state "
                f"{', '.join(wanted.state_names)}, but the robot has cameras {_cameras(spec.cameras)} and state "
                f"{', '.join(spec.state_names)}. Train one for this robot: etude classifier train --task <task>"
            )

    def _array(self, observation: Observation, key: str, expected: tuple[int, ...]) -> np.ndarray:
        array = observation.get(key)
        if array is None or array.shape != expected:
            found = "is missing" if array is None else f"has shape {array.shape}"
            raise ClassifierError(f"observation {key!r} {found}; classifier {self.name} expects {expected}")
        return array


def _cameras(cameras: dict[str, tuple[int, int]]) -> str:
    return ", ".join(f"{name} {width}x{height}" for name, (height, width) in cameras.items()) or "none"


def save_classifier(
    folder: Path,
    architecture: Architecture,
    members: list[Params],
    thresholds: dict[str, float],
    report: dict[str, Any],
    settings: dict[str, Any],
) -> str:
    """Write both files (each aside, then renamed; the description last) and return the content digest."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {f"{i}/{name}": np.asarray(array, np.float32) for i, member in enumerate(members) for name, array in member.items()}
    weights = save_tensors(tensors)
    description: dict[str, Any] = {
        "format": FORMAT,
        "version": VERSION,
        "architecture": asdict(architecture),
        "members": len(members),
        "thresholds": thresholds,
        "settings": settings,
        "report": report,
        "weights_sha256": digest(weights),
    }
    description["digest"] = digest(_canonical(description))
    _replace(folder / WEIGHTS_FILE, weights)
    _replace(folder / DESCRIPTION_FILE, json.dumps(description, indent=2).encode())
    return str(description["digest"])


def load_judge(folder: Path) -> ImageJudge:
    """Read and warm up the classifier in `folder`. Raises ClassifierError naming the file, what is wrong with it, and the
    remedy."""
    folder = Path(folder)
    description = _read_description(folder / DESCRIPTION_FILE)
    path = folder / WEIGHTS_FILE
    try:
        data = path.read_bytes()
    except OSError as error:
        raise _broken(path, f"cannot be read: {error.strerror or error}") from error
    if digest(data) != description["weights_sha256"]:
        raise _broken(path, f"does not have the checksum that {DESCRIPTION_FILE} gives (it was changed or cut short)")
    try:
        tensors = load_tensors(data)
        architecture = Architecture.from_json(description["architecture"])
        thresholds = {phase: float(description["thresholds"][phase]) for phase in PHASES}
        count = int(description["members"])
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise _broken(folder, f"is not understood: {error}") from error
    expected = {name: array.shape for name, array in initialise(architecture, jax.random.key(0)).items()}
    members = [{name: tensors.get(f"{i}/{name}") for name in expected} for i in range(count)]
    for i, member in enumerate(members):
        for name, shape in expected.items():
            array = member[name]
            if array is None or array.shape != shape or not np.isfinite(array).all():
                found = "is missing" if array is None else f"is {array.dtype}{array.shape} or not finite"
                raise _broken(path, f"tensor {i}/{name} {found}, expected finite float32{shape}")
    if not members or not all(0.0 < value < 1.0 and math.isfinite(value) for value in thresholds.values()):
        raise _broken(folder / DESCRIPTION_FILE, f"has {count} members and thresholds {thresholds}")
    return ImageJudge(architecture, members, thresholds, description["digest"], description["report"])  # type: ignore[arg-type]


def _read_description(path: Path) -> dict[str, Any]:
    try:
        description = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ClassifierError(
            f"there is no classifier in {path.parent} ({path.name} is missing). Train one: etude classifier train --task <task>"
        ) from None
    except (OSError, ValueError) as error:
        raise _broken(path, f"cannot be read: {error}") from error
    if not isinstance(description, dict) or description.get("format") != FORMAT:
        raise _broken(path, f"is not an {FORMAT} description")
    if description.get("version") != VERSION:
        raise _broken(path, f"has version {description.get('version')}, this program reads version {VERSION}")
    claimed = description.get("digest")
    if claimed != digest(_canonical(description)):
        raise _broken(path, "was changed after training: its content does not have the digest that it states")
    return description


def _broken(path: Path, what: str) -> ClassifierError:
    return ClassifierError(f"classifier file {path} {what}. Train it again: etude classifier train --task <task> --out <folder>")


def _canonical(description: dict[str, Any]) -> str:
    return json.dumps({key: value for key, value in description.items() if key != "digest"}, sort_keys=True)


def _replace(path: Path, data: bytes) -> None:
    aside = path.with_name(path.name + ".part")
    with aside.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    aside.replace(path)
