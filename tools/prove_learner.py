"""The slow proof behind `make proof-learner`: recipes compared offline → online, episodic, in one process each, without ROS.

Every (suite, recipe, seed) is a run of its own on one core. Its result goes to docs/results/proof-learner.json when it ends, with
the settings that make it again; `--resume` does not repeat what is there with the settings and the budget of today. Table, plots
with every seed and requirements follow, and which rows were made with earlier ones. Exit status 1 when a requirement is missed or
a run fails.

    python tools/prove_learner.py --jobs 2
    python tools/prove_learner.py --only earl cal_ql --seeds 0
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks import learner_report, proofs
from benchmarks.earl import official_demonstrations
from benchmarks.learner_report import Row
from etude.config import REPOSITORY, RunConfig, load_run_config

RESULTS = REPOSITORY / "docs" / "results"
BENCH_PYTHON = REPOSITORY / ".venv-bench" / "bin" / "python"
"""Meta-World needs a MuJoCo of its own (tools/make_bench_env.sh)."""
DEMONSTRATION_SEED = 0
"""All recipes and seeds learn from the same demonstrations."""

# --- what is compared -------------------------------------------------------------------------------------------------

COMMON = (
    "recipe.reset.kind=human",
    "recipe.reward.kind=environment",
    "recipe.reward.success=1.0",
    "recipe.reward.step=0.0",
    "recipe.critic.discount=0.98",
    "recipe.critic.bound_targets=true",
    "recipe.critic.hidden=[128,128]",
    "recipe.critic.learning_rate=0.0003",
    "recipe.policy.hidden=[128,128]",
    "recipe.policy.learning_rate=0.0003",
    "recipe.policy.average_rate=0.005",
    "recipe.data.batch_size=256",
    "recipe.data.min_online_steps=0",
    "recipe.data.utd=1",
)
"""Sparse reward, 1 at success; one direction, reset after every episode. With -1 per step instead, critics begin by valuing what
they never saw above what was shown, and practice of few thousand steps does not undo it."""
GAUSSIAN = (
    "recipe.data.pretrain_bc_steps=3000",
    "recipe.policy.log_std_max=-2",
    "recipe.improvement.initial_temperature=0.0001",
    "recipe.improvement.learn_temperature=false",
)
"""Little noise: with the usual entropy target, practice explored so widely that 1 of 10 episodes succeeded where the mean action
succeeded in 7 (rlpd, seed 0)."""
CLONING = ("recipe.improvement.bc_weight=4",)
"""Without it practice left the demonstrations and did not come back (rlpd, 5,000 steps, one seed)."""
CONSERVATIVE = (
    "recipe.data.offline_steps=1000",
    "recipe.critic.cql_weight=0.01",
    "recipe.critic.cql_importance_sampling=false",
    "recipe.critic.cql_max_target_backup=false",
)
"""The weight is beside values of at most 1. With importance sampling and so narrow a policy cal_ql fell to 0 offline (seed 0)."""
# Chosen for one slow core: an update improves a batch of actions three times, and all of that costs candidates × width × critics
PA_RL = (
    "recipe.data.pretrain_bc_steps=8000",
    "recipe.data.offline_steps=500",
    "recipe.data.batch_size=128",
    "recipe.data.bootstrap_through_timeouts=false",
    "recipe.critic.ensemble=3",
    "recipe.critic.subset_with_replacement=false",
    "recipe.critic.head=scalar",
    "recipe.critic.tau=0.01",
    "recipe.critic.acting=target",
    "recipe.critic.cql_weight=0.05",
    "recipe.critic.cql_samples=4",
    "recipe.critic.cql_temperature=0.02",
    "recipe.improvement.candidates=8",
    "recipe.improvement.keep=2",
    "recipe.improvement.ascent_steps=3",
    "recipe.improvement.ascent_step_size=0.05",
    "recipe.improvement.distil=argmax",
    "recipe.policy.learning_rate=0.0005",
    "recipe.policy.online_learning_rate=0.00005",
    "recipe.policy.warmup_steps=0",
    "recipe.policy.average_rate=0.005",
    "recipe.policy.dropout=0",
    "recipe.policy.width=64",
    "recipe.policy.blocks=2",
)
"""With two critics drawn with replacement half of the targets are of one critic alone, and success fell to 0.5 (seed 0). Failing
is worth nothing: bootstrapped, the value of a mug that lies beside its mark fades over thousands of updates only. The published
step of 3e-4 and temperature of 1 are for values of -100 to 0; beside values of 0 to 1 the same step does not move an action and
the same temperature presses all actions down alike. With the newest critics success moved by 0.2 from one thousand steps to the
next; the target ones with half the step (0.05) act more steadily (chosen on seed 10)."""


@dataclass(frozen=True)
class Entry:
    """A recipe with what is changed of it; `practises` False ends it at the switch."""

    name: str
    base: str
    overrides: tuple[str, ...]
    practises: bool = True


CAL_QL = Entry("cal_ql", "cal_ql", (*GAUSSIAN, *CLONING, *CONSERVATIVE))
CQL = Entry("cql", "cal_ql", (*GAUSSIAN, *CLONING, *CONSERVATIVE, "recipe.critic.kind=cql"))
PA_RL_DIFFUSION = Entry("pa_rl_diffusion", "pa_rl_diffusion", (*CLONING, *PA_RL, "recipe.policy.sampling_noise=0.5"))
SCATTERED = "recipe.policy.dropout=0.2"
"""For Meta-World's demonstrations, of an expert with noise: without it 0.79 of episodes succeed after 1,000 updates of cloning
and 0.54 after 4,000, with it 0.95 (pick_place, seed 10). EARL's are clean, and cloning them with dropout is worse."""
METAWORLD = (
    replace(CAL_QL, overrides=(*CAL_QL.overrides, SCATTERED)),
    replace(
        PA_RL_DIFFUSION,
        overrides=(
            *PA_RL_DIFFUSION.overrides,
            SCATTERED,
            "recipe.policy.sampling_noise=0.3",
            "recipe.data.pretrain_bc_steps=4000",
        ),
    ),
)
"""A diffusion policy repeats the noise of the expert, which squared error leaves out; so do samples of little noise. More cloning
than this is worse here, dropout or not (pick_place, seed 10: 0.91 of 100 episodes after 4,000 updates, 0.86 after 12,000)."""
SELF_IMITATION = ("recipe.data.successes_are_demonstrations=true", "recipe.critic.cql_samples=4")
"""A few starts that no demonstration covers succeed now and then, and cloning the demonstrations alone forgets how: with a
cloning weight of 1 and without its own successes Cal-QL went from 0.94 to 0.88, with these and 4 from 0.92 to 1.00 (pick_place,
seed 11, one run each), PA-RL from 0.82 to 0.88 without and to 0.91 with them (docs/trials.md); the weights of proportional
distillation do not reckon with them. Fewer samples halve an update's time."""
PICK_PLACE = (
    replace(METAWORLD[0], overrides=(*METAWORLD[0].overrides, *SELF_IMITATION)),
    replace(METAWORLD[1], overrides=(*METAWORLD[1].overrides, *SELF_IMITATION, "recipe.data.distillation_share=batch")),
)
ALL_RECIPES = (
    Entry(
        "rlpd",
        "rlpd_state",
        (*GAUSSIAN, *CLONING, "recipe.data.pretrain_bc_steps=0", "recipe.data.utd=4", "recipe.critic.ensemble=5"),
    ),
    CAL_QL,
    CQL,
    Entry(
        "iql",
        "iql",
        (
            *GAUSSIAN,
            "recipe.data.pretrain_bc_steps=0",
            "recipe.data.offline_steps=4000",
            "recipe.data.utd=4",
            "recipe.improvement.inverse_temperature=20",
            "recipe.policy.average_rate=0.005",
        ),
    ),
    PA_RL_DIFFUSION,
    Entry("pa_rl_autoregressive", "pa_rl_autoregressive", (*CLONING, *PA_RL, "recipe.policy.heads=4", "recipe.policy.bins=64")),
    Entry("bc", "bc", ("recipe.data.pretrain_bc_steps=5000", "recipe.policy.dropout=0"), practises=False),
)


@dataclass(frozen=True)
class Suite:
    """One environment: names of its task and robot, how many demonstrations, and the budget of every run. `explore`: it is
    evaluated with the noise of practice, see `benchmarks.episodic.Budget`."""

    task: str
    demonstrations: int
    online_steps: int
    evaluate_every_steps: int
    evaluation_episodes: int
    recipes: tuple[Entry, ...]
    explore: bool = True


SUITES = {
    "earl": Suite("earl_tabletop", 12, 8_000, 1_000, 50, ALL_RECIPES),
    "drawer_close": Suite("metaworld_drawer_close", 20, 1_000, 250, 20, METAWORLD),
    "door_open": Suite("metaworld_door_open", 20, 2_000, 500, 20, METAWORLD),
    "pick_place": Suite("metaworld_pick_place", 20, 10_000, 1_000, 50, PICK_PLACE, explore=False),
}


@dataclass(frozen=True)
class Run:
    suite: str
    entry: Entry
    seed: int

    @property
    def key(self) -> tuple[str, str, int]:
        return self.suite, self.entry.name, self.seed

    def __str__(self) -> str:
        return f"{self.suite} {self.entry.name} seed {self.seed}"


def overrides(entry: Entry) -> list[str]:
    return [*COMMON, *entry.overrides]


def configuration(run: Run) -> RunConfig:
    task = SUITES[run.suite].task
    source = {"task": task, "robot": task, "recipe": run.entry.base, "observation": "state", "seed": run.seed}
    return load_run_config(source, overrides(run.entry))


def budget_of(run: Run) -> dict[str, Any]:
    """The fields of a `benchmarks.episodic.Budget`, which would import jax before a worker has its core."""
    suite = SUITES[run.suite]
    return {
        "online_steps": suite.online_steps if run.entry.practises else 0,
        "evaluate_every_steps": suite.evaluate_every_steps,
        "evaluation_episodes": suite.evaluation_episodes,
        "explore": suite.explore,
    }


# --- one run, in a process of its own -----------------------------------------------------------------------------------


def perform(run: Run) -> Row:
    """Demonstrations into a temporary store, then the run; returns its row of the results."""
    from benchmarks.device import jax_device
    from benchmarks.episodic import Budget, offline_to_online

    config, suite, budget = configuration(run), SUITES[run.suite], budget_of(run)
    with tempfile.TemporaryDirectory(prefix="etude-proof-") as folder:
        store = Path(folder) / "demonstrations"
        origin = demonstrate(config, suite.demonstrations, store)
        outcome = offline_to_online(config, store, Budget(**budget), lambda text: print(f"{run}: {text}", flush=True))
    return {
        "suite": run.suite,
        "recipe": run.entry.name,
        "seed": run.seed,
        "offline": outcome.offline,
        "final": outcome.final,
        "dip": round(learner_report.dip(outcome.curve), 4),
        "curve": outcome.curve,
        "practice": outcome.practice,
        "updates": outcome.updates,
        "updates_per_s": outcome.updates_per_s(),
        "device": jax_device(),
        "seconds": {name: round(value, 1) for name, value in outcome.seconds.items()},
        "metrics": outcome.metrics,
        "demonstrations": origin,
        "base_recipe": run.entry.base,
        "settings": overrides(run.entry),
        "budget": budget,
        "command": f"python tools/prove_learner.py --only {run.suite} {run.entry.name} --seeds {run.seed}",
    }


def demonstrate(config: RunConfig, count: int, path: Path) -> str:
    """Make the store of demonstrations at `path` and say where they are from: EARL's official ones, or the scripted expert."""
    from actor.demonstrations import record_demonstrations
    from actor.robots import make_robot
    from etude.episodes.earl import read_earl, write_demonstrations
    from etude.episodes.store import EpisodeStore

    robot = make_robot(config, DEMONSTRATION_SEED)
    try:
        with EpisodeStore.create(path, robot.observation_spec, robot.action_spec, {"kind": "demonstrations"}) as store:
            official = official_demonstrations() if config.task.name == "earl_tabletop" else None
            if official is None:
                record_demonstrations(config, robot, store, count, DEMONSTRATION_SEED)
                return f"{count} of the scripted expert, noise {config.task.expert_noise:g}"
            episodes = read_earl(official / "forward.npz")
            write_demonstrations(episodes, store, config.task.name, "forward", config.task.forward.instruction)
            return f"{len(episodes)} official ones of EARL"
    finally:
        robot.close()


# --- all runs ---------------------------------------------------------------------------------------------------------


def results_file() -> Path:
    return RESULTS / "proof-learner.json"


def recorded() -> list[Row]:
    """What earlier calls recorded."""
    return proofs.recorded(results_file())


def record(rows: Sequence[Row]) -> None:
    """Write the results and the plots."""
    proofs.write_rows(results_file(), rows)
    for suite in dict.fromkeys(row["suite"] for row in rows):
        learner_report.plot(rows, suite, RESULTS / f"proof-learner-{suite}.png")


def merge(old: Sequence[Row], new: Row) -> list[Row]:
    """`old` with `new` added or put in place of the same run, in the order of the suites."""
    rows = {(row["suite"], row["recipe"], row["seed"]): row for row in [*old, new]}
    order = {(name, entry.name): i for i, (name, entry) in enumerate((n, e) for n, s in SUITES.items() for e in s.recipes)}
    return [rows[key] for key in sorted(rows, key=lambda key: (order.get(key[:2], len(order)), key))]


def chosen(only: Sequence[str], seeds: Sequence[int]) -> list[Run]:
    """The runs that the command line asks for, seed by seed, so that an interrupted proof has something of every recipe.

    Args:
        only: names of suites and recipes; naming none of one kind means all of that kind.
    """
    suites = [name for name in SUITES if name in only] or list(SUITES)
    named = [word for word in only if word not in SUITES]
    return [
        Run(suite, entry, seed)
        for seed in seeds
        for suite in suites
        for entry in SUITES[suite].recipes
        if not named or entry.name in named
    ]


def missing_package(suite: str) -> str | None:
    """Why `suite` cannot run here, or None."""
    if needs_metaworld(suite) and not BENCH_PYTHON.is_file():
        return f"{suite} is skipped: Meta-World is not installed; tools/make_bench_env.sh installs it into .venv-bench"
    return None


def is_current(row: Row, run: Run) -> bool:
    """Whether `row` was made with the settings and the budget that `run` has today."""
    budget = budget_of(run)
    earlier = {**row["budget"], "explore": row["budget"].get("explore", True)}  # older rows do not name it
    return row["settings"] == overrides(run.entry) and earlier == budget


def needs_metaworld(suite: str) -> bool:
    return SUITES[suite].task.startswith("metaworld")


def run_all(runs: Sequence[Run], jobs: int, device: str = "cpu") -> Iterator[tuple[Run, Row | None]]:
    """Every run in a process of its own, `jobs` at a time; yields each with its row, or None when it failed.

    Args:
        device: ``cpu``, or ``gpu`` where all of them train on the first GPU, and act on the CPU.
    """
    return proofs.run_all(runs, jobs, lambda run, out, core: _start(run, out, core if jobs > 1 else None, device))


def _start(run: Run, out: Path, core: int | None, device: str) -> subprocess.Popen:
    """A worker with one thread; with a `core`, on that one alone."""
    environment = proofs.one_thread(os.environ)
    if device == "gpu":  # shared by the workers, so none takes its memory ahead
        environment |= {"JAX_PLATFORMS": "cuda,cpu", "XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
    core_text = "-" if core is None else str(core)
    python = str(BENCH_PYTHON) if needs_metaworld(run.suite) else sys.executable
    command = [python, __file__, "--worker", *map(str, run.key), str(out), core_text]
    return subprocess.Popen(command, env=environment)


def work(words: Sequence[str]) -> int:
    """What a worker does: suite, recipe, seed, file of the result, core or ``-``."""
    suite, recipe, seed, out, core = words
    if core != "-" and hasattr(os, "sched_setaffinity"):
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {cores[int(core) % len(cores)]})
    entry = next(entry for entry in SUITES[suite].recipes if entry.name == recipe)
    Path(out).write_text(json.dumps(perform(Run(suite, entry, int(seed)))), encoding="utf-8")
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    names = [*SUITES, *dict.fromkeys(entry.name for suite in SUITES.values() for entry in suite.recipes)]
    parser = argparse.ArgumentParser(description="Recipes compared offline → online, episodic, against requirements.")
    parser.add_argument("--only", nargs="+", default=[], choices=names, metavar="NAME", help=f"of {', '.join(names)}")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--jobs", type=int, default=1, help="runs at the same time, one core each (default: %(default)s)")
    parser.add_argument("--device", choices=("cpu", "gpu"), default="cpu", help="what trains (default: %(default)s)")
    parser.add_argument("--resume", action="store_true", help="do not repeat runs that are recorded in docs/results")
    parser.add_argument("--worker", nargs=5, help=argparse.SUPPRESS)
    arguments = parser.parse_args(argv)
    if arguments.worker:
        return work(arguments.worker)
    rows = recorded()
    wanted = chosen(arguments.only, arguments.seeds)
    for suite in dict.fromkeys(run.suite for run in wanted):
        why_not = missing_package(suite)
        if why_not:
            print(why_not, flush=True)
            wanted = [run for run in wanted if run.suite != suite]
    if not wanted:
        print("nothing to run")
        return 0
    failed = []
    made = {(row["suite"], row["recipe"], row["seed"]): row for row in rows} if arguments.resume else {}
    due = [run for run in wanted if run.key not in made or not is_current(made[run.key], run)]
    try:
        for run, row in run_all(due, max(1, arguments.jobs), arguments.device):
            if row is None:
                failed.append(run)
                print(f"{run} failed; its messages are above", flush=True)
                continue
            rows = merge(rows, row)
            record(rows)
            print("\n" + learner_report.table(rows, list(SUITES)) + "\n", flush=True)
    except KeyboardInterrupt:
        return 130
    return int(report(rows, wanted, len(arguments.seeds)) or bool(failed))


def report(rows: Sequence[Row], wanted: Sequence[Run], seeds: int) -> bool:
    """Print table and requirements of the suites in `wanted`; True when one is missed."""
    found = []
    for suite in dict.fromkeys(run.suite for run in wanted):
        asked = [run.entry.name for run in wanted if run.suite == suite and run.entry.practises]
        found += learner_report.checks(rows, suite, list(dict.fromkeys(asked)), seeds)
    print(learner_report.table(rows, list(SUITES)) + "\n\n" + learner_report.verdicts(found), flush=True)
    made = {(row["suite"], row["recipe"], row["seed"]): row for row in rows}
    if earlier := [str(run) for run in wanted if run.key in made and not is_current(made[run.key], run)]:
        print(f"\nmade with earlier settings or budgets (--resume makes them again): {', '.join(earlier)}", flush=True)
    return any(check.passed is False for check in found)


if __name__ == "__main__":
    sys.exit(main())
