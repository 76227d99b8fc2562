"""Every task pair can be solved in both directions, again and again, with nobody resetting; and its truth is true."""

import numpy as np
import pytest

from etude.config import ConfigError
from simulation.scenes import SCENES, make_scene
from simulation.tabletop import Tabletop

ALL = sorted(SCENES)
PHASES = ("forward", "backward")


@pytest.fixture(scope="module", params=ALL)
def tabletop(request):
    return Tabletop(request.param, observation="state")


def attempt(tabletop: Tabletop, phase: str, rng: np.random.Generator, max_steps: int = 60) -> bool:
    for _ in range(max_steps):
        tabletop.step(tabletop.expert_action(phase, rng))
        if tabletop.success()[phase]:
            return True
        if tabletop.object_lost():
            return False
    return False


@pytest.mark.parametrize("phase", PHASES)
def test_a_random_start_is_one_from_which_the_phase_must_act(tabletop, phase):
    rng = np.random.default_rng(11)
    for _ in range(30):
        tabletop.reset(phase, rng)
        assert not tabletop.success()[phase]
        assert not tabletop.object_lost()
        touching = [tabletop.model.geom(g).name for c in tabletop.data.contact for g in (c.geom1, c.geom2)]
        assert not [name for name in touching if name == "hand" or name.endswith("_pad")]


def test_starts_vary_and_are_reproducible(tabletop):
    def starts(seed):
        rng = np.random.default_rng(seed)
        rows = []
        for _ in range(6):
            tabletop.reset("forward", rng)
            rows.append(tabletop.observe()["state"])
        return np.array(rows)

    np.testing.assert_array_equal(starts(5), starts(5))
    assert (starts(5)[:, :3].std(axis=0) > 0.005).all()


@pytest.mark.parametrize("phase", PHASES)
def test_the_expert_solves_every_direction(tabletop, phase):
    tabletop.expert_noise = 0.0
    rng = np.random.default_rng(1)
    results = []
    for _ in range(25):
        tabletop.reset(phase, rng)
        results.append(attempt(tabletop, phase, rng, max_steps=40))
    assert np.mean(results) >= 0.96


@pytest.mark.parametrize("phase", PHASES)
def test_the_expert_recovers_from_its_own_noise(tabletop, phase):
    tabletop.expert_noise = 0.2 if tabletop.scene.name == "peg" else 0.3
    rng = np.random.default_rng(2)
    results = []
    for _ in range(20):
        tabletop.reset(phase, rng)
        results.append(attempt(tabletop, phase, rng))
    tabletop.expert_noise = 0.0
    assert np.mean(results) >= 0.85


def test_thirty_phases_chain_without_a_reset(tabletop):
    tabletop.expert_noise = 0.0
    rng = np.random.default_rng(3)
    tabletop.reset("forward", rng)
    assert sum(attempt(tabletop, PHASES[i % 2], rng) for i in range(30)) >= 29


def test_success_of_one_direction_excludes_the_other(tabletop):
    rng = np.random.default_rng(4)
    tabletop.expert_noise = 0.5
    tabletop.reset("forward", rng)
    for _ in range(60):
        tabletop.step(tabletop.expert_action("forward", rng))
        assert sum(tabletop.success().values()) <= 1
    tabletop.expert_noise = 0.0


def test_state_names_match_the_state(tabletop):
    tabletop.observation_spec.check(tabletop.observe())
    assert tabletop.scene.object_names == tabletop.observation_spec.state_names[-len(tabletop.scene.object_names) :]


def test_a_block_over_the_edge_is_lost():
    tabletop = Tabletop("relocate", observation="state")
    tabletop.scene.put(tabletop.data, 0.49, 0.30, 0.0)
    for _ in range(6):
        tabletop.step(np.array([0.0, 0.0, 1.0, 1.0]))
    assert tabletop.object_lost()
    assert tabletop.success() == {"forward": False, "backward": False}


# --- the rim of relocate ---------------------------------------------------------------------------------------------

OUTWARD = {"near": -1.0, "far": 1.0}


def relocate(rim: float) -> Tabletop:
    return Tabletop("relocate", observation="state", options={"rim": rim})


@pytest.mark.parametrize("side", OUTWARD)
def test_a_block_that_is_pushed_along_the_table_is_lost_without_a_rim_and_within_reach_with_one(side):
    for rim in (0.0, 1.0):
        tabletop, x = relocate(rim), OUTWARD[side]
        tabletop.scene.put(tabletop.data, 0.49 + 0.10 * x, 0.0, 0.0)
        tabletop.controller.place(np.array([0.49 + 0.04 * x, 0.0, 0.02]), 0.0, 0.0)
        for _ in range(14):  # closed fingers behind it, as low as they come
            tabletop.step(np.array([x, 0.0, -1.0, -1.0]))
        assert tabletop.object_lost() is not bool(rim), (rim, tabletop.scene.object_m(tabletop.data))


@pytest.mark.parametrize("y", [-1.0, 1.0])
def test_the_sides_have_no_rim_so_that_a_block_can_still_be_lost(y):
    tabletop = relocate(1.0)
    tabletop.scene.put(tabletop.data, 0.49, 0.18 * y, 0.0)
    tabletop.controller.place(np.array([0.49, 0.12 * y, 0.02]), 0.0, 0.0)
    for _ in range(14):
        tabletop.step(np.array([0.0, y, -1.0, -1.0]))
    assert tabletop.object_lost()


@pytest.mark.parametrize("corner", [(x, y) for x in (0.37, 0.61) for y in (-0.24, 0.24)])
def test_the_open_gripper_touches_no_rim_in_the_corners_of_its_reach(corner):
    tabletop = relocate(1.0)
    rim = {tabletop.model.geom(f"rim_{side}").id for side in OUTWARD}
    tabletop.controller.place(np.array([*corner, 0.05]), 0.0, 0.08)
    for _ in range(8):
        tabletop.step(np.array([*np.sign(np.subtract(corner, (0.49, 0.0))), -1.0, 1.0]))
        assert not rim & set(tabletop.data.contact.geom.ravel().tolist())


@pytest.mark.parametrize("side", OUTWARD)
def test_a_block_at_the_rim_can_be_brought_back(side):
    tabletop, rng = relocate(1.0), np.random.default_rng(0)
    tabletop.scene.put(tabletop.data, 0.4895 + 0.1265 * OUTWARD[side], 0.0, 0.0)
    assert any(attempt_from_here(tabletop, phase, rng) for phase in PHASES)


def attempt_from_here(tabletop: Tabletop, phase: str, rng: np.random.Generator, max_steps: int = 80) -> bool:
    for _ in range(max_steps):
        tabletop.step(tabletop.expert_action(phase, rng))
        if tabletop.success()[phase]:
            return True
    return False


def test_a_toppled_peg_is_lost():
    tabletop = Tabletop("peg", observation="state")
    joint = tabletop.model.joint("object").qposadr[0]
    tabletop.data.qpos[joint + 3 : joint + 7] = (np.sqrt(0.5), np.sqrt(0.5), 0.0, 0.0)
    tabletop.data.qpos[joint + 2] = 0.04
    for _ in range(4):
        tabletop.step(np.array([0.0, 0.0, 1.0, 1.0]))
    assert tabletop.object_lost()


def test_a_knob_that_only_passes_through_the_window_is_no_success():
    tabletop = Tabletop("slide", observation="state")
    joint = tabletop.model.joint("knob")
    tabletop.data.qpos[joint.qposadr[0]], tabletop.data.qvel[joint.dofadr[0]] = 0.11, 0.3
    assert not tabletop.success()["forward"]
    tabletop.data.qvel[joint.dofadr[0]] = 0.0
    assert tabletop.success() == {"forward": True, "backward": False}


def test_options_change_the_scene_and_unknown_ones_are_refused():
    assert make_scene("slide", {"window_half_width_m": 0.04}).option["window_half_width_m"] == 0.04
    with pytest.raises(ConfigError, match=r"window_half_widht_m.*slide.*window_half_width_m"):
        make_scene("slide", {"window_half_widht_m": 0.04})
    with pytest.raises(ConfigError, match=r"no simulation scene 'drawr'.*drawer"):
        make_scene("drawr", {})
