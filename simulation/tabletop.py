"""A Panda at a table with one scene: reset, control step, observation, ground truth, expert and pictures.

The one class that joins robot, controller, scene and rendering; everything above it sees only arrays.
"""

from __future__ import annotations

import mujoco
import numpy as np

from etude.config import ConfigError
from etude.specs import IMAGE_PREFIX, PHASES, ActionSpec, Observation, ObservationSpec
from simulation import panda
from simulation.controller import EndEffectorController
from simulation.rendering import BEAUTY_GROUP, POLICY_GROUP, Pictures
from simulation.scenes import make_scene
from simulation.scenes.base import STEP_M, Intent, Scene, Tool
from simulation.variety import cloth_assets_xml, distractors_xml

_SCALE = {"x": STEP_M, "y": STEP_M, "z": STEP_M, "yaw": 0.2, "gripper": 1.0}
_NOISE_MEMORY = 0.6


class Tabletop:
    """One scene with one robot. Not thread safe: one thread steps, reads and draws.

    Args:
        scene: name of the scene, see `simulation.scenes.SCENES`.
        cameras: policy cameras, ``"front"`` and ``"wrist"``; ignored when `observation` is ``"state"``.
        image_size: height and width of a policy image, pixels.
        observation: ``"pixels"`` (proprioception and images) or ``"state"`` (proprioception and the objects' true state).
        options: scene parameters.
        seed: of the first random start.
        expert_noise: standard deviation of the expert's correlated action noise, normalised.
        cluttered: the model holds cloths and distractors that `simulation.variety.vary` can lay out.
    """

    def __init__(
        self,
        scene: str,
        cameras: tuple[str, ...] = ("front", "wrist"),
        image_size: int = 64,
        observation: str = "pixels",
        options: dict[str, float] | None = None,
        seed: int = 0,
        control_rate_hz: float = 10.0,
        expert_noise: float = 0.0,
        cluttered: bool = False,
    ) -> None:
        self.scene = make_scene(scene, options or {})
        self.model = mujoco.MjModel.from_xml_string(world_xml(self.scene, cluttered))
        self.data = mujoco.MjData(self.model)
        paint_wood(self.model)
        self.scene.bind(self.model)
        self.controller = EndEffectorController(
            self.model,
            self.data,
            np.array(self.scene.workspace_min_m),
            np.array(self.scene.workspace_max_m),
            1.0 / control_rate_hz,
        )
        names = self.scene.action_names
        self.action_spec = ActionSpec(names, tuple(_SCALE[name] for name in names))
        self._pixels = observation == "pixels"
        self._image_size = image_size
        self._cameras = tuple(cameras) if self._pixels else ()
        for camera in self._cameras:
            if camera not in ("front", "wrist"):
                raise ConfigError(f"scene {scene!r} has no camera {camera!r}; it has front and wrist")
        state = [
            "tcp_x_m",
            "tcp_y_m",
            "tcp_z_m",
            "tcp_velocity_x_m_s",
            "tcp_velocity_y_m_s",
            "tcp_velocity_z_m_s",
            "finger_opening_m",
        ]
        if not self.scene.has_gripper:
            state.pop()
        if "yaw" in names:
            state += ["yaw_sin", "yaw_cos"]
        if not self._pixels:
            state += self.scene.object_names
        self.observation_spec = ObservationSpec(tuple(state), dict.fromkeys(self._cameras, (image_size, image_size)))
        self.expert_noise = expert_noise
        self._noise = np.zeros(3)
        self._pictures = Pictures(self.model)
        self._frozen: FrozenView | None = None
        self.reset("forward", np.random.default_rng(seed))

    # --- state ----------------------------------------------------------------------------------------------------

    def tool(self) -> Tool:
        return Tool(self.controller.tcp_m, self.controller.opening_m)

    def observe(self) -> Observation:
        """The newest observation, drawn now."""
        controller = self.controller
        parts = [controller.tcp_m, controller.tcp_velocity_m_s()]
        if self.scene.has_gripper:
            parts.append(np.array([controller.opening_m]))
        if "yaw" in self.scene.action_names:
            parts.append(np.array([np.sin(controller.yaw_rad), np.cos(controller.yaw_rad)]))
        if not self._pixels:
            parts.append(self.scene.object_state(self.data))
        observation: Observation = {"state": np.concatenate(parts).astype(np.float32)}
        for camera in self._cameras:
            observation[IMAGE_PREFIX + camera] = self._pictures.draw(self.data, camera, self._image_size, self._image_size)
        return observation

    def success(self) -> dict[str, bool]:
        """Phase -> ground truth of its goal."""
        return self.scene.success(self.data, self.tool())

    def object_lost(self) -> bool:
        return self.scene.lost(self.data)

    # --- motion ---------------------------------------------------------------------------------------------------

    def reset(self, phase: str, rng: np.random.Generator) -> None:
        """A random start state of `phase`: objects where the other direction ends, with variety; the arm anywhere."""
        if phase not in PHASES:
            raise ValueError(f"phase is {phase!r}, expected one of {PHASES}")
        mujoco.mj_resetData(self.model, self.data)
        self.scene.place(self.data, phase, rng)
        start = self.scene.tool_start_m(self.data, phase, rng)
        self.controller.place(start, 0.0, 2 * panda.MAX_FINGER_M if self.scene.has_gripper else 0.0)
        self._noise[:] = 0.0

    def step(self, action: np.ndarray) -> None:
        """Advance one control period under a normalised action."""
        displacement, yaw, opening = np.zeros(3), 0.0, 0.0
        for name, value, scale in zip(self.action_spec.names, np.clip(action, -1.0, 1.0), self.action_spec.scale, strict=True):
            if name == "gripper":
                opening = (float(value) + 1.0) * panda.MAX_FINGER_M
            elif name == "yaw":
                yaw = float(value) * scale
            else:
                displacement["xyz".index(name)] = float(value) * scale
        self.controller.step(displacement, yaw, opening)

    def hold(self) -> None:
        """Forget where the arm was commanded to go; no time passes."""
        self.controller.hold()

    def expert_action(self, phase: str, rng: np.random.Generator) -> np.ndarray:
        """The scripted expert's normalised action ``(d,)`` with correlated noise, for the current state."""
        intent: Intent = self.scene.expert(self.data, self.tool(), phase)
        self._noise = _NOISE_MEMORY * self._noise + np.sqrt(1 - _NOISE_MEMORY**2) * rng.normal(0.0, 1.0, 3)
        action = np.zeros(self.action_spec.dim, np.float32)
        for index, name in enumerate(self.action_spec.names):
            if name == "gripper":
                action[index] = 1.0 if intent.open_gripper else -1.0
            elif name in "xyz":
                axis = "xyz".index(name)
                action[index] = intent.displacement_m[axis] / STEP_M + intent.caution * self.expert_noise * self._noise[axis]
        return np.clip(action, -1.0, 1.0)

    # --- pictures -------------------------------------------------------------------------------------------------

    def render(self, camera: str, height: int, width: int) -> np.ndarray:
        """uint8 ``(height, width, 3)``. ``"front"`` and ``"wrist"`` are drawn as the policy sees them, ``"overview"`` shows the
        whole scene, ``"beauty"`` the same with textures and soft shadows (about half a second on a CPU).

        Raises:
            ConfigError: no such camera.
        """
        if camera not in ("front", "wrist", "overview", "beauty"):
            raise ConfigError(f"scene {self.scene.name!r} has no camera {camera!r}; it has front, wrist, overview and beauty")
        source = "beauty" if camera == "overview" else camera
        return self._pictures.draw(self.data, source, height, width, beauty=camera == "beauty")

    def freeze(self) -> "FrozenView":
        """The scene as it is now, for another thread to draw while this one goes on. The next call overwrites it."""
        if self._frozen is None:
            self._frozen = FrozenView(self.model)
        mujoco.mj_copyData(self._frozen.data, self.model, self.data)
        return self._frozen

    def close(self) -> None:
        self._pictures.close()


class FrozenView:
    """A copy of a scene's state with renderers of its own: drawing it never waits for, nor delays, the thread that simulates."""

    def __init__(self, model: mujoco.MjModel) -> None:
        self.data = mujoco.MjData(model)
        self._pictures = Pictures(model)

    def render(self, camera: str, height: int, width: int) -> np.ndarray:
        """As `Tabletop.render`; always in the same thread."""
        source = "beauty" if camera == "overview" else camera
        return self._pictures.draw(self.data, source, height, width, beauty=camera == "beauty")

    def close(self) -> None:
        """Free the renderers; in the thread that drew."""
        self._pictures.close()


# Three nearby lamps that cast shadows give soft edges in pictures for people; policy cameras draw no shadows.
_LIGHTS = "\n    ".join(
    f'<light directional="true" pos="{0.4 + x} {y} 2" dir="{-x} {-y} -2" diffuse="0.185 0.178 0.165" specular="0.12 0.12 0.12"/>'
    for x, y in ((0.58, -0.52), (0.67, -0.47), (0.64, -0.58))
)


def world_xml(scene: Scene, cluttered: bool = False) -> str:
    """The whole MJCF document: table, light, Panda and the scene's objects; `cluttered`: see `Tabletop`."""
    low, high = np.array(scene.table_min_m), np.array(scene.table_max_m)
    (x, y), (half_x, half_y) = (low + high) / 2, (high - low) / 2
    table = f'{half_x} {half_y} 0.02" pos="{x} {y} -0.02'
    pedestal = f'{half_x - 0.05} {half_y - 0.05} 0.33" pos="{x} {y} -0.38'
    return f"""
<mujoco model="{scene.name}">
  <compiler angle="radian" autolimits="true" balanceinertia="true"/>
  <option timestep="0.0025" integrator="implicitfast" iterations="20" ls_iterations="10"/>
  <size memory="8M"/>
  <visual>
    <headlight ambient="0.42 0.42 0.42" diffuse="0.26 0.26 0.26" specular="0.05 0.05 0.05"/>
    <map znear="0.01" zfar="8" shadowclip="2.5"/>
    <quality shadowsize="0"/>
    <global offwidth="960" offheight="960"/>
  </visual>
  <default>
    <geom solref="0.01 1"/>{panda.DEFAULTS}
  </default>
  <asset>
    <texture name="wood" type="2d" builtin="flat" rgb1="0.72 0.52 0.33" width="512" height="512"/>
    <texture name="sky" type="skybox" builtin="gradient" rgb1="0.86 0.89 0.93" rgb2="0.60 0.66 0.74" width="128" height="128"/>
    <material name="wood" texture="wood" texrepeat="1 1" specular="0.15" shininess="0.3"/>
    <material name="plain" rgba="0.80 0.77 0.72 1" specular="0" shininess="0"/>
    <material name="floor" rgba="0.62 0.65 0.69 1" specular="0.1" shininess="0.1" reflectance="0.05"/>
    <material name="steel" rgba="0.66 0.68 0.71 1" specular="0.7" shininess="0.7"/>
    <material name="dark" rgba="0.25 0.26 0.29 1" specular="0.2" shininess="0.3"/>
    <material name="green" rgba="0.16 0.68 0.32 1" specular="0.05" shininess="0.1"/>
    <material name="blue" rgba="0.15 0.42 0.90 1" specular="0.05" shininess="0.1"/>
    <material name="handle" rgba="0.86 0.20 0.16 1" specular="0.4" shininess="0.5"/>{panda.ASSETS}
    {scene.assets_xml()}{cloth_assets_xml() if cluttered else ""}
  </asset>
  <worldbody>
    {_LIGHTS}
    <geom name="table" type="box" size="{table}" material="plain" group="{POLICY_GROUP}" contype="2" conaffinity="3"/>
    <geom type="box" size="{table}" material="wood" group="{BEAUTY_GROUP}" contype="0" conaffinity="0"/>
    <geom type="box" size="{pedestal}" material="dark" group="{BEAUTY_GROUP}" contype="0" conaffinity="0"/>
    <geom type="plane" size="6 6 0.1" pos="0 0 -0.72" material="floor" group="{BEAUTY_GROUP}" contype="0" conaffinity="0"/>
    {scene.front.xml("front")}
    {scene.beauty.xml("beauty")}
    {panda.body()}
    {scene.world_xml()}{distractors_xml(POLICY_GROUP) if cluttered else ""}
  </worldbody>
  <actuator>
    {panda.actuators()}
  </actuator>
</mujoco>"""


def paint_wood(model: mujoco.MjModel) -> None:
    """Paint planks with grain into the ``wood`` texture, which MJCF can only declare as one colour."""
    texture = model.texture("wood")
    height, width = int(texture.height[0]), int(texture.width[0])
    rng = np.random.default_rng(7)
    rows, columns = np.mgrid[0:height, 0:width] / height
    plank = np.floor(rows * 6).astype(int)
    shift = rng.uniform(0, 10, 6)[plank]
    warp = 0.012 * np.sin(9 * columns + 3 * shift) + 0.006 * np.sin(23 * columns + shift)
    grain = 0.5 + 0.5 * np.sin(2 * np.pi * (rows + warp) * 55 + shift)
    fibres = np.repeat(rng.normal(0, 1, (height, width // 32)), 32, axis=1)
    brightness = 1.0 + 0.05 * (grain - 0.5) + 0.018 * fibres + rng.uniform(-0.06, 0.06, 6)[plank]
    brightness = np.where(np.abs(rows * 6 - np.round(rows * 6)) < 0.012, brightness * 0.72, brightness)
    colour = np.clip(brightness[..., None] * np.array([186, 146, 106]), 0, 255).astype(np.uint8)
    start = int(texture.adr[0])
    model.tex_data[start : start + colour.size] = colour.reshape(-1)
