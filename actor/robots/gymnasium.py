"""Any Gymnasium environment by id as a `Robot`. Separate because it needs nothing of `simulation`.

An episode that ends inside the environment stays at its last observation, which says so, until `hard_reset`: no transition ever
leads across a reset. Success comes from ``info``.
"""

from __future__ import annotations

import time
from typing import Any, Literal

import gymnasium
import numpy as np

from actor.robots.gymnasium_experts import find_expert
from etude.config import ConfigError, RobotConfig, TaskConfig
from etude.robot import Reading
from etude.specs import IMAGE_PREFIX, PHASES, ActionSpec, Observation, ObservationSpec


class GymnasiumRobot:
    """A continuous Gymnasium environment behind the robot protocol.

    The observation space must be a Box (flattened into ``state``); the action space a bounded Box (normalised to [-1, 1]).
    `RobotConfig.relative_positions` are appended to ``state``.
    In ``pixels`` mode the environment's ``rgb_array`` picture is the one camera ``front``, resized to the task's image size.

    Truth: ``info["success_forward"]`` and ``info["success_backward"]`` when present; else ``info["success"]`` or
    ``info["is_success"]`` for the forward phase and its negation for the backward one; else none. An environment that reports
    success on steps only (Meta-World) has not succeeded at a reset. ``info["stuck"]`` says that the object is lost.

    An id of the form ``module:Id-v0`` makes Gymnasium import the module, which registers the environment.
    `RobotConfig.environment_options` are keyword arguments of ``gymnasium.make``.

    Raises:
        ConfigError: unknown id, missing package, options that the environment does not take, spaces of another kind, or relative
            positions of elements that the observation does not have.
    """

    advances_on_act = True

    def __init__(self, task: TaskConfig, robot: RobotConfig, observation: Literal["pixels", "state"], seed: int) -> None:
        if not robot.environment_id:
            raise ConfigError(f"robot {robot.name!r} is of kind gymnasium and needs robot.environment_id, e.g. Pendulum-v1")
        self._id = robot.environment_id
        options = {**({"render_mode": "rgb_array"} if observation == "pixels" else {}), **robot.environment_options}
        self._env = self._make(options)
        self._low, self._high = self._bounds()
        space = self._env.observation_space
        if not isinstance(space, gymnasium.spaces.Box):
            raise ConfigError(f"environment {self._id!r} has observation space {space}; only a Box of floats is supported")
        size = task.image_size_px
        elements = int(np.prod(space.shape))
        self._relative = _checked_pairs(robot, elements)
        names = [f"observation_{index}" for index in range(elements)]
        names += [f"{name}_{axis}" for name in self._relative for axis in "xyz"]
        self.observation_spec = ObservationSpec(tuple(names), {"front": (size, size)} if observation == "pixels" else {})
        action_names = tuple(f"action_{index}" for index in range(self._low.size))
        self.action_spec = ActionSpec(action_names, tuple((self._high - self._low) / 2))
        self.control_rate_hz = robot.control_rate_hz
        self._expert = find_expert(self._env, self._id, options)
        self._expert_noise = task.expert_noise
        self._truth_at_reset = self._probe(seed)
        self._reading: Reading | None = None
        self._over = self._lost = False
        self._reset("forward", seed)

    def read(self) -> Reading:
        if self._reading is None:
            stamp = time.monotonic()
            state = np.nan_to_num(np.asarray(self._state, np.float32).reshape(-1), posinf=1e6, neginf=-1e6)
            relative = [state[j : j + 3] - state[i : i + 3] for i, j in self._relative.values()]
            observation: Observation = {"state": np.concatenate([state, *relative])}
            for camera, (height, width) in self.observation_spec.cameras.items():
                observation[IMAGE_PREFIX + camera] = self.render(camera, height, width)
            self._reading = Reading(
                observation, stamp, success_truth=self._truth, object_lost=self._lost, episode_over=self._over
            )
        return self._reading

    def act(self, action: np.ndarray) -> None:
        self.action_spec.check(action)
        if self._over:
            return
        self._state, _, terminated, truncated, info = self._env.step(self._physical(action))
        self._truth = _truth(info)
        self._lost = bool(info.get("stuck", False))
        self._over = bool(terminated or truncated)
        self._reading = None

    def hold(self) -> None:
        """An environment that advances only on `act` is already still."""

    def expert_action(self, phase: str, rng: np.random.Generator) -> np.ndarray:
        """The expert's action, clipped, plus Gaussian noise of standard deviation `TaskConfig.expert_noise` on every element."""
        if self._expert is None:
            raise NotImplementedError(f"there is no scripted expert for Gymnasium environment {self._id!r}")
        physical = np.asarray(self._expert(self._state, phase, rng), np.float64).reshape(-1)
        clean = np.clip((physical - self._low) / (self._high - self._low) * 2.0 - 1.0, -1.0, 1.0)
        return np.clip(clean + self._expert_noise * rng.normal(size=clean.size), -1.0, 1.0).astype(np.float32)

    def begin_phase(self, phase: str, rng: np.random.Generator) -> bool:
        """Practice goes on in `phase` without a reset. An environment that shows a goal changes it then, by a method of this name
        that returns the new (observation, info); others have none, and nothing happens."""
        change = getattr(self._env.unwrapped, "begin_phase", None)
        if not callable(change) or self._over:
            return False
        self._state, info = change(phase, rng)
        self._truth = _truth(info)
        self._reading = None
        return True

    def show_state(self, goal: np.ndarray | None) -> None:
        """A goal-conditioned environment shows this state as the one to be reached (VaPRL); with None the task's goal again.

        Raises:
            NotImplementedError: this environment has no method of this name, or `relative_positions` are in the state.
        """
        if self._relative:
            raise NotImplementedError("states with robot.relative_positions cannot be shown as a goal: leave these out for vaprl")
        change = getattr(self._env.unwrapped, "show_state", None)
        if not callable(change):
            raise NotImplementedError(f"environment {self._id!r} has no `show_state`: use another recipe.reset.kind than vaprl")
        self._state, info = change(goal)
        self._truth = _truth(info)
        self._reading = None

    def hard_reset(self, phase: str, rng: np.random.Generator) -> None:
        if phase not in PHASES:
            raise ValueError(f"phase is {phase!r}, expected one of {PHASES}")
        self._reset(phase, int(rng.integers(2**31)))

    def render(self, camera: str, height: int, width: int) -> np.ndarray:
        """The environment's picture at the asked size (nearest pixel); black when it draws none."""
        picture = self._env.render() if self._env.render_mode == "rgb_array" else None
        if picture is None:
            return np.zeros((height, width, 3), np.uint8)
        pixels = np.asarray(picture)
        rows = np.arange(height) * pixels.shape[0] // height
        columns = np.arange(width) * pixels.shape[1] // width
        return np.ascontiguousarray(pixels[rows[:, None], columns[None, :], :3], dtype=np.uint8)

    def close(self) -> None:
        self._env.close()

    def _reset(self, phase: str, seed: int) -> None:
        """A start state of `phase` that depends on `seed` only. The environment is told the phase as a reset option."""
        older = getattr(self._env.unwrapped, "seed", None)
        if callable(older):
            older(seed)  # environments of the older interface, Meta-World among them, ignore the seed of `reset`
        self._state, info = self._env.reset(seed=seed, options={"phase": phase})
        self._truth = _truth(info) or self._truth_at_reset
        self._over = self._lost = False
        self._reading = None

    def _probe(self, seed: int) -> dict[str, bool] | None:
        """What is true at a reset whose info says nothing: not reached, if steps report success; else unknown."""
        self._env.reset(seed=seed)
        *_, info = self._env.step(self._physical(self.action_spec.zeros()))
        return None if _truth(info) is None else {"forward": False, "backward": True}

    def _physical(self, action: np.ndarray) -> np.ndarray:
        space: Any = self._env.action_space
        physical = self._low + (np.clip(action, -1.0, 1.0) + 1.0) / 2.0 * (self._high - self._low)
        return physical.reshape(space.shape).astype(space.dtype)

    def _make(self, options: dict[str, Any]) -> gymnasium.Env:
        try:
            return gymnasium.make(self._id, **options)
        except (gymnasium.error.DependencyNotInstalled, ImportError) as error:
            raise ConfigError(
                f"environment {self._id!r} needs a package that is not installed: {error} (Meta-World is in the extra 'bench')"
            ) from error
        except gymnasium.error.Error as error:
            raise ConfigError(f"there is no Gymnasium environment {self._id!r}: {error}") from error
        except (TypeError, ValueError, KeyError) as error:
            raise ConfigError(
                f"environment {self._id!r} cannot be made with robot.environment_options {options}: {error}"
            ) from error

    def _bounds(self) -> tuple[np.ndarray, np.ndarray]:
        space = self._env.action_space
        if not isinstance(space, gymnasium.spaces.Box) or not (np.isfinite(space.low).all() and np.isfinite(space.high).all()):
            raise ConfigError(f"environment {self._id!r} has action space {space}; only a bounded Box is supported")
        return space.low.reshape(-1).astype(np.float64), space.high.reshape(-1).astype(np.float64)


def _checked_pairs(robot: RobotConfig, elements: int) -> dict[str, tuple[int, int]]:
    for name, pair in robot.relative_positions.items():
        if not all(0 <= index <= elements - 3 for index in pair):
            raise ConfigError(
                f"robot.relative_positions {name!r} is {list(pair)}, but the observation of environment "
                f"{robot.environment_id!r} has {elements} elements: a position begins at 0 to {elements - 3}"
            )
    return robot.relative_positions


def _truth(info: dict[str, Any]) -> dict[str, bool] | None:
    """Phase -> success, or None when `info` says nothing."""
    named = {phase: bool(info[f"success_{phase}"]) for phase in PHASES if f"success_{phase}" in info}
    if named:
        return named
    for key in ("success", "is_success"):
        if key in info:
            return {"forward": bool(info[key]), "backward": not info[key]}
    return None
