"""Offline → online in one process without ROS: demonstrations, training before practice, then episodes with resets and updates.

It exists to compare recipes (tools/prove_learner.py): the learner, the replay, the robot, the safety filter and the steps are
those of practice; only the pace is fixed (an episode, then its updates), so that results do not depend on the machine's speed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from actor.demonstrations import max_steps
from actor.evaluation import evaluate
from actor.robots import make_robot
from benchmarks.in_process import Actor, Clock, Collector, Operator, losses
from etude.config import RunConfig
from etude.robot import Robot
from etude.specs import Observation
from etude.step import Source, Step
from learner import pretraining
from learner.distillation import Distiller
from learner.offline import pretrain
from learner.recipe import Agent, AgentState
from learner.replay.candidates import candidates_of
from learner.replay.demonstrations import load_demonstrations, state_statistics
from learner.replay.mixing import BatchSampler
from learner.replay.relabelling import InterventionLabels
from learner.replay.ring import Ring

PHASE = "forward"
"""Episodic runs are reset to the start of this direction; the other one is not practised."""
FINAL_EVALUATIONS = 3


def taken_over(steps: Sequence[Step]) -> tuple[int, int]:
    """Of one segment: how many steps a person acted, and how many times a person took over from the policy."""
    human = [step.source is Source.HUMAN for step in steps if not step.is_last]
    return sum(human), sum(now and not before for before, now in zip([False, *human], human, strict=False))


@dataclass(frozen=True)
class Budget:
    """How long a run is: environment steps of practice, and when and how it is evaluated; `explore` is with the noise of
    practice."""

    online_steps: int
    evaluate_every_steps: int
    evaluation_episodes: int = 20
    explore: bool = True


@dataclass
class Outcome:
    """What a run showed. Scores are success rates of evaluation episodes, 0 to 1.

    Attributes:
        offline: score after the offline stages, at the switch.
        curve: (environment steps of practice, score), beginning with (0, offline).
        practice: (environment steps, success 1 or 0) of every episode that was collected.
        corrections: (environment steps, steps that a person acted, times that a person took over) of the same episodes; empty
            without an operator.
        updates, seconds: gradient updates and wall-clock time by stage; `seconds` has ``act`` and ``evaluate`` too.
    """

    offline: float = 0.0
    curve: list[tuple[int, float]] = field(default_factory=list)
    practice: list[tuple[int, int]] = field(default_factory=list)
    corrections: list[tuple[int, int, int]] = field(default_factory=list)
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


def offline_to_online(
    config: RunConfig,
    demonstrations: Path,
    budget: Budget,
    say: Callable[[str], None],
    watched_by: Callable[[Robot], Operator] | None = None,
) -> Outcome:
    """Train `config.recipe` on the store at `demonstrations`, evaluate, practise, evaluate on the way.

    Practice alternates one episode with ``episode steps × data.utd`` updates; with ``budget.online_steps`` 0 there is none.
    `watched_by` makes the person who watches practice from the robot that practises; evaluation is watched by nobody.
    """
    robot, stage = make_robot(config, config.seed), make_robot(config, config.seed)
    try:
        return _run(config, demonstrations, budget, robot, stage, say, watched_by(robot) if watched_by else None)
    finally:
        robot.close()
        stage.close()


def _run(
    config: RunConfig,
    demonstrations: Path,
    budget: Budget,
    robot: Robot,
    stage: Robot,
    say: Callable[[str], None],
    operator: Operator | None,
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
    clock = Clock()
    outcome.updates, outcome.seconds = clock.updates, clock.seconds
    actor = Actor(agent, agent.policy_parameters(state), config.seed, candidates)

    total = pretraining.total_updates(recipe, prior)
    values: dict[str, jax.Array] = {}
    length = pretraining.block(recipe)
    for trained in pretrain(agent, state, sampler, 0, total):
        state = trained.state
        clock.lap(pretraining.stage(recipe, trained.done - length), length, trained.metrics)
        if trained.done % 500 < length:
            say(f"{trained.done} of {total} updates offline, {losses(trained.metrics)}")
    state = agent.begin_practice(state)
    outcome.offline = _evaluate(config, budget, stage, actor, agent, state, clock)
    outcome.curve.append((0, outcome.offline))
    say(f"offline: {outcome.offline:.2f}")

    block = agent.update_block("online")
    labels = InterventionLabels(recipe, online)
    rng = np.random.default_rng([config.seed, 0xE91])
    collector = Collector(config, robot, actor, operator=operator)
    steps, owed = 0, 0.0
    next_evaluation = budget.evaluate_every_steps
    while steps < budget.online_steps:
        actor.parameters = agent.policy_parameters(state)
        robot.hard_reset(PHASE, rng)
        attempt = collector.attempt(PHASE, online, labels)
        clock.lap("act")
        steps += attempt.steps
        outcome.practice.append((steps, int(attempt.success)))
        if operator:
            outcome.corrections.append((steps, *taken_over(collector.steps)))
        if steps >= recipe.data.min_online_steps:
            owed += attempt.steps * recipe.data.utd
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
            say(f"{steps} steps: {score:.2f}, {sum(recent)} of the last {len(recent)} episodes succeeded, {losses(values)}")
            next_evaluation = (steps // budget.evaluate_every_steps + 1) * budget.evaluate_every_steps
    if distiller:
        distiller.close()
    outcome.metrics = {name: round(float(np.asarray(value)[0]), 5) for name, value in values.items()}
    return outcome


def _evaluate(
    config: RunConfig, budget: Budget, robot: Robot, actor: Actor, agent: Agent, state: AgentState, clock: Clock
) -> float:
    """Success rate by ground truth of the policy from the same starts at every call, in a scene of its own."""
    actor.parameters = agent.policy_parameters(state)
    result = evaluate(
        robot,
        _AsInPractice(actor) if budget.explore else actor,
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
