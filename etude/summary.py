"""What a run amounts to: `summary.json` and `learning_curve.png`, made from the files of its run folder alone.

Separate from the processes that practise, so that the summary of any run, finished or killed, can be made again at any time.
"""

from __future__ import annotations

import importlib.metadata
import json
import math
import os
import platform
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from etude.config import RunConfig, build, read_yaml
from etude.durable import write_atomic
from etude.run_folder import RunFolder
from etude.specs import PHASES
from etude.status import wilson_interval

REACHED = 0.85
"""Forward success that counts as having learned the task (`minutes_to_85`)."""
CURVE = ("kind", "phase", "run_time_s", "env_steps", "episodes", "successes", "success_rate", "mean_steps")
"""What the summary keeps of each evaluation."""
PACKAGES = ("jax", "jaxlib", "flax", "optax", "numpy", "mujoco", "zarr", "ros-rclpy")
Row = dict[str, Any]


def read_json_lines(path: Path) -> list[Row]:
    """Every readable object of a JSON-lines file; a torn last line (the writer was killed) is skipped. Empty without the file."""
    if not path.is_file():
        return []
    rows = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if isinstance(row, dict):
            rows.append(row)
    return rows


def read_json(path: Path) -> Row:
    """The object in `path`, or an empty one when there is none or it is not readable."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return data if isinstance(data, dict) else {}


def evaluation_series(evaluations: list[Row], phase: str) -> list[Row]:
    """The evaluations of one direction in order of time."""
    return sorted((row for row in evaluations if row.get("phase") == phase), key=minutes_of)


def minutes_to(evaluations: list[Row], goal: float = REACHED, phase: str = "forward") -> tuple[float | None, float | None]:
    """Minutes of practice to the first evaluation at or above `goal`: (first one that is confirmed, first one at all).

    The next evaluation confirms one by reaching `goal` too. The final evaluation (kind ``after``, the one with the most episodes)
    has no next one and stands by itself. None when it never happened. The evaluation before practice counts too: a task that
    cloning solves is reached at 0.
    """
    series = evaluation_series(evaluations, phase)
    reached = [rate_of(row) >= goal for row in series]
    first = next((minutes_of(series[i]) for i in range(len(series)) if reached[i]), None)
    follows = [*reached[1:], bool(series) and series[-1].get("kind") == "after"]
    confirmed = next((minutes_of(row) for row, now, then in zip(series, reached, follows, strict=False) if now and then), None)
    return _rounded(confirmed), _rounded(first)


def curve(folder: RunFolder) -> list[Row]:
    """Every evaluation of the run in order, with the keys of `CURVE`."""
    return [{key: row.get(key) for key in CURVE} for row in read_json_lines(folder.evaluations)]


def summarise(folder: RunFolder) -> Row:
    """The summary of a run, from its folder. Values that the run does not have are null."""
    config = build(RunConfig, read_yaml(folder.config), str(folder.config))
    evaluations = read_json_lines(folder.evaluations)
    status = read_json(folder.root / "actor_status.json")
    learner = read_json(folder.root / "learner_status.json")
    confirmed, first = minutes_to(evaluations)
    supervisor = read_json(folder.root / "supervisor.json")
    true_positives, false_positives, _, false_negatives = (
        int(status.get(f"judge_{name}", 0)) for name in ("true_positives", "false_positives", "true_negatives", "false_negatives")
    )
    return {
        "name": folder.root.name,
        "task": config.task.name,
        "recipe": config.recipe.name,
        "robot": config.robot.name,
        "observation": config.observation,
        "reward": config.recipe.reward.kind,
        "seed": config.seed,
        "minutes_planned": config.minutes,
        "minutes": _rounded((status.get("run_time_s") or 0.0) / 60),
        "practice_minutes": _rounded((status.get("practice_time_s") or 0.0) / 60),
        "wall_minutes_total": _rounded(supervisor["wall_s"] / 60) if "wall_s" in supervisor else None,
        "preparation_s": supervisor.get("preparation_s"),
        "env_steps": status.get("env_steps"),
        "learner_updates": learner.get("updates"),
        **_ends(evaluations),
        "evaluation_episodes": config.evaluation.episodes,
        "minutes_to_85": confirmed,
        "minutes_to_first_85": first,
        "help_requests": status.get("help_requests"),
        "hard_resets": status.get("hard_resets"),
        "interventions": status.get("interventions"),
        "loop_rate_hz": _rounded(status.get("loop_rate_hz")),
        "loop_period_p99_ms": _rounded(status.get("loop_period_p99_ms")),
        "pace": config.robot.pace,
        "judge_precision": _ratio(true_positives, true_positives + false_positives),
        "judge_recall": _ratio(true_positives, true_positives + false_negatives),
        "judged_segments": {
            key.removeprefix("judge_"): value
            for key, value in status.items()
            if key.startswith("judge_") and isinstance(value, int)
        },
        "restarts": supervisor.get("restarts", {}),
        "started": supervisor.get("started"),
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "host_cores": os.cpu_count(),
        "host_machine": platform.machine(),
        "python": sys.version.split()[0],
        "packages": {name: _version(name) for name in PACKAGES},
        "evaluations": curve(folder),
    }


def write_summary(folder: RunFolder) -> Row:
    """Write ``summary.json`` (atomically) and ``learning_curve.png`` into the run folder; the summary."""
    summary = summarise(folder)
    write_atomic(folder.summary, (json.dumps(summary, indent=2) + "\n").encode())
    draw_learning_curve(folder, folder.learning_curve)
    return summary


def draw_learning_curve(folder: RunFolder, out: Path) -> None:
    """Success over minutes of practice: evaluations with Wilson bands, practice itself, help requests as ticks."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    config = build(RunConfig, read_yaml(folder.config), str(folder.config))
    evaluations = read_json_lines(folder.evaluations)
    actor_rows = read_json_lines(folder.metrics("actor"))
    help_rows = [row for row in read_json_lines(folder.help_log) if row.get("event") == "asked"]
    colours = {"forward": "#0b7a75", "backward": "#c8553d"}
    figure, axes = pyplot.subplots(figsize=(10.2, 4.8), dpi=130, layout="constrained")
    for phase in PHASES:
        series = evaluation_series(evaluations, phase)
        minutes = [minutes_of(row) for row in series]
        bands = [wilson_interval(row["successes"], row["episodes"]) for row in series]
        axes.fill_between(minutes, [b[0] for b in bands], [b[1] for b in bands], color=colours[phase], alpha=0.15, linewidth=0)
        axes.plot(minutes, [rate_of(row) for row in series], "o-", color=colours[phase], label=f"{phase}, evaluated", linewidth=2)
        practice = [(minutes_of(row), row[f"success_{phase}"]) for row in actor_rows if row.get(f"success_{phase}") is not None]
        if practice:
            x, y = zip(*practice, strict=True)
            axes.plot(x, y, "-", color=colours[phase], alpha=0.55, linewidth=1, label=f"{phase}, last 20 while practising")
    axes.axhline(REACHED, color="#888888", linewidth=1, linestyle=":")
    if help_rows:
        ticks = [minutes_of(row) for row in help_rows]
        axes.plot(
            ticks,
            [0.0] * len(ticks),
            "|",
            color="#333333",
            markersize=14,
            markeredgewidth=1.5,
            label="help requested",
            clip_on=False,
        )
    axes.set(xlabel="minutes of practice", ylabel="success rate", ylim=(-0.02, 1.03))
    axes.set_xlim(left=0)
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_title(
        f"{config.task.name}, {config.observation}, recipe {config.recipe.name}, seed {config.seed} (bands: Wilson 95%)",
        fontsize=11,
        loc="left",
    )
    axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1.0), frameon=False, fontsize=9)
    temporary = out.with_suffix(".tmp.png")
    figure.savefig(temporary)
    pyplot.close(figure)
    temporary.replace(out)


def _ends(evaluations: list[Row]) -> Row:
    """Success before and after practice, both directions, with the counts behind them."""
    ends: Row = {}
    for phase in PHASES:
        series = evaluation_series(evaluations, phase)
        before = next((row for row in series if row.get("kind") == "before"), None)
        after = next((row for row in reversed(series) if row.get("kind") == "after"), None)
        ends[f"{phase}_success_before"] = None if before is None else _rounded(rate_of(before), 4)
        ends[f"{phase}_success"] = None if after is None else _rounded(rate_of(after), 4)
        interval = None if after is None else wilson_interval(after["successes"], after["episodes"])
        ends[f"{phase}_success_interval"] = None if interval is None else [round(bound, 4) for bound in interval]
    return ends


def minutes_of(row: Row) -> float:
    """Minutes since practice began, evaluations and help requests included."""
    return float(row.get("run_time_s", row.get("time_s", 0.0)) or 0.0) / 60


def rate_of(row: Row) -> float:
    return row["successes"] / row["episodes"] if row.get("episodes") else 0.0


def _ratio(part: int, whole: int) -> float | None:
    return round(part / whole, 4) if whole else None


def _rounded(value: float | None, digits: int = 2) -> float | None:
    return None if value is None or math.isnan(value) else round(float(value), digits)


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
