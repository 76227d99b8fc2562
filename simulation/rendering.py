"""OpenGL for MuJoCo in one place: which backend works here, cheap pictures for policies and good-looking ones for people.

Separate because the backend must be chosen before `mujoco` is imported anywhere, and because GL contexts belong to threads.
"""

from __future__ import annotations

import atexit
import ctypes
import ctypes.util
import os
import sys
import threading
from typing import TYPE_CHECKING, Any

import numpy as np

from etude.config import ConfigError

if TYPE_CHECKING:
    import mujoco

REMEDY = (
    "Install OpenGL libraries (apt-get install libegl1 libgl1 libgl1-mesa-dri libosmesa6), or set MUJOCO_GL to egl or osmesa. "
    "observation=state with MUJOCO_GL=disable needs none."
)
POLICY_GROUP = 3
"""Geoms of this group are drawn only for policy cameras (plain materials)."""
BEAUTY_GROUP = 4
"""Geoms of this group are drawn only in pictures for people (textures, floor)."""


class RenderingError(ConfigError):
    """No picture can be drawn on this machine; the message names the system packages to install."""


def choose_backend() -> str:
    """Set ``MUJOCO_GL`` (unless it is set) to egl, else osmesa, else disable; then import mujoco, which reads it once.

    With ``disable`` everything but pictures works. Returns the choice: ``egl``, ``osmesa``, ``glfw`` or ``disable``.

    Raises:
        RenderingError: the backend that the environment asks for cannot be loaded.
    """
    # Mesa's software rasteriser would start a thread per core; for tiny pictures that is slower, and it disturbs the learner.
    os.environ.setdefault("LP_NUM_THREADS", "0")
    if not os.environ.get("MUJOCO_GL") and sys.platform.startswith("linux"):
        found = [name for name, library in (("egl", "EGL"), ("osmesa", "OSMesa")) if ctypes.util.find_library(library)]
        os.environ["MUJOCO_GL"] = found[0] if found else "disable"
    try:
        import mujoco  # noqa: F401
    except (RuntimeError, ImportError, AttributeError, OSError) as error:
        raise RenderingError(f"MuJoCo cannot load {_how()}: {error}. {REMEDY}") from error
    return os.environ.get("MUJOCO_GL", "glfw")


class Pictures:
    """Draws one model's cameras.

    Any thread may call `draw` while no other thread steps the data: every thread gets contexts of its own.
    """

    def __init__(self, model: "mujoco.MjModel") -> None:
        self._model = model
        self._renderers: dict[tuple[int, int, int, bool], Any] = {}
        self._lock = threading.Lock()
        atexit.register(self.close)  # contexts must go before the interpreter unloads the GL bindings

    def draw(self, data: "mujoco.MjData", camera: str, height: int, width: int, *, beauty: bool = False) -> np.ndarray:
        """uint8 RGB ``(height, width, 3)``. `beauty` adds shadows, textures and antialiasing (slow).

        Raises:
            RenderingError: no OpenGL here.
        """
        key = (threading.get_ident(), height, width, beauty)
        with self._lock:
            renderer = self._renderers.get(key)
            if renderer is None:
                renderer = self._renderers[key] = self._create(height, width, beauty)
            renderer.update_scene(data, camera=camera, scene_option=self._options(beauty))
            if not beauty:
                _plain(renderer.scene)
            return renderer.render()

    def close(self) -> None:
        """Free this thread's contexts. Those of other threads cannot be freed from here, only kept from trying it themselves."""
        with self._lock:
            for (thread, *_), renderer in self._renderers.items():
                if thread == threading.get_ident():
                    renderer.close()
                else:
                    ctypes.pythonapi.Py_IncRef(ctypes.py_object(renderer))
            self._renderers.clear()
        atexit.unregister(self.close)

    def _create(self, height: int, width: int, beauty: bool) -> Any:
        import mujoco

        quality, screen = self._model.vis.quality, self._model.vis.global_
        # Pictures for people: finest for screenshots; for the live page a third of the cost and hardly a difference at its size.
        # For policies, coarse capsules are a third of the cost and look the same at 64 pixels.
        shadows, samples, *shapes = (
            (0, 4, 12, 6, 1) if not beauty else (4096, 8, 48, 24, 4) if height >= 600 else (1024, 4, 24, 12, 2)
        )
        quality.shadowsize, quality.offsamples = shadows, samples
        quality.numslices, quality.numstacks, quality.numquads = shapes
        screen.offwidth, screen.offheight = width, height
        try:
            return mujoco.Renderer(self._model, height, width)
        except Exception as error:  # mujoco raises many kinds here, all with the same remedy
            raise RenderingError(f"MuJoCo cannot draw pictures with {_how()}: {error}. {REMEDY}") from error

    @staticmethod
    def _options(beauty: bool) -> "mujoco.MjvOption":
        import mujoco

        options = mujoco.MjvOption()
        options.geomgroup[:] = (1, 1, 1, not beauty, beauty, 0)
        options.sitegroup[:] = 0
        return options


def _how() -> str:
    return f"MUJOCO_GL={os.environ.get('MUJOCO_GL', '(unset)')}"


def _plain(scene: "mujoco.MjvScene") -> None:
    import mujoco

    for flag in (
        mujoco.mjtRndFlag.mjRND_SHADOW,
        mujoco.mjtRndFlag.mjRND_REFLECTION,
        mujoco.mjtRndFlag.mjRND_SKYBOX,
        mujoco.mjtRndFlag.mjRND_HAZE,
    ):
        scene.flags[flag] = 0
