"""The tabletop scenes, one file per task pair."""

from __future__ import annotations

from etude.config import ConfigError
from simulation.scenes.base import Scene
from simulation.scenes.drawer import Drawer
from simulation.scenes.peg import Peg
from simulation.scenes.relocate import Relocate
from simulation.scenes.slide import Slide

SCENES: dict[str, type[Scene]] = {scene.name: scene for scene in (Slide, Drawer, Relocate, Peg)}


def make_scene(name: str, options: dict[str, float]) -> Scene:
    """The scene called `name`. Raises ConfigError for an unknown name or option."""
    if name not in SCENES:
        raise ConfigError(f"there is no simulation scene {name!r}; known scenes: {', '.join(sorted(SCENES))}")
    return SCENES[name](options)
