"""Demonstrations by the scripted expert, in the directions that are practised, stored like any other episodes.

They stand for the few that a person gives by teleoperation: successful ones only, with noise, ending at success.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from actor.evaluation import reading_clock
from actor.safety import filter_action, reading_problems
from actor.scoring import Scorer
from actor.segments import SegmentRecorder
from etude.config import RunConfig
from etude.robot import Reading, Robot
from etude.step import Source, Step

if TYPE_CHECKING:
    from etude.episodes.store import EpisodeStore

SUCCESS_REWARD = 1.0
"""Stored reward of the success transition, whatever the recipe; the learner gives demonstrations its own recipe's rewards."""
DEMONSTRATOR_PATIENCE = 2
"""A demonstrator may take this many times the steps that practice allows: people show a task slower than it can be done."""
ATTEMPTS_PER_DEMONSTRATION = 20
"""More failures than this per wanted demonstration mean that the expert cannot do the task."""


class DemonstrationError(RuntimeError):
    """The expert cannot demonstrate this task on this robot."""


def record_demonstrations(
    config: RunConfig,
    robot: Robot,
    store: "EpisodeStore",
    count_per_direction: int,
    seed: int,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Append `count_per_direction` successful demonstrations of each practised direction to `store`.

    With ``task.demonstration_starts: alternating`` pairs are recorded: one direction from a random start, then, without a reset,
    the other from where the first one ended. The starting direction alternates, so that half of each direction's demonstrations
    begin at random starts (as in evaluation) and half where the other direction left things (as in practice). With ``random``,
    and when the recipe practises one direction only, every demonstration begins at a random start. A failed attempt is not
    stored and ends the pair. Success and terminal flag are by ground truth; the last step is the first observation that reaches
    the goal.

    Args:
        progress: called with (recorded, wanted) after each stored demonstration.

    Raises:
        DemonstrationError: no scripted expert, no ground truth, or the expert fails too often.
    """
    rng = np.random.default_rng([seed, 0xDE30])
    phases = config.recipe.phases
    taken: dict[str, int] = dict.fromkeys(phases, 0)
    writer = _SuccessOnlyWriter(store)
    recorder = SegmentRecorder(robot.action_spec, config.task.name, config.task.instructions, writer.add, first_segment=1)
    budget = ATTEMPTS_PER_DEMONSTRATION * count_per_direction
    pair = 0
    while any(taken[phase] < count_per_direction for phase in phases):
        order = phases if pair % 2 == 0 else phases[::-1]
        pair += 1
        if pair > budget:
            raise DemonstrationError(
                f"the scripted expert of task {config.task.name!r} recorded only {taken} of {count_per_direction} per direction "
                f"in {budget} tries: lower task.expert_noise (now {config.task.expert_noise}) or raise max_steps"
            )
        chained, chaining = False, config.task.demonstration_starts == "alternating"
        for phase in order:
            # the first of a pair is run even when it is not needed any more: the second starts where it ends
            if (chained or not chaining) and taken[phase] >= count_per_direction:
                continue
            if chained:
                robot.begin_phase(phase, rng)
            else:
                robot.hard_reset(phase, rng)
            if not _demonstrate(config, robot, recorder, writer, phase, rng, keep=taken[phase] < count_per_direction):
                break
            chained = chaining
            if taken[phase] < count_per_direction:
                taken[phase] += 1
                if progress is not None:
                    progress(sum(taken.values()), len(phases) * count_per_direction)
    store.flush()


def max_steps(config: RunConfig) -> dict[str, int]:
    """Phase -> control steps until it times out."""
    return {"forward": config.task.forward.max_steps, "backward": config.task.backward.max_steps}


def _demonstrate(
    config: RunConfig,
    robot: Robot,
    recorder: SegmentRecorder,
    writer: "_SuccessOnlyWriter",
    phase: str,
    rng: np.random.Generator,
    keep: bool,
) -> bool:
    """One attempt of the expert; stored when it succeeds and `keep`. Returns success."""
    scorer = Scorer(None)
    reading = robot.read()
    if reading.episode_over or _problems(config, robot, reading):
        return False
    if scorer.look(reading, phase)[0]:
        return False  # nothing to show; happens when the other direction left the object in this one's goal
    recorder.begin(reading, scorer.score(reading, phase), phase, scorer.name)
    executed: np.ndarray | None = None
    patience = DEMONSTRATOR_PATIENCE * max_steps(config)[phase]
    for step in range(patience):
        try:
            proposed = robot.expert_action(phase, rng)
        except NotImplementedError:
            raise DemonstrationError(
                f"robot {config.robot.name!r} has no scripted expert for phase {phase!r}: record demonstrations by "
                "teleoperation, or only forward ones for a recipe with reset.kind=human"
            ) from None
        executed, _ = filter_action(
            proposed,
            reading,
            config.robot.safety,
            robot.action_spec,
            reading_clock(robot, reading),
            observation_spec=robot.observation_spec,
            previous=executed,
        )
        robot.act(executed)
        recorder.acted(executed, executed, Source.SCRIPTED, 0)
        reading = robot.read()
        if _problems(config, robot, reading):
            recorder.cut()  # a demonstration with a hole in it shows nothing
            break
        verdict = scorer.score(reading, phase)
        last = verdict.success or step + 1 == patience or reading.episode_over
        recorder.observe(reading, verdict, SUCCESS_REWARD if verdict.success else 0.0, last=last, terminal=verdict.success)
        if verdict.success:
            writer.keep() if keep else writer.discard()
            return True
        if last:
            break
    writer.discard()
    return False


def _problems(config: RunConfig, robot: Robot, reading: Reading) -> tuple[str, ...]:
    return reading_problems(reading, config.robot.safety, reading_clock(robot, reading), robot.observation_spec)


class _SuccessOnlyWriter:
    """Collects the steps of an attempt; numbers and stores them only when it succeeded, so that sequences have no gaps."""

    def __init__(self, store: "EpisodeStore") -> None:
        self._store = store
        self._actor_id = f"scripted-{uuid.uuid4().hex[:12]}"
        self._sequence = 0
        self._segment = 0
        self._steps: list[Step] = []

    def add(self, step: Step) -> None:
        self._steps.append(step)

    def discard(self) -> None:
        self._steps.clear()

    def keep(self) -> None:
        self._segment += 1
        for step in self._steps:
            self._sequence += 1
            self._store.append(replace(step, actor_id=self._actor_id, sequence=self._sequence, segment=self._segment))
        self._steps.clear()
