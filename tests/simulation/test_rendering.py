"""Pictures: what the policy sees shows what matters, and a machine without OpenGL is told what to install."""

import os
import subprocess
import sys
import threading

import numpy as np
import pytest

from etude.config import ConfigError
from simulation.scenes import SCENES
from simulation.tabletop import Tabletop


@pytest.mark.parametrize("scene", sorted(SCENES))
def test_policy_images_have_the_right_shape_and_are_repeatable(scene):
    tabletop = Tabletop(scene, observation="pixels")
    first = tabletop.observe()
    tabletop.observation_spec.check(first)
    second = tabletop.observe()
    for key in tabletop.observation_spec.image_keys:
        np.testing.assert_array_equal(first[key], second[key])
        assert first[key].std() > 15
    tabletop.close()


def test_moving_the_knob_by_five_millimetres_changes_the_front_image():
    tabletop = Tabletop("slide", observation="pixels")
    before = tabletop.observe()["image/front"].astype(int)
    tabletop.data.qpos[tabletop.model.joint("knob").qposadr[0]] += 0.005
    import mujoco

    mujoco.mj_forward(tabletop.model, tabletop.data)
    assert np.abs(tabletop.observe()["image/front"].astype(int) - before).max() > 40
    tabletop.close()


def test_the_picture_for_people_is_another_one_than_the_policys():
    tabletop = Tabletop("slide", observation="pixels")
    overview, beauty = tabletop.render("overview", 60, 80), tabletop.render("beauty", 60, 80)
    assert beauty.shape == overview.shape == (60, 80, 3)
    assert np.abs(beauty.astype(int) - overview).mean() > 5
    with pytest.raises(ConfigError, match=r"no camera 'side'.*overview"):
        tabletop.render("side", 60, 80)
    tabletop.close()


def test_another_thread_may_draw_after_the_first_one():
    tabletop = Tabletop("slide", observation="pixels")
    here, there = tabletop.render("front", 64, 64), []
    thread = threading.Thread(target=lambda: there.append(tabletop.render("front", 64, 64)))
    thread.start()
    thread.join()
    np.testing.assert_array_equal(here, there[0])
    tabletop.close()


@pytest.mark.parametrize("backend", ["disable", "nonsense"])
def test_without_opengl_the_error_names_the_packages_and_the_way_out(backend):
    code = "from simulation.tabletop import Tabletop; Tabletop('slide', observation='pixels').observe()"
    result = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "MUJOCO_GL": backend},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert result.returncode != 0
    assert f"MUJOCO_GL={backend}" in result.stderr and "libegl1" in result.stderr and "observation=state" in result.stderr
