"""A scene that looks different every time: light, colours and camera poses drawn at random. Nothing that moves changes.

For tests of what judges from images; practice itself keeps the scene as it is.
"""

from __future__ import annotations

from dataclasses import dataclass

import mujoco
import numpy as np

LIGHTS = {"dim": (0.45, 0.7), "normal": (0.85, 1.1), "bright": (1.2, 1.5)}
"""Name -> range of the factor on every light."""


@dataclass(frozen=True)
class Look:
    """How a scene looked when it was compiled, to vary around."""

    ambient: np.ndarray
    diffuse: np.ndarray
    lights: np.ndarray
    colours: np.ndarray
    materials: np.ndarray
    camera_positions: np.ndarray
    camera_rotations: np.ndarray

    @classmethod
    def of(cls, model: mujoco.MjModel) -> Look:
        head = model.vis.headlight
        parts = (
            head.ambient,
            head.diffuse,
            model.light_diffuse,
            model.geom_rgba,
            model.mat_rgba,
            model.cam_pos,
            model.cam_quat,
        )
        return cls(*(np.array(part) for part in parts))


def vary(model: mujoco.MjModel, look: Look, light: str, rng: np.random.Generator, strength: float = 1.0) -> None:
    """Draw a new look around `look`: one light of `LIGHTS` with a tint, colours, and nudged cameras.

    Args:
        strength: of colours and nudges; 1 is 6% of each colour channel, 3 mm and 0.6 degrees (standard deviations).
    """
    factor = rng.uniform(*LIGHTS[light]) * (1.0 + 0.05 * strength * rng.normal(size=3))
    model.vis.headlight.ambient[:] = np.clip(look.ambient * factor, 0.0, 1.0)
    model.vis.headlight.diffuse[:] = np.clip(look.diffuse * factor, 0.0, 1.0)
    model.light_diffuse[:] = np.clip(look.lights * factor, 0.0, 1.0)
    for colours, before in ((model.geom_rgba, look.colours), (model.mat_rgba, look.materials)):
        colours[:, :3] = np.clip(before[:, :3] * (1.0 + 0.06 * strength * rng.normal(size=before[:, :3].shape)), 0.0, 1.0)
    model.cam_pos[:] = look.camera_positions + 0.003 * strength * rng.normal(size=look.camera_positions.shape)
    turn, turned = np.empty(4), np.empty(4)
    for number, rotation in enumerate(look.camera_rotations):
        nudge = np.deg2rad(0.6) * strength * rng.normal(size=3)
        mujoco.mju_axisAngle2Quat(turn, nudge / max(np.linalg.norm(nudge), 1e-9), np.linalg.norm(nudge))
        mujoco.mju_mulQuat(turned, rotation, turn)
        model.cam_quat[number] = turned
