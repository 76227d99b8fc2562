"""A robot that is a point on a line: fast, exact, and with every trouble a test may want (stale readings, faults, a lost object).

Forward is done at x >= 0.8, backward at x <= -0.8; an action of 1 moves by 0.2 m. The image shows the point as a bright column.
"""

from __future__ import annotations

import time

import numpy as np

from etude.config import RunConfig, build
from etude.robot import Reading
from etude.specs import ActionSpec, ObservationSpec

STEP_M = 0.2
GOAL_M = 0.8


class PointRobot:
    """`advances_on_act` can be switched off to stand for a real arm, whose readings grow stale."""

    def __init__(self, pixels: bool = False, advances_on_act: bool = True, rate_hz: float = 10.0) -> None:
        self.observation_spec = ObservationSpec(("x_m", "goal_m"), {"front": (8, 8)} if pixels else {})
        self.action_spec = ActionSpec(("x", "gripper"), (STEP_M, 1.0))
        self.control_rate_hz = rate_hz
        self.advances_on_act = advances_on_act
        self.pixels = pixels
        self.x_m = -1.0
        self.age_s = 0.0
        self.faults: tuple[str, ...] = ()
        self.lost = False
        self.both_met = False
        self.noise_m = 0.0
        self.episode_ends_at_m = float("inf")
        self.over = False
        self.actions: list[np.ndarray] = []
        self.action_times_s: list[float] = []
        self.holds = 0
        self.resets: list[str] = []
        self.can_reset = True
        self.render_s = 0.0

    def read(self) -> Reading:
        observation = {"state": np.array([self.x_m + self.noise_m, GOAL_M], np.float32)}
        if self.pixels:
            image = np.zeros((8, 8, 3), np.uint8)
            image[:, int(np.clip((self.x_m + 1.2) / 2.4, 0, 0.999) * 8)] = 255
            observation["image/front"] = image
        truth = {"forward": self.both_met or self.x_m >= GOAL_M, "backward": self.both_met or self.x_m <= -GOAL_M}
        place = np.array([self.x_m, 0.0, 0.0])
        return Reading(observation, time.monotonic() - self.age_s, place, self.faults, truth, self.lost, self.over)

    def act(self, action: np.ndarray) -> None:
        self.action_spec.check(action)
        self.actions.append(action)
        self.action_times_s.append(time.monotonic())
        self.x_m += 0.0 if self.over else float(action[0]) * STEP_M
        self.over = self.over or self.x_m >= self.episode_ends_at_m

    def hold(self) -> None:
        self.holds += 1

    def expert_action(self, phase: str, rng: np.random.Generator) -> np.ndarray:
        direction = 1.0 if phase == "forward" else -1.0
        return np.clip([direction + 0.2 * rng.normal(), 1.0], -1, 1).astype(np.float32)

    def begin_phase(self, phase: str, rng: np.random.Generator) -> bool:
        """The goals are not in the observation."""
        return False

    def hard_reset(self, phase: str, rng: np.random.Generator) -> None:
        if not self.can_reset:
            raise NotImplementedError
        self.resets.append(phase)
        self.lost = self.over = False
        self.x_m = float(rng.uniform(-1.1, -0.9) if phase == "forward" else rng.uniform(0.9, 1.1))

    def render(self, camera: str, height: int, width: int) -> np.ndarray:
        time.sleep(self.render_s)
        return np.full((height, width, 3), 7, np.uint8)

    def close(self) -> None:
        pass


class PointPolicy:
    """Walks towards the goal of the phase at `speed` (1 reaches it, 0 times out, anything else may be returned for mischief)."""

    def __init__(self, speed: float = 1.0) -> None:
        self.speed = speed
        self.ready = True
        self.version = 3
        self.weight_age_s = 0.5
        self.irreversible = float("nan")
        self.delay_s = 0.001
        self.explored: list[bool] = []
        self.begun = 0

    def begin(self) -> None:
        self.begun += 1

    def prepare(self, observation, phase: str) -> bool:
        return True

    def act(self, observation, phase: str, explore: bool) -> np.ndarray:
        self.explored.append(explore)
        time.sleep(self.delay_s)
        return np.array([self.speed if phase == "forward" else -self.speed, 1.0], np.float32)


class PixelJudge:
    """Says 0.9 when the bright column is at the goal's end of the image; `lies` frames in between are called success."""

    name = "cnn:test"

    def __init__(self) -> None:
        self.lies: set[int] = set()
        self.calls = self.forgotten = 0

    def probability(self, observation, phase: str) -> float:
        self.calls += 1
        column = int(np.argmax(observation["image/front"][0, :, 0]))
        met = column >= 6 if phase == "forward" else column <= 1
        return 0.9 if met or self.calls in self.lies else 0.1

    def doubt(self, observation, phase: str) -> float:
        return 0.0

    def threshold(self, phase: str) -> float:
        return 0.5

    def forget(self) -> None:
        self.forgotten += 1


def point_config(**changes) -> RunConfig:
    """A run on the point robot. `changes` are ``section__key`` keyword arguments, e.g. ``reward__step=-1.0``."""
    data: dict = {
        "task": {
            "name": "point",
            "forward": {"instruction": "go right", "max_steps": 12},
            "backward": {"instruction": "go left", "max_steps": 12},
            "cameras": [],
        },
        "robot": {"name": "point", "pace": "free", "control_rate_hz": 50.0, "safety": {"max_translation_per_step_m": STEP_M}},
        "recipe": {"name": "test", "reward": {"kind": "environment"}, "reset": {}, "help": {}, "encoder": {}},
        "observation": "state",
        "evaluation": {"interval_episodes": 0},
    }
    sections = {
        "task": data["task"],
        "robot": data["robot"],
        "reward": data["recipe"]["reward"],
        "reset": data["recipe"]["reset"],
        "help": data["recipe"]["help"],
        "encoder": data["recipe"]["encoder"],
        "evaluation": data["evaluation"],
        "run": data,
    }
    for name, value in changes.items():
        section, key = name.split("__")
        sections[section][key] = value
    return build(RunConfig, data, "test")
