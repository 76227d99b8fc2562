"""The simulated Panda as a `Robot`: one control period per `act`. Separate from `simulation`, which knows no robot protocol."""

from __future__ import annotations

import time
from typing import Literal

import numpy as np

from etude.config import RobotConfig, TaskConfig
from etude.robot import Reading
from simulation.tabletop import FrozenView, Tabletop


class MujocoRobot:
    """A tabletop scene behind the robot protocol. In ``realtime`` pace the control loop does the waiting, not the robot.

    `read` is cached until the next `act`, `hold` or `hard_reset`, so reading twice costs one drawing.
    """

    advances_on_act = True

    def __init__(
        self,
        task: TaskConfig,
        robot: RobotConfig,
        observation: Literal["pixels", "state"],
        seed: int,
        cluttered: bool = False,
    ) -> None:
        self.tabletop = Tabletop(
            task.scene or task.name,
            cameras=task.cameras,
            image_size=task.image_size_px,
            observation=observation,
            options=task.options,
            seed=seed,
            control_rate_hz=robot.control_rate_hz,
            expert_noise=task.expert_noise,
            cluttered=cluttered,
        )
        self.observation_spec = self.tabletop.observation_spec
        self.action_spec = self.tabletop.action_spec
        self.control_rate_hz = robot.control_rate_hz
        self._reading: Reading | None = None

    def read(self) -> Reading:
        if self._reading is None:
            stamp = time.monotonic()
            self._reading = Reading(
                observation=self.tabletop.observe(),
                stamp_s=stamp,
                tcp_position_m=self.tabletop.tool().tcp_m,
                success_truth=self.tabletop.success(),
                object_lost=self.tabletop.object_lost(),
            )
        return self._reading

    def act(self, action: np.ndarray) -> None:
        self.action_spec.check(action)
        self.tabletop.step(action)
        self._reading = None

    def hold(self) -> None:
        self.tabletop.hold()

    def expert_action(self, phase: str, rng: np.random.Generator) -> np.ndarray:
        return self.tabletop.expert_action(phase, rng)

    def hard_reset(self, phase: str, rng: np.random.Generator) -> None:
        self.tabletop.reset(phase, rng)
        self._reading = None

    def begin_phase(self, phase: str, rng: np.random.Generator) -> bool:
        """The scenes show no goal in the observation."""
        return False

    def render(self, camera: str, height: int, width: int) -> np.ndarray:
        return self.tabletop.render(camera, height, width)

    def freeze(self) -> FrozenView:
        """The scene as it is now, for the viewfinder's thread to draw (see actor/viewfinder.py)."""
        return self.tabletop.freeze()

    def close(self) -> None:
        self.tabletop.close()
