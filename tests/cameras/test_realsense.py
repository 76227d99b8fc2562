"""The RealSense source through librealsense's real pipeline, fed by a recording of a software device."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import pytest
from recording import HEIGHT, WIDTH, picture, record

from actor.cameras import problems_of
from etude.config import ConfigError
from etude.config.hardware import CameraConfig, RealSenseConfig

try:
    import pyrealsense2
except ImportError as error:
    pytest.skip(f"librealsense does not load here: {error}", allow_module_level=True)

from actor.cameras.realsense import RealSense, connected, moment_of


@pytest.fixture(scope="module")
def moving(tmp_path_factory):
    path = tmp_path_factory.mktemp("realsense") / "moving.db3"
    record(path, [picture(number) for number in range(1, 25)])
    return path


def wait_for(condition: Callable[[], bool], at_most_s: float = 10.0) -> None:
    until = time.monotonic() + at_most_s
    while not condition():
        assert time.monotonic() < until, "waited in vain"
        time.sleep(0.02)


@pytest.fixture
def open_camera():
    opened: list[RealSense] = []

    def open_one(**config) -> RealSense:
        opened.append(RealSense(RealSenseConfig(**config)))
        return opened[-1]

    yield open_one
    for camera in opened:
        camera.close()


def test_pictures_come_through_the_real_pipeline_as_they_were(moving, open_camera):
    camera = open_camera(recording=str(moving))
    wait_for(lambda: camera.newest() is not None)
    seen = camera.newest()
    assert camera.trouble() == ""
    np.testing.assert_array_equal(seen.image, picture(int(seen.image[0, 0, 0])))
    assert seen.image.shape == (HEIGHT, WIDTH, 3)
    assert problems_of("front", seen, CameraConfig(realsense=RealSenseConfig(), max_age_s=5.0), time.monotonic()) == ()
    wait_for(lambda: camera.newest().image[0, 0, 0] != seen.image[0, 0, 0])


def test_a_camera_that_repeats_one_picture_is_called_frozen(tmp_path, open_camera):
    record(tmp_path / "frozen.db3", [picture(7)] * 12)
    camera = open_camera(recording=str(tmp_path / "frozen.db3"))
    wait_for(lambda: camera.newest() is not None)
    first = camera.newest()
    wait_for(lambda: camera.newest().heard_s > first.heard_s + 0.2)
    config = CameraConfig(realsense=RealSenseConfig(), max_age_s=5.0, frozen_after_s=0.1)
    assert "camera front is frozen" in problems_of("front", camera.newest(), config, time.monotonic())[0]


def test_a_camera_that_is_not_plugged_in_says_so_and_is_waited_for(open_camera):
    if connected():
        pytest.skip("a RealSense is connected to this computer")
    camera = open_camera(serial="123")
    wait_for(lambda: "opened" not in camera.trouble())
    assert camera.newest() is None
    assert "RealSense 123 is not connected" in camera.trouble() and "etude camera list" in camera.trouble()
    config = CameraConfig(realsense=RealSenseConfig(serial="123"))
    problem = problems_of("wrist", camera.newest(), config, time.monotonic(), camera.trouble())
    assert problem == (f"camera wrist: {camera.trouble()}",)


def test_it_streams_again_when_its_camera_comes_back(moving, open_camera, monkeypatch):
    """Unplugging is what librealsense makes of it: a RuntimeError out of the pipeline."""
    plugged = [True]
    real = pyrealsense2.pipeline

    class Pipeline:
        def __init__(self) -> None:
            self._real = real()

        def start(self, config):
            if not plugged[0]:
                raise RuntimeError("No device connected")
            return self._real.start(config)

        def wait_for_frames(self, timeout_ms):
            if not plugged[0]:
                raise RuntimeError("Frame didn't arrive within 1000")
            return self._real.wait_for_frames(timeout_ms)

        def stop(self):
            self._real.stop()

    monkeypatch.setattr(pyrealsense2, "pipeline", Pipeline)
    camera = open_camera(recording=str(moving))
    wait_for(lambda: camera.newest() is not None)
    plugged[0] = False
    wait_for(lambda: camera.trouble() != "")
    lost_s = time.monotonic()
    plugged[0] = True
    wait_for(lambda: camera.trouble() == "" and camera.newest().heard_s > lost_s)


def test_a_recording_that_is_absent_is_an_error_at_once():
    with pytest.raises(ConfigError, match=r"nowhere\.db3"):
        RealSense(RealSenseConfig(recording="nowhere.db3"))


def test_a_recording_that_is_none_says_so(tmp_path, open_camera):
    (tmp_path / "text.db3").write_text("no recording")
    camera = open_camera(recording=str(tmp_path / "text.db3"))
    wait_for(lambda: "cannot be played" in camera.trouble())


def test_stamps_since_the_epoch_become_monotonic_time_and_others_count_as_now():
    assert moment_of(99_900.0, True, 100.0, 7.0) == pytest.approx(6.9)
    assert moment_of(99_900.0, False, 100.0, 7.0) == 7.0
    assert moment_of(101_000.0, True, 100.0, 7.0) == 7.0  # of the future
    assert moment_of(500.0, True, 100.0, 7.0) == 7.0  # a recording of long ago
