"""Waypoints of known polylines, and that no fewer would do."""

from __future__ import annotations

import json
from itertools import combinations, pairwise

import numpy as np
import pytest

from actor.commands import CommandError
from actor.waypoints import POSITION_NAMES, demo_waypoints, deviation_m, gripper_changes, waypoints
from etude.episodes.store import EpisodeStore, StoreError
from etude.specs import ActionSpec, ObservationSpec
from etude.step import Source, Step


def polyline(*corners, steps=10):
    pieces = [np.linspace(a, b, steps, endpoint=False) for a, b in pairwise(corners)]
    return np.concatenate([*pieces, [corners[-1]]]).astype(float)


def test_a_straight_line_needs_its_ends_only():
    assert waypoints(polyline((0, 0, 0), (0.3, 0.1, 0.2)), 1e-6) == [0, 10]


def test_the_corners_of_a_polyline_are_found():
    path = polyline((0, 0, 0), (0.2, 0, 0), (0.2, 0.2, 0), (0.2, 0.2, 0.2))
    assert waypoints(path, 1e-6) == [0, 10, 20, 30]


def test_going_there_and_back_needs_the_turning_point():
    assert waypoints(polyline((0, 0, 0), (0.2, 0, 0), (0, 0, 0)), 1e-6) == [0, 10, 20]


def test_a_detour_within_the_budget_is_none():
    path = polyline((0, 0, 0), (0.1, 0.01, 0), (0.2, 0, 0))
    assert waypoints(path, 0.011) == [0, 20] and waypoints(path, 0.001) == [0, 10, 20]


def test_the_gripper_keeps_a_waypoint_on_a_straight_line():
    assert gripper_changes(np.array([1, 1, -1, -1, 1])) == [2, 4]
    assert waypoints(polyline((0, 0, 0), (0.2, 0, 0)), 0.01, keep=[4]) == [0, 4, 10]


def test_no_fewer_waypoints_stay_within_the_budget():
    path = np.cumsum(np.random.default_rng(0).normal(0, 0.01, (9, 3)), axis=0)
    found = waypoints(path, 0.012)

    def fits(chosen):
        return all(deviation_m(path[a : b + 1]) <= 0.012 for a, b in pairwise(chosen))

    assert 2 < len(found) < len(path) and fits(found)
    fewer = (c for n in range(len(found) - 2) for c in combinations(range(1, len(path) - 1), n))
    assert not any(fits([0, *c, len(path) - 1]) for c in fewer)


@pytest.mark.parametrize("path", [np.zeros((0, 3)), np.full((3, 3), np.nan)])
def test_a_path_without_finite_points_is_refused(path):
    with pytest.raises(ValueError, match="finite"):
        waypoints(path, 0.01)


# --- etude demo waypoints ---------------------------------------------------------------------------------------------


def record(path, paths, state_names=POSITION_NAMES, grippers=None):
    """A store with one demonstration per path ``(T, 3)``; `grippers` commands -1 from that step on."""
    with EpisodeStore.create(path, ObservationSpec(state_names), ActionSpec(("x", "gripper"), (0.03, 1.0))) as store:
        sequence = 0
        for segment, places in enumerate(paths, start=1):
            for index, place in enumerate(places):
                sequence += 1
                last = index == len(places) - 1
                closed = grippers is not None and index >= grippers[segment - 1]
                action = np.zeros(2, np.float32) if last else np.array([0.5, -1.0 if closed else 1.0], np.float32)
                store.append(
                    Step(
                        actor_id="ada",
                        sequence=sequence,
                        segment=segment,
                        index=index,
                        stamp_ns=sequence,
                        phase="forward" if segment % 2 else "backward",
                        task="slide",
                        instruction="",
                        observation={"state": place.astype(np.float32)},
                        action=action,
                        policy_action=action,
                        reward=0.0,
                        is_first=index == 0,
                        is_last=last,
                        is_terminal=last,
                        source=Source.HUMAN,
                        policy_version=0,
                    )
                )
    return str(path)


CORNER = polyline((0, 0, 0), (0.2, 0, 0), (0.2, 0.2, 0))


def test_the_command_lists_the_waypoints_of_every_demonstration_and_writes_them(tmp_path, capsys):
    store = record(tmp_path / "store", [CORNER, polyline((0, 0, 0), (0.3, 0.1, 0.2))], grippers=[99, 4])
    assert demo_waypoints([store, "--json", str(tmp_path / "found.json")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["1", "forward", "20", "steps", "3", "waypoints:", "0", "10", "20"]
    assert lines[1].split() == ["2", "backward", "10", "steps", "3", "waypoints:", "0", "4", "10"], "the gripper closes at step 4"
    written = json.loads((tmp_path / "found.json").read_text())
    assert written["budget_m"] == 0.005
    assert written["demonstrations"][0] == {"number": 1, "phase": "forward", "steps": 20, "waypoints": [0, 10, 20]}


def test_a_larger_budget_needs_fewer_waypoints(tmp_path, capsys):
    store = record(tmp_path / "store", [CORNER])
    assert demo_waypoints([store, "--budget-m", "0.2"]) == 0
    assert capsys.readouterr().out.rstrip().endswith("2 waypoints: 0 20")


@pytest.mark.parametrize("budget", ["-1", "nan"])
def test_a_budget_that_is_no_distance_is_refused(tmp_path, budget):
    with pytest.raises(CommandError, match=r"--budget-m .* is no distance"):
        demo_waypoints([record(tmp_path / "store", [CORNER]), f"--budget-m={budget}"])


def test_demonstrations_without_a_tool_position_are_refused_by_name(tmp_path):
    store = record(tmp_path / "store", [CORNER], state_names=("x_m", "tcp_y_m", "tcp_z_m"))
    with pytest.raises(CommandError, match=r"no tool position \(tcp_x_m\): record them with an arm"):
        demo_waypoints([store])


def test_a_folder_without_a_store_is_one_clear_error(tmp_path):
    with pytest.raises(StoreError, match="no episode store"):
        demo_waypoints([str(tmp_path)])
