"""The slow proof behind `make proof-autonomy`: EARL's tabletop without resets, method by method, beside the published numbers;
and, as suite `paint`, what asking for help by learned irreversibility saves where the mug can fall off the table.

Every (method, seed) is a process of its own that runs `etude benchmark earl`. Its result goes to docs/results/proof-autonomy.json
(or proof-paint.json) when it ends; `--resume` does not repeat what is there. Exit status 1 when the requirement is missed or a
run fails.

    python tools/prove_autonomy.py --only etude --seeds 0 1 2
    python tools/prove_autonomy.py --only medal --steps 1000000 --jobs 2
    python tools/prove_autonomy.py --suite paint --jobs 2
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks import interventions, proofs
from benchmarks.earl import METHODS, Row, plot, table
from etude.config import REPOSITORY

RESULTS = REPOSITORY / "docs" / "results"
OURS, REQUIRED, WITHIN_STEPS, STEPS_PER_RESET = "etude", 0.95, 250_000, 200_000
"""Required of our recipe in every seed: the mean of the last 10 evaluations, within so many steps, with so few resets."""
SUITES = {"autonomy": ("etude", "naive", "fbrl", "vaprl", "medal"), "paint": (*interventions.WITHOUT, interventions.WITH)}
STEPS = {"etude": 150_000, "naive": 250_000, "fbrl": 250_000, "vaprl": 250_000, "medal": 250_000} | dict.fromkeys(
    SUITES["paint"], 40_000
)
"""Practice of each method when nothing else is asked; the published runs have 2.5 million."""


@dataclass(frozen=True)
class Run:
    method: str
    seed: int
    steps: int

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
    (interventions.plot if suite == "paint" else plot)(rows, file.with_suffix(".png"))


def merge(old: Sequence[Row], new: Row) -> list[Row]:
    """`old` with `new` added or put in place of the same run, in the order of the methods."""
    rows = {(row["method"], row["seed"]): row for row in [*old, new]}
    order = list(METHODS)
    return [rows[key] for key in sorted(rows, key=lambda key: (order.index(key[0]), key[1]))]


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


def run_all(runs: Sequence[Run], jobs: int) -> Iterator[tuple[Run, Row | None]]:
    """Every run in a process of its own, `jobs` at a time; yields each with its row, or None when it failed."""
    for run, rows in proofs.run_all(runs, jobs, start):
        yield run, rows[0] if rows else None


def start(run: Run, out: Path, number: int) -> subprocess.Popen:
    """The benchmark's own command with one thread."""
    words = ["benchmark", "earl", "--method", run.method, "--seeds", str(run.seed), "--steps", str(run.steps), "--out", str(out)]
    environment = proofs.without_waiting(os.environ)
    return subprocess.Popen([sys.executable, "-m", "etude.cli", *words], env=environment, cwd=REPOSITORY)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="EARL's tabletop without resets, beside the published numbers.")
    parser.add_argument("--suite", choices=list(SUITES), default="autonomy")
    parser.add_argument("--only", nargs="+", choices=list(METHODS), help="methods (default: all of the suite)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--steps", type=int, help=f"environment steps of every run (default: {STEPS})")
    parser.add_argument("--jobs", type=int, default=1, help="runs at the same time, one core each (default: %(default)s)")
    parser.add_argument("--resume", action="store_true", help="do not repeat runs that are recorded in docs/results")
    arguments = parser.parse_args(argv)
    suite = arguments.suite
    methods = arguments.only or SUITES[suite]
    if strangers := [method for method in methods if method not in SUITES[suite]]:
        parser.error(f"suite {suite!r} has no method {strangers[0]!r}: use one of {', '.join(SUITES[suite])}, or another --suite")
    rows = recorded(suite)
    done = {(row["method"], row["seed"]) for row in rows if row["steps"] >= (arguments.steps or STEPS[row["method"]])}
    wanted = [Run(method, seed, arguments.steps or STEPS[method]) for seed in arguments.seeds for method in methods]
    failed = []
    try:
        for run, row in run_all([run for run in wanted if not (arguments.resume and run.key in done)], max(1, arguments.jobs)):
            if row is None:
                failed.append(run)
                print(f"{run.method} seed {run.seed} failed; its messages are above", flush=True)
                continue
            rows = merge(rows, row)
            record(suite, rows)
            print("\n" + table(rows) + "\n", flush=True)
    except KeyboardInterrupt:
        return 130
    judged = suite == "paint" or OURS in methods
    passed, line = (interventions.verdict if suite == "paint" else verdict)(rows, arguments.seeds) if judged else (None, "")
    print(f"{table(rows)}\n\n{line}", flush=True)
    return int(passed is False or bool(failed))


if __name__ == "__main__":
    sys.exit(main())
