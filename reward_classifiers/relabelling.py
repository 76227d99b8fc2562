"""Stored rewards as a newer classifier would have given them: a new store, every step naming the version that judged it.

The old store stays as it is: it says what the actor saw. Which frames fooled the old version is told by `hard_negatives`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from etude.config.axes import RewardConfig
from etude.episodes.store import EpisodeStore
from etude.specs import PHASES
from etude.step import Step
from reward_classifiers.calibration import first_success
from reward_classifiers.judge import ImageJudge
from reward_classifiers.labels import Question
from reward_classifiers.measure import known_truth

HUMAN = "human"
PER_SEGMENT = 3


@dataclass
class Relabelled:
    """Counts of segments. `kept`: judged by a person, by the environment or by nobody, copied as they are. Of the others:
    `confirmed` successes and `withdrawn` ones, `found` where the old version saw none, and those that were failures for both."""

    kept: int = 0
    confirmed: int = 0
    withdrawn: int = 0
    found: int = 0
    failures: int = 0
    steps_cut: int = 0


def relabel_store(judge: ImageJudge, source: EpisodeStore, out: Path, reward: RewardConfig) -> dict[str, Any]:
    """Write `source` with the rewards of `judge` into a new store at `out`; returns the counts and the version's name.

    A segment ends where the new version declares success, as the control loop would have ended it.

    Raises:
        ClassifierError: other cameras. StoreError: there is something at `out`.
    """
    judge.check(source.observation_spec)
    told = Relabelled()
    metadata = {**source.metadata, "relabelled_by": judge.name, "relabelled_from": source.path.name}
    store = EpisodeStore.create(out, source.observation_spec, source.action_spec, metadata)
    sequence: dict[str, int] = {}
    try:
        for info in source.segments():
            segment = source.read(info)
            steps = segment.steps()
            if not judged_by_classifier(segment.judged_by) or info.phase not in PHASES:
                told.kept += 1
            else:
                probability = judge.segment_probabilities(segment.observation, info.phase)
                before = bool(segment.success[-1] == 1)
                steps = relabel(steps, probability, judge.threshold(info.phase), judge.name, reward)
                after = steps[-1].success == 1
                told.confirmed += before and after
                told.withdrawn += before and not after
                told.found += after and not before
                told.failures += not before and not after
                told.steps_cut += len(segment) - len(steps)
            for step in steps:
                sequence[step.actor_id] = sequence.get(step.actor_id, 0) + 1
                store.append(replace(step, sequence=sequence[step.actor_id]))
        store.flush()
    finally:
        store.close()
    return {"judge": judge.name, **asdict(told)}


def judged_by_classifier(names: Sequence[str]) -> bool:
    """Whether a classifier, and no person, said what these steps are. Its names have a version: ``cnn:3f2a9c01``."""
    return HUMAN not in names and any(":" in name for name in names)


def relabel(steps: Sequence[Step], probability: np.ndarray, threshold: float, name: str, reward: RewardConfig) -> list[Step]:
    """The steps of one segment as a judge `name` with `probability` ``(T,)`` would have had them: see `relabel_store`.

    Frames from the start on that look like success count for nothing until one does not, as in `actor.scoring`.
    """
    counted = np.array(probability, np.float64)
    below = np.flatnonzero(counted < threshold)
    counted[: below[0] if len(below) else len(counted)] = 0.0
    said = first_success(counted, threshold, reward.consecutive_frames, reward.vote_window)
    length = len(steps) if said is None else said + 1
    told = []
    for number, step in enumerate(steps[:length]):
        last, success = number == length - 1, number == said
        step = replace(
            step,
            reward=reward.success if said is not None and number == said - 1 else 0.0 if last else reward.step,
            is_last=last,
            is_terminal=last and (reward.success_is_terminal if success else step.is_terminal and step.success != 1),
            success=int(success),
            success_probability=float(probability[number]),
            judged_by=name,
        )
        if success:  # the last step of a segment holds an observation only
            step = replace(step, action=np.zeros_like(step.action), policy_action=np.zeros_like(step.policy_action))
        told.append(step)
    return told


def hard_negatives(judge: ImageJudge, store: EpisodeStore, count: int, truth: bool = False) -> list[Question]:
    """At most `count` frames that `judge` calls success and that a person labelled as none, the most certain mistakes first, few
    of each segment. With their labels they teach the next version.

    Args:
        truth: in simulation, the ground truth stands for the person, as in labelled play.
    """
    found: list[Question] = []
    for info in store.segments():
        if info.phase not in PHASES:
            continue
        segment = store.read(info)
        probability = judge.segment_probabilities(segment.observation, info.phase)
        by_person = np.array([name == HUMAN for name in segment.judged_by]) & (segment.success == 0)
        none = known_truth(segment) == 0 if truth else by_person
        rows = np.flatnonzero(none & (probability >= judge.threshold(info.phase)))
        rows = rows[np.argsort(-probability[rows], kind="stable")][:PER_SEGMENT]
        found += [Question("positive", info, int(row), float(probability[row]), 0.0) for row in rows]
    found.sort(key=lambda question: -question.probability)
    return found[:count]
