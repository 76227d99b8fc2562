"""Changing a store of demonstrations: `etude demo delete` and `etude demo trim`; and looking at one: `etude demo replay`.

A store is only ever appended to, so an edit writes a new one beside it, with steps and segments numbered anew, and swaps the two.
"""

from __future__ import annotations

import argparse
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from actor.commands import CommandError
from etude.episodes.segment import Segment
from etude.episodes.store import EpisodeStore
from etude.specs import IMAGE_PREFIX
from etude.step import Step

SHORTEST_STEPS = 2
FRAME_MS = 100


def edit(path: Path, change: Callable[[int, list[Step]], list[Step]]) -> int:
    """Rewrite the store at `path`: `change` gets each demonstration's number (from 1) and steps, and returns those to keep.

    Returns how many are left. The old store stays as it is until the new one is complete.
    """
    aside, old = (path.with_name(f".{path.name}.{os.getpid()}.{word}") for word in ("edited", "before"))
    kept = 0
    try:
        with (
            EpisodeStore.open(path, "r") as source,
            EpisodeStore.create(aside, source.observation_spec, source.action_spec, source.metadata) as target,
        ):
            sequence: dict[str, int] = {}
            for number, segment in enumerate(_demonstrations(source), start=1):
                steps = change(number, segment.steps())
                kept += bool(steps)
                for step in steps:
                    sequence[step.actor_id] = sequence.get(step.actor_id, 0) + 1
                    target.append(replace(step, sequence=sequence[step.actor_id], segment=kept))
        path.rename(old)
        aside.rename(path)
        shutil.rmtree(old)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return kept


def trimmed(steps: list[Step], first: int, last: int) -> list[Step]:
    """Steps `first` to `last` of a demonstration. What it ended in, success or not, is said of its new end.

    Raises:
        CommandError: nothing worth keeping would be left.
    """
    if not 0 <= first < last < len(steps) or last - first < SHORTEST_STEPS:
        raise CommandError(f"it has steps 0 to {len(steps) - 1}: steps {first} to {last} are no demonstration")
    end = steps[-1]
    kept = [replace(step, index=index, is_first=index == 0) for index, step in enumerate(steps[first : last + 1])]
    kept[-2] = replace(kept[-2], reward=steps[-2].reward)
    nothing = np.zeros_like(end.action)
    kept[-1] = replace(
        kept[-1],
        action=nothing,
        policy_action=nothing,
        reward=0.0,
        is_last=True,
        is_terminal=end.is_terminal,
        success=end.success,
        success_truth=end.success_truth,
    )
    return kept


def _demonstrations(store: EpisodeStore) -> list[Segment]:
    return [store.read(info) for info in sorted(store.segments(), key=lambda info: info.first_stamp_ns)]


def demo_delete(argv: Sequence[str]) -> int:
    """`etude demo delete`."""
    parser = _parser("delete", "Delete demonstrations from a store.", "etude demo delete my-demonstrations 3 7")
    parser.add_argument("numbers", type=int, nargs="+", help="which ones, as `etude demo replay` counts them")
    arguments = parser.parse_args(argv)
    wrong = set(arguments.numbers) - set(range(1, len(_read(arguments.store)) + 1))
    if wrong:
        raise CommandError(f"{arguments.store} has no demonstration {', '.join(map(str, sorted(wrong)))}")
    left = edit(arguments.store, lambda number, steps: [] if number in arguments.numbers else steps)
    print(f"{left} demonstrations are left in {arguments.store}")
    return 0


def demo_trim(argv: Sequence[str]) -> int:
    """`etude demo trim`."""
    parser = _parser(
        "trim", "Cut a demonstration's beginning and end.", "etude demo trim my-demonstrations 3 --first 4 --last 30"
    )
    parser.add_argument("number", type=int, help="which one, as `etude demo replay` counts them")
    parser.add_argument("--first", type=int, default=0, help="first step that is kept (default: %(default)s)")
    parser.add_argument("--last", type=int, help="last step that is kept (default: its last one)")
    arguments = parser.parse_args(argv)
    steps = _pick(arguments.store, arguments.number).steps()
    last = len(steps) - 1 if arguments.last is None else arguments.last
    kept = trimmed(steps, arguments.first, last)
    edit(arguments.store, lambda number, steps: kept if number == arguments.number else steps)
    print(f"demonstration {arguments.number} has {len(kept) - 1} of {len(steps) - 1} steps now")
    return 0


def demo_replay(argv: Sequence[str]) -> int:
    """`etude demo replay`: what was recorded; nothing moves."""
    parser = _parser(
        "replay", "Show demonstrations as they were recorded; no robot moves.", "etude demo replay my-demonstrations 3"
    )
    parser.add_argument("number", type=int, nargs="?", help="one of them, step by step (default: one line for each)")
    parser.add_argument("--video", type=Path, help="write its pictures as an animated GIF")
    arguments = parser.parse_args(argv)
    if arguments.number is None:
        for number, segment in enumerate(_read(arguments.store), start=1):
            end = "success" if segment.success[-1] == 1 else "no success"
            print(f"{number:4} {segment.info.phase:8} {len(segment) - 1:4} steps  {end}  by {', '.join(segment.info.sources)}")
        return 0
    segment = _pick(arguments.store, arguments.number)
    with EpisodeStore.open(arguments.store, "r") as store:
        names = store.action_spec.names
    for step in segment.steps()[:-1]:
        values = "  ".join(f"{name} {value:+.2f}" for name, value in zip(names, step.action, strict=True))
        print(f"{step.index:4}  {values}  reward {step.reward:g}")
    if arguments.video is not None:
        _write_video(segment, arguments.video)
    return 0


def _write_video(segment: Segment, path: Path) -> None:
    cameras = [array for key, array in sorted(segment.observation.items()) if key.startswith(IMAGE_PREFIX)]
    if not cameras:
        raise CommandError("these demonstrations have no pictures: record with --observation pixels")
    from PIL import Image

    frames = [Image.fromarray(np.concatenate([camera[t] for camera in cameras], axis=1)) for t in range(len(segment))]
    large = [frame.resize((4 * frame.width, 4 * frame.height), Image.Resampling.NEAREST) for frame in frames]
    large[0].save(path, format="GIF", save_all=True, append_images=large[1:], duration=FRAME_MS, loop=0)
    print(f"{len(large)} frames in {path}")


def _read(path: Path) -> list[Segment]:
    with EpisodeStore.open(path, "r") as store:
        return _demonstrations(store)


def _pick(path: Path, number: int) -> Segment:
    segments = _read(path)
    if not 1 <= number <= len(segments):
        raise CommandError(f"{path} has demonstrations 1 to {len(segments)}, none has the number {number}")
    return segments[number - 1]


def _parser(word: str, description: str, example: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=f"etude demo {word}",
        description=description,
        epilog=f"example:\n  {example}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("store", type=Path, help="folder of the episode store")
    return parser
