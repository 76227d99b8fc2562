"""A world of one dot: it moves along a line, forward's goal is the right end, backward's the left; one small camera sees it."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from etude.config import DirectionConfig, RecipeConfig, RobotConfig, RunConfig, TaskConfig
from etude.episodes.store import EpisodeStore
from etude.specs import ActionSpec, Observation, ObservationSpec
from etude.step import UNKNOWN, Source, Step
from reward_classifiers.cnn_training import TrainingSettings

SIZE = 16
OBSERVATION = ObservationSpec(("x_m", "velocity_x_m_s"), {"top": (SIZE, SIZE)})
ACTION = ActionSpec(("x",), (0.1,))
GOALS = {"forward": lambda x: x > 0.8, "backward": lambda x: x < 0.2}
QUICK = TrainingSettings(members=2, updates=80, evaluate_every=20, batch_size=32)


def dot(x: float) -> Observation:
    image = np.full((SIZE, SIZE, 3), 40, np.uint8)
    column = round(x * (SIZE - 3))
    image[6:10, column : column + 3] = (250, 120, 30)
    return {"state": np.array([x, 0.0], np.float32), "image/top": image}


class Writer:
    """Appends whole segments of dot positions to a store."""

    def __init__(self, path: Path, metadata: dict[str, str] | None = None) -> None:
        self.store = EpisodeStore.create(path, OBSERVATION, ACTION, metadata)
        self._sequence = 0
        self._segment = 0

    def segment(
        self,
        phase: str,
        positions: list[float],
        *,
        terminal: bool,
        judged_by: str = "environment",
        truth: bool = True,
        wrongly: bool = False,
        said: float | None = None,
    ) -> None:
        """`wrongly`: the judge says the opposite of the truth about the last frame. `said`: its probability there, 0.1 before."""
        self._segment += 1
        for index, x in enumerate(positions):
            self._sequence += 1
            last = index == len(positions) - 1
            success = int(GOALS[phase](x))
            self.store.append(
                Step(
                    actor_id="dot",
                    sequence=self._sequence,
                    segment=self._segment,
                    index=index,
                    stamp_ns=self._sequence * 100_000_000,
                    phase=phase,
                    task="dot",
                    instruction="move the dot",
                    observation=dot(x),
                    action=ACTION.zeros(),
                    policy_action=ACTION.zeros(),
                    reward=0.0,
                    is_first=index == 0,
                    is_last=last,
                    is_terminal=last and terminal,
                    source=Source.SCRIPTED,
                    policy_version=0,
                    success=1 - success if wrongly and last else success,
                    success_truth=success if truth else UNKNOWN,
                    judged_by=judged_by,
                    success_probability=float("nan") if said is None else said if last else 0.1,
                )
            )

    def demonstrations(self, count: int, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        for _ in range(count):
            self.segment("forward", list(np.linspace(rng.uniform(0.0, 0.3), rng.uniform(0.83, 0.9), 14)), terminal=True)
            self.segment("backward", list(np.linspace(rng.uniform(0.7, 1.0), rng.uniform(0.1, 0.17), 14)), terminal=True)

    def play(self, count: int, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        for _ in range(count):
            for phase in GOALS:
                self.segment(phase, list(rng.uniform(0.0, 1.0, 20)), terminal=False, judged_by="human")

    def done(self) -> EpisodeStore:
        self.store.flush()
        return self.store


def dot_config() -> RunConfig:
    direction = DirectionConfig(instruction="move the dot")
    return RunConfig(
        task=TaskConfig(name="dot", forward=direction, backward=direction, cameras=("top",), image_size_px=SIZE),
        robot=RobotConfig(name="dot"),
        recipe=RecipeConfig(name="test"),
    )
