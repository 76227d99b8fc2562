"""The slow proof behind `make proof-autonomy`: EARL's tabletop without resets, method by method, beside the published numbers;
and, as suites `paint` and `paint-relocate`, what asking for help by learned irreversibility saves where the mug or a block can
fall off the table.

Every (method, seed) is a process of its own that runs `etude benchmark earl` (or `benchmarks.relocate`). Its result goes to
docs/results/proof-SUITE.json when it ends; `--resume` does not repeat what is there. Exit status 1 when the requirement is missed
or a run fails.

    python tools/prove_autonomy.py --only etude --seeds 0 1 2
    python tools/prove_autonomy.py --only medal --steps 1000000 --jobs 2
    python tools/prove_autonomy.py --suite paint --jobs 2
    python tools/prove_autonomy.py --suite paint-relocate --only relocate_paint relocate_timeouts --seeds 0
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks import earl, interventions, proofs
from benchmarks.earl import Row
from etude.config import REPOSITORY

RESULTS = REPOSITORY / "docs" / "results"
OURS, REQUIRED, WITHIN_STEPS, STEPS_PER_RESET = "etude", 0.95, 250_000, 200_000
"""Required of our recipe in every seed: the mean of the last 10 evaluations, within so many steps, with so few resets."""
SUITES = {"autonomy": ("etude", "naive", "fbrl", "vaprl", "medal")} | {
    name: suite.methods for name, suite in interventions.SUITES.items()
}
STEPS = (
    {"etude": 150_000, "naive": 250_000, "fbrl": 250_000, "vaprl": 250_000, "medal": 250_000}
    | dict.fromkeys(SUITES["paint"], 12_000)
    | dict.fromkeys(SUITES["paint-relocate"], 6_000)
)
"""Practice of each method when nothing else is asked; the published runs have 2.5 million."""


@dataclass(frozen=True)
class Run:
    method: str
    seed: int
    steps: int
    overrides: tuple[str, ...] = ()

    @property
    def key(self) -> tuple[str, int]:
        return self.method, self.seed


def results_file(suite: str = "autonomy") -> Path:
    return RESULTS / f"proof-{suite}.json"


def recorded(suite: str) -> list[Row]:
    """What earlier calls recorded."""
    return proofs.recorded(results_file(suite))


def record(suite: str, rows: Sequence[Row]) -> None:
    """Write the results and the plot."""
    file = results_file(suite)
    proofs.write_rows(file, rows)
    if suite in interventions.SUITES:
        interventions.plot(rows, file.with_suffix(".png"), interventions.SUITES[suite])
    else:
        earl.plot(rows, file.with_suffix(".png"))


def table(suite: str, rows: Sequence[Row]) -> str:
    return interventions.table(rows, interventions.SUITES[suite]) if suite in interventions.SUITES else earl.table(rows)


def key(row: Row) -> tuple[str, int]:
    """What makes a run the same as another."""
    return row["method"], row["seed"]


def merge(old: Sequence[Row], new: Row) -> list[Row]:
    """`old` with `new` added or put in place of the same run, in the order of the methods."""
    rows = {key(row): row for row in [*old, new]}
    order = [method for methods in SUITES.values() for method in methods]
    return [rows[run] for run in sorted(rows, key=lambda run: (order.index(run[0]), run[1]))]


def verdict(rows: Sequence[Row], seeds: Sequence[int]) -> tuple[bool | None, str]:
    """Whether our recipe keeps the requirement in every seed of `seeds` (None: not all were run), and a line that says so."""
    mine = {row["seed"]: row for row in rows if row["method"] == OURS}
    missing = [seed for seed in seeds if seed not in mine]
    measured = ", ".join(
        f"seed {seed}: {mine[seed]['last_10']:.3f} in {mine[seed]['steps']:,} steps, {mine[seed]['interventions'] - 1} resets"
        for seed in seeds
        if seed in mine
    )
    if missing:
        return None, f"not run: {OURS} seeds {missing}" + (f"; {measured}" if measured else "")
    passed = all(
        mine[seed]["last_10"] >= REQUIRED
        and mine[seed]["steps"] <= WITHIN_STEPS
        and mine[seed]["interventions"] - 1 <= mine[seed]["steps"] / STEPS_PER_RESET
        for seed in seeds
    )
    required = f"at least {REQUIRED} within {WITHIN_STEPS:,} steps, at most 1 reset per {STEPS_PER_RESET:,}"
    return passed, f"{'pass' if passed else 'FAIL'}: {OURS}, {required} — {measured}"


def judge(suite: str, rows: Sequence[Row], seeds: Sequence[int], methods: Sequence[str]) -> tuple[bool | None, str]:
    """The verdict of a suite, as `verdict`; none where nothing that is required was run."""
    if suite in interventions.SUITES:
        return interventions.verdict(rows, seeds, interventions.SUITES[suite])
    return verdict(rows, seeds) if OURS in methods else (None, "")


def run_all(runs: Sequence[Run], jobs: int) -> Iterator[tuple[Run, Row | None]]:
    """Every run in a process of its own, `jobs` at a time; yields each with its row, or None when it failed."""
    for run, rows in proofs.run_all(runs, jobs, start):
        yield run, rows[0] if rows else None


def start(run: Run, out: Path, number: int) -> subprocess.Popen:
    """The benchmark's own command with one thread."""
    environment = proofs.without_waiting(os.environ)
    if run.method in SUITES["paint-relocate"]:
        words = ["benchmarks.relocate", run.method, str(run.seed), str(run.steps), str(out)]
    else:
        words = ["etude.cli", "benchmark", "earl", "--method", run.method, "--seeds", str(run.seed), "--steps", str(run.steps)]
        words += ["--out", str(out)]
    return subprocess.Popen([sys.executable, "-m", *words, *run.overrides], env=environment, cwd=REPOSITORY)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="EARL's tabletop without resets, beside the published numbers.")
    parser.add_argument("--suite", choices=list(SUITES), default="autonomy")
    parser.add_argument(
        "--only",
        nargs="+",
        choices=list(STEPS),
        help="methods (default: all of the suite)",
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--steps", type=int, help=f"environment steps of every run (default: {STEPS})")
    parser.add_argument("--jobs", type=int, default=1, help="runs at the same time, one core each (default: %(default)s)")
    parser.add_argument("--resume", action="store_true", help="do not repeat runs that are recorded in docs/results")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="any setting, e.g. recipe.data.utd=2")
    arguments = parser.parse_intermixed_args(argv)
    suite = arguments.suite
    methods = arguments.only or SUITES[suite]
    if strangers := [method for method in methods if method not in SUITES[suite]]:
        parser.error(f"suite {suite!r} has no method {strangers[0]!r}: use one of {', '.join(SUITES[suite])}, or another --suite")
    rows = recorded(suite)
    done = {key(row) for row in rows if row["budget"]["steps"] >= (arguments.steps or STEPS[row["method"]])}
    overrides = tuple(arguments.overrides)
    wanted = [Run(method, seed, arguments.steps or STEPS[method], overrides) for seed in arguments.seeds for method in methods]
    failed = []
    try:
        for run, row in run_all([run for run in wanted if not (arguments.resume and run.key in done)], max(1, arguments.jobs)):
            if row is None:
                failed.append(run)
                print(f"{run.method} seed {run.seed} failed; its messages are above", flush=True)
                continue
            rows = merge(recorded(suite), row)  # another process may have recorded too
            record(suite, rows)
            print("\n" + table(suite, rows) + "\n", flush=True)
    except KeyboardInterrupt:
        return 130
    passed, line = judge(suite, rows, arguments.seeds, methods)
    print(f"{table(suite, rows)}\n\n{line}", flush=True)
    return int(passed is False or bool(failed))


if __name__ == "__main__":
    sys.exit(main())
