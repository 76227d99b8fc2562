"""The control loop in real time while the learner takes every other core: a whole run, as `etude practice run` starts it."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from benchmarks.result import Result
from etude.run_folder import RunFolder, data_root
from etude.summary import read_json, read_json_lines

MINUTES = 0.75
SATURATED = 1000
"""Updates per step that no machine reaches: the learner never waits for data."""


def loop_rate() -> Iterator[Result]:
    """Achieved control rate (mean) and the 99th percentile of the period, from two 64x64 cameras at 10 Hz, page off."""
    with tempfile.TemporaryDirectory(prefix="etude-bench-") as name:
        command = [sys.executable, "-m", "etude", "practice", "run", "--headless", "--name", "bench", "--minutes", str(MINUTES)]
        command += ["robot=sim_panda", f"recipe.data.utd={SATURATED}", "evaluation.episodes=0", "evaluation.interval_episodes=0"]
        environment = {**os.environ, "ETUDE_RUNS": name, "ETUDE_DATA": str(data_root())}
        done = subprocess.run(command, env=environment, stdout=sys.stderr, check=False)
        if done.returncode:
            raise RuntimeError(f"the run ended with status {done.returncode}")
        folder = RunFolder(Path(name) / "bench")
        summary = read_json(folder.summary)
        rows = [row for row in read_json_lines(folder.metrics("actor")) if row.get("run_time_s", 0) > 10]
    rates = [row["loop_rate_hz"] for row in rows if row.get("loop_rate_hz")]
    updates = (summary["learner_updates"] or 0) / (60 * MINUTES)
    settings = {
        "pace": "realtime",
        "observation": summary["observation"],
        "minutes": MINUTES,
        "learner_updates_per_s": round(updates, 1),
    }
    yield Result("loop_rate_hz", sum(rates) / len(rates), "Hz", settings)
    yield Result("loop_period_p99_ms", summary["loop_period_p99_ms"], "ms", settings)
