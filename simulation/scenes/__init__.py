"""The tabletop scenes, one file per task pair."""

from __future__ import annotations

from etude.config import ConfigError, _suggest
from simulation.scenes.base import Scene
from simulation.scenes.drawer import Drawer
from simulation.scenes.slide import Slide

SCENES: dict[str, type[Scene]] = {scene.name: scene for scene in (Slide, Drawer)}


def make_scene(name: str, options: dict[str, float]) -> Scene:
    """The scene called `name`. Raises ConfigError for an unknown name or option."""
    if name not in SCENES:
        raise ConfigError(
            f"there is no simulation scene {name!r}.{_suggest(name, sorted(SCENES))} Known: {', '.join(sorted(SCENES))}"
        )
    return SCENES[name](options)
