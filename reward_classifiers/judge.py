"""From a backend's logits to the judge that the control loop asks, the same way for every backend.

A backend is a fixed function from the views of one or a few frames to logits of its members (one or many). Temperature, the
members' weights and thresholds are applied here, so that calibration and reweighting work for all of them.
"""

from __future__ import annotations

from collections import deque
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from etude.config import ClassifierConfig
from etude.robot import Judge
from etude.specs import IMAGE_PREFIX, PHASES, Observation, ObservationSpec
from reward_classifiers.calibration import Calibration, combine, disagreement
from reward_classifiers.files import ClassifierError, Tensors, broken, read_classifier
from reward_classifiers.frames import windows
from reward_classifiers.worker import NO_ANSWER, DeadlineJudge

Images = dict[str, np.ndarray]
"""Camera -> uint8 ``(B, F, h, w, 3)``: the last F frames up to the judged one, oldest first."""


class Backend(Protocol):
    """Frozen. `kind` names it in files and in the judge's name.

    Attributes:
        cameras: camera -> (height, width) that it looks at, all in one call.
        state_names: proprioception that it was trained on; empty for one that sees images only.
        frames: F, how many frames it looks at, the judged one included.
        members: K, opinions per frame.
    """

    kind: str
    cameras: dict[str, tuple[int, int]]
    state_names: tuple[str, ...]
    frames: int
    members: int

    def member_logits(self, images: Images, state: np.ndarray, phase: str) -> np.ndarray:
        """Images and the newest ``state`` ``(B, d)`` → float32 ``(K, B)``, log-odds that the goal of `phase` is reached."""
        ...


class ImageJudge:
    """`etude.robot.Judge` from images: a backend with its calibration, warmed up.

    With more than one frame it remembers the last ones that it was shown; a frame shown again counts once.

    Attributes:
        name: ``"<backend>:<first 8 hex digits of the digest>"``, stored with every step that it judges.
    """

    def __init__(self, backend: Backend, calibration: Calibration, content_digest: str, report: dict[str, Any]) -> None:
        self.name = f"{backend.kind}:{content_digest[:8]}"
        self.backend = backend
        self.calibration = calibration
        self.report = report
        self._recent: deque[Observation] = deque(maxlen=backend.frames)
        self._seen: Observation | None = None
        zeros: Images = {name: np.zeros((1, backend.frames, *size, 3), np.uint8) for name, size in backend.cameras.items()}
        for phase in PHASES:
            self.backend.member_logits(zeros, np.zeros((1, len(backend.state_names)), np.float32), phase)  # compiles

    def probability(self, observation: Observation, phase: str) -> float:
        """P(the goal of `phase` is reached in `observation`). Raises ClassifierError when an array is missing or has
        another shape."""
        return float(self._combined(self._look(observation, phase), phase)[0])

    def doubt(self, observation: Observation, phase: str) -> float:
        """How far the members disagree about `observation`: standard deviation of their probabilities, 0 to 0.5."""
        if self.backend.members == 1:
            return 0.0
        return float(disagreement(self._look(observation, phase), self.calibration, phase)[0])

    def threshold(self, phase: str) -> float:
        return self.calibration.thresholds[phase]

    def forget(self) -> None:
        """The next frame is the first of an attempt, as the first of a segment is in training."""
        self._recent.clear()

    def segment_probabilities(self, observation: Observation, phase: str) -> np.ndarray:
        """Of every frame of a segment, arrays with a leading time axis: float32 ``(T,)``. Each frame sees those before it in the
        segment; before the first there is the first."""
        return self._combined(self.segment_logits(observation, phase), phase)

    def segment_logits(self, observation: Observation, phase: str) -> np.ndarray:
        """As `segment_probabilities`, before calibration and of every member: float32 ``(K, T)``."""
        rows = windows(len(observation["state"]), self.backend.frames)
        images = {name: observation[IMAGE_PREFIX + name][rows] for name in self.backend.cameras}
        state = observation["state"] if self.backend.state_names else np.zeros((len(rows), 0), np.float32)
        return self.backend.member_logits(images, state, phase)

    def check(self, spec: ObservationSpec) -> None:
        """Raise ClassifierError unless a robot with `spec` has the cameras and velocities that this classifier was trained on."""
        wanted = self.backend
        other_state = wanted.state_names and spec.state_names != wanted.state_names
        if any(spec.cameras.get(name) != size for name, size in wanted.cameras.items()) or other_state:
            raise ClassifierError(
                f"classifier {self.name} was trained with cameras {_cameras(wanted.cameras)} and state "
                f"{', '.join(wanted.state_names) or 'none'}, but the robot has cameras {_cameras(spec.cameras)} and state "
                f"{', '.join(spec.state_names) or 'none'}. Train one for this robot: etude classifier train --task <task>"
            )

    def _look(self, observation: Observation, phase: str) -> np.ndarray:
        shown = {
            IMAGE_PREFIX + name: self._array(observation, IMAGE_PREFIX + name, (*size, 3))
            for name, size in self.backend.cameras.items()
        }
        if self.backend.state_names:
            shown["state"] = self._array(observation, "state", (len(self.backend.state_names),))
        # probability and doubt ask about the same observation; another one counts, also where nothing has moved
        again = observation is self._seen and self._recent
        if not again or any((self._recent[-1][key] != array).any() for key, array in shown.items()):
            self._seen = observation
            self._recent.append({key: array.copy() for key, array in shown.items()})
        frames = [self._recent[0]] * (self.backend.frames - len(self._recent)) + list(self._recent)
        images = {name: np.stack([frame[IMAGE_PREFIX + name] for frame in frames])[None] for name in self.backend.cameras}
        state = shown["state"][None] if self.backend.state_names else np.zeros((1, 0), np.float32)
        return self.backend.member_logits(images, state, phase)

    def _combined(self, logits: np.ndarray, phase: str) -> np.ndarray:
        return combine(logits, self.calibration.temperature[phase], self.calibration.weights[phase])

    def _array(self, observation: Observation, key: str, expected: tuple[int, ...]) -> np.ndarray:
        array = observation.get(key)
        if array is None or array.shape != expected:
            found = "is missing" if array is None else f"has shape {array.shape}"
            raise ClassifierError(f"observation {key!r} {found}; classifier {self.name} expects {expected}")
        return array


def load_judge(folder: Path) -> ImageJudge:
    """Read and warm up the classifier in `folder`. Raises ClassifierError naming the file, what is wrong with it, and the
    remedy."""
    folder = Path(folder)
    description, tensors, calibration = read_classifier(folder)
    backend = _load_backend(folder, description["backend"], description["architecture"], tensors)
    for phase in PHASES:
        if len(calibration.weights[phase]) != backend.members:
            raise broken(folder, f"has {backend.members} members and {len(calibration.weights[phase])} weights")
    try:
        return ImageJudge(backend, calibration, description["digest"], description["report"])
    except (KeyError, TypeError, ValueError) as error:  # the first look is where arrays that do not fit each other are found out
        if isinstance(error, ClassifierError):
            raise
        raise broken(folder, f"holds arrays that do not fit each other or its model: {error}") from error


def load_live_judge(folder: Path, config: ClassifierConfig) -> Judge:
    """As `load_judge`, for the control loop: it follows newer versions in `folder`, and with a deadline the judge has a thread of
    its own."""
    from reward_classifiers.reloading import ReloadingJudge

    return ReloadingJudge(folder, lambda judge: with_deadline(judge, config))


def with_deadline(judge: Judge, config: ClassifierConfig) -> Judge:
    """`judge` itself, or off the control loop where the configuration gives a deadline."""
    if config.deadline_s is None:
        return judge
    return DeadlineJudge(judge, config.deadline_s, NO_ANSWER if config.missed == "no_vote" else 0.0)


def _load_backend(folder: Path, kind: str, architecture: dict[str, Any], tensors: Tensors) -> Backend:
    try:
        match kind:
            case "cnn" | "vice":
                from reward_classifiers.cnn import CnnBackend

                return CnnBackend.load(folder, architecture, tensors, kind)
            case "probe":
                from reward_classifiers.probe import ProbeBackend

                return ProbeBackend.load(folder, architecture, tensors)
            case "vlm":
                from reward_classifiers.vlm import VlmBackend

                return VlmBackend.load(folder, architecture, tensors)
            case "zero_shot":
                from reward_classifiers.zero_shot import ZeroShotBackend

                return ZeroShotBackend.load(folder, architecture, tensors)
    except (KeyError, TypeError, ValueError) as error:
        if isinstance(error, ClassifierError):
            raise
        raise broken(folder, f"is not understood: {error}") from error
    raise broken(folder, f"has backend {kind!r}, which this program does not know")


def _cameras(cameras: dict[str, tuple[int, int]]) -> str:
    return ", ".join(f"{name} {width}x{height}" for name, (height, width) in cameras.items()) or "none"
