"""A box that was shown by hand: its extents, what is refused, and a YAML that keeps its comments."""

from __future__ import annotations

import numpy as np
import pytest

from actor.teach_box import box_of, with_box
from etude.config import ConfigError, RobotConfig, build, named_file
from etude.config.loading import read_yaml

POINTS = [np.array(p) for p in ([0.3, -0.2, 0.1], [0.6, 0.2, 0.1], [0.45, 0.0, 0.4])]


def test_the_box_is_the_extents_drawn_in_by_the_margin():
    low, high = box_of(POINTS, 0.01)
    np.testing.assert_allclose(low, [0.31, -0.19, 0.11])
    np.testing.assert_allclose(high, [0.59, 0.19, 0.39])


@pytest.mark.parametrize(
    ("points", "words"),
    [
        ([], "nothing was recorded"),
        ([p * [1, 1, 0] for p in POINTS], "along z"),
        ([*POINTS, np.array([3.0, 0.0, 0.1])], "farther than any arm reaches"),
    ],
)
def test_a_box_that_cannot_be_meant_is_refused(points, words):
    with pytest.raises(ConfigError, match=words):
        box_of(points, 0.01)


@pytest.mark.parametrize("robot", ["franka_fr3", "franka_sim"])
def test_the_yaml_keeps_its_comments_and_has_the_box_in_both_places(robot, tmp_path):
    before = named_file("robots", robot).read_text()
    after = with_box(before, np.array([0.31, -0.19, 0.11]), np.array([0.59, 0.19, 0.39]))
    (tmp_path / "robot.yaml").write_text(after)
    config = build(RobotConfig, read_yaml(tmp_path / "robot.yaml"), robot)
    for limits in (config.safety, config.franka.limits):
        assert limits.workspace_min_m == (0.31, -0.19, 0.11) and limits.workspace_max_m == (0.59, 0.19, 0.39)
    kept = [line for line in before.splitlines() if "workspace_m" not in line]
    assert kept == [line for line in after.splitlines() if "workspace_m" not in line]


def test_a_yaml_without_a_box_is_not_guessed_at():
    with pytest.raises(ConfigError, match="workspace_min_m"):
        with_box("name: mine\n", np.zeros(3), np.ones(3))
