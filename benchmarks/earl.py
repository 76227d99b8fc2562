"""`etude benchmark earl`: EARL's tabletop under its two protocols, deployed and continuing (Sharma et al. 2022, §4).

Deployed: practice is reset every 200,000 steps only; every 10,000 steps the forward policy is evaluated in 10 episodes of 200
steps from the initial states; an episode counts as soon as it reaches its goal. Continuing: the mean reward of 50,000 steps of
practice itself, with a new goal every 400 steps. An intervention is a reset of the scene, the first one included.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.interventions import NO_WALLS
from etude.config import REPOSITORY, ConfigError, RunConfig, load_run_config

PLACES = (REPOSITORY / "data" / "earl_tabletop", REPOSITORY.parent / "shared" / "data" / "earl_tabletop")
EVALUATE_EVERY, EVALUATION_EPISODES, EVALUATION_STEPS = 10_000, 10, 200
CONTINUING_STEPS, GOAL_CHANGE_STEPS = 50_000, 400
LAST_EVALUATIONS = 10
"""The mean of so many is what RISC reports (Patil et al. 2024); single evaluations of 10 episodes are noisy."""
DEMONSTRATIONS = 12
DEMONSTRATION_SEED = 0
KNOWN_STATES = 1_000
"""Stuck states, and free ones, that `paint` begins with in this environment. PAINT's release begins with as many stuck ones and
with demonstrations; free ones are added because these show no gripper beyond the edge, and no mug off the ways they take."""

Row = dict[str, Any]


@dataclass(frozen=True)
class Method:
    """A recipe with what the benchmark changes of task and robot for it.

    `deployed` and `continuing` are the published numbers of the method (success at 2.5 million steps, reward per step), None
    where there is none. `evaluate_every` is in environment steps; `enough`: see
    `benchmarks.autonomous.Budget`.
    """

    recipe: str
    overrides: tuple[str, ...] = ()
    deployed: float | None = None
    continuing: float | None = None
    evaluate_every: int = EVALUATE_EVERY
    enough: float | None = None


LONGER = ("task.forward.max_steps=300", "task.backward.max_steps=300")
WITHOUT_WALLS = ("robot.environment_options.bound=3.8", "recipe.data.batch_size=128")
"""PAINT's variant: the mug can be dropped over the edge of the table, and then only a person gets it back. Batches are smaller
than the recipe's, since there are many runs."""
PAINT = (
    "recipe.help.kind=paint",
    "recipe.help.seed_steps=0",
    "recipe.help.alarm_states=20",
    "recipe.critic.pessimistic_reward=-0.02",
)
"""A stuck state is worth -1 for ever; PAINT's own -10 is beside rewards of 10. Where stuck states are known before practice there
is nothing for a look after the first steps to find out. Twenty states in a row raise the alarm; the release takes one."""


def _every(interval_steps: int) -> tuple[str, ...]:
    """As PAINT's episodic baseline: somebody resets the scene so often, and nobody is told that the mug is lost."""
    return "recipe.help.kind=scheduled", f"recipe.help.horizon_steps={interval_steps}"


METHODS = {
    "etude": Method("etude_earl", ("recipe.help.kind=never",)),
    "naive": Method("naive", deployed=0.32, continuing=0.0120),
    "fbrl": Method("fbrl", deployed=0.94, continuing=0.0059),
    "vaprl": Method("vaprl", deployed=0.98, continuing=0.0093),
    "medal": Method("medal", (*LONGER, "robot.environment_options.backward_shows=next_goal"), deployed=0.976),
    "no_walls": Method("etude_earl", WITHOUT_WALLS, evaluate_every=2_000, enough=NO_WALLS.level),
    "no_walls_timeouts": Method(
        "etude_earl", (*WITHOUT_WALLS, "recipe.help.lost_is_told=false"), evaluate_every=2_000, enough=NO_WALLS.level
    ),
    "no_walls_every_1000": Method("etude_earl", (*WITHOUT_WALLS, *_every(1_000)), evaluate_every=2_000, enough=NO_WALLS.level),
    "no_walls_every_4000": Method("etude_earl", (*WITHOUT_WALLS, *_every(4_000)), evaluate_every=2_000, enough=NO_WALLS.level),
    "no_walls_paint": Method("etude_earl", (*WITHOUT_WALLS, *PAINT), evaluate_every=2_000, enough=NO_WALLS.level),
}
"""Published: EARL's curves at 2.5 million steps, five seeds; MEDAL from RISC's curves, mean of the last 10 evaluations."""


def configuration(method: str, seed: int, continuing: bool = False, overrides: Sequence[str] = ()) -> RunConfig:
    """The run of one seed.

    Raises:
        ConfigError: no such method, or an override that does not fit.
    """
    if method not in METHODS:
        raise ConfigError(f"there is no method {method!r}: use one of {', '.join(METHODS)}")
    chosen = METHODS[method]
    source = {"task": "earl_tabletop", "robot": "earl_tabletop", "recipe": chosen.recipe, "observation": "state", "seed": seed}
    protocol = [f"robot.environment_options.goal_change_steps={GOAL_CHANGE_STEPS}"] if continuing else []
    return load_run_config(source, [*chosen.overrides, *protocol, *overrides])


def perform(
    method: str, seed: int, steps: int, say: Callable[[str], None], continuing: bool = False, overrides: Sequence[str] = ()
) -> Row:
    """One seed: demonstrations into a temporary store, then the run; returns its row of the results."""
    from benchmarks.autonomous import Budget, as_row, practise

    config = configuration(method, seed, continuing, overrides)
    known = known_states(config) if config.recipe.help.kind == "paint" else (None, None)
    chosen = METHODS[method]
    episodes = 0 if continuing else EVALUATION_EPISODES
    budget = Budget(steps, chosen.evaluate_every, episodes, EVALUATION_STEPS, enough=chosen.enough)
    began_s = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="etude-earl-") as folder:
        origin = demonstrate(config, Path(folder) / "demonstrations")
        outcome = practise(config, Path(folder) / "demonstrations", budget, say, *known)
    return {
        "method": method,
        "protocol": "continuing" if continuing else "deployed",
        "seed": seed,
        **as_row(outcome),
        "last_10": None if continuing else round(last_mean(outcome.curve), 4),
        "reward_per_step": round(outcome.reward / max(1, outcome.steps), 5),
        "minutes": round((time.monotonic() - began_s) / 60, 2),
        "demonstrations": origin,
        "recipe": METHODS[method].recipe,
        "overrides": [*METHODS[method].overrides, *overrides],
        "budget": asdict(budget),
    }


def known_states(config: RunConfig) -> tuple[np.ndarray, np.ndarray]:
    """What PAINT knows before practice: stuck and free states, each ``(KNOWN_STATES, 12)``. Needs the variant without walls.

    Raises:
        ConfigError: this table has walls, so that nothing can get stuck.
    """
    from simulation.earl_tabletop import BOUND, free_states, stuck_states

    bound = float(config.robot.environment_options.get("bound", BOUND))
    if bound <= BOUND:
        raise ConfigError(
            "recipe.help.kind is 'paint' on a table with walls: set robot.environment_options.bound to 3.8, as PAINT"
        )
    rng = np.random.default_rng([config.seed, 0x57C4])
    return stuck_states(KNOWN_STATES, bound, rng), free_states(KNOWN_STATES, bound, rng)


# --- demonstrations ---------------------------------------------------------------------------------------------------


def official_demonstrations() -> Path | None:
    """The folder of EARL's demonstrations, from $ETUDE_EARL_DEMONSTRATIONS or beside the repository; None without."""
    given = os.environ.get("ETUDE_EARL_DEMONSTRATIONS")
    folders = (Path(given),) if given else PLACES
    return next((folder for folder in folders if (folder / "forward.npz").is_file()), None)


def demonstrate(config: RunConfig, path: Path) -> str:
    """Make the store of 12 demonstrations per direction at `path` and say where they are from.

    The official ones; where they are absent, the scripted expert's. Methods differ in what they take of them: without a backward
    policy the forward ones, MEDAL's backward policy the forward ones too and the backward ones once with every goal.
    """
    from actor.demonstrations import record_demonstrations
    from actor.robots import make_robot
    from etude.episodes.earl import Demonstration, read_earl, write_demonstrations
    from etude.episodes.store import EpisodeStore
    from simulation.earl_tabletop import GOALS, goal_vector, with_goal_vector

    robot = make_robot(config, DEMONSTRATION_SEED)
    kind, folder = config.recipe.reset.kind, official_demonstrations()
    try:
        with EpisodeStore.create(path, robot.observation_spec, robot.action_spec, {"kind": "demonstrations"}) as store:
            if folder is None:
                record_demonstrations(config, robot, store, DEMONSTRATIONS, DEMONSTRATION_SEED)
                return f"{DEMONSTRATIONS} per direction of the scripted expert, noise {config.task.expert_noise:g}"
            forward, backward = read_earl(folder / "forward.npz"), read_earl(folder / "reverse.npz")
            shown = {"forward": forward}
            if kind == "medal":
                shown["backward"] = forward + [
                    Demonstration(with_goal_vector(episode.observations, goal_vector(goal)), episode.actions)
                    for goal in GOALS
                    for episode in backward
                ]
            elif kind in ("backward_policy", "vaprl"):
                shown["backward"] = backward
            for phase, episodes in shown.items():
                write_demonstrations(episodes, store, config.task.name, phase, "")
            return f"{len(forward)} and {len(backward)} official ones of EARL"
    finally:
        robot.close()


# --- results ----------------------------------------------------------------------------------------------------------


def last_mean(curve: Sequence[Sequence[float]]) -> float:
    """Mean of the last 10 evaluations of practice; of all there are, while there are fewer."""
    scores = [score for steps, score in curve if steps > 0][-LAST_EVALUATIONS:]
    return sum(scores) / len(scores) if scores else 0.0


def mean_and_error(values: Sequence[float]) -> tuple[float, float]:
    """Mean over seeds and its standard error (sample standard deviation over √n); the error of one seed is 0."""
    mean = sum(values) / len(values)
    if len(values) < 2:
        return mean, 0.0
    return mean, math.sqrt(sum((value - mean) ** 2 for value in values) / (len(values) - 1) / len(values))


def table(rows: Sequence[Row]) -> str:
    """Markdown: one line per method and protocol, mean (standard error) over seeds with every seed behind it."""
    columns = ("method", "protocol", "steps", "result", "seeds", "published", "interventions", "minutes")
    lines = [f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]
    for method, protocol in dict.fromkeys((row["method"], row["protocol"]) for row in rows):
        mine = [row for row in rows if (row["method"], row["protocol"]) == (method, protocol)]
        deployed = protocol == "deployed"
        values = [row["last_10" if deployed else "reward_per_step"] for row in mine]
        digits = 3 if deployed else 4
        mean, error = mean_and_error(values)
        published = METHODS[method].deployed if deployed else METHODS[method].continuing
        cells = (
            method,
            protocol,
            f"{min(row['steps'] for row in mine):,}",
            f"{mean:.{digits}f} ({error:.{digits}f})",
            ", ".join(f"{row['seed']}: {value:.{digits}f}" for row, value in zip(mine, values, strict=True)),
            "–" if published is None else f"{published:.{digits}f}",
            str(max(row["interventions"] for row in mine)),
            f"{sum(row['minutes'] for row in mine) / len(mine):.1f}",
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def plot(rows: Sequence[Row], path: Path) -> None:
    """Deployed success of every seed against steps, one panel per method; dashed: what was published at 2.5 million steps."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    deployed = [row for row in rows if row["protocol"] == "deployed"]
    methods = list(dict.fromkeys(row["method"] for row in deployed))
    if not methods:
        return
    size = (3.4 * len(methods), 3.2)
    figure, axes = plt.subplots(1, len(methods), figsize=size, sharey=True, squeeze=False, layout="constrained")
    for axis, method in zip(axes[0], methods, strict=True):
        for row in (row for row in deployed if row["method"] == method):
            steps, scores = zip(*row["curve"], strict=True)
            axis.plot([step / 1000 for step in steps], scores, marker="o", markersize=3, label=f"seed {row['seed']}")
        published = METHODS[method].deployed
        if published is not None:
            axis.axhline(published, color="grey", linestyle="--", linewidth=1, label="published, 2.5 M steps")
        axis.set(title=method, xlabel="thousand steps without a reset", ylim=(-0.03, 1.03))
        axis.grid(alpha=0.3)
        axis.legend(fontsize="small")
    axes[0][0].set_ylabel("success in deployed evaluation")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="etude benchmark earl",
        description="EARL's tabletop without resets: deployed evaluation, or with --continuing the reward of practice itself.",
        epilog="example: etude benchmark earl --method etude --steps 100000 --seeds 0 1 2 --out results/earl.json",
    )
    parser.add_argument("--method", choices=list(METHODS), default="etude")
    parser.add_argument("--continuing", action="store_true", help="reward per step of practice, a new goal every 400 steps")
    parser.add_argument("--steps", type=int, help="environment steps (default: 250000; continuing: 50000)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--out", type=Path, help="file of the results, JSON; a plot goes beside it (default: none)")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="any setting, e.g. recipe.data.utd=2")
    # flags may stand before and after the settings
    arguments = parser.parse_intermixed_args(list(argv))
    steps = arguments.steps or (CONTINUING_STEPS if arguments.continuing else 250_000)
    rows = []
    for seed in arguments.seeds:
        say = partial(print, f"{arguments.method} seed {seed}:", file=sys.stderr, flush=True)
        rows.append(perform(arguments.method, seed, steps, say, arguments.continuing, arguments.overrides))
        if arguments.out is not None:
            arguments.out.parent.mkdir(parents=True, exist_ok=True)
            arguments.out.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
            plot(rows, arguments.out.with_suffix(".png"))
    print(table(rows))
    return 0
