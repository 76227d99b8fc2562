"""The simulated Go1 as a `Robot`: it walks along x, forward to a line and backward to where it began.

Separate from `simulation`, which knows no robot protocol.
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Literal

import numpy as np

from etude.config import ConfigError, RobotConfig, TaskConfig
from etude.robot import Reading
from etude.specs import IMAGE_PREFIX, PHASES, Observation, ObservationSpec
from simulation.go1 import ACTION_SPEC, OBSERVATION_SPEC, Go1
from simulation.go1_gaits import action as gait_action
from simulation.go1_library import LIBRARY
from simulation.go1_stand_up import StandUp

DEFAULT_DISTANCE_M = 2.0
STAND_UP_STEPS = 300
"""A stand-up that takes longer has failed, and the robot reports the fault ``fallen``."""


class Go1SimRobot:
    """A Go1 behind the robot protocol. Its state is `OBSERVATION_SPEC` and the distance along the way (odometry).

    Task options: ``distance_m``. The forward phase has succeeded beyond it, the backward phase behind 0. A robot that falls in an
    `act` stands up within the same `act`, as the firmware of a real one would; nobody puts it on its feet.

    Raises:
        ConfigError: a task option or a camera that it does not have.
    """

    advances_on_act = True
    action_spec = ACTION_SPEC

    def __init__(self, task: TaskConfig, robot: RobotConfig, observation: Literal["pixels", "state"], seed: int) -> None:
        unknown = sorted(set(task.options) - {"distance_m"})
        if unknown:
            raise ConfigError(f"task {task.name!r} has options {unknown} that a Go1 does not know; it knows distance_m")
        if observation == "pixels" and set(task.cameras) - {"follow", "side"}:
            raise ConfigError(f"task {task.name!r} asks for cameras {task.cameras}; a simulated Go1 has follow and side")
        size = task.image_size_px
        cameras = dict.fromkeys(task.cameras, (size, size)) if observation == "pixels" else {}
        self.observation_spec = ObservationSpec((*OBSERVATION_SPEC.state_names, "way_m"), cameras)
        self.control_rate_hz = robot.control_rate_hz
        self.go1 = Go1(seed, robot.control_rate_hz)
        self._distance_m = task.options.get("distance_m", DEFAULT_DISTANCE_M)
        self._expert_noise = task.expert_noise
        self._steps = 0
        self._reading: Reading | None = None
        self.go1.place(self.go1.rng)

    def read(self) -> Reading:
        if self._reading is None:
            stamp, x = time.monotonic(), self.go1.position_m[0]
            state = np.append(self.go1.observe(), np.float32(x))
            observation: Observation = {"state": state}
            for camera, (height, width) in self.observation_spec.cameras.items():
                observation[IMAGE_PREFIX + camera] = self.render(camera, height, width)
            self._reading = Reading(
                observation,
                stamp,
                faults=("fallen",) if self.go1.fallen() else (),
                success_truth={"forward": bool(x >= self._distance_m), "backward": bool(x <= 0.0)},
            )
        return self._reading

    def act(self, action: np.ndarray) -> None:
        self.action_spec.check(action)
        self.go1.step(action)
        self._steps += 1
        if self.go1.fallen():
            rising = StandUp(self.go1, self.control_rate_hz)
            for _ in range(STAND_UP_STEPS):
                if rising.step():
                    break
        self._reading = None

    def hold(self) -> None:
        """The simulation stands still between two `act`."""

    def expert_action(self, phase: str, rng: np.random.Generator) -> np.ndarray:
        """The library's trot, forwards or backwards, plus Gaussian noise of 0.1 · `TaskConfig.expert_noise` on every joint."""
        gait = LIBRARY["trot"]
        if phase == PHASES[1]:
            gait = replace(gait, stride_m=-gait.stride_m)
        clean = gait_action(gait, self._steps / self.control_rate_hz, self.go1.heading_rad, self.go1.data.qvel[5])
        return np.clip(clean + 0.1 * self._expert_noise * rng.normal(size=clean.size), -1.0, 1.0).astype(np.float32)

    def hard_reset(self, phase: str, rng: np.random.Generator) -> None:
        """Onto its feet at the start of `phase`: at x = 0, or at the line."""
        perturbation = self.go1.perturbation
        self.go1.place(rng)
        if phase == PHASES[1]:
            self.go1.data.qpos[0] += self._distance_m
        self.go1.perturb(perturbation)
        self._reading = None

    def begin_phase(self, phase: str, rng: np.random.Generator) -> bool:
        """The observation shows no goal."""
        return False

    def render(self, camera: str, height: int, width: int) -> np.ndarray:
        return self.go1.render(height, width, camera)

    def close(self) -> None:
        self.go1.close()
