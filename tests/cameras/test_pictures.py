"""What all camera sources share: what a policy sees of a picture, and when it must not act on it."""

from __future__ import annotations

import numpy as np
import pytest

from actor.cameras import Picture, as_seen, problems_of
from etude.config import ConfigError, build
from etude.config.hardware import CameraConfig

IMAGE = np.arange(48 * 64 * 3, dtype=np.uint32).reshape(48, 64, 3).astype(np.uint8)


def camera(**changes) -> CameraConfig:
    return CameraConfig(topic="/image", **changes)


def test_without_a_crop_the_largest_square_in_the_middle_is_seen():
    np.testing.assert_array_equal(as_seen(IMAGE, 48), IMAGE[:, 8:56])


def test_a_crop_is_left_top_and_size():
    np.testing.assert_array_equal(as_seen(IMAGE, 16, (3, 5, 16)), IMAGE[5:21, 3:19])


@pytest.mark.parametrize("crop", [(0, 40, 16), (50, 0, 16), (0, 0, 49)])
def test_a_crop_beyond_the_picture_is_a_problem_that_names_both(crop):
    (problem,) = problems_of("front", Picture(IMAGE, 1.0, 1.0), camera(crop_px=crop), 1.0)
    assert "crop_px" in problem and "64×48" in problem


def test_absent_late_and_frozen_pictures_are_told():
    assert problems_of("front", None, camera(), 1.0) == ("camera front shows nothing",)
    assert problems_of("front", Picture(IMAGE, 1.0, 1.0), camera(), 1.1) == ()
    late, frozen = problems_of("front", Picture(IMAGE, 1.0, 1.0), camera(), 9.0)
    assert "late" in late and "frozen" in frozen
    assert "rgb8" in problems_of("front", Picture(np.zeros((0, 0, 3), np.uint8), 1.0, 1.0), camera(), 1.0)[0]


@pytest.mark.parametrize("bad", [{}, {"topic": "/image", "realsense": {}}, {"topic": "/image", "crop_px": [0, 0, 8]}])
def test_a_camera_has_one_source_and_a_sensible_crop(bad):
    with pytest.raises(ConfigError):
        build(CameraConfig, bad, "robots/mine.yaml")
