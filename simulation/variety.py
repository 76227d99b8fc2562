"""A scene that looks different every time: light, colours, table cloth, camera poses and things that lie about. Nothing
that moves changes.

For tests of what judges from images; practice itself keeps the scene as it is. Cloths and distractors must be compiled into the
model (`Tabletop(cluttered=True)`); `vary` then only chooses among them.
"""

from __future__ import annotations

from dataclasses import dataclass

import mujoco
import numpy as np

LIGHTS = {"dim": (0.45, 0.7), "normal": (0.85, 1.1), "bright": (1.2, 1.5)}
"""Name -> range of the factor on every light."""
CLOTHS = ("cloth_checked", "cloth_speckled", "cloth_shaded")
"""Materials that may lie on the table instead of the plain one."""
_SHAPES = ("box", "cylinder", "ellipsoid", "box", "cylinder", "ellipsoid", "box", "cylinder")
_MARGIN_M = 0.04
_SEEN_MIN_M, _SEEN_MAX_M = np.array([0.15, -0.40]), np.array([0.80, 0.40])
"""Where distractors may lie: the part of the table that the front cameras see."""


def cloth_assets_xml() -> str:
    """MJCF of `CLOTHS`."""
    return """
    <texture name="checked" type="2d" builtin="checker" rgb1="0.84 0.80 0.72" rgb2="0.66 0.60 0.55" width="128" height="128"/>
    <texture name="speckled" type="2d" builtin="flat" rgb1="0.72 0.74 0.70" mark="random" markrgb="0.40 0.38 0.42" random="0.08"
             width="128" height="128"/>
    <texture name="shaded" type="2d" builtin="gradient" rgb1="0.86 0.82 0.76" rgb2="0.55 0.50 0.48" width="128" height="128"/>
    <material name="cloth_checked" texture="checked" texrepeat="7 7" specular="0" shininess="0"/>
    <material name="cloth_speckled" texture="speckled" texrepeat="2 2" specular="0" shininess="0"/>
    <material name="cloth_shaded" texture="shaded" texrepeat="1 1" specular="0" shininess="0"/>"""


def distractors_xml(group: int) -> str:
    """MJCF of things that nothing can touch, below the table until `vary` puts some of them on it."""
    return "".join(
        f'\n    <geom name="distractor_{i}" type="{shape}" size="0.02 0.02 0.02" pos="0 0 -0.6" group="{group}" contype="0" '
        'conaffinity="0" mass="0" rgba="0.5 0.5 0.5 1"/>'
        for i, shape in enumerate(_SHAPES)
    )


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
    workspace_m: np.ndarray
    """float ``(2, 2)``: lowest and highest (x, y) of where the arm works; distractors keep out of it."""
    table_m: np.ndarray
    """float ``(2, 2)``: lowest and highest (x, y) of the part of the table that cameras see; distractors lie there."""

    @classmethod
    def of(cls, model: mujoco.MjModel, workspace_m: np.ndarray | None = None) -> Look:
        head = model.vis.headlight
        parts: tuple[np.ndarray, ...] = (
            head.ambient,
            head.diffuse,
            model.light_diffuse,
            model.geom_rgba,
            model.mat_rgba,
            model.cam_pos,
            model.cam_quat,
        )
        table = model.geom("table")
        low, high = table.pos[:2] - table.size[:2] + _MARGIN_M, table.pos[:2] + table.size[:2] - _MARGIN_M
        table_m = np.array([np.maximum(low, _SEEN_MIN_M), np.minimum(high, _SEEN_MAX_M)])
        nowhere = np.zeros((2, 2))
        return cls(*(np.array(part) for part in (*parts, nowhere if workspace_m is None else workspace_m, table_m)))


def vary(model: mujoco.MjModel, look: Look, light: str, rng: np.random.Generator, strength: float = 1.0) -> None:
    """Draw a new look around `look`: one light of `LIGHTS` with a tint, colours, nudged cameras and, where the model has them, a
    cloth (or none) and up to three distractors.

    Args:
        strength: of colours and nudges; 1 is 6% of each colour channel, 3 mm and 0.6 degrees (standard deviations).
            Above 1 all distractors may lie about.
    """
    factor = rng.uniform(*LIGHTS[light]) * (1.0 + 0.05 * strength * rng.normal(size=3))
    model.vis.headlight.ambient[:] = np.clip(look.ambient * factor, 0.0, 1.0)
    model.vis.headlight.diffuse[:] = np.clip(look.diffuse * factor, 0.0, 1.0)
    model.light_diffuse[:] = np.clip(look.lights * factor, 0.0, 1.0)
    own = model.geom_matid < 0  # the colour of a geom that has a material comes from the material, unless it is touched
    for colours, before, which in ((model.geom_rgba, look.colours, own), (model.mat_rgba, look.materials, slice(None))):
        changed = np.clip(before[:, :3] * (1.0 + 0.06 * strength * rng.normal(size=before[:, :3].shape)), 0.0, 1.0)
        colours[which, :3] = changed[which]
    model.cam_pos[:] = look.camera_positions + 0.003 * strength * rng.normal(size=look.camera_positions.shape)
    turn, turned = np.empty(4), np.empty(4)
    for number, rotation in enumerate(look.camera_rotations):
        nudge = np.deg2rad(0.6) * strength * rng.normal(size=3)
        mujoco.mju_axisAngle2Quat(turn, nudge / max(np.linalg.norm(nudge), 1e-9), np.linalg.norm(nudge))
        mujoco.mju_mulQuat(turned, rotation, turn)
        model.cam_quat[number] = turned
    _furnish(model, look, rng, strength)


def _furnish(model: mujoco.MjModel, look: Look, rng: np.random.Generator, strength: float) -> None:
    """Choose a cloth, and put distractors on the table beside the workspace."""
    geoms = [model.geom(i) for i in range(model.ngeom)]
    things = [geom for geom in geoms if geom.name.startswith("distractor_")]
    if not things:
        return
    covers = [model.material(name).id for name in ("plain", *CLOTHS)]
    model.geom("table").matid[:] = rng.choice(covers)
    count = int(rng.integers(0, (3 if strength <= 1.0 else len(things)) + 1))
    shown = set(rng.permutation(len(things))[:count].tolist())
    for number, thing in enumerate(things):
        place = _free_place(look, rng)
        if number not in shown or place is None:
            thing.pos[:] = 0.0, 0.0, -0.6
            continue
        half = rng.uniform(0.012, 0.035, 3)
        # a cylinder's size is (radius, half of its height)
        height = half[1] if thing.type[0] == mujoco.mjtGeom.mjGEOM_CYLINDER else half[2]
        thing.size[:] = half
        thing.pos[:] = *place, height
        thing.rgba[:3] = rng.uniform(0.05, 0.95, 3)


def _free_place(look: Look, rng: np.random.Generator) -> np.ndarray | None:
    """A random (x, y) on the table and out of the workspace; None where there is hardly any."""
    low, high = look.workspace_m[0] - _MARGIN_M, look.workspace_m[1] + _MARGIN_M
    for place in rng.uniform(look.table_m[0], look.table_m[1], (100, 2)):
        if (place < low).any() or (place > high).any():
            return place
    return None
