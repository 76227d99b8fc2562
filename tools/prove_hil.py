"""The slow proof behind `make proof-hil`: what a person's corrections are worth, on `peg` from state, in one process per run.

Every (method, seed) is a run of its own on one core, without ROS. `hil_serl` is watched by a scripted person who takes over when
the policy strays; `hil_serl_alone` is the same without corrections; `rlif` learns from when a person takes over who is not good
at the task. Results go to docs/results/proof-hil.json when a run ends, with the settings that make it again; `--resume` does not
repeat what is there. Exit status 1 when a requirement is missed or a run fails.

    python tools/prove_hil.py --jobs 2
    python tools/prove_hil.py --only rlif --seeds 0
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks import human_report, proofs
from benchmarks.human import Temper
from benchmarks.human_report import Row
from benchmarks.scripted import demonstrate
from etude.config import REPOSITORY, RunConfig, load_run_config

RESULTS = REPOSITORY / "docs" / "results"
TASK, ROBOT = "peg", "sim_panda"
DEMONSTRATIONS = 5
"""All methods and seeds learn from the same ones; with 30, cloning alone solves the task."""
CORRECTOR_SEED, CORRECTOR_EPISODES = 1, 50
"""Of the measurement of what the person can do alone."""

COMMON = (
    "recipe.reset.kind=human",
    "recipe.critic.hidden=[128,128]",
    "recipe.critic.bound_targets=true",
    "recipe.policy.hidden=[128,128]",
    "recipe.policy.average_rate=0.02",
    "recipe.improvement.bc_weight=4",
    "recipe.data.batch_size=128",
    "recipe.data.min_online_steps=0",
    "recipe.data.utd=2",
)
HIL_SERL = (
    "recipe.reward.kind=environment",
    "recipe.reward.consecutive_frames=1",
    "recipe.data.pretrain_bc_steps=500",
    "recipe.data.bootstrap_through_timeouts=false",
    "recipe.policy.log_std_max=-1.5",
    "recipe.improvement.initial_temperature=0.001",
    "recipe.improvement.target_entropy_per_dim=-1",
)
"""Little exploration, and failing is worth nothing: chosen on seed 10, which is not reported."""
RLIF = (
    "recipe.critic.ensemble=4",
    "recipe.critic.subset_min=4",
    "recipe.critic.discount=0.95",
    "recipe.data.pretrain_bc_steps=3000",
    "recipe.data.min_online_steps=1000",
    "recipe.data.utd=4",
    "recipe.policy.online_learning_rate=0.0001",
    "recipe.policy.average_rate=0.005",
    "recipe.policy.log_std_max=-1.5",
    "recipe.improvement.q_reduction=min",
    "recipe.improvement.initial_temperature=0.001",
    "recipe.improvement.target_entropy_per_dim=-1",
)
"""A critic that knows no reward but -1 flatters what it never saw: the smallest of four members, a policy that moves slowly, and
steps of practice before it moves at all keep it near what was cloned until take-overs have said where that is wrong. Cloning is
done to its end first, because it goes on beside the critic: with 1,000 slow updates of it, practice looked better than it was."""
GOOD = Temper(patience_steps=5, stay_steps=10)
BAD = Temper(patience_steps=5, stay_steps=10, noise=0.2, slip=0.2)


@dataclass(frozen=True)
class Method:
    """A recipe with what is changed of it, the person beside it, and the practice of every run."""

    base: str
    overrides: tuple[str, ...]
    temper: Temper
    online_steps: int
    evaluate_every_steps: int = 500
    evaluation_episodes: int = 20


METHODS = {
    "hil_serl": Method("hil_serl", (*COMMON, *HIL_SERL), GOOD, 3_000),
    "hil_serl_alone": Method("hil_serl", (*COMMON, *HIL_SERL), Temper(corrects=False), 6_000),
    "rlif": Method("rlif", (*COMMON, *RLIF), BAD, 8_000, 1_000),
}


@dataclass(frozen=True)
class Run:
    method: str
    seed: int

    @property
    def key(self) -> tuple[str, int]:
        return self.method, self.seed

    def __str__(self) -> str:
        return f"{self.method} seed {self.seed}"


def configuration(run: Run) -> RunConfig:
    method = METHODS[run.method]
    source = {"task": TASK, "robot": ROBOT, "recipe": method.base, "observation": "state", "seed": run.seed}
    return load_run_config(source, list(method.overrides))


# --- one run, in a process of its own -----------------------------------------------------------------------------------


def perform(run: Run) -> Row:
    """Demonstrations into a temporary store, then the run; returns its row of the results."""
    from benchmarks.episodic import Budget, offline_to_online
    from benchmarks.human import ScriptedHuman, alone

    config, method = configuration(run), METHODS[run.method]
    budget = Budget(method.online_steps, method.evaluate_every_steps, method.evaluation_episodes, explore=False)
    with tempfile.TemporaryDirectory(prefix="etude-proof-") as folder:
        store = Path(folder) / "demonstrations"
        demonstrate(config, store, DEMONSTRATIONS)
        outcome = offline_to_online(
            config,
            store,
            budget,
            lambda text: print(f"{run}: {text}", flush=True),
            lambda robot: ScriptedHuman(robot, method.temper, config.seed),
        )
    corrector = alone(config, method.temper, CORRECTOR_EPISODES, CORRECTOR_SEED) if method.temper.corrects else None
    return {
        "method": run.method,
        "seed": run.seed,
        "start": outcome.offline,
        "final": outcome.final,
        "corrector_success": corrector,
        "curve": outcome.curve,
        "practice": outcome.practice,
        "corrections": outcome.corrections,
        "updates": outcome.updates,
        "updates_per_s": outcome.updates_per_s(),
        "seconds": {name: round(value, 1) for name, value in outcome.seconds.items()},
        "metrics": outcome.metrics,
        "demonstrations": f"{DEMONSTRATIONS} of the scripted expert, noise {config.task.expert_noise:g}",
        "base_recipe": method.base,
        "settings": list(method.overrides),
        "person": asdict(method.temper),
        "budget": asdict(budget),
        "command": f"python tools/prove_hil.py --only {run.method} --seeds {run.seed}",
    }


# --- all runs ---------------------------------------------------------------------------------------------------------


def results_file() -> Path:
    return RESULTS / "proof-hil.json"


def recorded() -> list[Row]:
    """What earlier calls recorded."""
    return proofs.recorded(results_file())


def record(rows: Sequence[Row]) -> None:
    """Write the results and the plot."""
    proofs.write_rows(results_file(), rows)
    human_report.plot(rows, results_file().with_suffix(".png"))


def merge(old: Sequence[Row], new: Row) -> list[Row]:
    """`old` with `new` added or put in place of the same run, in the order of the methods."""
    rows = {(row["method"], row["seed"]): row for row in [*old, new]}
    order = list(METHODS)
    return [rows[key] for key in sorted(rows, key=lambda key: (order.index(key[0]), key[1]))]


def _start(run: Run, out: Path, number: int) -> subprocess.Popen:
    """A worker with one thread."""
    paths = [str(REPOSITORY), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {**proofs.without_waiting(os.environ), "PYTHONPATH": os.pathsep.join(paths)}
    command = [sys.executable, __file__, "--worker", run.method, str(run.seed), str(out)]
    return subprocess.Popen(command, env=environment, cwd=REPOSITORY)


def work(method: str, seed: str, out: str) -> int:
    """What a worker does: its row goes to the file `out`."""
    Path(out).write_text(json.dumps(perform(Run(method, int(seed)))), encoding="utf-8")
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    assert __doc__
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", default=list(METHODS), choices=list(METHODS), help="methods (default: all)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--jobs", type=int, default=1, help="runs at the same time, one core each (default: %(default)s)")
    parser.add_argument("--resume", action="store_true", help="do not repeat runs that are recorded in docs/results")
    parser.add_argument("--worker", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args(argv)
    if arguments.worker:
        return work(*arguments.worker)
    rows = recorded()
    done = {(row["method"], row["seed"]) for row in rows} if arguments.resume else set()
    # the longest runs first, so that none is left alone at the end
    methods = sorted(arguments.only, key=lambda name: -METHODS[name].online_steps)
    wanted = [Run(method, seed) for method in methods for seed in arguments.seeds]
    failed = []
    try:
        for run, row in proofs.run_all([run for run in wanted if run.key not in done], max(1, arguments.jobs), _start):
            if row is None:
                failed.append(run)
                print(f"{run} failed; its messages are above", flush=True)
                continue
            rows = merge(rows, row)
            record(rows)
            print("\n" + human_report.table(rows) + "\n", flush=True)
    except KeyboardInterrupt:
        return 130
    found = human_report.checks(rows, arguments.only, arguments.seeds)
    print(human_report.table(rows) + "\n\n" + human_report.verdicts(found), flush=True)
    return int(any(check.passed is False for check in found) or bool(failed))


if __name__ == "__main__":
    sys.exit(main())
