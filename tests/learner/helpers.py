"""Small specs, steps and batches for the learner's tests."""

from __future__ import annotations

import numpy as np

from etude.config import RecipeConfig
from etude.specs import ActionSpec, ObservationSpec
from etude.step import Source, Step

OBSERVATION = ObservationSpec(("tcp_x_m", "tcp_y_m"), {"front": (16, 16)})
STATE_ONLY = ObservationSpec(("tcp_x_m", "tcp_y_m"))
ACTION = ActionSpec(("x", "y"), (0.03, 0.03))


def small_recipe(**changes: object) -> RecipeConfig:
    """Tiny networks. Keywords name an axis (``critic``, ``data``, …) and are mappings of its settings."""
    base: dict[str, dict] = {
        "critic": {"hidden": (16,), "cql_samples": 3},
        "policy": {"hidden": (16,), "width": 16, "blocks": 1, "bins": 16, "heads": 2},
        "improvement": {"candidates": 4, "keep": 2, "ascent_steps": 2},
        "reward": {"kind": "environment"},
        "reset": {},
        "data": {"batch_size": 8, "pretrain_bc_steps": 20, "min_online_steps": 10, "utd": 1.0, "replay_capacity_steps": 1000},
        "encoder": {"features": 8},
    }
    return RecipeConfig.model_validate({"name": "test"} | {axis: base[axis] | changes.get(axis, {}) for axis in base})  # type: ignore[operator]


def segment(
    rng: np.random.Generator,
    spec: ObservationSpec,
    length: int,
    phase: str = "forward",
    actor: str = "a",
    number: int = 1,
    first_sequence: int = 1,
    terminal: bool = True,
) -> list[Step]:
    """`length` steps, the last one observation only; reward 1 on the last transition when `terminal`."""
    steps = []
    for i in range(length):
        last = i == length - 1
        observation = {"state": rng.normal(size=spec.state_dim).astype(np.float32)}
        for name, (height, width) in spec.cameras.items():
            observation[f"image/{name}"] = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
        action = np.zeros(2, np.float32) if last else rng.uniform(-1, 1, 2).astype(np.float32)
        steps.append(
            Step(
                actor_id=actor,
                sequence=first_sequence + i,
                segment=number,
                index=i,
                stamp_ns=i,
                phase=phase,
                task="test",
                instruction="go",
                observation=observation,
                action=action,
                policy_action=action,
                reward=1.0 if terminal and i == length - 2 else 0.0,
                is_first=i == 0,
                is_last=last,
                is_terminal=last and terminal,
                source=Source.POLICY,
                policy_version=1,
                success=int(last and terminal),
            )
        )
    return steps


def random_batch(rng: np.random.Generator, spec: ObservationSpec, rows: int, lead: tuple[int, ...] = (2,)) -> dict:
    """A batch with leaves ``(*lead, rows, …)``."""
    shape = (*lead, rows)

    def observation() -> dict:
        return {
            name: (
                rng.integers(0, 256, (*shape, *s), dtype=np.uint8) if d == "uint8" else rng.normal(size=(*shape, *s)).astype(d)
            )
            for name, (s, d) in spec.shapes().items()
        }

    return {
        "observation": observation(),
        "next_observation": observation(),
        "action": rng.uniform(-1, 1, (*shape, 2)).astype(np.float32),
        "reward": rng.integers(0, 2, shape).astype(np.float32),
        "terminal": rng.integers(0, 2, shape).astype(np.float32),
        "discount": np.full(shape, 0.96, np.float32),
        "demonstration": np.ones(shape, np.float32),
        "monte_carlo_return": np.zeros(shape, np.float32),
        "weight": np.ones(shape, np.float32),
    }
