"""What a small run stores and measures, for the tests of everything that exports it: two cameras, three attempts."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from etude.episodes.store import EpisodeStore
from etude.run_folder import RunFolder
from etude.specs import ActionSpec, ObservationSpec
from etude.step import UNKNOWN, Source, Step

OBSERVATION = ObservationSpec(("tcp_x_m", "tcp_z_m"), {"front": (16, 12), "wrist.left": (8, 8)})
ACTION = ActionSpec(("x", "gripper"), (0.03, 1.0))
START_NS = 1_795_000_000_123_456_789
PERIOD_NS = 100_000_000


def attempt(number: int, first: int, length: int, phase: str = "forward") -> list[Step]:
    """Steps that follow from their sequence number. A person acts in step 1 of attempt 2 and says what he does."""
    steps = []
    for index in range(length):
        sequence, last = first + index, index == length - 1
        by_hand = number == 2 and index == 1
        ramp = np.linspace(0, 200, 16 * 12 * 3).reshape(16, 12, 3) + sequence
        steps.append(
            Step(
                actor_id="robot-1",
                sequence=sequence,
                segment=number,
                index=index,
                stamp_ns=START_NS + PERIOD_NS * sequence,
                phase=phase,
                task="slide",
                instruction="a bit to the left" if by_hand else f"slide it {phase}",
                observation={
                    "state": np.array([sequence, -sequence], np.float32),
                    "image/front": ramp.astype(np.uint8),
                    "image/wrist.left": np.full((8, 8, 3), sequence, np.uint8),
                },
                action=np.zeros(2, np.float32) if last else np.array([0.01 * sequence, 1.0], np.float32),
                policy_action=np.zeros(2, np.float32) if last else np.array([-0.01 * sequence, 1.0], np.float32),
                reward=0.0 if last else 0.5,
                is_first=index == 0,
                is_last=last,
                is_terminal=last and number == 1,
                source=Source.HUMAN if by_hand else Source.POLICY,
                policy_version=1,
                success=int(number == 1) if last else UNKNOWN,
                success_probability=0.25 if index else float("nan"),
                success_truth=0,
                judged_by="cnn:1234" if index else "",
            )
        )
    return steps


def write_attempts(folder: RunFolder) -> None:
    with EpisodeStore.create(folder.episodes, OBSERVATION, ACTION, {"task": "slide"}) as store:
        for step in [*attempt(1, 1, 4), *attempt(2, 5, 5, "backward"), *attempt(3, 10, 3)]:
            store.append(step)


def lines(path: Path, *rows: dict) -> None:
    with path.open("a", encoding="utf-8") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)
