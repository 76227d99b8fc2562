"""Waypoints of a demonstration: the fewest points of its path between which straight lines stay within an error budget.

Waypoint extraction by dynamic programming of AWE (Shi et al. 2023, "Waypoint-Based Imitation Learning for Robotic Manipulation",
section 4). The path is the tool's position; where the gripper changes its mind a waypoint is set whatever the path does.
"""

from __future__ import annotations

import argparse
import itertools
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from actor.commands import CommandError
from etude.episodes.segment import Segment
from etude.episodes.store import EpisodeStore

POSITION_NAMES = ("tcp_x_m", "tcp_y_m", "tcp_z_m")
DEFAULT_BUDGET_M = 0.005


def deviation_m(path_m: np.ndarray) -> float:
    """Largest distance of the points of `path_m` ``(T, D)`` from the straight line between its ends."""
    along = path_m[-1] - path_m[0]
    length_squared = float(along @ along)
    offset = path_m - path_m[0]
    share = np.clip(offset @ along / length_squared, 0.0, 1.0) if length_squared > 0 else np.zeros(len(path_m))
    return float(np.linalg.norm(offset - share[:, None] * along, axis=1).max())


def waypoints(path_m: np.ndarray, budget_m: float, keep: Sequence[int] = ()) -> list[int]:
    """Indices of the fewest waypoints, both ends and `keep` among them, with every piece's deviation within `budget_m`.

    Of equally few the ones with the smallest largest deviation are taken.
    """
    if len(path_m) == 0 or not np.isfinite(path_m).all() or budget_m < 0:
        raise ValueError("a path needs points, all of them finite, and an error budget that is not negative")
    forced = sorted({0, len(path_m) - 1, *keep})
    chosen = [0]
    for first, last in itertools.pairwise(forced):
        chosen += [first + index for index in _fewest(path_m[first : last + 1], budget_m)[1:]]
    return chosen


def _fewest(path_m: np.ndarray, budget_m: float) -> list[int]:
    best: list[tuple[int, float]] = [(0, 0.0)]
    came_from = [0]
    for end in range(1, len(path_m)):
        choices = []
        for start in range(end):
            error_m = deviation_m(path_m[start : end + 1])
            if error_m <= budget_m:
                choices.append((best[start][0] + 1, max(best[start][1], error_m), start))
        count, worst_m, start = min(choices)  # never empty: neighbours deviate by nothing
        best.append((count, worst_m))
        came_from.append(start)
    chosen = [len(path_m) - 1]
    while chosen[-1] > 0:
        chosen.append(came_from[chosen[-1]])
    return chosen[::-1]


def gripper_changes(gripper: np.ndarray) -> list[int]:
    """Steps at which the commanded gripper ``(T,)`` goes from opening to closing or back."""
    closing = np.asarray(gripper) < 0
    return [int(index) for index in np.flatnonzero(closing[1:] != closing[:-1]) + 1]


def of_segment(segment: Segment, state_names: tuple[str, ...], action_names: tuple[str, ...], budget_m: float) -> list[int]:
    """Waypoints of one stored demonstration, as step indices."""
    missing = set(POSITION_NAMES) - set(state_names)
    if missing:
        raise CommandError(f"these demonstrations have no tool position ({', '.join(sorted(missing))}): record them with an arm")
    path_m = segment.observation["state"][:, [state_names.index(name) for name in POSITION_NAMES]].astype(np.float64)
    keep = gripper_changes(segment.action[:-1, action_names.index("gripper")]) if "gripper" in action_names else []
    return waypoints(path_m, budget_m, keep)


def demo_waypoints(argv: Sequence[str]) -> int:
    """`etude demo waypoints`."""
    parser = argparse.ArgumentParser(
        prog="etude demo waypoints",
        description="Find the fewest points between which straight lines tell each demonstration's path.",
        epilog="example:\n  etude demo waypoints my-demonstrations --budget-m 0.005 --json waypoints.json",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("store", type=Path, help="folder of the episode store")
    parser.add_argument(
        "--budget-m",
        type=float,
        default=DEFAULT_BUDGET_M,
        help="how far the path may be from the lines, metres (default: %(default)s)",
    )
    parser.add_argument("--json", type=Path, help="write the waypoints' step numbers to this file")
    arguments = parser.parse_args(argv)
    if not arguments.budget_m >= 0:
        raise CommandError(f"--budget-m {arguments.budget_m} is no distance: give metres, 0 or more")
    rows = []
    with EpisodeStore.open(arguments.store, "r") as store:
        infos = sorted(store.segments(), key=lambda info: info.first_stamp_ns)
        for number, info in enumerate(infos, start=1):
            segment = store.read(info)
            steps = of_segment(segment, store.observation_spec.state_names, store.action_spec.names, arguments.budget_m)
            print(f"{number:4} {info.phase:8} {len(segment) - 1:4} steps  {len(steps):3} waypoints: {' '.join(map(str, steps))}")
            rows.append({"number": number, "phase": info.phase, "steps": len(segment) - 1, "waypoints": steps})
    if arguments.json is not None:
        arguments.json.write_text(json.dumps({"budget_m": arguments.budget_m, "demonstrations": rows}, indent=1) + "\n")
    return 0
