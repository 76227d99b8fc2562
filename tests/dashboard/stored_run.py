"""A small stored run for the tests of the page: six attempts of an actor with one camera, the second partly by a person."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from etude.episodes.store import EpisodeStore
from etude.specs import ActionSpec, ObservationSpec
from etude.step import Source, Step

ACTOR = "robot-1"
ATTEMPTS, STEPS = 6, 5
OBSERVATION = ObservationSpec(("x_m",), {"front": (16, 16)})
ACTION = ActionSpec(("x",), (0.03,))
BEGAN_NS = 1_750_000_000 * 10**9


def steps_of(segment: int, first_sequence: int) -> list[Step]:
    """`STEPS` actions and the last observation; the picture's brightness is 40 times the step's number."""
    made = []
    for index in range(STEPS + 1):
        last = index == STEPS
        human = segment == 2 and index in (2, 3)
        made.append(
            Step(
                actor_id=ACTOR,
                sequence=first_sequence + index,
                segment=segment,
                index=index,
                stamp_ns=BEGAN_NS + (segment * 100 + index) * 10**8,
                phase="forward" if segment % 2 else "backward",
                task="slide",
                instruction="slide the knob",
                observation={"state": np.zeros(1, np.float32), "image/front": np.full((16, 16, 3), 40 * index, np.uint8)},
                action=np.zeros(1, np.float32),
                policy_action=np.zeros(1, np.float32),
                reward=float(last and segment > 3),
                is_first=index == 0,
                is_last=last,
                is_terminal=False,
                source=Source.HUMAN if human else Source.POLICY,
                policy_version=segment,
                success=(1 if segment > 3 else 0) if last else -1,
                success_probability=0.9 if last else 0.1,
                success_truth=(1 if segment != 4 and segment > 3 else 0) if last else -1,
                judged_by="cnn-1" if last else "",
            )
        )
    return made


def make_store(path: Path) -> EpisodeStore:
    store = EpisodeStore.create(path, OBSERVATION, ACTION, {"kind": "test"})
    sequence = 1
    for segment in range(1, ATTEMPTS + 1):
        for step in steps_of(segment, sequence):
            store.append(step)
        sequence += STEPS + 1
    store.flush()
    return store
