"""Backend ``vice``: networks and training of ``cnn``, other labels: how demonstrations end, against whatever was visited.

VICE (Fu et al. 2018, "Variational Inverse Control with Events") learns its reward from examples of success and the policy's own
states, so nobody labels failures. Here as in MEDAL++ the policy's density is left out. Trained once it is a judge like the
others; the reward that goes on learning within a run is `learner.rewards.discriminator`.

What was visited holds successes too. With classes in balance the best answer about them is 1 / (1 + s), with s their share of
the visited frames: still above a half, but no longer near 1, and a threshold that takes them for failures lies above them. So a
person's labels, which are not trained on, set temperature and threshold where there are enough of them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from etude.specs import PHASES, ObservationSpec
from reward_classifiers.cnn_training import TrainingSettings, train_cnn
from reward_classifiers.frames import IGNORE, FrameSet
from reward_classifiers.trained import Progress, Trained

if TYPE_CHECKING:
    from etude.episodes.segment import Segment

PERSON, VISITED = "labels of a person", "visited frames"
"""What a threshold was chosen on."""


@dataclass(frozen=True)
class ViceRules:
    """`reward_classifiers.frames.Rules`. Each direction has its own demonstrations and its own visited frames.

    Attributes:
        positive_last: the last frames of a successful demonstration are positives; its other frames teach nothing.
        most_played: newest visited frames per direction and store that are negatives, to the next whole segment.
    """

    positive_last: int
    most_played: int

    def demonstration(self, segment: Segment, phase: str) -> np.ndarray:
        labels = np.full((len(segment.success), len(PHASES)), IGNORE, np.int8)
        if segment.is_terminal[-1] or segment.success[-1] == 1:
            labels[-self.positive_last :, PHASES.index(phase)] = 1
        return labels

    def played(self, segment: Segment, phase: str) -> np.ndarray:
        """All are negatives, successes and what a person said about them included."""
        labels = np.full((len(segment.success), len(PHASES)), IGNORE, np.int8)
        labels[:, PHASES.index(phase)] = 0
        return labels

    def remedy(self, task: str, positives: int) -> str:
        if not positives:
            return f"Record demonstrations of both directions: etude demo record --task {task}"
        return f"Backend 'vice' takes them from what was visited: etude classifier train --task {task} --play runs/<name>"


def train_vice(
    frames: FrameSet, spec: ObservationSpec, fold: np.ndarray, settings: TrainingSettings, seed: int, progress: Progress | None
) -> Trained:
    """As `train_cnn`, on frames that `ViceRules` labelled."""
    return replace(train_cnn(frames, spec, fold, settings, seed, progress), backend="vice")


def frames_to_calibrate(frames: FrameSet, max_false_positive_rate: float) -> tuple[FrameSet, dict[str, str]]:
    """`frames` with the labels that temperature and threshold are chosen on, and per direction whose those are.

    A person's, and the demonstrations' ends beside them, where a person called enough frames failures to say anything about the
    wanted rate: 1 / rate of them. Otherwise those of training, which call every visited frame a failure.
    """
    labels, whose = frames.labels.copy(), {}
    for column, phase in enumerate(PHASES):
        judged = frames.judged[:, column]
        enough = bool((judged == 0).sum() * max_false_positive_rate >= 1.0)
        whose[phase] = PERSON if enough else VISITED
        if enough:
            ends = np.where(frames.labels[:, column] == 1, 1, IGNORE)
            labels[:, column] = np.where(judged != IGNORE, judged, ends)
    return replace(frames, labels=labels), whose
