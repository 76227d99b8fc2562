"""The slow proof behind `make proof-learned-reward`: practice with the learned reward beside practice with the ground truth.

Nine runs of the demo from pixels: rewarded by the environment, by the classifier, and by a classifier that was trained with a
tenth of its successes mislabelled, three seeds each. The bar: forward success of the final evaluation, by ground truth, on
average at most 5 points below that of the environment's reward. Runs that are recorded in the results are not repeated.

    python tools/prove_learned_reward.py --seeds 0 --minutes 10
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from etude.config import REPOSITORY
from etude.durable import write_atomic
from etude.run_folder import RunFolder, runs_root
from etude.summary import read_json

RESULTS = REPOSITORY / "docs" / "results" / "proof-learned-reward.json"
WITHIN = 0.05
TRUTH = "truth"
ARMS = {
    TRUTH: ("recipe.reward.kind=environment",),
    "classifier": (),
    "mislabelled": ("recipe.reward.classifier.mislabelled_share=0.1",),
}
KEPT = ("forward_success", "backward_success", "judge_precision", "judge_recall", "env_steps", "minutes")
Rows = dict[str, dict[str, dict]]
"""Arm -> seed -> summary."""


def run(arm: str, seed: int, minutes: float) -> dict:
    """Practise; the summary's interesting part with ``run`` and ``status`` added."""
    name = f"learned-reward-{arm}-s{seed}-{time.strftime('%Y%m%d-%H%M%S')}"
    command = [sys.executable, "-m", "etude", "practice", "run", "--config", str(REPOSITORY / "robot_configs/runs/demo.yaml")]
    command += ["--headless", "--minutes", f"{minutes:g}", "--seed", str(seed), "--name", name, *ARMS[arm]]
    print("\n$ etude", *command[3:], flush=True)
    status = subprocess.run(command, check=False).returncode
    summary = read_json(RunFolder(runs_root() / name).summary) or {}
    return {**{key: summary.get(key) for key in KEPT}, "run": name, "status": status}


def verdicts(rows: Mapping[str, Mapping[str, Mapping]]) -> dict[str, bool | None]:
    """Arm -> whether it comes within the bar of the ground truth's mean, over the seeds that both have; None without any."""
    told: dict[str, bool | None] = {}
    for arm in ARMS:
        if arm == TRUTH:
            continue
        seeds = [seed for seed in rows.get(arm, {}) if complete(rows[arm][seed]) and complete(rows.get(TRUTH, {}).get(seed, {}))]
        if not seeds:
            told[arm] = None
            continue
        mean = {name: np.mean([rows[name][seed]["forward_success"] for seed in seeds]) for name in (TRUTH, arm)}
        told[arm] = bool(mean[arm] >= mean[TRUTH] - WITHIN - 1e-9)
    return told


def complete(summary: Mapping) -> bool:
    """A run that was stopped has no final evaluation."""
    return summary.get("status") == 0 and summary.get("forward_success") is not None


def table(rows: Rows) -> str:
    lines = ["| reward | seed | forward | backward | judge precision | judge recall |", "|---|---|---|---|---|---|"]
    for arm in ARMS:
        for seed, summary in sorted(rows.get(arm, {}).items()):
            cells = [summary.get(key) for key in KEPT[:4]]
            lines.append(f"| {arm} | {seed} | " + " | ".join("–" if c is None else f"{c:.2f}" for c in cells) + " |")
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--arms", nargs="+", choices=list(ARMS), default=list(ARMS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--minutes", type=float, default=20.0, help="of practice per run (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=RESULTS, help="results, added to (default: %(default)s)")
    arguments = parser.parse_args(argv)
    told = json.loads(arguments.out.read_text()) if arguments.out.is_file() else {"minutes": arguments.minutes, "runs": {}}
    if told["minutes"] != arguments.minutes:
        print(f"{arguments.out} holds runs of {told['minutes']:g} minutes: choose another --out", file=sys.stderr)
        return 2
    rows: Rows = told["runs"]
    for seed in arguments.seeds:
        for arm in arguments.arms:
            if complete(rows.get(arm, {}).get(str(seed), {})):
                print(f"{arm}, seed {seed}: recorded already", flush=True)
                continue
            summary = run(arm, seed, arguments.minutes)
            if summary["status"] == 130:
                return 130
            rows.setdefault(arm, {})[str(seed)] = summary
            told["within_5_points"] = verdicts(rows)
            arguments.out.parent.mkdir(parents=True, exist_ok=True)
            write_atomic(arguments.out, (json.dumps(told, indent=1) + "\n").encode())
            print(table(rows), flush=True)
    whole = all(complete(rows.get(arm, {}).get(str(seed), {})) for arm in arguments.arms for seed in arguments.seeds)
    return 0 if whole and all(verdict is not False for verdict in verdicts(rows).values()) else 1


if __name__ == "__main__":
    sys.exit(main())
