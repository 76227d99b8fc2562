"""Waypoints of known polylines, and that no fewer would do."""

from __future__ import annotations

from itertools import combinations, pairwise

import numpy as np
import pytest

from actor.waypoints import deviation_m, gripper_changes, waypoints


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
