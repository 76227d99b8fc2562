"""The arm has the true kinematics of a Panda: checked against its published Denavit-Hartenberg parameters."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulation import panda
from simulation.tabletop import Tabletop

# Franka's documentation, "Denavit-Hartenberg parameters" (Craig's convention): a, d, alpha of joints 1-7 and the flange.
DH = (
    (0.0, 0.333, 0.0),
    (0.0, 0.0, -np.pi / 2),
    (0.0, 0.316, np.pi / 2),
    (0.0825, 0.0, np.pi / 2),
    (-0.0825, 0.384, -np.pi / 2),
    (0.0, 0.0, np.pi / 2),
    (0.088, 0.0, np.pi / 2),
    (0.0, 0.107, 0.0),
)
FLANGE_TO_TCP_M = 0.1034


@pytest.fixture(scope="module")
def tabletop():
    return Tabletop("slide", observation="state")


def transform(a: float, d: float, alpha: float, theta: float) -> np.ndarray:
    ct, st_, ca, sa = np.cos(theta), np.sin(theta), np.cos(alpha), np.sin(alpha)
    return np.array([[ct, -st_, 0, a], [st_ * ca, ct * ca, -sa, -d * sa], [st_ * sa, ct * sa, ca, d * ca], [0, 0, 0, 1]])


def published_tcp(joints: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Position and rotation of the tool centre point of the standard hand, from the DH table."""
    frame = np.eye(4)
    for (a, d, alpha), theta in zip(DH, (*joints, 0.0), strict=True):
        frame = frame @ transform(a, d, alpha, theta)
    frame = frame @ transform(0.0, FLANGE_TO_TCP_M, 0.0, -np.pi / 4)
    return frame[:3, 3], frame[:3, :3]


@settings(max_examples=40, deadline=None)
@given(shares=st.lists(st.floats(0, 1), min_size=7, max_size=7))
def test_forward_kinematics_is_that_of_the_published_dh_table(tabletop, shares):
    import mujoco

    joints = panda.LOWER_RAD + np.array(shares) * (panda.UPPER_RAD - panda.LOWER_RAD)
    data = mujoco.MjData(tabletop.model)
    data.qpos[[tabletop.model.joint(f"joint{i}").qposadr[0] for i in range(1, 8)]] = joints
    mujoco.mj_kinematics(tabletop.model, data)
    position, rotation = published_tcp(joints)
    np.testing.assert_allclose(data.site("tcp").xpos, position, atol=1e-6)
    np.testing.assert_allclose(data.site("tcp").xmat.reshape(3, 3), rotation, atol=1e-6)


def test_joint_limits_and_torques_are_in_the_model(tabletop):
    model = tabletop.model
    for index in range(7):
        np.testing.assert_allclose(model.joint(f"joint{index + 1}").range, [panda.LOWER_RAD[index], panda.UPPER_RAD[index]])
        np.testing.assert_allclose(
            model.actuator(f"joint{index + 1}").forcerange, [-panda.MAX_TORQUE_NM[index], panda.MAX_TORQUE_NM[index]]
        )


def test_the_arm_weighs_what_a_panda_weighs(tabletop):
    links = sum(float(tabletop.model.body(f"link{i}").mass[0]) for i in range(1, 8))
    assert links == pytest.approx(16.06, abs=0.05)
