"""The slow proofs behind `make proof-demo`, `make proof-tasks` and `make proof-hour`: whole headless runs, each held against its
bar.

Every run is the command that a person would type; its summary.json is read and the table is printed after each run, so an
interrupted proof still shows what it has. Results and the curves of every seed go to docs/results/ after each run; `--resume`
does not repeat the finished ones among them. Exit status 1 when a run misses its bar.

    python tools/prove.py demo --seeds 0 1 2 --minutes 20
    python tools/prove.py tasks --only drawer
    python tools/prove.py relocate-hour --set robot=sim_panda_fast --minutes 25
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from etude.run_folder import RunFolder, runs_root
from etude.summary import curve, read_json, read_json_lines

RESULTS = Path(__file__).resolve().parent.parent / "docs" / "results"
RUNS = Path(__file__).resolve().parent.parent / "robot_configs" / "runs"


@dataclass(frozen=True)
class Proof:
    """One run and its bar: forward success of the final evaluation, below what it must have begun (None: anything), how often a
    person may be asked, and how long it must have practised: so many control steps of attempts, or its minutes in real time."""

    task: str
    observation: str
    minutes: float
    at_least: float
    before_below: float | None = None
    overrides: tuple[str, ...] = ()
    help_at_most: int | None = None
    steps_at_least: int | None = None

    @property
    def config(self) -> Path:
        if self.task == "relocate_tray":
            return RUNS / "relocate_hour.yaml"
        if self.task != "slide":
            return RUNS / "tasks_state.yaml"
        return RUNS / ("demo_state.yaml" if self.observation == "state" else "demo.yaml")


PROOFS = {
    "demo": (
        Proof("slide", "pixels", 20, at_least=0.85, before_below=0.40),
        Proof("slide", "state", 5, at_least=0.85),
    ),
    "tasks": (
        Proof("drawer", "state", 10, at_least=0.60),
        Proof("relocate", "state", 20, at_least=0.60),
        # an arm that lets go of the peg before it wanders would topple it
        Proof("peg", "state", 20, at_least=0.60, overrides=("recipe.reset.wander_steps=0",)),
    ),
    # 36,000 steps are an hour at 10 Hz
    "relocate-hour": (Proof("relocate_tray", "state", 60, at_least=0.85, help_at_most=5, steps_at_least=36_000),),
}


def run(proof: Proof, seed: int, minutes: float) -> dict:
    """Practise and return the summary, with ``run`` and ``status`` added."""
    name = f"proof-{proof.task}-{proof.observation}-s{seed}-{time.strftime('%Y%m%d-%H%M%S')}"
    command = [sys.executable, "-m", "etude", "practice", "run", "--config", str(proof.config), "--headless"]
    command += ["--task", proof.task, "--minutes", f"{minutes:g}", "--seed", str(seed), "--name", name]
    command += proof.overrides
    print("\n$ etude", *command[3:], flush=True)
    status = subprocess.run(command, check=False).returncode
    return {**read_summary(RunFolder(runs_root() / name)), "run": name, "status": status}


def came_to_its_end(summary: dict) -> bool:
    """A run that Ctrl-C stopped ends with status 0 too, but without its final evaluation."""
    return summary.get("status") == 0 and summary.get("forward_success") is not None


def passed(proof: Proof, summary: dict) -> bool:
    before = summary.get("forward_success_before")
    if not came_to_its_end(summary) or summary["forward_success"] < proof.at_least:
        return False
    if proof.help_at_most is not None and summary.get("help_requests", 0) > proof.help_at_most:
        return False
    if proof.steps_at_least is not None and not long_enough(proof, summary):
        return False
    return proof.before_below is None or (before is not None and before < proof.before_below)


def long_enough(proof: Proof, summary: dict) -> bool:
    """As many control steps as were asked for, or all the minutes at the pace of a real arm, whose evaluations and ways between
    attempts count too."""
    in_real_time = summary.get("pace") == "realtime" and (summary.get("minutes") or 0) >= proof.minutes
    return in_real_time or (summary.get("env_steps") or 0) >= (proof.steps_at_least or 0)


def record(name: str, rows: Sequence[tuple[Proof, int, dict]]) -> None:
    """Write ``docs/results/proof-<name>.json`` and one plot per (task, observation) with the curve of every seed."""
    RESULTS.mkdir(parents=True, exist_ok=True)
    entries = [
        {
            "command": f"python tools/prove.py {name} --only {proof.observation if name == 'demo' else proof.task} "
            f"--seeds {seed} --minutes {planned_minutes(proof, summary):g}" + _given(summary),
            "bar": _bar(proof),
            "passed": passed(proof, summary),
            **summary,
        }
        for proof, seed, summary in rows
    ]
    results_file(name).write_text(json.dumps(entries, indent=1) + "\n", encoding="utf-8")
    for task, observation in dict.fromkeys((proof.task, proof.observation) for proof, _, _ in rows):
        mine = [(p, s, r) for p, s, r in rows if (p.task, p.observation) == (task, observation) and r.get("evaluations")]
        if mine:
            _plot(mine, RESULTS / f"proof-{name if name == 'relocate-hour' else f'{task}-{observation}'}.png")


def _given(summary: dict) -> str:
    return "".join(f" --set {setting}" for setting in summary.get("settings", ()))


def _bar(proof: Proof) -> dict:
    bar: dict = {"forward_success": proof.at_least, "forward_success_before_below": proof.before_below}
    if proof.help_at_most is not None:
        bar |= {"help_requests_at_most": proof.help_at_most, "control_steps_at_least": proof.steps_at_least}
    return bar


def planned_minutes(proof: Proof, summary: dict) -> float:
    """The minutes that were asked for (`minutes` are those that it practised); of an older summary, the nearest whole ones."""
    return summary.get("minutes_planned") or round(summary.get("minutes") or 0) or proof.minutes


def results_file(name: str) -> Path:
    return RESULTS / f"proof-{name}.json"


def finished(name: str) -> list[tuple[Proof, int, dict]]:
    """What an earlier call recorded."""
    if not results_file(name).is_file():
        return []
    by_kind = {(p.task, p.observation): p for p in PROOFS[name]}
    entries = json.loads(results_file(name).read_text(encoding="utf-8"))
    return [(by_kind[e["task"], e["observation"]], e["seed"], e) for e in entries if (e["task"], e["observation"]) in by_kind]


def _plot(rows: Sequence[tuple[Proof, int, dict]], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(10, 4), sharey=True, layout="constrained")
    for axis, phase in zip(axes, ("forward", "backward"), strict=True):
        for proof, seed, summary in rows:
            points = [(_abscissa(proof, e), e["success_rate"]) for e in summary["evaluations"] if e["phase"] == phase]
            axis.plot(*zip(*points, strict=True), marker="o", markersize=4, label=f"seed {seed}")
            for call in summary.get("help", ()) if proof.help_at_most is not None else ():
                axis.axvline(_abscissa(proof, call), color="tab:red", linewidth=0.8)
        axis.axhline(rows[0][0].at_least if phase == "forward" else float("nan"), color="grey", linestyle="--", linewidth=1)
        axis.set(title=f"{rows[0][0].task}, {phase}", xlabel=_unit(rows[0][0]), ylim=(-0.02, 1.02))
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("success in evaluation, from random starts")
    axes[0].legend()
    figure.savefig(path, dpi=110)
    plt.close(figure)


def _abscissa(proof: Proof, row: dict) -> float:
    return row["run_time_s"] / 60 if proof.steps_at_least is None else row["env_steps"] / 1000


def _unit(proof: Proof) -> str:
    if proof.steps_at_least is None:
        return "minutes of practice"
    return "thousand control steps" + ("; red: a call for help" if proof.help_at_most is not None else "")


def read_summary(folder: RunFolder) -> dict:
    """summary.json, empty when the run has none; with the curve, which older versions lack, and every call for help."""
    summary = read_json(folder.summary)
    return {"evaluations": curve(folder), **summary, "help": calls_for_help(folder)} if summary else {}


def calls_for_help(folder: RunFolder) -> list[dict]:
    """When a person was asked, and why."""
    asked = [row for row in read_json_lines(folder.help_log) if row.get("event") == "asked"]
    return [{key: row.get(key) for key in ("run_time_s", "env_steps", "phase", "reason")} for row in asked]


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
    parser.add_argument(
        "--set",
        metavar="KEY=VALUE",
        dest="settings",
        nargs="+",
        action="extend",
        default=[],
        help="settings that the runs have beside their own",
    )
    parser.add_argument("--resume", action="store_true", help="do not repeat finished runs that are recorded in docs/results")
    parser.add_argument(
        "--collect", metavar="RUN", type=Path, nargs="+", help="record these finished runs instead of making new ones"
    )
    arguments = parser.parse_args(argv)
    proofs = [p for p in PROOFS[arguments.proof] if arguments.only in (None, p.task, p.observation)]
    if not proofs:
        parser.error(
            f"--only {arguments.only!r} matches none of {[f'{p.task} {p.observation}' for p in PROOFS[arguments.proof]]}"
        )
    seeds = arguments.seeds or ([0, 1, 2] if arguments.proof == "demo" else [0])
    # results of other runs are kept beside the new ones; the runs asked for replace their own, unless resumed
    rows = finished(arguments.proof)
    if arguments.collect:
        rows = merge(rows, [collected(arguments.proof, folder, arguments.settings) for folder in arguments.collect])
        record(arguments.proof, rows)
        print(table(rows))
        return 0
    done = {(p.task, p.observation, seed) for p, seed, summary in rows if arguments.resume and came_to_its_end(summary)}
    try:
        for proof in proofs:
            for seed in seeds:
                if (proof.task, proof.observation, seed) in done:
                    print(f"{proof.task} {proof.observation} seed {seed}: recorded already", flush=True)
                    continue
                changed = replace(proof, overrides=(*proof.overrides, *arguments.settings))
                summary = run(changed, seed, arguments.minutes or proof.minutes)
                summary |= {"settings": arguments.settings} if arguments.settings else {}
                if summary["status"] == 130:
                    raise KeyboardInterrupt
                rows = merge(rows, [(proof, seed, summary)])
                record(arguments.proof, rows)
                print("\n" + table(rows), flush=True)
    except KeyboardInterrupt:
        return 130
    return int(not all(passed(proof, summary) for proof, _, summary in rows if proof in proofs))


def merge(old: list[tuple[Proof, int, dict]], new: list[tuple[Proof, int, dict]]) -> list[tuple[Proof, int, dict]]:
    """`old` with the rows of `new` added or put in place of the same task, observation and seed; sorted."""
    rows = {(p.task, p.observation, seed): (p, seed, summary) for p, seed, summary in [*old, *new]}
    return [rows[key] for key in sorted(rows)]


def collected(name: str, folder: Path, settings: Sequence[str] = ()) -> tuple[Proof, int, dict]:
    """A finished run as a row of the proof, for runs that were made one by one."""
    summary = read_summary(RunFolder(folder))
    proof = next((p for p in PROOFS[name] if (p.task, p.observation) == (summary.get("task"), summary.get("observation"))), None)
    if proof is None:
        raise SystemExit(f"{folder} has no summary.json of a run that belongs to the proof {name!r}")
    summary |= {"settings": list(settings)} if settings else {}
    return proof, summary["seed"], {**summary, "run": folder.resolve().name, "status": 0}


if __name__ == "__main__":
    sys.exit(main())
