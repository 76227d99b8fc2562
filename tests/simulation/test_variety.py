"""Scenes that look different: pictures change, what moves does not, and the same seed looks the same."""

from __future__ import annotations

import numpy as np
import pytest

from simulation.tabletop import Tabletop
from simulation.variety import LIGHTS, Look, vary


@pytest.fixture(scope="module")
def tabletop():
    scene = Tabletop("slide", image_size=32)
    yield scene
    scene.close()


def test_looks_differ_and_the_scene_stays(tabletop):
    look = Look.of(tabletop.model)
    before = tabletop.observe()
    brightness = {}
    for light in LIGHTS:
        vary(tabletop.model, look, light, np.random.default_rng(3))
        after = tabletop.observe()
        np.testing.assert_array_equal(after["state"], before["state"])
        assert (after["image/front"] != before["image/front"]).any()
        brightness[light] = after["image/front"].mean()
    assert brightness["dim"] < brightness["normal"] < brightness["bright"]


def test_the_same_seed_looks_the_same_and_nothing_adds_up(tabletop):
    look = Look.of(tabletop.model)
    pictures = []
    for seed in (1, 2, 1):
        vary(tabletop.model, look, "normal", np.random.default_rng(seed), strength=2.0)
        pictures.append(tabletop.observe()["image/front"])
    np.testing.assert_array_equal(pictures[0], pictures[2])
    assert (pictures[0] != pictures[1]).any()
    np.testing.assert_allclose(np.linalg.norm(tabletop.model.cam_quat, axis=1), 1.0, atol=1e-9)
