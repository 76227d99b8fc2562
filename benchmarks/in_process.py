"""What benchmarks that practise in one process share: the acting policy, the collection of attempts, and the clock.

The learner, the replay, the robot, the safety filter and the steps are those of practice; ROS, threads and wire are not there.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import Any, Protocol

import jax
import numpy as np

from actor.chunks import ChunkPlayer
from actor.demonstrations import max_steps
from actor.evaluation import reading_clock
from actor.help import Attempt as Ended
from actor.safety import filter_action, reading_problems
from actor.scoring import Scorer
from actor.segments import SegmentRecorder
from benchmarks.helping import Helper
from etude.config import RunConfig
from etude.robot import Reading, Robot
from etude.specs import PHASES, Observation
from etude.step import Source, Step
from learner.recipe import Agent, Stage
from learner.replay.candidates import Candidates
from learner.replay.demonstrations import fill_returns
from learner.replay.relabelling import InterventionLabels
from learner.replay.ring import Ring


class Actor:
    """The agent's acting policy as evaluation and collection want it; `parameters` are replaced after every block of updates.

    It acts on the CPU, as an actor beside a robot does, wherever the learner trains.
    """

    def __init__(self, agent: Agent, parameters: Any, seed: int, candidates: Candidates | None = None) -> None:
        self._cpu = jax.devices("cpu")[0]
        self.parameters, self._candidates = parameters, candidates
        self._keys = agent.observation_spec.shapes()
        self._key = np.asarray(jax.random.key_data(jax.random.key(seed)))
        self._count = 0
        self._chunks = ChunkPlayer()

        def act(parameters: Any, observation: Observation, key: jax.Array, count: jax.Array, *rest: jax.Array) -> jax.Array:
            return agent.act(parameters, observation, jax.random.fold_in(key, count), *rest)

        self._act = jax.jit(act)
        self._irreversible = jax.jit(agent.irreversible) if agent.learns_irreversible else None

    @property
    def parameters(self) -> Any:
        """What acts now, on the CPU."""
        return self._parameters

    @parameters.setter
    def parameters(self, parameters: Any) -> None:
        self._parameters = jax.device_put(parameters, self._cpu)

    def begin(self) -> None:
        """An episode begins; parameters are replaced before it only."""
        self._chunks.begin()

    def prepare(self, observation: Observation, phase: str) -> bool:
        return True  # a policy server is waited for in `act`

    def act(self, observation: Observation, phase: str, explore: bool) -> np.ndarray:
        """Action float32 ``(d,)``; the policy is asked once per action chunk, every time with a key of its own."""

        def plan() -> np.ndarray:
            self._count += 1
            direction = np.eye(len(PHASES), dtype=np.float32)[PHASES.index(phase)]
            inputs = {name: observation[name] for name in self._keys} | {"phase": direction}
            arguments: tuple[Any, ...] = (inputs, self._key, np.int32(self._count), np.float32(explore))
            if self._candidates is not None:
                arguments = (*arguments, self._candidates.at(observation, phase))
            return np.asarray(self._act(self.parameters, *arguments))

        return self._chunks.next((phase, explore), plan)

    def irreversible(self, observation: Observation) -> float:
        """Probability that the observation cannot be undone; NaN where the recipe does not learn it."""
        if self._irreversible is None:
            return math.nan
        return float(self._irreversible(self.parameters, {name: observation[name] for name in self._keys}))


@dataclass(frozen=True)
class Attempt:
    """One attempt: its control steps (at least 1), whether it succeeded, and whether the environment ended its own episode.

    `forward_reward` is how many of its observations had reached the goal of the forward direction, whatever was attempted.
    """

    steps: int
    success: bool
    episode_over: bool
    forward_reward: int


class Operator(Protocol):
    """Somebody who watches an attempt, may act in the policy's place, and puts the scene back."""

    def begin(self, reading: Reading, phase: str) -> None:
        """An attempt of `phase` begins at `reading`."""

    def action(self, reading: Reading, phase: str) -> np.ndarray | None:
        """What the operator does now, float32 ``(d,)`` in [-1, 1]; None leaves it to the policy."""

    def ends(self, reading: Reading) -> bool:
        """Whether the operator ends the attempt at `reading` because it cannot succeed any more."""


class Collector:
    """Collects attempts into a ring: the steps of practice, with the recipe's rewards by ground truth."""

    def __init__(
        self, config: RunConfig, robot: Robot, actor: Actor, helper: Helper | None = None, operator: Operator | None = None
    ) -> None:
        """`helper` watches every attempt, and may have it end because somebody is needed; `operator` may take over within it."""
        self._config, self._robot, self._actor, self._helper, self._operator = config, robot, actor, helper, operator
        self._taken = 0  # control steps of all attempts
        self.steps: list[Step] = []
        """Of the newest attempt."""
        self._recorder = SegmentRecorder(
            robot.action_spec, config.task.name, config.task.instructions, self.steps.append, first_segment=1
        )

    def attempt(self, phase: str, ring: Ring, labels: InterventionLabels, longest: int | None = None) -> Attempt:
        """One attempt from where the robot is, with exploring actions: until success, the time limit (or `longest` steps if that
        is less), the end of the environment's episode, or a call for help. Under a learned reward success ends nothing."""
        robot, limits = self._robot, self._config.robot.safety
        reward = self._config.recipe.reward
        ends = phase not in self._config.recipe.learned_rewards
        scorer = Scorer(None)
        reading = robot.read()
        self.steps.clear()
        self._recorder.begin(reading, scorer.score(reading, phase), phase, scorer.name)
        if self._helper:
            self._helper.saw((self._recorder.segment, 0), reading)
        self._actor.begin()
        if self._operator:
            self._operator.begin(reading, phase)
        executed: np.ndarray | None = None
        human_acted = False
        count = forward = 0
        time_limit = min(max_steps(self._config)[phase], longest or max_steps(self._config)[phase])
        while True:
            corrected = self._operator.action(reading, phase) if self._operator else None
            human = corrected is not None
            if human or human_acted:
                self._actor.begin()  # as in practice: what was planned before a person acted does not count any more
            human_acted = human
            proposed = self._actor.act(reading.observation, phase, True)
            now_s = reading_clock(robot, reading)
            executed, _ = filter_action(
                proposed if corrected is None else corrected,
                reading,
                limits,
                robot.action_spec,
                now_s,
                observation_spec=robot.observation_spec,
                previous=executed,
            )
            irreversible = self._actor.irreversible(reading.observation) if self._helper else math.nan
            robot.act(executed)
            # what is stored fits its specification, even where a class of policies leaves the range a little
            proposed = np.clip(np.nan_to_num(proposed), -1.0, 1.0).astype(np.float32)
            self._recorder.acted(executed, proposed, Source(human), 1)
            reading = robot.read()
            if reading_problems(reading, limits, reading_clock(robot, reading), robot.observation_spec):
                self._recorder.cut()
                break
            count += 1
            self._taken += 1
            forward += bool((reading.success_truth or {}).get("forward"))
            verdict = scorer.score(reading, phase)
            success = verdict.success and ends
            segment, place = self._recorder.segment, (self._recorder.segment, self._recorder.index + 1)
            called = self._helper is not None and self._helper.after_step(place, reading, self._taken, irreversible, phase)
            given_up = self._operator is not None and self._operator.ends(reading)
            last = success or count == time_limit or reading.episode_over or called or given_up
            self._recorder.observe(
                reading,
                verdict,
                reward.success if verdict.success else reward.step,
                last=last,
                terminal=success and reward.success_is_terminal,
            )
            if last:
                if self._helper:
                    self._helper.after_attempt(Ended(segment, phase, verdict.success, verdict.probability), self._taken)
                break
        for step in self.steps:
            row = ring.add(step)
            labels.add(step, row)
        if self.steps:
            fill_returns(ring, row, self._config.recipe)
        succeeded = bool(self.steps) and self.steps[-1].success == 1
        return Attempt(max(count, 1), succeeded, reading.episode_over, forward)


class Clock:
    """Adds wall-clock time and updates to the stage that a lap ends."""

    def __init__(self) -> None:
        self.updates: dict[str, int] = {}
        self.seconds: dict[str, float] = {}
        self._last_s = time.monotonic()

    def lap(self, name: str | Stage, updates: int = 0, wait_for: Any = None) -> None:
        jax.block_until_ready(wait_for)
        now_s = time.monotonic()
        self.seconds[name] = self.seconds.get(name, 0.0) + now_s - self._last_s
        self._last_s = now_s
        if updates:
            self.updates[name] = self.updates.get(name, 0) + updates


def losses(values: dict[str, jax.Array]) -> str:
    return ", ".join(f"{name} {float(np.asarray(value)[0]):.3g}" for name, value in sorted(values.items()))
