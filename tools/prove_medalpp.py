"""The slow proof behind `make proof-medalpp`: MEDAL++ from two cameras on `slide`, beside cloning the same demonstrations.

Practice is that of `benchmarks.autonomous`: one process without ROS, one reset at the beginning and never again. No reward of the
simulator reaches training; it counts successes for the curves. `cloning` has as many updates as MEDAL++ with all of its practice,
so that "better than cloning" does not mean better than a clone that was stopped early. Every (method, seed) is a process of its
own; its result goes to docs/results/proof-medalpp.json when it ends; `--resume` does not repeat what is there. Exit status 1 when
the requirement is missed or a run fails.

    python tools/prove_medalpp.py --seeds 0 1 2 --jobs 2
    python tools/prove_medalpp.py --only medal_pp --seeds 10 --steps 2000 recipe.data.utd=1
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import proofs
from benchmarks.scripted import demonstrate
from etude.config import REPOSITORY, RunConfig, load_run_config
from etude.specs import PHASES

RESULTS = REPOSITORY / "docs" / "results"
RECIPE, TASK, ROBOT = "medal_pp_cpu", "slide", "sim_panda_fast"
METHODS = ("medal_pp", "cloning")
STEPS, EVALUATE_EVERY, EPISODES, FINAL_EPISODES = 4_000, 500, 20, 50
"""Of one run; the first and the last evaluation have `FINAL_EPISODES`."""
Row = dict[str, Any]


@dataclass(frozen=True)
class Run:
    method: str
    seed: int
    steps: int
    overrides: tuple[str, ...] = ()

    @property
    def key(self) -> tuple[str, int]:
        return self.method, self.seed


# --- one run ----------------------------------------------------------------------------------------------------------


def configuration(run: Run) -> RunConfig:
    """The recipe on the task; `cloning` has the updates of practice before it too, all of cloning, and is not practised."""
    source = {"task": TASK, "robot": ROBOT, "recipe": RECIPE, "observation": "pixels", "seed": run.seed}
    config = load_run_config(source, run.overrides)
    if run.method == "cloning":
        updates = config.recipe.data.pretrain_bc_steps + int(run.steps * config.recipe.data.utd)
        config = load_run_config(source, [*run.overrides, f"recipe.data.pretrain_bc_steps={updates}"])
    return config


def perform(run: Run) -> Row:
    """Record the demonstrations, learn from them, practise; the row of the results."""
    from actor.demonstrations import max_steps
    from benchmarks.autonomous import Budget, practise

    config = configuration(run)
    steps = run.steps if run.method == "medal_pp" else 0
    budget = Budget(steps, EVALUATE_EVERY, EPISODES, max_steps(config)["forward"], FINAL_EPISODES)
    began_s = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="etude-proof-") as folder:
        store = Path(folder) / "demonstrations"
        demonstrate(config, store)
        outcome = practise(config, store, budget, lambda text: print(f"{run.method} seed {run.seed}: {text}", flush=True))
    return {
        "method": run.method,
        "seed": run.seed,
        "steps": outcome.steps,
        "robot_minutes": round(outcome.steps / config.robot.control_rate_hz / 60, 2),
        "minutes": round((time.monotonic() - began_s) / 60, 2),
        "before": outcome.curve[0][1],
        "after": outcome.curve[-1][1],
        "curve": outcome.curve,
        "practice": outcome.practice,
        "attempts_and_successes": {
            phase: [sum(p == phase for _, p, _ in outcome.practice), sum(s for _, p, s in outcome.practice if p == phase)]
            for phase in PHASES
        },
        "resets": outcome.interventions,
        "updates": outcome.updates,
        "seconds": {name: round(value, 1) for name, value in outcome.seconds.items()},
        "metrics": outcome.metrics,
        "recipe": RECIPE,
        "overrides": list(run.overrides),
        "demonstrations_per_direction": config.task.demonstrations_per_direction,
        "command": command(run),
    }


def command(run: Run) -> str:
    words = ["python tools/prove_medalpp.py", "--only", run.method, "--seeds", str(run.seed), "--steps", str(run.steps)]
    return " ".join([*words, *run.overrides])


def work(words: Sequence[str]) -> int:
    """What a worker does: method, seed, steps, file of the result, settings."""
    method, seed, steps, out, *overrides = words
    Path(out).write_text(json.dumps(perform(Run(method, int(seed), int(steps), tuple(overrides)))), encoding="utf-8")
    return 0


# --- all runs ---------------------------------------------------------------------------------------------------------


def results_file() -> Path:
    return RESULTS / "proof-medalpp.json"


def recorded() -> list[Row]:
    """What earlier calls recorded."""
    return proofs.recorded(results_file())


def record(rows: Sequence[Row]) -> None:
    """Write the results and the plot."""
    proofs.write_rows(results_file(), rows)
    plot(rows, results_file().with_suffix(".png"))


def merge(old: Sequence[Row], new: Row) -> list[Row]:
    """`old` with `new` added or put in place of the same run, in the order of the methods."""
    rows = {(row["method"], row["seed"]): row for row in [*old, new]}
    return [rows[key] for key in sorted(rows, key=lambda key: (METHODS.index(key[0]), key[1]))]


def table(rows: Sequence[Row]) -> str:
    """Markdown, one line per run."""
    columns = ("method", "seed", "before", "after", "steps", "robot minutes", "wall-clock minutes", "resets")
    lines = [f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]
    for row in rows:
        practised = row["steps"] > 0
        cells = (
            row["method"],
            row["seed"],
            f"{row['before']:.2f}",
            f"{row['after']:.2f}" if practised else "–",
            f"{row['steps']:,}",
            f"{row['robot_minutes']:.1f}",
            f"{row['minutes']:.1f}",
            row["resets"],
        )
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines)


def verdict(rows: Sequence[Row], seeds: Sequence[int]) -> tuple[bool | None, str]:
    """Whether practice ends above both clones in every seed of `seeds` (None: not all were run), and a line that says so."""
    found = {(row["method"], row["seed"]): row for row in rows}
    missing = [f"{method} seed {seed}" for seed in seeds for method in METHODS if (method, seed) not in found]
    if missing:
        return None, f"not run: {', '.join(missing)}"
    pairs = [(found["medal_pp", seed], found["cloning", seed]) for seed in seeds]
    passed = all(mine["after"] > max(mine["before"], clone["before"]) for mine, clone in pairs)
    measured = ", ".join(
        f"seed {mine['seed']}: {mine['before']:.2f} (longer: {clone['before']:.2f}) → {mine['after']:.2f}"
        for mine, clone in pairs
    )
    return passed, f"{'pass' if passed else 'FAIL'}: medal_pp improves on cloning in every seed — {measured}"


def plot(rows: Sequence[Row], path: Path) -> None:
    """Deployed success of every seed against robot minutes, and that of practice beside it."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    rate_hz = 10.0
    figure, axes = plt.subplots(1, 2, figsize=(10, 4), sharey=True, layout="constrained")
    clones = {row["seed"]: row["before"] for row in rows if row["method"] == "cloning"}
    for row in (row for row in rows if row["method"] == "medal_pp"):
        steps, scores = zip(*row["curve"], strict=True)
        rate_hz = row["steps"] / row["robot_minutes"] / 60 if row["robot_minutes"] else rate_hz
        (line,) = axes[0].plot([s / rate_hz / 60 for s in steps], scores, marker="o", markersize=4, label=f"seed {row['seed']}")
        if row["seed"] in clones:
            axes[0].axhline(clones[row["seed"]], color=line.get_color(), linestyle="--", linewidth=1)
        attempts = [(at, success) for at, phase, success in row["practice"] if phase == "forward"]
        shares = [sum(success for _, success in attempts[max(0, i - 19) : i + 1]) / min(i + 1, 20) for i in range(len(attempts))]
        axes[1].plot([at / rate_hz / 60 for at, _ in attempts], shares, label=f"seed {row['seed']}")
    axes[0].set(title="deployed, from random starts (dashed: cloning alone)", ylabel="forward success", ylim=(-0.02, 1.02))
    axes[1].set(title="in practice, last 20 attempts: in the window at the end")
    for axis in axes:
        axis.set_xlabel("minutes of robot time without a reset")
        axis.grid(alpha=0.3)
    if axes[0].get_legend_handles_labels()[0]:
        axes[0].legend()
    figure.savefig(path, dpi=110)
    plt.close(figure)


def run_all(runs: Sequence[Run], jobs: int) -> Iterator[tuple[Run, Row | None]]:
    """Every run in a process of its own, `jobs` at a time; yields each with its row, or None when it failed."""
    return proofs.run_all(runs, jobs, start)


def start(run: Run, out: Path, number: int) -> subprocess.Popen:
    """A worker with one thread."""
    words = ["--worker", run.method, str(run.seed), str(run.steps), str(out), *run.overrides]
    return subprocess.Popen([sys.executable, __file__, *words], env=proofs.without_waiting(os.environ), cwd=REPOSITORY)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="MEDAL++ from pixels beside cloning alone.")
    parser.add_argument("--only", nargs="+", choices=METHODS, default=list(METHODS), help="methods (default: both)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--steps", type=int, default=STEPS, help="environment steps of practice (default: %(default)s)")
    parser.add_argument("--jobs", type=int, default=1, help="runs at the same time, one core each (default: %(default)s)")
    parser.add_argument("--resume", action="store_true", help="do not repeat runs that are recorded in docs/results")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="any setting, e.g. recipe.data.utd=1")
    words = list(sys.argv[1:] if argv is None else argv)
    if words[:1] == ["--worker"]:
        return work(words[1:])
    arguments = parser.parse_intermixed_args(words)
    rows = recorded()
    done = {(row["method"], row["seed"]) for row in rows} if arguments.resume else set()
    wanted = [
        Run(method, seed, arguments.steps, tuple(arguments.overrides)) for seed in arguments.seeds for method in arguments.only
    ]
    failed = []
    try:
        for run, row in run_all([run for run in wanted if run.key not in done], max(1, arguments.jobs)):
            if row is None:
                failed.append(run)
                print(f"{run.method} seed {run.seed} failed; its messages are above", flush=True)
                continue
            rows = merge(recorded(), row)  # another process may have recorded too
            record(rows)
            print("\n" + table(rows) + "\n", flush=True)
    except KeyboardInterrupt:
        return 130
    passed, line = verdict(rows, arguments.seeds)
    print(f"{table(rows)}\n\n{line}", flush=True)
    return int(passed is False or bool(failed))


if __name__ == "__main__":
    sys.exit(main())
