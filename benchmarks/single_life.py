"""One life of a simulated Go1 in one process: something breaks, and the robot goes on with the behaviours that it has (ROAM).

Before: every behaviour acts in random turns on a healthy and on randomly perturbed robots, and its value is learned from its own
steps. Then one life without resets: a robot that falls stands up by itself, and the time that this takes counts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import jax
import numpy as np

from etude.config.behaviours import BehavioursConfig
from learner import behaviours
from learner.behaviours import BehaviourValues, OwnRows
from simulation.go1 import CONTROL_RATE_HZ, OBSERVATION_SPEC, Go1, Perturbation
from simulation.go1_gaits import Gait, action
from simulation.go1_library import made_for
from simulation.go1_model import LEGS
from simulation.go1_stand_up import StandUp

Library = Mapping[str, Gait]
UPDATE = jax.jit(behaviours.update, static_argnums=0)
VALUES = jax.jit(behaviours.values, static_argnums=0)
PATIENCE_S = 5.0
"""A stand-up that takes longer ends as soon as the robot counts as not fallen: under a load it may not get high enough."""


class OwnSteps:
    """The transitions in which one behaviour acted, oldest first."""

    def __init__(self) -> None:
        self.count = 0
        self._state, self._next_state = np.zeros((2, 256, OBSERVATION_SPEC.state_dim), np.float32)
        self._reward, self._terminal = np.zeros((2, 256), np.float32)

    def add(self, state: np.ndarray, next_state: np.ndarray, reward: float, terminal: bool) -> None:
        if self.count == len(self._reward):
            for name in ("_state", "_next_state", "_reward", "_terminal"):
                old = getattr(self, name)
                setattr(self, name, np.concatenate([old, np.zeros_like(old)]))
        self._state[self.count], self._next_state[self.count] = state, next_state
        self._reward[self.count], self._terminal[self.count] = reward, terminal
        self.count += 1

    def states(self) -> np.ndarray:
        return self._state[: self.count]

    def draw(self, rng: np.random.Generator, count: int, newest: int | None = None) -> OwnRows:
        """`count` random rows ``(count, …)``, from the newest `newest` ones if given."""
        first = 0 if newest is None else max(0, self.count - newest)
        index = rng.integers(first, self.count, count)
        return OwnRows(self._state[index], self._next_state[index], self._reward[index], self._terminal[index])


def stack(draws: list[OwnRows]) -> OwnRows:
    """Rows of every behaviour: ``(N, B, …)``."""
    return OwnRows(*(np.stack(parts) for parts in zip(*draws, strict=True)))


@dataclass
class Life:
    """What happened, one element per control step.

    Attributes:
        x_m: position of the trunk along the way.
        reward: of the step; 0 while standing up.
        behaviour: index of the behaviour that acted, -1 while standing up.
        falls: steps at which it fell.
        values: ``(N,)`` at every choice, with its step.
    """

    x_m: list[float] = field(default_factory=list)
    reward: list[float] = field(default_factory=list)
    behaviour: list[int] = field(default_factory=list)
    falls: list[int] = field(default_factory=list)
    values: list[tuple[int, list[float]]] = field(default_factory=list)

    def speed_m_s(self, begin_s: float, end_s: float) -> float:
        """Mean speed along the way between two times of the life."""
        first, last = round(begin_s * CONTROL_RATE_HZ), round(end_s * CONTROL_RATE_HZ) - 1
        return (self.x_m[last] - self.x_m[first]) / ((last - first) / CONTROL_RATE_HZ)


def random_perturbation(rng: np.random.Generator) -> Perturbation:
    """What behaviours meet before a life: nothing, a load, a pull, a slippery floor, or a thigh that sticks."""
    kind = rng.choice(["none", "payload", "pull", "slippery", "thigh"])
    if kind == "payload":
        return Perturbation(payload_kg=rng.uniform(2.0, 8.0))
    if kind == "pull":
        direction = rng.choice([np.pi, np.pi / 2, -np.pi / 2]) + rng.uniform(-0.3, 0.3)
        force = rng.uniform(5.0, 20.0)
        return Perturbation(pull_n=(force * np.cos(direction), force * np.sin(direction), 0.0))
    if kind == "slippery":
        return Perturbation(floor_friction=rng.uniform(0.1, 0.3))
    return Perturbation(stuck_joint=f"{rng.choice(LEGS)}_thigh") if kind == "thigh" else Perturbation()


def collect(library: Library, steps: int, seed: int, episode_s: float = 16.0) -> tuple[list[OwnSteps], np.ndarray]:
    """Prior experience: random behaviours take turns of 1 to 3 s, and early in an episode something may go wrong. From then on
    half of the turns are of the behaviour that was made for it: behaviours know their own situations best.

    Returns every behaviour's own steps, and ``(steps, 3)``: behaviour, perturbed or not, reward.
    """
    rng = np.random.default_rng(seed)
    names, gaits, robot = list(library), list(library.values()), Go1(seed)
    own = [OwnSteps() for _ in gaits]
    table: list[tuple[int, bool, float]] = []
    while len(table) < steps:
        robot.place(rng)
        begin, perturbed, until, acting = rng.uniform(0.0, 3.0), False, 0.0, 0
        offset = rng.uniform(0.0, 1.0)
        for step in range(round(episode_s * CONTROL_RATE_HZ)):
            time_s = step / CONTROL_RATE_HZ
            if time_s >= begin and not perturbed:
                trouble = random_perturbation(rng)
                robot.perturb(trouble)
                perturbed = True
            if time_s >= until:
                acting, until = int(rng.integers(len(gaits))), time_s + rng.uniform(1.0, 3.0)
                own_kind = made_for(robot.perturbation)
                if own_kind in names and rng.random() < 0.5:
                    acting = names.index(own_kind)
            state = robot.observe()
            robot.step(action(gaits[acting], offset + time_s, robot.heading_rad, robot.data.qvel[5]))
            fallen, reward = robot.fallen(), robot.reward()
            own[acting].add(state, robot.observe(), reward, fallen)
            table.append((acting, robot.perturbation != Perturbation(), reward))
            if fallen:
                break
    return own, np.array(table)


def pretrain(config: BehavioursConfig, prior: list[OwnSteps], seed: int) -> tuple[BehaviourValues, dict[str, float]]:
    """Values of the behaviours from their own prior steps."""
    rng = np.random.default_rng(seed)
    states = np.concatenate([own.states() for own in prior])
    learned = behaviours.init(config, jax.random.key(seed), len(prior), states.mean(0), states.std(0))
    metrics: dict[str, jax.Array] = {}
    for _ in range(config.pretraining_updates):
        learned, metrics = UPDATE(config, learned, stack([own.draw(rng, config.batch_size) for own in prior]))
    return learned, {name: float(value) for name, value in metrics.items()}


Choose = Callable[[np.ndarray, int], int]
"""(state, step) -> which behaviour acts next."""


class Roam:
    """Chooses by value and goes on learning the values from this life, by TD alone.

    The cross-entropy term belongs to the time before: on the states of a life it would tell every behaviour that acts that these
    states are its own, and so keep a bad choice.
    """

    def __init__(self, config: BehavioursConfig, learned: BehaviourValues, prior: list[OwnSteps], seed: int) -> None:
        self._config = config.model_copy(update={"cross_entropy": 0.0})
        self._learned, self._prior = learned, prior
        self._rng = np.random.default_rng(seed)
        self._lived = [OwnSteps() for _ in prior]
        self.newest_values = np.zeros(len(prior))

    def choose(self, state: np.ndarray) -> int:
        """Behaviour i with probability ``softmax(inverse_temperature · V_i(state))``."""
        self.newest_values = np.asarray(VALUES(self._config, self._learned, state))
        logits = self._config.inverse_temperature * self.newest_values
        chances = np.exp(logits - logits.max())
        return int(self._rng.choice(len(chances), p=chances / chances.sum()))

    def learn(self, acting: int, state: np.ndarray, next_state: np.ndarray, reward: float, terminal: bool) -> None:
        """One step of this life, then `updates_per_step` updates of all values on their own steps."""
        config = self._config
        self._lived[acting].add(state, next_state, reward, terminal)
        for _ in range(config.updates_per_step):
            draws = [self._draw(index) for index in range(len(self._prior))]
            self._learned, _ = UPDATE(config, self._learned, stack(draws))

    def _draw(self, index: int) -> OwnRows:
        """A behaviour's rows: prior ones, and a share of this life's newest once it has acted in it."""
        config, lived = self._config, self._lived[index]
        new = round(config.life_share * config.batch_size) if lived.count else 0
        parts = [self._prior[index].draw(self._rng, config.batch_size - new)]
        if new:
            parts.append(lived.draw(self._rng, new, config.life_window_steps))
        return OwnRows(*(np.concatenate(part) for part in zip(*parts, strict=True)))


class Fixed:
    """Always the same behaviour; learns nothing."""

    def __init__(self, index: int) -> None:
        self._index = index
        self.newest_values = np.zeros(0)

    def choose(self, state: np.ndarray) -> int:
        return self._index

    def learn(self, acting: int, state: np.ndarray, next_state: np.ndarray, reward: float, terminal: bool) -> None:
        """Nothing."""


class Guess:
    """Any behaviour, with equal probabilities: what switching alone is worth."""

    def __init__(self, count: int, seed: int) -> None:
        self._count, self._rng = count, np.random.default_rng(seed)
        self.newest_values = np.zeros(0)

    def choose(self, state: np.ndarray) -> int:
        return int(self._rng.integers(self._count))

    def learn(self, acting: int, state: np.ndarray, next_state: np.ndarray, reward: float, terminal: bool) -> None:
        """Nothing."""


def live(
    library: Library,
    mind: Roam | Fixed | Guess,
    perturbation: Perturbation,
    seed: int,
    *,
    normal_s: float = 40.0,
    perturbed_s: float = 60.0,
    dwell_steps: int = 10,
    watch: Callable[[Go1, int, int], None] | None = None,
) -> Life:
    """One life: `normal_s` on a healthy robot, then `perturbation` for `perturbed_s`.

    `watch(robot, step, acting)` sees every step; acting is -1 while it stands up.
    """
    gaits, life = list(library.values()), Life()
    robot, rng = Go1(seed), np.random.default_rng(seed)
    robot.place(rng)
    begin = round(normal_s * CONTROL_RATE_HZ)
    acting, turn, rising, rising_steps = 0, 0, None, 0
    for step in range(begin + round(perturbed_s * CONTROL_RATE_HZ)):
        if step == begin:
            robot.perturb(perturbation)
        if rising is not None:
            rising_steps += 1
            up = rising.step() or (rising_steps > PATIENCE_S * CONTROL_RATE_HZ and not robot.fallen())
            rising, turn = (None, 0) if up else (rising, turn)
            reward = 0.0
        else:
            state = robot.observe()
            if turn == 0:
                acting, turn = mind.choose(state), dwell_steps
                life.values.append((step, [round(float(v), 3) for v in mind.newest_values]))
            robot.step(action(gaits[acting], step / CONTROL_RATE_HZ, robot.heading_rad, robot.data.qvel[5]))
            turn -= 1
            reward, fallen = robot.reward(), robot.fallen()
            mind.learn(acting, state, robot.observe(), reward, fallen)
            if fallen:
                life.falls.append(step)
                rising, rising_steps = StandUp(robot), 0
        life.x_m.append(float(robot.position_m[0]))
        life.reward.append(reward)
        life.behaviour.append(-1 if rising is not None else acting)
        if watch is not None:
            watch(robot, step, life.behaviour[-1])
    robot.close()
    return life
