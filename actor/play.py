"""Labelled play: a minute of motion around the goal while a person holds a button whenever the scene shows success.

Demonstrations end at success and never show near misses, so a reward classifier trained on them alone is fooled by what a
learning policy does: overshoot, hover, cover the object with the hand. In simulation the scripted expert and random motion
play, and the ground truth stands for the person's button. Play is for the classifier only; it is kept apart from the
demonstrations that the policy learns from.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from actor.demonstrations import DemonstrationError
from actor.evaluation import reading_clock
from actor.practice import opposite
from actor.safety import filter_action
from actor.scoring import Verdict, truth_of
from actor.segments import SegmentRecorder
from etude.config import RunConfig
from etude.robot import Reading, Robot
from etude.specs import PHASES
from etude.step import UNKNOWN, Source, Step

if TYPE_CHECKING:
    from etude.episodes.store import EpisodeStore

JUDGE = "human"
"""`Step.judged_by` of a pressed button; the classifier trusts these labels before its own rules."""
FRAMES_PER_DIRECTION = 1500
"""150 s at 10 Hz. Measured on the slide task: 400 leave errors of 2 cm around the goal, 1500 of a few millimetres."""
SEGMENT_FRAMES = 40
FAR_START_SHARE = 0.4
"""Segments that begin far from the goal; the others begin at it."""
_MOTIONS = ("expert", "undo", "onwards", "random", "still")
_CHANCES = (0.38, 0.22, 0.24, 0.11, 0.05)
_LONGEST = {"expert": 16, "undo": 20, "onwards": 6, "random": 8, "still": 3}


def record_play(
    config: RunConfig,
    robot: Robot,
    store: EpisodeStore,
    seed: int,
    frames_per_direction: int = FRAMES_PER_DIRECTION,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Append labelled play to `store`: segments of both directions in turn, every frame labelled for its direction.

    Segments start at random starts of either direction (the other direction's starts lie in this one's goal). Motion
    changes every few steps between the expert, the other direction's expert, going on as before (overshoot), a random walk
    and standing still. Every action passes the safety filter.

    Args:
        progress: called with (frames recorded, frames wanted) after each segment.

    Raises:
        DemonstrationError: no ground truth or no scripted expert: let a person play with a teleoperation device instead.
    """
    rng = np.random.default_rng([seed, 0x91A7])
    actor_id = f"play-{uuid.UUID(bytes=rng.bytes(16)).hex[:12]}"
    sequence = 0

    def add(step: Step) -> None:
        nonlocal sequence
        sequence += 1
        store.append(replace(step, actor_id=actor_id, sequence=sequence))

    recorder = SegmentRecorder(robot.action_spec, config.task.name, config.task.instructions, add, first_segment=1)
    wanted = frames_per_direction * len(PHASES)
    number = 0
    while sequence < wanted:
        phase = PHASES[number % len(PHASES)]
        start = phase if rng.random() < FAR_START_SHARE else opposite(phase)
        number += 1
        robot.hard_reset(start, rng)
        _play_segment(config, robot, recorder, phase, min(SEGMENT_FRAMES, max(2, wanted - sequence)), rng)
        if progress is not None:
            progress(min(sequence, wanted), wanted)
    store.flush()


def _play_segment(
    config: RunConfig, robot: Robot, recorder: SegmentRecorder, phase: str, frames: int, rng: np.random.Generator
) -> None:
    reading = robot.read()
    recorder.begin(reading, _button(reading, phase), phase, JUDGE)
    motion = _Motion(robot, phase, rng)
    executed: np.ndarray | None = None
    for frame in range(1, frames):
        proposed = motion.next(executed)
        clock = reading_clock(robot, reading)
        executed, _ = filter_action(
            proposed,
            reading,
            config.robot.safety,
            robot.action_spec,
            clock,
            observation_spec=robot.observation_spec,
            previous=executed,
        )
        robot.act(executed)
        recorder.acted(executed, executed, Source.SCRIPTED, 0)
        reading = robot.read()
        recorder.observe(reading, _button(reading, phase), 0.0, last=frame == frames - 1, terminal=False)


class _Motion:
    """Who moves next, and how: one kind of motion for a few steps, then another."""

    def __init__(self, robot: Robot, phase: str, rng: np.random.Generator) -> None:
        self._robot, self._phase, self._rng = robot, phase, rng
        self._kind, self._left = "expert", 0
        self._walk = np.zeros(robot.action_spec.dim)
        self._strength = 0.5
        self._unsteadiness = rng.uniform(0.0, 1.0)

    def next(self, previous: np.ndarray | None) -> np.ndarray:
        rng, robot = self._rng, self._robot
        if self._left == 0:
            self._kind = str(rng.choice(_MOTIONS, p=_CHANCES))
            self._left = int(rng.integers(1, _LONGEST[self._kind] + 1))
            self._strength = rng.uniform(0.3, 1.2)
        self._left -= 1
        try:
            expert = robot.expert_action(opposite(self._phase) if self._kind == "undo" else self._phase, rng)
        except NotImplementedError:
            raise DemonstrationError(
                "this robot has no scripted expert: record play for the classifier by teleoperation"
            ) from None
        self._walk = 0.6 * self._walk + 0.8 * rng.normal(0.0, 1.0, len(self._walk))
        moving = [i for i, name in enumerate(robot.action_spec.names) if name != "gripper"]
        if self._kind in ("expert", "undo"):
            action = np.array(expert)
            action[moving] += self._unsteadiness * self._walk[moving]
            return action.clip(-1.0, 1.0).astype(np.float32)
        if self._kind == "onwards" and previous is not None:
            return previous
        action = robot.action_spec.zeros() if previous is None else previous.copy()
        if self._kind == "random":
            action[moving] = self._strength * self._walk[moving]
            if rng.random() < 0.1 and len(moving) < len(action):
                action[-1] = -action[-1] if robot.action_spec.names[-1] == "gripper" else action[-1]
        else:
            action[moving] = 0.0
        return np.clip(action, -1.0, 1.0).astype(np.float32)


def _button(reading: Reading, phase: str) -> Verdict:
    """The simulated person: presses while the scene shows success."""
    truth = truth_of(reading, phase)
    if truth == UNKNOWN:
        raise DemonstrationError(f"this robot reports no ground truth for phase {phase!r}: a person has to label play here")
    return Verdict(met=bool(truth), success=bool(truth), probability=float("nan"), truth=truth)
