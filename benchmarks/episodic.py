"""Offline → online in one process without ROS: demonstrations, training before practice, then episodes with resets and updates.

It exists to compare recipes (tools/prove_learner.py): the learner, the replay, the robot, the safety filter and the steps are
those of practice; only the pace is fixed (an episode, then its updates), so that results do not depend on the machine's speed.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from actor.chunks import ChunkPlayer
from actor.demonstrations import max_steps
from actor.evaluation import evaluate, reading_clock
from actor.robots import make_robot
from actor.safety import filter_action, reading_problems
from actor.scoring import Scorer
from actor.segments import SegmentRecorder
from etude.config import RunConfig
from etude.robot import Robot
from etude.specs import PHASES, Observation
from etude.step import Source, Step
from learner import pretraining
from learner.distillation import Distiller
from learner.offline import pretrain
from learner.recipe import Agent, AgentState, Stage
from learner.replay.candidates import Candidates, candidates_of
from learner.replay.demonstrations import fill_returns, load_demonstrations, state_statistics
from learner.replay.mixing import BatchSampler
from learner.replay.relabelling import InterventionLabels
from learner.replay.ring import Ring

PHASE = "forward"
"""Episodic runs are reset to the start of this direction; the other one is not practised."""
FINAL_EVALUATIONS = 3


@dataclass(frozen=True)
class Budget:
    """How long a run is: environment steps of practice, and when and how it is evaluated."""

    online_steps: int
    evaluate_every_steps: int
    evaluation_episodes: int = 20


@dataclass
class Outcome:
    """What a run showed. Scores are success rates of evaluation episodes, 0 to 1.

    Attributes:
        offline: score after the offline stages, at the switch.
        curve: (environment steps of practice, score), beginning with (0, offline).
        practice: (environment steps, success 1 or 0) of every episode that was collected.
        updates, seconds: gradient updates and wall-clock time by stage; `seconds` has ``act`` and ``evaluate`` too.
    """

    offline: float = 0.0
    curve: list[tuple[int, float]] = field(default_factory=list)
    practice: list[tuple[int, int]] = field(default_factory=list)
    updates: dict[str, int] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)

    @property
    def final(self) -> float:
        """Mean of the last three evaluations of practice; one evaluation of so few episodes says little."""
        scores = [score for _, score in self.curve[1:]][-FINAL_EVALUATIONS:] or [self.offline]
        return round(sum(scores) / len(scores), 4)

    def updates_per_s(self) -> dict[str, float]:
        """By stage, compilation included."""
        return {stage: round(count / max(self.seconds[stage], 1e-9), 1) for stage, count in self.updates.items()}


class Actor:
    """The agent's acting policy as evaluation and collection want it; `parameters` are replaced after every block of updates."""

    def __init__(self, agent: Agent, parameters: Any, seed: int, candidates: Candidates | None = None) -> None:
        self.parameters, self._candidates = parameters, candidates
        self._keys = agent.observation_spec.shapes()
        self._key = jax.random.key_data(jax.random.key(seed))
        self._count = 0
        self._chunks = ChunkPlayer()

        def act(parameters: Any, observation: Observation, key: jax.Array, count: jax.Array, *rest: jax.Array) -> jax.Array:
            return agent.act(parameters, observation, jax.random.fold_in(key, count), *rest)

        self._act = jax.jit(act)

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


def offline_to_online(config: RunConfig, demonstrations: Path, budget: Budget, say: Callable[[str], None]) -> Outcome:
    """Train `config.recipe` on the store at `demonstrations`, evaluate, practise, evaluate on the way.

    Practice alternates one episode with ``episode steps × data.utd`` updates; with ``budget.online_steps`` 0 there is none.
    """
    robot, stage = make_robot(config, config.seed), make_robot(config, config.seed)
    try:
        return _run(config, demonstrations, budget, robot, stage, say)
    finally:
        robot.close()
        stage.close()


def _run(
    config: RunConfig, demonstrations: Path, budget: Budget, robot: Robot, stage: Robot, say: Callable[[str], None]
) -> Outcome:
    recipe = config.recipe
    prior = load_demonstrations([demonstrations, *config.prior_data], recipe, robot.observation_spec, robot.action_spec)
    online = Ring(recipe.data.replay_capacity_steps, robot.observation_spec, robot.action_spec, recipe.policy.chunk)
    agent = Agent(recipe, robot.observation_spec, robot.action_spec, config.task.instructions)
    mean, std = state_statistics(prior)
    state = agent.init(jax.random.key_data(jax.random.key(config.seed)), mean, std)
    candidates = candidates_of(config, tuple(robot.observation_spec.shapes()), robot.action_spec.dim)
    distiller = Distiller(agent, candidates, config.seed) if candidates else None
    sampler = BatchSampler(recipe, prior, online, config.seed, candidates)
    outcome = Outcome()
    clock = _Clock(outcome)
    actor = Actor(agent, agent.policy_parameters(state), config.seed, candidates)

    total = pretraining.total_updates(recipe, prior)
    values: dict[str, jax.Array] = {}
    length = pretraining.block(recipe)
    for trained in pretrain(agent, state, sampler, 0, total):
        state = trained.state
        clock.lap(pretraining.stage(recipe, trained.done - length), length, trained.metrics)
        if trained.done % 500 < length:
            say(f"{trained.done} of {total} updates offline, {_losses(trained.metrics)}")
    state = agent.begin_practice(state)
    outcome.offline = _evaluate(config, budget, stage, actor, agent, state, clock)
    outcome.curve.append((0, outcome.offline))
    say(f"offline: {outcome.offline:.2f}")

    block = agent.update_block("online")
    labels = InterventionLabels(recipe, online)
    rng = np.random.default_rng([config.seed, 0xE91])
    collector = _Collector(config, robot, actor, rng)
    steps, owed = 0, 0.0
    next_evaluation = budget.evaluate_every_steps
    while steps < budget.online_steps:
        actor.parameters = agent.policy_parameters(state)
        taken, success = collector.episode(online, labels)
        clock.lap("act")
        steps += taken
        outcome.practice.append((steps, int(success)))
        if steps >= recipe.data.min_online_steps:
            owed += taken * recipe.data.utd
        while owed >= length:
            owed -= length
            batch = sampler.sample(length)
            state, values = block(state, jax.tree.map(jnp.asarray, batch))
            clock.lap("online", length, values)
            if distiller:
                distiller.offer(state, batch, outcome.updates["online"])
        if steps >= next_evaluation or steps >= budget.online_steps:
            score = _evaluate(config, budget, stage, actor, agent, state, clock)
            outcome.curve.append((steps, score))
            recent = [success for _, success in outcome.practice[-10:]]
            say(f"{steps} steps: {score:.2f}, {sum(recent)} of the last {len(recent)} episodes succeeded, {_losses(values)}")
            next_evaluation = (steps // budget.evaluate_every_steps + 1) * budget.evaluate_every_steps
    if distiller:
        distiller.close()
    outcome.metrics = {name: round(float(np.asarray(value)[0]), 5) for name, value in values.items()}
    return outcome


def _evaluate(
    config: RunConfig, budget: Budget, robot: Robot, actor: Actor, agent: Agent, state: AgentState, clock: _Clock
) -> float:
    """Success rate by ground truth of the policy as it practises, from the same starts at every call, in a scene of its own."""
    actor.parameters = agent.policy_parameters(state)
    result = evaluate(
        robot,
        _AsInPractice(actor),
        PHASE,
        budget.evaluation_episodes,
        1000 + config.seed,
        max_steps(config)[PHASE],
        limits=config.robot.safety,
    )
    clock.lap("evaluate")
    return float(result["success_rate"])


class _AsInPractice:
    """Evaluates the actions that practice takes, noise included. A tabletop with one start, four goals and no noise of its own
    has four different episodes for a deterministic policy, and success jumps by quarters."""

    def __init__(self, actor: Actor) -> None:
        self.begin, self.prepare, self._actor = actor.begin, actor.prepare, actor

    def act(self, observation: Observation, phase: str, explore: bool) -> np.ndarray:
        return self._actor.act(observation, phase, True)


class _Collector:
    """Collects episodes, each from a reset, into a ring: the steps of practice, with the recipe's rewards by ground truth."""

    def __init__(self, config: RunConfig, robot: Robot, actor: Actor, rng: np.random.Generator) -> None:
        self._config, self._robot, self._actor, self._rng = config, robot, actor, rng
        self._steps: list[Step] = []
        self._recorder = SegmentRecorder(
            robot.action_spec, config.task.name, config.task.instructions, self._steps.append, first_segment=1
        )

    def episode(self, ring: Ring, labels: InterventionLabels) -> tuple[int, bool]:
        """One episode with exploring actions, until success (terminal) or the time is up (not terminal): (steps, success)."""
        robot, reward, limits = self._robot, self._config.recipe.reward, self._config.robot.safety
        scorer = Scorer(None)
        robot.hard_reset(PHASE, self._rng)
        reading = robot.read()
        self._steps.clear()
        self._recorder.begin(reading, scorer.score(reading, PHASE), PHASE, scorer.name)
        self._actor.begin()
        executed: np.ndarray | None = None
        count, time_limit = 0, max_steps(self._config)[PHASE]
        while True:
            proposed = self._actor.act(reading.observation, PHASE, True)
            now_s = reading_clock(robot, reading)
            executed, _ = filter_action(
                proposed,
                reading,
                limits,
                robot.action_spec,
                now_s,
                observation_spec=robot.observation_spec,
                previous=executed,
            )
            robot.act(executed)
            # what is stored fits its specification, even where a class of policies leaves the range a little
            proposed = np.clip(np.nan_to_num(proposed), -1.0, 1.0).astype(np.float32)
            self._recorder.acted(executed, proposed, Source.POLICY, 1)
            reading = robot.read()
            if reading_problems(reading, limits, reading_clock(robot, reading), robot.observation_spec):
                self._recorder.cut()
                break
            count += 1
            verdict = scorer.score(reading, PHASE)
            last = verdict.success or count == time_limit or reading.episode_over
            self._recorder.observe(
                reading,
                verdict,
                reward.success if verdict.success else reward.step,
                last=last,
                terminal=verdict.success and reward.success_is_terminal,
            )
            if last:
                break
        for step in self._steps:
            row = ring.add(step)
            labels.add(step, row)
        if self._steps:
            fill_returns(ring, row, self._config.recipe)
        return max(count, 1), bool(self._steps) and self._steps[-1].success == 1


class _Clock:
    """Adds wall-clock time and updates to the stage that a lap ends."""

    def __init__(self, outcome: Outcome) -> None:
        self._outcome = outcome
        self._last_s = time.monotonic()

    def lap(self, name: str | Stage, updates: int = 0, wait_for: Any = None) -> None:
        jax.block_until_ready(wait_for)
        now_s = time.monotonic()
        self._outcome.seconds[name] = self._outcome.seconds.get(name, 0.0) + now_s - self._last_s
        self._last_s = now_s
        if updates:
            self._outcome.updates[name] = self._outcome.updates.get(name, 0) + updates


def _losses(values: dict[str, jax.Array]) -> str:
    return ", ".join(f"{name} {float(np.asarray(value)[0]):.3g}" for name, value in sorted(values.items()))
