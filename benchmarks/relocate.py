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
from benchmarks.scripted import demonstrate
from etude.config import RunConfig, load_run_config

TASK, ROBOT, RECIPE = "relocate", "sim_panda_fast", "etude_earl"
BASE = (
    # as robot_configs/runs/relocate_hour.yaml, where it is said why; one update a step, since there are many runs
    "recipe.critic.discount=0.95",
    "recipe.critic.tau=0.02",
    "recipe.critic.learning_rate=0.0005",
    "recipe.policy.average_rate=0.01",
    "recipe.improvement.bc_weight=8",
    "recipe.reward.step=-0.02",
    "recipe.data.batch_size=128",
    "recipe.data.success_share=0",
    # as robot_configs/tasks/relocate_tray.yaml, but without its rims: the block can be lost over every edge
    "task.tool_start_min_m=[0.40, -0.20, 0.09]",
    "task.tool_start_max_m=[0.58, 0.20, 0.17]",
    "task.options={anywhere_share: 0.5}",
    # so few that cloning is not enough
    "task.demonstrations_per_direction=7",
    "recipe.help.timeouts_before_help=5",
)
"""What all methods change of the recipe and the task."""
PAINT = ("recipe.help.kind=paint", "recipe.help.seed_steps=0", "recipe.critic.pessimistic_reward=-0.05")
"""A lost block is worth -1 for ever, less than the -0.4 of an attempt without end. Where stuck states are known before practice
there is nothing for a look after the first steps to find out, so nobody is asked for one."""
METHODS: dict[str, tuple[str, ...]] = {
    "relocate_paint": PAINT,
    "relocate_timeouts": ("recipe.help.lost_is_told=false",),
    "relocate_every_1000": ("recipe.help.kind=scheduled", "recipe.help.horizon_steps=1000"),
    "relocate_told": (),
}
EVALUATE_EVERY, EPISODES = 500, 10
KNOWN_STUCK = 1_000
"""Stuck states that PAINT begins with, as on EARL's tabletop in its release."""
BELOW_M = 0.1
"""A block that falls is soon further than this below the table, where the learner's features end (5 standard deviations)."""
OUT_OF_REACH_M = 0.03
"""A block that is further than this from what the tool reaches is lost by ground truth."""

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
    """States ``(KNOWN_STUCK, 10)`` float32 with the block where the table's owner knows that it is lost: one half fall, below
    the table top and anywhere within 0.2 m of what the tool reaches, one half stand too near to the arm. The tool is anywhere.

    The order is that of the scene's observation: tool position and velocity, finger opening, block position; metres.
    """
    from simulation.panda import MAX_FINGER_M
    from simulation.scenes.relocate import Relocate

    rng = np.random.default_rng([seed, 0x57C4])
    low, high = np.array(Relocate.workspace_min_m), np.array(Relocate.workspace_max_m)
    table_low, table_high = np.array(Relocate.table_min_m), np.array(Relocate.table_max_m)
    tool = rng.uniform(low, high, (KNOWN_STUCK, 3))
    velocity = rng.normal(0.0, 0.1, (KNOWN_STUCK, 3))
    opening = rng.uniform(0.0, 2 * MAX_FINGER_M, (KNOWN_STUCK, 1))
    block = rng.uniform((*(low[:2] - 0.2), -2.0), (*(high[:2] + 0.2), -BELOW_M), (KNOWN_STUCK, 3))
    near = (
        (table_low[0] + 0.2, table_low[1], Relocate.rest_height_m),
        (low[0] - OUT_OF_REACH_M, table_high[1], Relocate.rest_height_m),
    )
    block[::2] = rng.uniform(*near, (len(block[::2]), 3))
    return np.hstack([tool, velocity, opening, block]).astype(np.float32)


def main(words: Sequence[str]) -> int:
    method, seed, steps, out, *overrides = words
    say = partial(print, f"{method} seed {seed}:", file=sys.stderr, flush=True)
    Path(out).write_text(json.dumps([perform(method, int(seed), int(steps), say, overrides)]), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
