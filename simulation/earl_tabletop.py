"""EARL's tabletop manipulation task as a Gymnasium environment: a gripper carries a mug to one of four places, and back.

Sharma et al., Autonomous Reinforcement Learning: Formalism and Benchmarking (ICLR 2022), appendix A. The original moves bodies
by setting positions and never takes a physics step, so that arithmetic alone reproduces it: its test replays the official
demonstrations. Separate from the MuJoCo scenes, with which it shares nothing.

Importing this module registers ``EarlTabletop-v0``; ``gymnasium.make("simulation.earl_tabletop:EarlTabletop-v0")`` does both.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import cv2
import gymnasium
import numpy as np

from etude.specs import PHASES

Point = tuple[float, float]

STEP = 0.2
"""Displacement of an action of 1, in units of the table."""
BOUND = 2.8
"""Gripper and mug stay within ± this; the table ends here in PAINT's variant without walls, whose bound is 3.8."""
GRASP_DISTANCE = 0.4
SUCCESS_DISTANCE = 0.2
HOME: Point = (0.0, 0.0)
"""Where the gripper starts, and where every goal wants it to end."""
START: Point = (2.5, 0.0)
"""Where the mug starts: the goal of the backward direction."""
GOALS: tuple[Point, ...] = ((-2.5, -1.0), (-2.5, 1.0), (0.0, 2.0), (0.0, -2.0))
"""Places of the mug, the goals of the forward direction."""
TRAIN_HORIZON = 200_000
"""Steps between two resets in the benchmark's deployed setting; the registered time limit."""

_REACHED = 0.2
"""The expert closes the gripper from here on."""
_PLACED = 0.08
"""The expert lets the mug go when it is so near; leaves 0.18 of the success distance to the gripper."""


class Scene(NamedTuple):
    """Everything that moves: positions of gripper and mug, and whether the mug is held."""

    gripper: Point = HOME
    mug: Point = START
    held: bool = False


def advance(scene: Scene, action: np.ndarray, bound: float = BOUND) -> Scene:
    """The scene one control step after `action`, (dx, dy, grip) each in [-1, 1] (clipped beyond).

    A grip above 0 holds a mug that is nearer than `GRASP_DISTANCE` before the move; a held mug moves with the gripper. A mug that
    is `stuck` is not to be had any more.
    """
    dx, dy, grip = (STEP * min(max(float(value), -1.0), 1.0) for value in action)
    near = math.dist(scene.gripper, scene.mug) < GRASP_DISTANCE and not stuck(scene)
    held = grip > 0 and (scene.held or near)
    gripper = _clip(scene.gripper, dx, dy, bound)
    mug = scene.mug
    if held:
        mug = _clip(mug, gripper[0] - scene.gripper[0], gripper[1] - scene.gripper[1], bound)
    return Scene(gripper, mug, held)


def stuck(scene: Scene) -> bool:
    """True when the mug was let go beyond the edge of the table: only a person gets it back (PAINT, Xie et al. 2022)."""
    return not scene.held and max(map(abs, scene.mug)) > BOUND


def reached(scene: Scene, goal: Point) -> bool:
    """True when the mug is at `goal` and the gripper at `HOME`: the four coordinates together within `SUCCESS_DISTANCE`."""
    return math.dist((*scene.gripper, *scene.mug), (*HOME, *goal)) <= SUCCESS_DISTANCE


def goal_vector(goal: Point) -> np.ndarray:
    """What the observation shows ``(6,)`` when the mug belongs at `goal`: the state to be reached, the gripper at `HOME`."""
    return np.array((*HOME, *goal, -1.0, -1.0), np.float32)


def with_goal_vector(observations: np.ndarray, goal: np.ndarray) -> np.ndarray:
    """Observations ``(..., 12)`` that show the goal ``(6,)``, everything else as it is."""
    shown = np.array(observations, np.float32)
    shown[..., 6:] = goal
    return shown


def reaches(observations: np.ndarray, goal: np.ndarray) -> np.ndarray:
    """Whether gripper and mug of observations ``(..., 12)`` are where the goal ``(6,)`` wants them: `reached` on arrays."""
    return np.linalg.norm(observations[..., :4] - goal[:4], axis=-1) <= SUCCESS_DISTANCE


def stuck_states(count: int, bound: float, rng: np.random.Generator) -> np.ndarray:
    """Observations ``(count, 12)`` with the mug over the edge of the table, gripper and goal anywhere. PAINT's classifier begins
    with 1,000 of them (Xie et al. 2022, release): one that never saw any cannot ask."""
    mug = rng.uniform(-bound, bound, (count, 2))
    over = rng.integers(2, size=count)
    mug[np.arange(count), over] = rng.choice([-1.0, 1.0], count) * rng.uniform(np.nextafter(BOUND, bound), bound, count)
    goals = np.array([goal_vector(goal) for goal in (*GOALS, START)])[rng.integers(len(GOALS) + 1, size=count)]
    return np.hstack([rng.uniform(-bound, bound, (count, 2)), mug, np.full((count, 2), -1.0), goals]).astype(np.float32)


def free_states(count: int, bound: float, rng: np.random.Generator) -> np.ndarray:
    """Observations ``(count, 12)`` of what can be undone: the mug anywhere on the table, or, in half of them, in the gripper
    anywhere. The gripper is anywhere."""
    gripper, mug = rng.uniform(-bound, bound, (count, 2)), rng.uniform(-BOUND, BOUND, (count, 2))
    held = np.arange(count) % 2 == 0
    mug[held] = np.clip(gripper[held] + rng.uniform(-GRASP_DISTANCE, GRASP_DISTANCE, (int(held.sum()), 2)), -bound, bound)
    grip = np.where(held, 0.0, -1.0)[:, None] * np.ones((1, 2))
    goals = np.array([goal_vector(goal) for goal in (*GOALS, START)])[rng.integers(len(GOALS) + 1, size=count)]
    return np.hstack([gripper, mug, grip, goals]).astype(np.float32)


def expert(scene: Scene, goal: Point) -> np.ndarray:
    """A scripted action ``(3,)``, float32: reach the mug, carry it to `goal`, let it go, return to `HOME` and stay."""
    if math.dist(scene.mug, goal) <= _PLACED:
        return _towards(scene.gripper, HOME, grip=-1.0)
    if scene.held or math.dist(scene.gripper, scene.mug) < _REACHED:
        return _towards(scene.mug, goal, grip=1.0)
    return _towards(scene.gripper, scene.mug, grip=-1.0)


class EarlTabletop(gymnasium.Env):
    """The benchmark's environment: sparse reward 1 at the goal, else 0; success does not end an episode.

    Observation, float32 ``(12,)``: gripper xy, mug xy, (0, 0) when the mug is held and (-1, -1) when not, then the goal in the
    same layout. Action, float32 ``(3,)``: dx, dy, grip.

    There are two directions: ``forward`` takes the mug to one of `GOALS`, ``backward`` takes it back to `START`. `info` has
    ``success`` (of the goal that is shown, as rewarded), ``success_forward`` and ``success_backward``, and ``stuck``.

    Args:
        render_mode: ``rgb_array`` or None.
        bound: half the side of what gripper and mug can reach; beyond `BOUND` there is no table (PAINT's variant without walls).
        image_size: side of the picture in pixels.
        backward_shows: ``start``: backward attempts show `START` as their goal (forward-backward RL). ``next_goal``: they show
            the goal of the forward attempt that follows (MEDAL's release).
        goal_change_steps: the forward goal changes after so many steps and at no other time (the benchmark's continuing setting);
            None: with every forward attempt.

    Raises:
        ValueError: a mode of rendering or of showing goals that there is not.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 10}  # noqa: RUF012

    def __init__(
        self,
        render_mode: str | None = None,
        bound: float = BOUND,
        image_size: int = 480,
        backward_shows: str = "start",
        goal_change_steps: int | None = None,
    ) -> None:
        if render_mode not in (None, "rgb_array"):
            raise ValueError(f"render_mode is {render_mode!r}, expected 'rgb_array' or None")
        if backward_shows not in ("start", "next_goal"):
            raise ValueError(f"backward_shows is {backward_shows!r}, expected 'start' or 'next_goal'")
        self.render_mode = render_mode
        self.bound = bound
        self.backward_shows = backward_shows
        self.goal_change_steps = goal_change_steps
        self._steps_with_goal = 0
        self.observation_space = gymnasium.spaces.Box(-bound, bound, (12,), np.float32)
        self.action_space = gymnasium.spaces.Box(-1.0, 1.0, (3,), np.float32)
        self.scene = Scene()
        self.phase = "forward"
        self.goal = GOALS[0]  # of the forward direction, also while the other one is shown
        self._practised_state: np.ndarray | None = None
        self._picture = _Picture(bound, image_size)

    @property
    def shown_goal(self) -> Point:
        """Where the mug belongs in the direction that is practised: what the observation says and the reward counts."""
        return self.goal if self.phase == "forward" or self.backward_shows == "next_goal" else START

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict[str, Any]]:
        """Begin an episode: gripper at `HOME`, mug at `START`, a random goal.

        Args:
            options: ``phase``: ``backward`` begins where the forward direction ends, mug at the goal. ``goal``: index in `GOALS`
                instead of a random one. ``wide_start``: True draws gripper and mug anywhere on the table (not the benchmark's).

        Raises:
            ValueError: no such phase or goal.
        """
        super().reset(seed=seed)
        chosen = dict(options or {})
        self.phase = _known_phase(chosen.get("phase", "forward"))
        self._practised_state = None
        index = int(chosen.get("goal", self.np_random.integers(len(GOALS))))
        if not 0 <= index < len(GOALS):
            raise ValueError(f"goal is {index}, expected 0 to {len(GOALS) - 1}")
        self.goal = GOALS[index]
        self._steps_with_goal = 0
        self.scene = Scene(mug=START if self.phase == "forward" else self.goal)
        if chosen.get("wide_start", False):
            gripper_x, gripper_y, mug_x, mug_y = self.np_random.uniform(-self.bound, self.bound, 4).tolist()
            self.scene = Scene((gripper_x, gripper_y), (mug_x, mug_y))
        return self._observe(), self._info()

    def begin_phase(self, phase: str, rng: np.random.Generator) -> tuple[np.ndarray, dict[str, Any]]:
        """Change the direction without a reset: forward draws a new goal, backward shows `START` as the goal (but see the class).

        Returns observation and info of the scene, in which nothing moves.
        """
        before, self.phase = self.phase, _known_phase(phase)
        self._practised_state = None
        # a goal that was shown ahead stays
        draws = phase == "backward" if self.backward_shows == "next_goal" and before != phase else phase == "forward"
        if draws and self.goal_change_steps is None:
            self.goal = GOALS[int(rng.integers(len(GOALS)))]
        return self._observe(), self._info()

    def show_state(self, goal: np.ndarray | None) -> tuple[np.ndarray, dict[str, Any]]:
        """The state ``(6,)`` is what is to be reached, and both directions succeed there (VaPRL); None: the task's goal again.

        Returns observation and info of the scene, in which nothing moves.
        """
        self._practised_state = goal
        return self._observe(), self._info()

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """One control step. Never terminates and never truncates by itself (the registered time limit does)."""
        self.scene = advance(self.scene, action, self.bound)
        info = self._info()
        self._steps_with_goal += 1
        if self._steps_with_goal == self.goal_change_steps:
            self.goal = GOALS[int(self.np_random.integers(len(GOALS)))]
            self._steps_with_goal = 0
        return self._observe(), float(info["success"]), False, False, info

    def expert_action(self, phase: str, rng: np.random.Generator) -> np.ndarray:
        """The scripted expert's action ``(3,)`` in `phase`, without noise. `rng` is for experts that draw; this one does not."""
        return expert(self.scene, self.goal if _known_phase(phase) == "forward" else START)

    def render(self) -> np.ndarray | None:
        """uint8 ``(image_size, image_size, 3)``: the table from above, y upwards; None without a render mode."""
        return self._picture.draw(self.scene, self.shown_goal) if self.render_mode == "rgb_array" else None

    def _observe(self) -> np.ndarray:
        held = (0.0, 0.0) if self.scene.held else (-1.0, -1.0)
        goal = goal_vector(self.shown_goal) if self._practised_state is None else self._practised_state
        return np.array((*self.scene.gripper, *self.scene.mug, *held, *goal), np.float32)

    def _info(self) -> dict[str, Any]:
        forward, backward = reached(self.scene, self.goal), reached(self.scene, START)
        if self._practised_state is not None:
            forward = backward = bool(reaches(np.array((*self.scene.gripper, *self.scene.mug)), self._practised_state))
        success = forward if self.phase == "forward" else backward
        return {"success": success, "success_forward": forward, "success_backward": backward, "stuck": stuck(self.scene)}


def _known_phase(phase: str) -> str:
    if phase not in PHASES:
        raise ValueError(f"phase is {phase!r}, expected one of {PHASES}")
    return phase


def _clip(point: Point, dx: float, dy: float, bound: float) -> Point:
    return min(max(point[0] + dx, -bound), bound), min(max(point[1] + dy, -bound), bound)


def _towards(current: Point, target: Point, grip: float) -> np.ndarray:
    move = [min(max((b - a) / STEP, -1.0), 1.0) for a, b in zip(current, target, strict=True)]
    return np.array([*move, grip], np.float32)


# --- pictures -------------------------------------------------------------------------------------------------------

_WOOD, _EDGE, _SHADOW = (214, 181, 140), (122, 84, 52), (60, 40, 25)
_GOAL, _HOME_MARK, _COASTER = (46, 139, 87), (92, 110, 140), (150, 116, 82)
_CUP, _CUP_SIDE, _COFFEE = (240, 240, 236), (196, 60, 52), (92, 56, 34)
_METAL, _METAL_DARK = (84, 96, 112), (48, 56, 68)
_MARGIN = 0.45
"""Rim of the table beyond the reach of the gripper."""
_OVERSAMPLING = 2
_SHIFT = 4
"""Bits of sub-pixel precision in drawing coordinates."""


class _Picture:
    """Draws scenes from above, twice as large and averaged down; the table is drawn once."""

    def __init__(self, bound: float, size: int) -> None:
        self._size = size
        self._side = size * _OVERSAMPLING
        self._extent = bound + _MARGIN
        self._scale = self._side / (2 * self._extent)
        self._table: np.ndarray | None = None

    def draw(self, scene: Scene, goal: Point) -> np.ndarray:
        if self._table is None:
            self._table = self._draw_table()
        image = self._table.copy()
        self._tint(image, goal, 0.42, _GOAL, 0.30)
        self._ring(image, goal, 0.42, _GOAL, 0.05)
        self._tint(image, (scene.mug[0] + 0.06, scene.mug[1] - 0.08), 0.3, _SHADOW, 0.35)
        self._mug(image, scene.mug)
        self._tint(image, (scene.gripper[0] + 0.1, scene.gripper[1] - 0.13), 0.3, _SHADOW, 0.25)
        self._gripper(image, scene.gripper, scene.held)
        return cv2.resize(image, (self._size, self._size), interpolation=cv2.INTER_AREA)

    def _draw_table(self) -> np.ndarray:
        # boards with a little grain; fixed seed, so that every picture has the same table
        rng = np.random.default_rng(5)
        boards = np.repeat(rng.normal(0.0, 5.0, 7), -(-self._side // 7))[: self._side]
        grain = cv2.GaussianBlur(rng.normal(0.0, 40.0, (self._side, self._side)).astype(np.float32), (0, 0), 14.0, sigmaY=0.8)
        wood = np.asarray(_WOOD, np.float32) + (boards[:, None] + grain)[..., None]
        image = np.clip(wood, 0, 255).astype(np.uint8)
        inset = round(0.12 * self._scale)
        corner = self._side - inset
        cv2.rectangle(image, (inset // 2, inset // 2), (corner + inset // 2, corner + inset // 2), _EDGE, inset)
        self._ring(image, START, 0.36, _COASTER, 0.04)
        for dx, dy in ((0.16, 0.0), (0.0, 0.16)):
            self._line(image, (HOME[0] - dx, HOME[1] - dy), (HOME[0] + dx, HOME[1] + dy), _HOME_MARK, 0.04)
        self._ring(image, HOME, 0.24, _HOME_MARK, 0.03)
        return image

    def _mug(self, image: np.ndarray, at: Point) -> None:
        self._ring(image, (at[0] + 0.27, at[1]), 0.11, _CUP_SIDE, 0.06)  # the handle
        self._disc(image, at, 0.26, _CUP_SIDE)
        self._disc(image, at, 0.225, _CUP)
        self._disc(image, at, 0.175, _COFFEE)

    def _gripper(self, image: np.ndarray, at: Point, held: bool) -> None:
        opening = 0.2 if held else 0.34
        self._line(image, (at[0] - opening, at[1]), (at[0] + opening, at[1]), _METAL_DARK, 0.11)
        for side in (-opening, opening):
            self._line(image, (at[0] + side, at[1] - 0.16), (at[0] + side, at[1] + 0.16), _METAL_DARK, 0.13)
            self._line(image, (at[0] + side, at[1] - 0.15), (at[0] + side, at[1] + 0.15), _METAL, 0.08)
        self._disc(image, at, 0.12, _METAL_DARK)
        self._disc(image, at, 0.085, _METAL)
        self._disc(image, at, 0.04, _GOAL if held else _CUP_SIDE)

    def _disc(self, image: np.ndarray, at: Point, radius: float, colour: tuple[int, int, int]) -> None:
        cv2.circle(image, self._pixel(at), self._length(radius), colour, -1, cv2.LINE_AA, _SHIFT)

    def _ring(self, image: np.ndarray, at: Point, radius: float, colour: tuple[int, int, int], width: float) -> None:
        cv2.circle(image, self._pixel(at), self._length(radius), colour, self._thickness(width), cv2.LINE_AA, _SHIFT)

    def _line(self, image: np.ndarray, start: Point, end: Point, colour: tuple[int, int, int], width: float) -> None:
        cv2.line(image, self._pixel(start), self._pixel(end), colour, self._thickness(width), cv2.LINE_AA, _SHIFT)

    def _tint(self, image: np.ndarray, at: Point, radius: float, colour: tuple[int, int, int], opacity: float) -> None:
        """A translucent disc; blends only the square around it."""
        reach = radius + 0.05
        left, top = (value >> _SHIFT for value in self._pixel((at[0] - reach, at[1] + reach)))
        side = math.ceil(2 * reach * self._scale)
        rows, columns = slice(max(top, 0), max(top + side, 0)), slice(max(left, 0), max(left + side, 0))
        before = image[rows, columns].copy()
        self._disc(image, at, radius, colour)
        image[rows, columns] = cv2.addWeighted(image[rows, columns], opacity, before, 1 - opacity, 0)

    def _pixel(self, at: Point) -> tuple[int, int]:
        fixed = self._scale * (1 << _SHIFT)
        return round((at[0] + self._extent) * fixed), round((self._extent - at[1]) * fixed)

    def _length(self, length: float) -> int:
        return round(length * self._scale * (1 << _SHIFT))

    def _thickness(self, width: float) -> int:
        return max(1, round(width * self._scale))


gymnasium.register("EarlTabletop-v0", entry_point="simulation.earl_tabletop:EarlTabletop", max_episode_steps=TRAIN_HORIZON)
