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


def test_what_has_a_material_keeps_nearly_its_colour(tabletop):
    """MuJoCo draws a geom in its own colour as soon as that is not the default, and the goal windows went grey that way."""
    look = Look.of(tabletop.model)
    tabletop.reset("forward", np.random.default_rng(0))
    vary(tabletop.model, look, "normal", np.random.default_rng(0), strength=0.0)
    plain = _windows(tabletop)
    for seed in range(3):
        vary(tabletop.model, look, "normal", np.random.default_rng(seed), strength=1.0)
        assert 0.5 * plain < _windows(tabletop) < 2.0 * plain


def _windows(tabletop) -> int:
    """Pixels that are clearly green or clearly blue."""
    red, green, blue = np.moveaxis(tabletop.observe()["image/front"].astype(int), -1, 0)
    return int((np.maximum(green - red, blue - red) > 60).sum())


@pytest.fixture(scope="module")
def cluttered():
    scene = Tabletop("slide", image_size=32, cluttered=True)
    yield scene
    scene.close()


def test_distractors_lie_on_the_table_out_of_the_arms_way(cluttered):
    scene, rng = cluttered.scene, np.random.default_rng(0)
    look = Look.of(cluttered.model, np.array([scene.workspace_min_m[:2], scene.workspace_max_m[:2]]))
    counts, cloths = set(), set()
    for _ in range(20):
        vary(cluttered.model, look, "normal", rng)
        things = [g for g in map(cluttered.model.geom, range(cluttered.model.ngeom)) if g.name.startswith("distractor_")]
        shown = [thing.pos for thing in things if thing.pos[2] > 0.0]
        counts.add(len(shown))
        cloths.add(int(cluttered.model.geom("table").matid[0]))
        for place in shown:
            assert (place[:2] < scene.workspace_min_m[:2]).any() or (place[:2] > scene.workspace_max_m[:2]).any()
            assert (np.abs(place[:2] - [0.3, 0.0]) < [0.55, 0.45]).all(), "beside the table"
    assert counts == {0, 1, 2, 3} and len(cloths) == 4
    vary(cluttered.model, look, "normal", rng, strength=4.0)


def test_nothing_can_touch_a_distractor(cluttered):
    for geom in map(cluttered.model.geom, range(cluttered.model.ngeom)):
        if geom.name.startswith("distractor_"):
            assert geom.contype[0] == geom.conaffinity[0] == 0
