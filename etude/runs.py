"""`etude runs list` and `etude runs compare`: what all runs amount to, side by side, from their folders alone.

A run that is going on, was killed, or cannot be read any more is listed like the others; nothing is written into a run's folder.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from etude.config import ConfigError, RunConfig, build, read_yaml
from etude.run_folder import RunFolder, runs_root
from etude.specs import PHASES
from etude.summary import REACHED, evaluation_series, minutes_of, rate_of, read_json_lines, summarise

Row = dict[str, Any]
COLUMNS = (
    "name",
    "started",
    "task",
    "recipe",
    "seed",
    "minutes",
    "steps",
    "forward",
    "backward",
    "85% after",
    "help",
    "taken over",
)
UNKNOWN = "–"


def found(root: Path) -> list[RunFolder]:
    """The runs in `root`, oldest first; links (``latest``) and other folders are left out."""
    if not root.is_dir():
        return []
    folders = [RunFolder(path) for path in root.iterdir() if path.is_dir() and not path.is_symlink()]
    return sorted((one for one in folders if one.config.is_file()), key=lambda one: one.config.stat().st_mtime)


def told(folder: RunFolder) -> Row:
    """The summary of a run, or its name and why it cannot be read."""
    started = datetime.fromtimestamp(folder.config.stat().st_mtime)
    try:
        return {**summarise(folder), "began": started}
    except (ConfigError, KeyError, TypeError, ValueError) as error:
        return {"name": folder.root.name, "began": started, "problem": str(error).splitlines()[0]}


def line(row: Row) -> list[str]:
    """The cells of one run."""

    def success(phase: str) -> str:
        series = evaluation_series(row.get("evaluations") or [], phase)
        if not series:
            return UNKNOWN
        return f"{100 * rate_of(series[0]):.0f} → {100 * rate_of(series[-1]):.0f}%"

    if "problem" in row:
        return [row["name"], f"{row['began']:%d %b %H:%M}", row["problem"]]
    cells = [
        row["name"],
        f"{row['began']:%d %b %H:%M}",
        row["task"],
        row["recipe"],
        row["seed"],
        row["minutes"],
        row["env_steps"],
    ]
    cells += [success("forward"), success("backward"), row["minutes_to_85"], row["help_requests"], row["interventions"]]
    return [UNKNOWN if cell is None else f"{cell:,}" if type(cell) is int else str(cell) for cell in cells]


def runs_list(argv: Sequence[str]) -> int:
    """`etude runs list`."""
    parser = argparse.ArgumentParser(
        prog="etude runs list",
        description="List the runs, oldest first: what they practised, for how long, first and last evaluation of both "
        f"directions, minutes until {REACHED:.0%} forward, calls for help and takeovers.",
        epilog="examples:\n  etude runs list\n  etude runs list --task slide --json",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--task", help="only runs of this task")
    parser.add_argument("--root", type=Path, default=runs_root(), help="folder of the runs (default: %(default)s)")
    parser.add_argument("--json", action="store_true", help="one JSON object per line: each run's summary")
    arguments = parser.parse_args(argv)
    rows = [row for row in map(told, found(arguments.root)) if arguments.task in (None, row.get("task"))]
    if arguments.json:
        for row in rows:
            print(json.dumps({**row, "began": row["began"].isoformat(timespec="seconds")}))
        return 0
    if not rows:
        print(f"there are no runs in {arguments.root} yet: `make demo` makes one")
        return 0
    lines = [list(COLUMNS), *map(line, rows)]
    widths = [max(len(cells[i]) for cells in lines if len(cells) == len(COLUMNS)) for i in range(len(COLUMNS))]
    for cells in lines:
        print("  ".join(cell.ljust(width) for cell, width in zip(cells, [*widths, 0], strict=False)).rstrip())
    return 0


def runs_compare(argv: Sequence[str]) -> int:
    """`etude runs compare`."""
    parser = argparse.ArgumentParser(
        prog="etude runs compare",
        description="Draw the evaluated success of several runs over each other, and say which settings differ.",
        epilog="example:\n  etude runs compare demo-slide-pixels-s0 demo-slide-pixels-s1 --out compare.png",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("runs", nargs="+", metavar="RUN", help="run folders, or names of folders in --root")
    parser.add_argument("--root", type=Path, default=runs_root(), help="folder of the runs (default: %(default)s)")
    parser.add_argument("--steps", action="store_true", help="over environment steps instead of minutes")
    parser.add_argument("--out", type=Path, default=Path("compare.png"), help="picture (default: %(default)s)")
    arguments = parser.parse_args(argv)
    folders = [folder_of(word, arguments.root) for word in arguments.runs]
    names = [folder.root.resolve().name for folder in folders]
    for key, values in differences([settings_of(folder) for folder in folders]).items():
        print(f"{key}: {', '.join(f'{name} {value}' for name, value in zip(names, values, strict=True))}")
    draw(dict(zip(names, folders, strict=True)), arguments.steps, arguments.out)
    print(f"drawn: {arguments.out}")
    return 0


def folder_of(word: str, root: Path) -> RunFolder:
    """Raises ConfigError for what is no run."""
    for path in (Path(word), root / word):
        if RunFolder(path).config.is_file():
            return RunFolder(path)
    known = ", ".join(folder.root.name for folder in found(root)) or "none"
    raise ConfigError(f"{word!r} is no run folder, and no run in {root}; there are: {known}")


def settings_of(folder: RunFolder) -> dict[str, Any]:
    """Every setting of a run by its dotted key."""
    config = build(RunConfig, read_yaml(folder.config), str(folder.config))
    return flat(config.model_dump(mode="json"))


def flat(data: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(data, dict):
        return {prefix: data}
    return {
        key: value for name, item in data.items() for key, value in flat(item, f"{prefix}.{name}" if prefix else name).items()
    }


def differences(settings: Sequence[dict[str, Any]]) -> dict[str, list[Any]]:
    """Dotted key -> its value in each run, where they are not all the same; names of runs are no difference."""
    keys = dict.fromkeys(key for one in settings for key in one)
    rows = {key: [one.get(key) for one in settings] for key in keys if key != "name"}
    return {key: values for key, values in rows.items() if any(value != values[0] for value in values[1:])}


def draw(folders: dict[str, RunFolder], steps: bool, out: Path) -> None:
    """One panel per direction, one line per run."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, len(PHASES), figsize=(11, 4.2), dpi=130, sharey=True, layout="constrained")
    for axis, phase in zip(axes, PHASES, strict=True):
        for name, folder in folders.items():
            series = evaluation_series(read_json_lines(folder.evaluations), phase)
            x = [row.get("env_steps") or 0 if steps else minutes_of(row) for row in series]
            axis.plot(x, [rate_of(row) for row in series], "o-", markersize=4, linewidth=1.8, label=name)
        axis.axhline(REACHED, color="#888888", linewidth=1, linestyle=":")
        axis.set(title=f"{phase}, evaluated", xlabel="steps of practice" if steps else "minutes of practice", ylim=(-0.02, 1.03))
        axis.grid(alpha=0.25)
    axes[0].set_ylabel("success rate")
    axes[-1].legend(loc="upper left", bbox_to_anchor=(1.01, 1.0), frameon=False, fontsize=9)
    figure.savefig(out)
    pyplot.close(figure)
