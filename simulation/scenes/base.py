"""What a tabletop scene must provide, and small helpers that the scripted experts share.

A scene owns its objects: their MJCF, where they start, what counts as success in each direction and how a script solves it.
Experts decide from geometry alone (never from time), so that they work from any state and recover after noise.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import mujoco
import numpy as np

from etude.config import ConfigError

STEP_M = 0.03
"""Displacement of a normalised action of 1, metres per control step."""


@dataclass(frozen=True)
class Tool:
    """Where the tool is: the part of the state that experts and predicates see of the arm."""

    tcp_m: np.ndarray
    opening_m: float


@dataclass(frozen=True)
class Intent:
    """What an expert wants: displacement of the tool centre point ``(3,)`` in metres, and whether the gripper should be open.

    `caution` scales the noise that is added to it: 1 in free motion, less where a slip would spoil the attempt.
    """

    displacement_m: np.ndarray
    open_gripper: bool = False
    caution: float = 1.0


@dataclass(frozen=True)
class Camera:
    """A fixed camera that looks from `eye_m` at `target_m` (base frame) with a vertical field of view `fov_deg`."""

    eye_m: tuple[float, float, float]
    target_m: tuple[float, float, float]
    fov_deg: float

    def xml(self, name: str) -> str:
        back = np.subtract(self.eye_m, self.target_m)
        back = back / np.linalg.norm(back)
        right = np.cross([0.0, 0.0, 1.0], back)
        right = right / np.linalg.norm(right)
        up = np.cross(back, right)
        axes = " ".join(f"{v:.6f}" for v in (*right, *up))
        return f'<camera name="{name}" pos="{" ".join(map(str, self.eye_m))}" xyaxes="{axes}" fovy="{self.fov_deg}"/>'


class Scene(ABC):
    """One task pair. Class attributes are its constants; options (floats) come from the task configuration."""

    name: ClassVar[str]
    action_names: ClassVar[tuple[str, ...]] = ("x", "y", "z")
    options: ClassVar[dict[str, float]] = {}
    object_names: ClassVar[tuple[str, ...]] = ()
    """Names, units included, of the elements of `object_state`."""
    workspace_min_m: ClassVar[tuple[float, float, float]]
    workspace_max_m: ClassVar[tuple[float, float, float]]
    table_min_m: ClassVar[tuple[float, float]] = (-0.25, -0.45)
    table_max_m: ClassVar[tuple[float, float]] = (0.85, 0.45)
    front: ClassVar[Camera]
    beauty: ClassVar[Camera] = Camera((1.34, 0.82, 0.74), (0.30, 0.0, 0.24), 41.0)

    def __init__(self, options: dict[str, float]) -> None:
        for key in options:
            if key not in self.options:
                known = ", ".join(sorted(self.options))
                raise ConfigError(f"task option {key!r} is unknown to scene {self.name!r}; its options: {known}")
        self.option = {**self.options, **options}

    @property
    def has_gripper(self) -> bool:
        return "gripper" in self.action_names

    def assets_xml(self) -> str:
        return ""

    @abstractmethod
    def world_xml(self) -> str:
        """MJCF of the objects; the table top is the plane z = 0 of the base frame."""

    @abstractmethod
    def bind(self, model: mujoco.MjModel) -> None:
        """Look up ids once, after compilation."""

    @abstractmethod
    def place(self, data: mujoco.MjData, phase: str, rng: np.random.Generator) -> None:
        """Put the objects where `phase` has to act: where the other direction ends, with variety."""

    @abstractmethod
    def tool_start_m(self, data: mujoco.MjData, phase: str, rng: np.random.Generator) -> np.ndarray:
        """A random tool centre point ``(3,)`` that touches nothing."""

    @abstractmethod
    def object_state(self, data: mujoco.MjData) -> np.ndarray:
        """The objects' true state, as named in `object_names`."""

    @abstractmethod
    def success(self, data: mujoco.MjData, tool: Tool) -> dict[str, bool]:
        """Phase -> is its goal reached now."""

    def lost(self, data: mujoco.MjData) -> bool:
        """Has something irreversible happened (the object left the table or toppled)?"""
        return False

    @abstractmethod
    def expert(self, data: mujoco.MjData, tool: Tool, phase: str) -> Intent:
        """What a scripted expert does now."""


def towards(position: np.ndarray, goal: np.ndarray, limit_m: float = STEP_M) -> np.ndarray:
    """The displacement from `position` to `goal`, every component at most `limit_m`."""
    return np.clip(np.subtract(goal, position), -limit_m, limit_m)


def uniform(rng: np.random.Generator, low: tuple[float, ...] | np.ndarray, high: tuple[float, ...] | np.ndarray) -> np.ndarray:
    return rng.uniform(np.asarray(low, float), np.asarray(high, float))
