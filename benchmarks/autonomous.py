"""Practice without resets in one process without ROS: two directions in turn, a reset only when the benchmark's horizon ends.

The sibling of `benchmarks.episodic`. It measures what EARL does (Sharma et al. 2022): deployed evaluation of the forward policy
from the initial states, the reward of practice itself, and how often a person would have had to intervene.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from actor.evaluation import evaluate, reading_clock
from actor.practice import opposite
from actor.robots import make_robot
from actor.robots.gymnasium import GymnasiumRobot
from actor.safety import filter_action
from actor.scoring import truth_of
from actor.wander import Wander, start_box
from benchmarks.curriculum import Curriculum
from benchmarks.helping import Helper
from benchmarks.in_process import Actor, Clock, Collector, losses
from benchmarks.interventions import WINDOW
from etude.config import RunConfig
from etude.episodes.store import EpisodeStore
from etude.robot import Robot
from etude.specs import PHASES
from learner import pretraining
from learner.distillation import Distiller
from learner.help.labels import StuckStates, labelled_states
from learner.offline import pretrain
from learner.recipe import Agent, AgentState
from learner.replay.candidates import candidates_of
from learner.replay.demonstrations import load_demonstrations, state_statistics
from learner.replay.mixing import BatchSampler
from learner.replay.relabelling import InterventionLabels
from learner.replay.ring import Ring


@dataclass(frozen=True)
class Budget:
    """Environment steps of practice, and the deployed evaluation on the way; 0 evaluation episodes mean none.

    `end_episodes`: of the evaluations before and at the end of practice, where they are what is compared; 0: as on the way.
    `enough`: practice ends early when the mean of the last `WINDOW` evaluations reaches this success, 0 to 1; None: never.
    """

    steps: int
    evaluate_every_steps: int = 10_000
    evaluation_episodes: int = 10
    evaluation_steps: int = 200
    end_episodes: int = 0
    enough: float | None = None


@dataclass
class Outcome:
    """What a run showed.

    Attributes:
        curve: (environment steps, success rate 0 to 1) of the deployed evaluations; the first is before practice.
        practice: (environment steps at its end, direction, success 1 or 0) of every attempt.
        steps: environment steps of practice.
        interventions: resets of the scene, the first one included, as EARL counts them.
        interventions_at: `interventions` at every point of `curve`.
        helped: (environment steps, reason, whether the scene was stuck by ground truth) of every answered call for help.
        questions: pictures that the person was asked about when they came (help rule `paint`).
        reward: observations of practice that had reached the forward direction's goal.
        updates, seconds: gradient updates and wall-clock time by stage; `seconds` has ``act`` and ``evaluate`` too.
        metrics: of the last update, by direction.
    """

    curve: list[tuple[int, float]] = field(default_factory=list)
    practice: list[tuple[int, str, int]] = field(default_factory=list)
    steps: int = 0
    interventions: int = 0
    interventions_at: list[int] = field(default_factory=list)
    helped: list[tuple[int, str, bool]] = field(default_factory=list)
    questions: int = 0
    reward: int = 0
    updates: dict[str, int] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)


def practise(
    config: RunConfig,
    demonstrations: Path,
    budget: Budget,
    say: Callable[[str], None],
    known_stuck: np.ndarray | None = None,
    known_free: np.ndarray | None = None,
) -> Outcome:
    """Train `config.recipe` on the store at `demonstrations`, then practise alone; an attempt alternates with its updates.

    `known_stuck`, `known_free` ``(n, state_dim)``: states that are known before practice to be irreversible or not, for help rule
    `paint`; demonstrations are free anyway.
    """
    robot, stage = make_robot(config, config.seed), make_robot(config, config.seed)
    try:
        return _Run(config, demonstrations, budget, robot, stage, say, known_stuck, known_free).run()
    finally:
        robot.close()
        stage.close()


def as_row(outcome: Outcome) -> dict[str, Any]:
    """What a row of results says of `outcome`."""
    attempts = {
        phase: [sum(p == phase for _, p, _ in outcome.practice), sum(s for _, p, s in outcome.practice if p == phase)]
        for phase in PHASES
    }
    return {
        "steps": outcome.steps,
        "interventions": outcome.interventions,
        "interventions_at": outcome.interventions_at,
        "helped": outcome.helped,
        "questions": outcome.questions,
        "curve": outcome.curve,
        "attempts_and_successes": attempts,
        "updates": outcome.updates,
        "seconds": {name: round(value, 1) for name, value in outcome.seconds.items()},
        "metrics": outcome.metrics,
    }


class _Run:
    """One run: the scene that is practised in, a second one for evaluation, replay and agent."""

    def __init__(
        self,
        config: RunConfig,
        demonstrations: Path,
        budget: Budget,
        robot: Robot,
        stage: Robot,
        say: Callable[[str], None],
        known_stuck: np.ndarray | None,
        known_free: np.ndarray | None,
    ) -> None:
        recipe, self.known_stuck, self.known_free = config.recipe, known_stuck, known_free
        self.config, self.budget, self.robot, self.stage, self.say = config, budget, robot, stage, say
        self.outcome, self.clock = Outcome(), Clock()
        self.outcome.updates, self.outcome.seconds = self.clock.updates, self.clock.seconds
        self.rng = np.random.default_rng([config.seed, 0xEA71])
        wander_rng = np.random.default_rng([config.seed, 0x3A9D])
        self.wander = Wander(robot.action_spec, recipe.reset.wander_steps, wander_rng, start_box(config.task))
        stores = (demonstrations, *config.prior_data)
        self.prior = load_demonstrations(stores, recipe, robot.observation_spec, robot.action_spec)
        self.online = Ring(recipe.data.replay_capacity_steps, robot.observation_spec, robot.action_spec, recipe.policy.chunk)
        self.labels = InterventionLabels(recipe, self.online)
        self.agent = Agent(recipe, robot.observation_spec, robot.action_spec, config.task.instructions)
        mean, std = state_statistics(self.prior)
        self.state: AgentState = self.agent.init(jax.random.key_data(jax.random.key(config.seed)), mean, std)
        candidates = candidates_of(config, tuple(robot.observation_spec.shapes()), robot.action_spec.dim)
        self.distiller = Distiller(self.agent, candidates, config.seed) if candidates else None
        self.sampler = BatchSampler(recipe, self.prior, self.online, config.seed, candidates)
        self.actor = Actor(self.agent, self.agent.policy_parameters(self.state), config.seed, candidates)
        self.helper, self.stuck = Helper(config), StuckStates(self.online)
        self.collector = Collector(config, robot, self.actor, self.helper)
        self.values: dict[str, jax.Array] = {}
        self.curriculum: Curriculum | None = None
        self.at_task = True
        if recipe.reset.kind == "vaprl":
            self.curriculum = Curriculum(recipe, self.agent, self.prior, self.online, self.rng)
            for store in (EpisodeStore.open(path, "r") for path in stores):
                for info in store.segments():
                    self.curriculum.teach(store.read(info).steps())

    def run(self) -> Outcome:
        recipe, outcome = self.config.recipe, self.outcome
        length = pretraining.block(recipe)
        for trained in pretrain(self.agent, self.state, self.sampler, 0, pretraining.total_updates(recipe, self.prior)):
            self.state = trained.state
            self.clock.lap(pretraining.stage(recipe, trained.done - length), length, trained.metrics)
        self.state = self.agent.begin_practice(self.state)
        if self.known_stuck is not None:
            self.learn_irreversible()
        self.evaluate()
        block, owed = self.agent.update_block("online"), 0.0
        phase, needs_reset = "forward", True
        while outcome.steps < self.budget.steps:
            phase = self.reset() if needs_reset else self.next_phase(phase)
            self.actor.parameters = self.agent.policy_parameters(self.state)
            attempt = self.collector.attempt(phase, self.online, self.labels, self.budget.steps - outcome.steps)
            before, outcome.steps = outcome.steps, outcome.steps + attempt.steps
            outcome.reward += attempt.forward_reward if self.at_task else 0
            if self.curriculum is not None:
                self.curriculum.teach(self.collector.steps)
            outcome.practice.append((outcome.steps, phase, int(attempt.success)))
            needs_reset = attempt.episode_over or self.helper.open or recipe.reset.kind == "human"
            self.clock.lap("act")
            if self.helper.open:
                self.be_helped()
            owed += attempt.steps * recipe.data.utd if outcome.steps > recipe.data.min_online_steps else 0.0
            while owed >= length:
                owed -= length
                batch = self.sampler.sample(length)
                self.state, self.values = block(self.state, jax.tree.map(jnp.asarray, batch))
                self.clock.lap("online", length, self.values)
                if self.distiller:
                    self.distiller.offer(self.state, batch, outcome.updates["online"])
            every = self.budget.evaluate_every_steps
            if before // every != outcome.steps // every:
                self.evaluate()
                if self.good_enough():
                    break
        if self.distiller:
            self.distiller.close()
        outcome.metrics = {
            f"{name}/{direction}": round(float(np.asarray(value)[i]), 5)
            for name, value in self.values.items()
            for i, direction in enumerate(recipe.directions)
        }
        return outcome

    def reset(self) -> str:
        """Somebody puts the scene back; the phase that follows."""
        self.outcome.interventions += 1
        self.at_task = True
        self.robot.hard_reset("forward", self.rng)
        self.helper.scene_reset()
        return "forward"

    def be_helped(self) -> None:
        """Somebody comes, says which of the states before could not be undone, and is about to reset the scene."""
        lost = self.robot.read().object_lost
        self.outcome.helped.append((self.outcome.steps, self.helper.reason, lost))
        self.say(f"{self.outcome.steps} steps: help for a scene that is {'lost' if lost else 'whole'}: {self.helper.reason}")
        labels = self.helper.answer()
        self.outcome.questions = self.helper.questions
        if labels is not None:
            self.stuck.label("", labels)
            self.learn_irreversible()

    def learn_irreversible(self) -> None:
        """The classifier of irreversible states, trained anew on all that is known."""
        stuck, free = (labelled_states((self.prior, self.online), which, self.rng) for which in (True, False))
        if self.known_stuck is not None:
            stuck = {"state": np.concatenate([self.known_stuck, stuck["state"]])}
        if self.known_free is not None:
            free = {"state": np.concatenate([self.known_free, free["state"]])}
        self.state = self.agent.learn_irreversible(self.state, stuck, free, self.rng)
        self.clock.lap("irreversible", self.config.recipe.help.classifier_updates)

    def next_phase(self, phase: str) -> str:
        """The phase after an attempt of `phase`, begun without a reset. One whose goal is met already is passed over."""
        if self.curriculum is not None:
            return self.next_goal(self.curriculum)
        self.move_between_attempts()
        phases = self.config.recipe.phases
        for _ in phases:
            phase = opposite(phase) if len(phases) > 1 else phase
            self.robot.begin_phase(phase, self.rng)
            if phase in self.config.recipe.learned_rewards or truth_of(self.robot.read(), phase) != 1:
                break
        return phase

    def move_between_attempts(self) -> None:
        """What the arm does between two attempts, as in practice; these steps are neither recorded nor counted."""
        self.wander.plan()
        executed: np.ndarray | None = None
        reading = self.robot.read()
        while (motion := self.wander.next(reading.tcp_position_m)) is not None:
            limits, spec = self.config.robot.safety, self.robot.action_spec
            now_s = reading_clock(self.robot, reading)
            executed, _ = filter_action(
                motion, reading, limits, spec, now_s, observation_spec=self.robot.observation_spec, previous=executed
            )
            self.robot.act(executed)
            reading = self.robot.read()

    def next_goal(self, curriculum: Curriculum) -> str:
        """VaPRL's attempts are all those of one policy: after a task's goal a state to begin from, then the next task's."""
        assert isinstance(self.robot, GymnasiumRobot), "VaPRL needs an environment that shows goals"
        self.at_task = not self.at_task
        if self.at_task:
            self.robot.show_state(None)
        else:
            self.robot.begin_phase("forward", self.rng)
            self.robot.show_state(curriculum.next_state(self.state, self.robot.read().observation["state"][6:]))
        return "forward"

    def evaluate(self) -> None:
        """Deployed evaluation: the deterministic forward policy from the initial states, in a scene of its own."""
        budget = self.budget
        if budget.evaluation_episodes == 0:
            return
        at_an_end = self.outcome.steps in (0, budget.steps)
        self.actor.parameters = self.agent.policy_parameters(self.state)
        seed = 1000 * (self.config.seed + 1) + len(self.outcome.curve)
        result = evaluate(
            self.stage,
            self.actor,
            "forward",
            (at_an_end and budget.end_episodes) or budget.evaluation_episodes,
            seed,
            budget.evaluation_steps,
            limits=self.config.robot.safety,
        )
        self.outcome.curve.append((self.outcome.steps, float(result["success_rate"])))
        self.outcome.interventions_at.append(self.outcome.interventions)
        self.clock.lap("evaluate")
        self.say(f"{self.outcome.steps} steps: {result['success_rate']:.2f}, {self.progress()}")

    def good_enough(self) -> bool:
        scores = [score for steps, score in self.outcome.curve if steps > 0][-WINDOW:]
        return self.budget.enough is not None and len(scores) == WINDOW and sum(scores) / WINDOW >= self.budget.enough - 1e-9

    def progress(self) -> str:
        """What the newest attempts and losses were, for a person."""
        recent = self.outcome.practice[-20:]
        shares = [
            f"{phase} {sum(s for _, p, s in recent if p == phase)} of {sum(p == phase for _, p, _ in recent)}"
            for phase in self.config.recipe.phases
        ]
        return f"{self.outcome.interventions} interventions; last attempts: {', '.join(shares)}; {losses(self.values)}"
