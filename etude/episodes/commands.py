"""``etude episodes info`` and ``etude episodes validate``: what a person asks of a store."""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections import Counter
from datetime import datetime
from pathlib import Path
from typing import Any

from etude.episodes.segment import SegmentInfo
from etude.episodes.store import HEADER, EpisodeStore, StoreError
from etude.episodes.validate import Problem, validate_outbox, validate_store
from etude.run_folder import RunFolder, runs_root


def info(argv: list[str]) -> int:
    """Say what a store holds. Returns 0."""
    parser = _parser(
        "Say what an episode store holds: segments, steps, success and who acted, per phase and task.",
        "examples:\n  etude episodes info runs/latest\n  etude episodes info data/demonstrations/slide-pixels\n"
        "  etude episodes info runs/latest --json | jq .steps",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    arguments = parser.parse_args(argv)
    summary = summarise(find_store(arguments.path))
    print(json.dumps(summary, indent=1) if arguments.json else _as_text(summary))
    return 0


def validate(argv: list[str]) -> int:
    """Check every segment of a store. Returns 0 when all is well and 1 when there are problems."""
    parser = _parser(
        "Check a store: every segment readable, flags and numbers right, no step lost or stored twice.",
        "examples:\n  etude episodes validate runs/latest\n  etude episodes validate runs/latest --outbox robot.sqlite\n\n"
        "exit status: 0 all is well, 1 problems were found, 2 there is no readable store",
    )
    parser.add_argument(
        "--outbox",
        type=Path,
        action="append",
        metavar="FILE",
        help="also check that this outbox and the store together hold every step (for a run folder, its outboxes are found)",
    )
    arguments = parser.parse_args(argv)
    store = find_store(arguments.path)
    outboxes = arguments.outbox if arguments.outbox is not None else _outboxes_beside(store.path)
    problems = validate_store(store, progress_bar())
    for outbox in outboxes:
        problems += validate_outbox(store, outbox)
    _print_problems(problems)
    infos = store.segments()
    what = f"{len(infos)} segments, {sum(item.length for item in infos)} steps, {len({item.actor_id for item in infos})} actors"
    checked = f" and {len(outboxes)} outbox{'' if len(outboxes) == 1 else 'es'}" if outboxes else ""
    if problems:
        print(f"{store.path}: {len(problems)} problem{'' if len(problems) == 1 else 's'} in {what}{checked}")
        return 1
    print(f"{store.path}: all is well ({what}{checked})")
    return 0


def find_store(path: Path) -> EpisodeStore:
    """Open for reading the store at `path`, or the one inside the run folder `path`. Raises StoreError."""
    if not (path / HEADER).exists() and (RunFolder(path).episodes / HEADER).exists():
        path = RunFolder(path).episodes
    if not path.exists():
        raise StoreError(f"there is no folder {path}: runs are kept in {runs_root()}, the newest as 'latest'")
    return EpisodeStore.open(path)


def summarise(store: EpisodeStore) -> dict[str, Any]:
    """Counts per (phase, task) and in total, as plain JSON values."""
    groups: dict[tuple[str, str], list[SegmentInfo]] = {}
    infos = store.segments()
    for item in infos:
        groups.setdefault((item.phase, item.task), []).append(item)
    image_bytes = sum(math.prod(store.observation_spec.shapes()[key][0]) for key in store.observation_spec.image_keys)
    steps = sum(item.length for item in infos)
    return {
        "path": str(store.path),
        "state": list(store.observation_spec.state_names),
        "cameras": {name: list(size) for name, size in store.observation_spec.cameras.items()},
        "action": list(store.action_spec.names),
        "metadata": store.metadata,
        "actors": sorted({item.actor_id for item in infos}),
        "segments": len(infos),
        "steps": steps,
        "images": steps * len(store.observation_spec.cameras),
        "image_bytes": steps * image_bytes,
        "disk_bytes": sum(file.stat().st_size for file in store.path.rglob("*") if file.is_file()),
        "first_stamp_ns": min((item.first_stamp_ns for item in infos), default=None),
        "last_stamp_ns": max((item.last_stamp_ns for item in infos), default=None),
        "damaged": [str(path) for path, _ in store.damaged],
        "groups": [_summarise_group(phase, task, groups[phase, task]) for phase, task in sorted(groups)],
    }


def _summarise_group(phase: str, task: str, infos: list[SegmentInfo]) -> dict[str, Any]:
    sources: Counter[str] = Counter()
    for item in infos:
        sources.update(item.sources)
    return {
        "phase": phase,
        "task": task,
        "segments": len(infos),
        "steps": sum(item.length for item in infos),
        "judged": sum(item.success >= 0 for item in infos),
        "success": sum(item.success == 1 for item in infos),
        "truth_known": sum(item.success_truth >= 0 for item in infos),
        "success_truth": sum(item.success_truth == 1 for item in infos),
        "cut": sum(item.cut for item in infos),
        "actions_by": dict(sources),
    }


def _as_text(summary: dict[str, Any]) -> str:
    cameras = ", ".join(f"{name} {height}x{width}" for name, (height, width) in summary["cameras"].items()) or "none"
    lines = [
        f"{summary['path']}: {summary['segments']} segments, {summary['steps']} steps",
        f"  observation  state ({len(summary['state'])}), cameras: {cameras}",
        f"  action       {', '.join(summary['action'])}",
        f"  actors       {', '.join(summary['actors']) or 'none'}",
        f"  size         {_size(summary['disk_bytes'])} on disk; {summary['images']} images, {_size(summary['image_bytes'])} raw",
    ]
    if summary["segments"]:
        lines.append(f"  recorded     {_when(summary['first_stamp_ns'])} to {_when(summary['last_stamp_ns'])}")
    if summary["metadata"]:
        lines.append("  metadata     " + ", ".join(f"{key}={value}" for key, value in summary["metadata"].items()))
    if summary["groups"]:
        lines += ["", f"  {'phase':10} {'task':14} {'segments':>8} {'steps':>8} {'success':>12} {'truth':>12}  actions by"]
    for group in summary["groups"]:
        by = ", ".join(f"{name} {count}" for name, count in group["actions_by"].items()) or "-"
        success, truth = _share(group["success"], group["judged"]), _share(group["success_truth"], group["truth_known"])
        counts = f"{group['segments']:8} {group['steps']:8} {success:>12} {truth:>12}"
        lines.append(f"  {group['phase']:10} {group['task']:14} {counts}  {by}")
    for path in summary["damaged"]:
        lines.append(f"  DAMAGED      {path} (etude episodes validate says more)")
    return "\n".join(lines)


def _share(count: int, total: int) -> str:
    return f"{count}/{total} {100 * count / total:3.0f}%" if total else "-"


def _size(count: float) -> str:
    for unit in ("B", "KB", "MB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.2f} GB"


def _when(stamp_ns: int) -> str:
    return datetime.fromtimestamp(stamp_ns / 1e9).strftime("%Y-%m-%d %H:%M:%S")


def _parser(description: str, examples: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=description, epilog=examples, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("path", type=Path, help="an episode store, or a run folder with one inside")
    return parser


def _outboxes_beside(store: Path) -> list[Path]:
    """The outboxes of the run that `store` belongs to; none for a store that is no run's."""
    folder = RunFolder(store.parent)
    if folder.episodes != store or not folder.outbox.is_dir():
        return []
    with_magic = []
    for path in sorted(folder.outbox.iterdir()):
        if path.is_file():
            with path.open("rb") as file:
                if file.read(15) == b"SQLite format 3":
                    with_magic.append(path)
    return with_magic


def progress_bar() -> Any:
    """A line on stderr, only for a person and not more often than ten times a second."""
    if not sys.stderr.isatty():
        return None
    shown = 0.0

    def show(done: int, total: int) -> None:
        nonlocal shown
        if done == total or time.monotonic() - shown > 0.1:
            shown = time.monotonic()
            print(f"\r  {done}/{total} segments", end="\n" if done == total else "", file=sys.stderr, flush=True)

    return show


def _print_problems(problems: list[Problem]) -> None:
    for problem in problems:
        print(problem)
