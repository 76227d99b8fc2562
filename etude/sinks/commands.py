"""`etude runs export`: what a run has stored and measured, for the viewers that people know already."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Sequence
from pathlib import Path

from etude.episodes.store import EpisodeStore
from etude.run_folder import runs_root
from etude.runs import folder_of
from etude.sinks.aside import require_free, written_aside
from etude.sinks.attempts import Selection, chosen, stored_attempts
from etude.sinks.errors import ExportError

EXAMPLES = """examples:
  etude runs export latest --mcap attempts.mcap
  etude runs export latest --mcap bag --attempts 3 5..9      # a folder, for ros2 bag play
  etude runs export latest --rerun run.rrd --newest 20       # then: rerun run.rrd
  etude runs export latest --wandb my-project --follow
  WANDB_MODE=offline etude runs export latest --wandb my-project"""


def runs_export(argv: Sequence[str]) -> int:
    """`etude runs export`."""
    parser = _parser()
    arguments = parser.parse_args(argv)
    if not (arguments.mcap or arguments.rerun or arguments.wandb):
        parser.error("say what to write: --mcap, --rerun or --wandb")
    if arguments.follow and not arguments.wandb:
        parser.error("--follow is for --wandb: a file is written once")
    numbers = None if arguments.attempts is None else {n for numbers in arguments.attempts for n in numbers}
    # a missing package is told before anything is read or written
    writers: list[tuple[Path, Callable[[Selection, Path], None]]] = []
    if arguments.mcap:
        from etude.sinks.bag import write_bag

        writers.append((arguments.mcap, write_bag))
    if arguments.rerun:
        from etude.sinks.rerun_file import write_rrd

        writers.append((arguments.rerun, write_rrd))
    if arguments.wandb:
        from etude.sinks.wandb_run import send_to_wandb
    folder = folder_of(arguments.run, arguments.root)
    if writers:
        for out, _ in writers:
            if out.resolve().is_relative_to(folder.root.resolve()):
                raise ExportError(f"{out} is in the run's folder, where only the run writes: name another place")
            require_free(out, arguments.force)
        if len({out.resolve() for out, _ in writers}) < len(writers):
            raise ExportError(f"{writers[0][0]} is one place for two exports: name another one for one of them")
        store = EpisodeStore.open(folder.episodes)
        attempts = chosen(stored_attempts(store), numbers, arguments.newest)
        for path, problem in store.damaged:
            print(f"left out, because it cannot be read: {path} ({problem})")
        selection = Selection(folder, store, attempts, arguments.png)
        for out, write in writers:
            with written_aside(out, arguments.force) as aside:
                write(selection, aside)
            steps = sum(attempt.info.length for attempt in attempts)
            print(f"written: {out} ({len(attempts)} attempts, {steps} steps)")
    if arguments.wandb:
        send_to_wandb(folder, arguments.wandb, arguments.follow)
    return 0


def numbers_of(text: str) -> range:
    """``"3"`` or ``"5..9"``, the last one included. Raises ArgumentTypeError."""
    match = re.fullmatch(r"(\d{1,6})(?:\.\.(\d{1,6}))?", text)
    if match is None or int(match[2] or match[1]) < int(match[1]):
        raise argparse.ArgumentTypeError(f"{text!r} is neither a number nor a range such as 5..9")
    return range(int(match[1]), int(match[2] or match[1]) + 1)


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no number above 0")
    return int(text)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="etude runs export",
        description="Write a run's stored attempts and curves for other tools: Foxglove and PlotJuggler (MCAP), Rerun, "
        "Weights & Biases. Nothing in the run's folder changes, and the run may go on meanwhile.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("run", metavar="RUN", help="run folder, or name of a folder in --root")
    parser.add_argument("--root", type=Path, default=runs_root(), help="folder of the runs (default: %(default)s)")
    parser.add_argument(
        "--mcap", type=Path, metavar="PATH", help="attempts as a ROS 2 bag: one file when PATH ends in .mcap, else a folder"
    )
    parser.add_argument("--rerun", type=Path, metavar="FILE", help="attempts and curves as a recording of Rerun (.rrd)")
    parser.add_argument("--wandb", metavar="PROJECT", help="curves, evaluations and settings as a new run of W&B")
    parser.add_argument("--follow", action="store_true", help="with --wandb: go on sending until the run is over, or Ctrl-C")
    which = parser.add_mutually_exclusive_group()
    which.add_argument(
        "--attempts", type=numbers_of, nargs="+", metavar="N", help="only these, by number or range: 3 5..9 (default: all)"
    )
    which.add_argument("--newest", type=_count, metavar="N", help="only the newest N attempts")
    parser.add_argument("--png", action="store_true", help="pictures without loss, as PNG: larger")
    parser.add_argument("--force", action="store_true", help="replace what is there")
    return parser
