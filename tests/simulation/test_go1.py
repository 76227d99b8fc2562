"""The simulated Go1 against the laws that it should obey: kinematics, statics, falls, standing up, and every perturbation."""

from __future__ import annotations

import numpy as np
import pytest

from simulation.go1 import ACTION_SCALE_RAD, ACTION_SPEC, OBSERVATION_SPEC, Go1, Perturbation, walking_reward
from simulation.go1_gaits import foot_positions
from simulation.go1_model import (
    FOOT_RADIUS_M,
    FRONT,
    HIP_X_M,
    HIP_Y_M,
    JOINTS,
    LEFT,
    LEGS,
    LOWER_RAD,
    MAX_TORQUE_NM,
    NOMINAL_HEIGHT_M,
    NOMINAL_RAD,
    UPPER_RAD,
)
from simulation.go1_stand_up import StandUp

GRAVITY = 9.81
STILL = np.zeros(12)


@pytest.fixture
def go1() -> Go1:
    return Go1(seed=0)


def weight_on_the_floor(go1: Go1) -> float:
    """Vertical contact force of floor and robot, newtons."""
    import mujoco  # after `simulation` has chosen the OpenGL backend

    force, total = np.zeros(6), 0.0
    for index in range(go1.data.ncon):
        mujoco.mj_contactForce(go1.model, go1.data, index, force)
        total += force[0] * abs(go1.data.contact[index].frame[2])
    return total


def test_it_weighs_what_a_go1_weighs(go1):
    assert go1.model.body_mass.sum() == pytest.approx(12.74, abs=0.05)  # Unitree: about 12 kg with battery


def test_feet_of_random_poses_are_where_trigonometry_says(go1):
    import mujoco

    rng = np.random.default_rng(0)
    for _ in range(5):
        joints = rng.uniform(LOWER_RAD, np.minimum(UPPER_RAD, 2.0))
        go1.data.qpos[7:] = joints
        mujoco.mj_forward(go1.model, go1.data)
        hips = np.stack([FRONT * HIP_X_M, LEFT * HIP_Y_M, np.zeros(4)], -1)
        expected = hips + foot_positions(joints)
        seen = [go1.rotation.T @ (go1.data.site(f"{leg}_foot").xpos - go1.position_m) for leg in LEGS]
        np.testing.assert_allclose(seen, expected, atol=1e-9)


def test_feet_of_the_nominal_stance_touch_the_floor_under_the_hips():
    feet = foot_positions(NOMINAL_RAD)
    # two links of 0.213 m at 0.9 rad to both sides of the vertical
    np.testing.assert_allclose(feet[:, 0], 0.0, atol=1e-12)
    np.testing.assert_allclose(feet[:, 2], -2 * 0.213 * np.cos(0.9), atol=1e-12)
    assert pytest.approx(-feet[0, 2] + FOOT_RADIUS_M, abs=1e-3) == NOMINAL_HEIGHT_M


def test_every_action_is_within_the_joint_limits():
    assert ACTION_SPEC.dim == 12
    assert (NOMINAL_RAD - ACTION_SCALE_RAD >= LOWER_RAD).all() and (NOMINAL_RAD + ACTION_SCALE_RAD <= UPPER_RAD).all()


def test_the_controller_keeps_the_stance_and_the_floor_carries_the_weight(go1):
    start = go1.position_m
    for _ in range(60):
        go1.step(STILL)
    assert np.linalg.norm(go1.position_m[:2] - start[:2]) < 0.02
    assert np.abs(go1.joints_rad - NOMINAL_RAD).max() < 0.15 and not go1.fallen()
    assert weight_on_the_floor(go1) == pytest.approx(go1.model.body_mass.sum() * GRAVITY, rel=0.03)


def test_torques_stay_within_the_motors_limits(go1):
    rng, largest = np.random.default_rng(0), np.zeros(12)
    for _ in range(40):
        go1.step(rng.uniform(-1, 1, 12))
        largest = np.maximum(largest, np.abs(go1.data.actuator_force))
    assert (largest <= MAX_TORQUE_NM + 1e-9).all() and (largest > 0.9 * MAX_TORQUE_NM).any()


def test_the_observation_is_what_its_names_say(go1):
    go1.step(np.full(12, 0.1))
    state = dict(zip(OBSERVATION_SPEC.state_names, go1.observe(), strict=True))
    assert state["RL_knee_rad"] == pytest.approx(go1.joints_rad[JOINTS.index("RL_knee")] - NOMINAL_RAD[2], abs=1e-5)
    assert state["gravity_z"] == pytest.approx(-1.0, abs=0.02) and state["heading_cos"] == pytest.approx(1.0, abs=0.01)
    assert state["previous_FR_thigh"] == pytest.approx(0.1)
    turned = np.deg2rad(30)
    go1.data.qpos[3:7] = (np.cos(turned / 2), np.sin(turned / 2), 0, 0)  # rolls to the right: gravity points to its right
    state = dict(zip(OBSERVATION_SPEC.state_names, go1.observe(), strict=True))
    assert state["gravity_y"] == pytest.approx(-0.5, abs=1e-3)


def test_tilting_too_far_or_lying_low_is_a_fall(go1):
    for degrees, fallen in ((50, False), (70, True), (180, True)):
        half = np.deg2rad(degrees) / 2
        go1.data.qpos[3:7] = (np.cos(half), np.sin(half), 0, 0)
        assert go1.fallen() is fallen
    go1.place()
    go1.data.qpos[2] = 0.1
    assert go1.fallen()


def test_the_reward_is_speed_times_uprightness():
    assert walking_reward(0.5, 1.0, False) == pytest.approx(0.5)
    assert walking_reward(3.0, 1.0, False) == 1.0
    assert walking_reward(-1.0, 1.0, False) == 0.0
    assert walking_reward(1.0, 0.8, False) == pytest.approx(0.64)
    assert walking_reward(1.0, 1.0, True) == 0.0


@pytest.mark.parametrize("seed", range(8))
def test_it_stands_up_from_any_fall(seed):
    go1 = Go1(seed)
    go1.throw(np.random.default_rng(seed))
    rising = StandUp(go1)
    assert any(rising.step() for _ in range(200)), "ten seconds were not enough"
    for _ in range(20):
        go1.step(STILL)
    assert not go1.fallen() and -go1.gravity[2] > 0.95


# --- perturbations ------------------------------------------------------------------------------------------------------


def test_a_payload_weighs_on_the_feet_and_goes_again(go1):
    go1.perturb(Perturbation(payload_kg=5.0))
    for _ in range(40):
        go1.step(STILL)
    unloaded = go1.model.body_mass.sum() - 5.0
    assert unloaded == pytest.approx(12.74, abs=0.05)
    assert weight_on_the_floor(go1) == pytest.approx((unloaded + 5.0) * GRAVITY, rel=0.03)
    go1.perturb(Perturbation())
    for _ in range(40):
        go1.step(STILL)
    assert weight_on_the_floor(go1) == pytest.approx(unloaded * GRAVITY, rel=0.03)


def test_a_stuck_joint_stays_where_it_was(go1):
    target = STILL.copy()
    index = JOINTS.index("FL_knee")
    target[index] = 0.3
    for _ in range(10):
        go1.step(target)
    stuck = go1.joints_rad[index]
    go1.perturb(Perturbation(stuck_joint="FL_knee"))
    rng = np.random.default_rng(0)
    for _ in range(20):
        go1.step(rng.uniform(-0.3, 0.3, 12))
        assert go1.joints_rad[index] == pytest.approx(stuck, abs=0.03)
    assert abs(go1.joints_rad[JOINTS.index("FR_knee")] - stuck) > 0.03
    with pytest.raises(ValueError, match="FR_abduction"):
        go1.perturb(Perturbation(stuck_joint="tail"))


def test_a_pull_on_a_slippery_floor_accelerates_by_newtons_law(go1):
    """Feet carry friction up to mu m g: a pull above it accelerates the robot by (F - mu m g) / m, one below it does not."""
    mass, friction = go1.model.body_mass.sum(), 0.1
    held = friction * mass * GRAVITY
    go1.perturb(Perturbation(floor_friction=friction, pull_n=(0.5 * held, 0.0, 0.0)))
    for _ in range(20):
        go1.step(STILL)
    assert abs(go1.velocity_m_s[0]) < 0.05
    go1.perturb(Perturbation(floor_friction=friction, pull_n=(2.0 * held, 0.0, 0.0)))
    before = go1.data.qvel[0]
    for _ in range(10):
        go1.step(STILL)
    assert (go1.data.qvel[0] - before) / 0.5 == pytest.approx(held / mass, rel=0.25)


def test_the_same_seed_lives_the_same_life():
    ends = []
    for seed in (3, 3, 4):
        go1 = Go1(seed)
        go1.place(np.random.default_rng(seed))
        rng = np.random.default_rng(0)
        for _ in range(20):
            go1.step(rng.uniform(-0.3, 0.3, 12))
        ends.append(go1.observe())
    np.testing.assert_array_equal(ends[0], ends[1])
    assert not np.array_equal(ends[0], ends[2])


def test_the_picture_shows_the_robot_and_the_payload(go1):
    bare = go1.render(120, 160)
    go1.perturb(Perturbation(payload_kg=4.0))
    loaded = go1.render(120, 160)
    assert bare.shape == (120, 160, 3) and bare.std() > 10

    def orange(picture: np.ndarray) -> int:
        red, blue = picture[..., 0].astype(int), picture[..., 2].astype(int)
        return int((red - blue > 60).sum())

    assert orange(loaded) > orange(bare) + 10
    go1.close()
