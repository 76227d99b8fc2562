"""A classifier on disk: ``classifier.safetensors`` (arrays) and ``classifier.json`` (everything needed to use and to trust them).

The same two files for every backend; what is inside `architecture` and the arrays' names are the backend's own. Nothing is
unpickled, and a changed or torn file is refused.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load as load_tensors
from safetensors.numpy import save as save_tensors

from etude.durable import write_atomic
from etude.specs import PHASES, digest
from reward_classifiers.calibration import Calibration

FORMAT = "etude-image-classifier"
VERSION = 2
WEIGHTS_FILE = "classifier.safetensors"
DESCRIPTION_FILE = "classifier.json"
Tensors = dict[str, np.ndarray]


class ClassifierError(ValueError):
    """A classifier cannot be trained, read or used; the message names the file or the data and the remedy."""


def save_classifier(
    folder: Path,
    backend: str,
    architecture: Mapping[str, Any],
    tensors: Tensors,
    calibration: Calibration,
    report: Mapping[str, Any],
    settings: Mapping[str, Any],
) -> str:
    """Write both files (each aside, then renamed; the description last) and return the content digest."""
    folder.mkdir(parents=True, exist_ok=True)
    weights = save_tensors({name: np.ascontiguousarray(array) for name, array in tensors.items()})
    description: dict[str, Any] = {
        "format": FORMAT,
        "version": VERSION,
        "backend": backend,
        "architecture": dict(architecture),
        "calibration": calibration.to_json(),
        "settings": dict(settings),
        "report": dict(report),
        "weights_sha256": digest(weights),
    }
    description["digest"] = digest(_canonical(description))
    write_atomic(folder / WEIGHTS_FILE, weights)
    write_atomic(folder / DESCRIPTION_FILE, json.dumps(description, indent=2).encode())
    return str(description["digest"])


def read_classifier(folder: Path) -> tuple[dict[str, Any], Tensors, Calibration]:
    """Description, arrays and calibration in `folder`. Raises ClassifierError naming the file, what is wrong with it, and the
    remedy."""
    description = read_description(folder)
    path = folder / WEIGHTS_FILE
    try:
        data = path.read_bytes()
    except OSError as error:
        raise broken(path, f"cannot be read: {error.strerror or error}") from error
    if digest(data) != description["weights_sha256"]:
        raise broken(path, f"does not have the checksum that {DESCRIPTION_FILE} gives (it was changed or cut short)")
    try:
        tensors = load_tensors(data)
        calibration = Calibration.from_json(description["calibration"])
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise broken(folder, f"is not understood: {error}") from error
    for name, array in tensors.items():
        if not np.isfinite(array).all():
            raise broken(path, f"tensor {name} is not finite")
    for phase in PHASES:
        threshold, temperature = calibration.thresholds[phase], calibration.temperature[phase]
        if not (0.0 < threshold < 1.0 and 0.0 < temperature < math.inf and sum(calibration.weights[phase]) > 0.0):
            raise broken(folder / DESCRIPTION_FILE, f"has threshold {threshold} and temperature {temperature} for {phase}")
    return description, tensors, calibration


def read_description(folder: Path) -> dict[str, Any]:
    """What ``classifier.json`` says, its digest checked. Raises ClassifierError."""
    path = folder / DESCRIPTION_FILE
    try:
        description = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ClassifierError(
            f"there is no classifier in {path.parent} ({path.name} is missing). Train one: etude classifier train --task <task>"
        ) from None
    except (OSError, ValueError) as error:
        raise broken(path, f"cannot be read: {error}") from error
    if not isinstance(description, dict) or description.get("format") != FORMAT:
        raise broken(path, f"is not an {FORMAT} description")
    if description.get("version") != VERSION:
        raise broken(path, f"has version {description.get('version')}, this program reads version {VERSION}")
    if description.get("digest") != digest(_canonical(description)):
        raise broken(path, "was changed after training: its content does not have the digest that it states")
    return description


def members_of(tensors: Tensors, shapes: Mapping[str, tuple[int, ...]], count: int, folder: Path) -> list[Tensors]:
    """Arrays ``<member>/<name>`` as one dict per member. Raises ClassifierError when one is missing or has another shape."""
    for number in range(count):
        for name, shape in shapes.items():
            array = tensors.get(f"{number}/{name}")
            if array is None or array.shape != shape:
                found = "is missing" if array is None else f"is {array.dtype}{array.shape}"
                raise broken(folder / WEIGHTS_FILE, f"tensor {number}/{name} {found}, expected float32{shape}")
    return [{name: tensors[f"{number}/{name}"] for name in shapes} for number in range(count)]


def broken(path: Path, what: str) -> ClassifierError:
    return ClassifierError(f"classifier file {path} {what}. Train it again: etude classifier train --task <task> --out <folder>")


def _canonical(description: Mapping[str, Any]) -> str:
    return json.dumps({key: value for key, value in description.items() if key != "digest"}, sort_keys=True)
