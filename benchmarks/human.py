"""A scripted person who watches practice of a grasping scene, takes over when the policy strays, and lets go again.

What "straying" means is judged from ground truth, as a person judges it by eye: the way that is still to go does not get shorter,
or gets longer. Separate from `benchmarks.helping`, who is called by the robot; this one comes unasked and acts within an attempt.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from actor.demonstrations import max_steps
from actor.evaluation import evaluate
from actor.robots import make_robot
from actor.robots.mujoco import MujocoRobot
from etude.config import RunConfig
from etude.robot import Reading, Robot
from etude.specs import Observation
from simulation.panda import MAX_FINGER_M
from simulation.scenes.carry import CarryScene


@dataclass(frozen=True)
class Temper:
    """When a person takes over and lets go, and how well that person acts. Steps are control steps.

    Attributes:
        corrects: False only watches and puts the scene back.
        patience_steps: without progress before the person takes over.
        setback_m: how much longer than it has been the way to go may get before the person takes over at once.
        stay_steps: at least so long the person acts.
        gain: share of the scripted expert's motion that the person's actions have.
        noise: standard deviation of what is added to it, normalised, correlated over about two steps.
        slip: probability per step of opening fingers that should be closed, or closing open ones.
    """

    corrects: bool = True
    patience_steps: int = 8
    setback_m: float = 0.05
    stay_steps: int = 5
    gain: float = 1.0
    noise: float = 0.0
    slip: float = 0.0


PROGRESS_M = 0.005
"""A way that is shorter by less than this is not progress."""
LONGEST_STAY = 4
"""A person who makes no progress either lets go after this many times `stay_steps`."""
TILTED_COS = 0.9
"""Cosine of the tilt of an object that a person does not let topple further."""
HELD_WITHIN_M, CLOSED_WITHIN_M, GRASP_WITHIN_M = 0.03, 0.004, 0.015
"""How near the tool is to where the object is gripped, and the fingers to its width, when it is held or can be."""
NOISE_MEMORY = 0.6


class ScriptedHuman:
    """One person at one robot whose scene is a `CarryScene`; an operator of `benchmarks.in_process`."""

    def __init__(self, robot: Robot, temper: Temper, seed: int) -> None:
        scene = robot.tabletop.scene if isinstance(robot, MujocoRobot) else None
        if not isinstance(robot, MujocoRobot) or not isinstance(scene, CarryScene):
            raise ValueError("a scripted person watches scenes of grasping and carrying only: use task peg or relocate")
        self._robot, self._scene, self._temper = robot, scene, temper
        self._rng = np.random.default_rng([seed, 0xA1D])
        self._noise = np.zeros(3)
        self.acting, self._acted, self._way_at_take_over = False, 0, 0.0

    def begin(self, reading: Reading, phase: str) -> None:
        self.acting = False
        self._noise[:] = 0.0
        self._watch(self.way_to_go_m(phase))

    def action(self, reading: Reading, phase: str) -> np.ndarray | None:
        if not self._temper.corrects:
            return None
        way = self.way_to_go_m(phase)
        if self.acting:
            self._acted += 1
            got_on = way < self._way_at_take_over - 2 * PROGRESS_M
            if self._acted >= self._temper.stay_steps * (1 if got_on else LONGEST_STAY):
                self.acting = False
                self._watch(way)
        elif self._strays(reading, way):
            self.acting, self._acted, self._way_at_take_over = True, 0, way
        return self.act(phase) if self.acting else None

    def ends(self, reading: Reading) -> bool:
        """A lost object ends the attempt; a person who corrects has reached for the controls before."""
        return reading.object_lost and (self.acting or not self._temper.corrects)

    def way_to_go_m(self, phase: str) -> float:
        """Metres that tool, fingers and object still have to move, about: to the object, close, up, across, down, open."""
        tabletop, scene = self._robot.tabletop, self._scene
        tool, position = tabletop.tool(), scene.object_m(tabletop.data)
        if scene.placed(tabletop.data)[phase]:
            return max(0.0, scene.width_m + 0.012 - tool.opening_m)
        missing = np.abs(scene.goal_m(tabletop.data, phase) - position)
        across = float(np.linalg.norm(missing[:2]))
        offset = np.abs(tool.tcp_m - position - (0.0, 0.0, scene.grip_m))
        open_m = tool.opening_m - scene.width_m  # more than the object is wide
        held = offset.max() < HELD_WITHIN_M and open_m < CLOSED_WITHIN_M
        if held and across < scene.lower_within_m:
            return scene.width_m + float(missing[2])
        lift = max(0.0, scene.carry_m - (position[2] - scene.rest_height_m)) if across >= scene.lower_within_m else 0.0
        carried = scene.width_m + lift + across + scene.carry_m
        if held:
            return carried
        close_m = max(0.0, open_m) if offset.max() < GRASP_WITHIN_M else 2 * MAX_FINGER_M - scene.width_m
        return carried + close_m + float(np.linalg.norm(offset[:2]) + offset[2])

    def _watch(self, way: float) -> None:
        self._best, self._since = way, 0

    def _strays(self, reading: Reading, way: float) -> bool:
        self._since += 1
        if way < self._best - PROGRESS_M:
            self._watch(way)
        tilted = self._scene.upright(self._robot.tabletop.data) < TILTED_COS
        setback = way > self._best + self._temper.setback_m
        return reading.object_lost or tilted or setback or self._since > self._temper.patience_steps

    def act(self, phase: str) -> np.ndarray:
        """The scripted expert's action, as well as this person can."""
        temper, names = self._temper, self._robot.action_spec.names
        action = self._robot.expert_action(phase, self._rng)  # with the noise of the task's demonstrator
        self._noise = NOISE_MEMORY * self._noise + np.sqrt(1 - NOISE_MEMORY**2) * self._rng.normal(0.0, 1.0, 3)
        for index, name in enumerate(names):
            if name in "xyz":
                action[index] = temper.gain * action[index] + temper.noise * self._noise["xyz".index(name)]
            elif name == "gripper" and self._rng.random() < temper.slip:
                action[index] = -action[index]
        return np.clip(action, -1.0, 1.0)


def alone(config: RunConfig, temper: Temper, episodes: int, seed: int) -> float:
    """Success rate of a person who does the whole task, in `episodes` attempts of the forward direction."""
    robot = make_robot(config, seed)
    try:
        person = _Acting(ScriptedHuman(robot, temper, seed))
        result = evaluate(robot, person, "forward", episodes, seed, max_steps(config)["forward"], limits=config.robot.safety)
    finally:
        robot.close()
    return float(result["success_rate"])


class _Acting:
    """A person in the place of a policy."""

    def __init__(self, person: ScriptedHuman) -> None:
        self._person = person

    def begin(self) -> None:
        """Nothing is remembered from one episode to the next."""

    def prepare(self, observation: Observation, phase: str) -> bool:
        return True

    def act(self, observation: Observation, phase: str, explore: bool) -> np.ndarray:
        return self._person.act(phase)
