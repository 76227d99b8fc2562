"""`etude camera preview` on a recording and on a robot that lacks the camera."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import yaml
from recording import HEIGHT, WIDTH, picture, record

from actor.cameras import commands
from etude.config import ConfigError, read_named

pyrealsense2 = pytest.importorskip("pyrealsense2", reason="librealsense does not load here", exc_type=ImportError)


@pytest.fixture
def robot(tmp_path):
    """A robot file whose camera plays a recording."""
    record(tmp_path / "camera.db3", [picture(number) for number in range(1, 12)])
    data = read_named("robots", "franka_sim")
    data["franka"]["cameras"] = {"front": {"realsense": {"recording": str(tmp_path / "camera.db3")}}}
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(data))
    return path


def test_a_preview_shows_the_picture_with_its_crop_and_what_a_policy_sees(robot, tmp_path, capsys):
    out = tmp_path / "front.png"
    words = ["--robot", str(robot), "--camera", "front", "--crop", "20", "10", "64", "--out", str(out)]
    assert commands.camera_preview(words) == 0
    drawn = cv2.imread(str(out))
    assert drawn.shape == (HEIGHT, WIDTH + HEIGHT, 3)
    np.testing.assert_array_equal(drawn[10, 20], commands.FRAME_BGR)
    assert "crop_px: [20, 10, 64]" in capsys.readouterr().out


def test_a_crop_beyond_the_picture_is_refused(robot):
    with pytest.raises(ConfigError, match=r"reaches beyond the picture of 160×120"):
        commands.camera_preview(["--robot", str(robot), "--camera", "front", "--crop", "100", "0", "64"])


def test_a_camera_that_the_robot_lacks_is_named_beside_those_it_has(robot):
    with pytest.raises(ConfigError, match=r"no camera 'side'.*it has front"):
        commands.camera_preview(["--robot", str(robot), "--camera", "side"])
    with pytest.raises(ConfigError, match="simulated"):
        commands.camera_preview(["--robot", "sim_panda", "--camera", "front"])
