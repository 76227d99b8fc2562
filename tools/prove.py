"""The slow proofs behind `make proof-demo` and `make proof-tasks`: whole headless runs, each held against its bar.

Every run is the command that a person would type; its summary.json is read and the table is printed after each run, so an
interrupted proof still shows what it has. Exit status 1 when a run misses its bar.

    python tools/prove.py demo --seeds 0 1 2 --minutes 20
    python tools/prove.py tasks --only drawer
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from etude.run_folder import RunFolder, runs_root

RUNS = Path(__file__).resolve().parent.parent / "robot_configs" / "runs"


@dataclass(frozen=True)
class Proof:
    """One run and its bar: forward success of the final evaluation, and below what it must have begun (None: anything)."""

    task: str
    observation: str
    minutes: float
    at_least: float
    before_below: float | None = None

    @property
    def config(self) -> Path:
        return RUNS / ("demo_state.yaml" if self.observation == "state" else "demo.yaml")


PROOFS = {
    "demo": (
        Proof("slide", "pixels", 20, at_least=0.85, before_below=0.40),
        Proof("slide", "state", 5, at_least=0.85),
    ),
    "tasks": (
        Proof("drawer", "state", 10, at_least=0.60),
        Proof("relocate", "state", 20, at_least=0.60),
        Proof("peg", "state", 20, at_least=0.60),
    ),
}


def run(proof: Proof, seed: int, minutes: float) -> dict:
    """Practise and return the summary, with ``run`` and ``status`` added."""
    name = f"proof-{proof.task}-{proof.observation}-s{seed}-{time.strftime('%Y%m%d-%H%M%S')}"
    command = [sys.executable, "-m", "etude", "practice", "run", "--config", str(proof.config), "--headless"]
    command += ["--task", proof.task, "--minutes", f"{minutes:g}", "--seed", str(seed), "--name", name]
    print("\n$ etude", *command[3:], flush=True)
    status = subprocess.run(command, check=False).returncode
    summary_file = RunFolder(runs_root() / name).summary
    summary = json.loads(summary_file.read_text(encoding="utf-8")) if summary_file.is_file() else {}
    return {**summary, "run": name, "status": status}


def passed(proof: Proof, summary: dict) -> bool:
    after, before = summary.get("forward_success"), summary.get("forward_success_before")
    if summary["status"] != 0 or after is None or after < proof.at_least:
        return False
    return proof.before_below is None or (before is not None and before < proof.before_below)


def table(rows: Sequence[tuple[Proof, int, dict]]) -> str:
    """A Markdown table, ready for docs/benchmarks.md."""
    lines = [
        "| task | observation | seed | minutes | before | after | backward | to 85% (min) | help | steps | passed |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for proof, seed, summary in rows:
        keys = (
            "minutes",
            "forward_success_before",
            "forward_success",
            "backward_success",
            "minutes_to_85",
            "help_requests",
            "env_steps",
        )
        cells = [_cell(summary.get(key)) for key in keys]
        verdict = "yes" if passed(proof, summary) else "**no**"
        lines.append(f"| {proof.task} | {proof.observation} | {seed} | {' | '.join(cells)} | {verdict} |")
    return "\n".join(lines)


def _cell(value: object) -> str:
    if value is None:
        return "–"
    return f"{value:.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Whole headless runs, each held against its bar.")
    parser.add_argument("proof", choices=sorted(PROOFS))
    parser.add_argument("--seeds", type=int, nargs="+", help="default: 0 1 2 for the demo, 0 for the tasks")
    parser.add_argument("--minutes", type=float, help="instead of each run's own time")
    parser.add_argument("--only", metavar="WORD", help="only runs whose task or observation this is, e.g. state or drawer")
    arguments = parser.parse_args(argv)
    proofs = [p for p in PROOFS[arguments.proof] if arguments.only in (None, p.task, p.observation)]
    if not proofs:
        parser.error(
            f"--only {arguments.only!r} matches none of {[f'{p.task} {p.observation}' for p in PROOFS[arguments.proof]]}"
        )
    seeds = arguments.seeds or ([0, 1, 2] if arguments.proof == "demo" else [0])
    rows: list[tuple[Proof, int, dict]] = []
    try:
        for proof in proofs:
            for seed in seeds:
                rows.append((proof, seed, run(proof, seed, arguments.minutes or proof.minutes)))
                print("\n" + table(rows), flush=True)
                if rows[-1][2]["status"] == 130:
                    raise KeyboardInterrupt
    except KeyboardInterrupt:
        return 130
    return int(not all(passed(proof, summary) for proof, _, summary in rows))


if __name__ == "__main__":
    sys.exit(main())
