"""Practice on `relocate` in MuJoCo without ROS, by ways to ask for help: what `benchmarks.interventions` compares on a robot arm.

The sibling of `benchmarks.earl`; a block that goes over the edge of the small table is lost, and only a person brings it back.
`python -m benchmarks.relocate METHOD SEED STEPS FILE` writes one row; `tools/prove_autonomy.py --suite paint-relocate` makes all.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.interventions import RELOCATE
from etude.config import RunConfig, load_run_config

TASK, ROBOT, RECIPE = "relocate", "sim_panda_fast", "etude_earl"
BASE: tuple[str, ...] = ()
"""What all methods change of the recipe and the task."""
METHODS: dict[str, tuple[str, ...]] = {
    "relocate_paint": (),
    "relocate_timeouts": ("recipe.help.lost_is_told=false",),
    "relocate_every_1000": ("recipe.help.kind=scheduled", "recipe.help.horizon_steps=1000"),
    "relocate_told": (),
}
EVALUATE_EVERY, EPISODES = 500, 20
DEMONSTRATION_SEED = 0
"""All seeds learn from the same demonstrations."""
KNOWN_STUCK = 1_000
"""Stuck states that PAINT begins with, as on EARL's tabletop in its release."""
BELOW_M = 0.1
"""A block that falls is soon further than this below the table, where the learner's features end (5 standard deviations)."""

Row = dict[str, Any]


def configuration(method: str, seed: int, overrides: Sequence[str] = ()) -> RunConfig:
    """The run of one seed. Raises KeyError without such a method."""
    source = {"task": TASK, "robot": ROBOT, "recipe": RECIPE, "observation": "state", "seed": seed}
    return load_run_config(source, [*BASE, *METHODS[method], *overrides])


def perform(method: str, seed: int, steps: int, say: Callable[[str], None], overrides: Sequence[str] = ()) -> Row:
    """One seed: demonstrations into a temporary store, then practice until the level of the suite; its row of the results."""
    from actor.demonstrations import max_steps
    from benchmarks.autonomous import Budget, as_row, practise

    config = configuration(method, seed, overrides)
    known = known_stuck(seed) if config.recipe.help.kind == "paint" else None
    budget = Budget(steps, EVALUATE_EVERY, EPISODES, max_steps(config)["forward"], enough=RELOCATE.level)
    began_s = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="etude-relocate-") as folder:
        demonstrate(config, Path(folder) / "demonstrations")
        outcome = practise(config, Path(folder) / "demonstrations", budget, say, known)
    return {
        "method": method,
        "seed": seed,
        **as_row(outcome),
        "minutes": round((time.monotonic() - began_s) / 60, 2),
        "recipe": RECIPE,
        "overrides": [*BASE, *METHODS[method], *overrides],
        "budget": asdict(budget),
    }


def known_stuck(seed: int) -> np.ndarray:
    """States ``(KNOWN_STUCK, 10)`` float32 of a block that went over an edge of the table and falls; the tool is anywhere.

    The order is that of the scene's observation: tool position and velocity, finger opening, block position; metres.
    """
    from simulation.panda import MAX_FINGER_M
    from simulation.scenes.relocate import Relocate

    rng = np.random.default_rng([seed, 0x57C4])
    low, high = np.array(Relocate.workspace_min_m), np.array(Relocate.workspace_max_m)
    edges = np.array([Relocate.table_min_m, Relocate.table_max_m])
    block = rng.uniform([low[0], edges[0, 1], -2.0], [edges[1, 0], edges[1, 1], -BELOW_M], (KNOWN_STUCK, 3))
    over = rng.integers(3, size=KNOWN_STUCK)  # the far edge, the right and the left one; the arm stands at the near one
    beyond = rng.uniform(0.0, 0.2, KNOWN_STUCK)
    for edge, (axis, at, sign) in enumerate(((0, edges[1, 0], 1), (1, edges[0, 1], -1), (1, edges[1, 1], 1))):
        block[over == edge, axis] = at + sign * beyond[over == edge]
    tool = rng.uniform(low, high, (KNOWN_STUCK, 3))
    velocity = rng.normal(0.0, 0.1, (KNOWN_STUCK, 3))
    opening = rng.uniform(0.0, 2 * MAX_FINGER_M, (KNOWN_STUCK, 1))
    return np.hstack([tool, velocity, opening, block]).astype(np.float32)


def demonstrate(config: RunConfig, path: Path) -> None:
    """Make the store of the scripted expert's demonstrations at `path`."""
    from actor.demonstrations import record_demonstrations
    from actor.robots import make_robot
    from etude.episodes.store import EpisodeStore

    robot = make_robot(config, DEMONSTRATION_SEED)
    try:
        with EpisodeStore.create(path, robot.observation_spec, robot.action_spec, {"kind": "demonstrations"}) as store:
            record_demonstrations(config, robot, store, config.task.demonstrations_per_direction, DEMONSTRATION_SEED)
    finally:
        robot.close()


def main(words: Sequence[str]) -> int:
    method, seed, steps, out, *overrides = words
    say = partial(print, f"{method} seed {seed}:", file=sys.stderr, flush=True)
    Path(out).write_text(json.dumps([perform(method, int(seed), int(steps), say, overrides)]), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
