"""OpenVLA's action layout against its published equations."""

from __future__ import annotations

import numpy as np
import pytest

from policy_servers.action_tokens import BINS, ActionTokens

BRIDGE_LIKE = {
    "q01": [-0.03, -0.04, -0.04, -0.08, -0.09, -0.2, 0.0],
    "q99": [0.03, 0.04, 0.04, 0.08, 0.09, 0.2, 1.0],
    "mask": [True] * 6 + [False],
}
DIMS, SCALE, OFFSET = (0, 1, 2, 5, 6), (0.03, 0.03, 0.03, 0.15, 0.5), (0.0, 0.0, 0.0, 0.0, 0.5)


def tokens(**changes) -> ActionTokens:
    return ActionTokens.of(
        **({"vocabulary": 32000, "statistics": BRIDGE_LIKE, "dims": DIMS, "scale": SCALE, "offset": OFFSET} | changes)
    )


def test_a_robot_action_survives_the_round_trip_to_half_a_bin() -> None:
    chain = tokens()
    # what the data set's bounds can express: x to ±0.03 m is all of ±1, yaw 0.15 rad is within ±0.2
    action = np.random.default_rng(0).uniform(-1, 1, (500, 5)).astype(np.float32)
    numbers = chain.to_tokens(action)
    assert numbers.shape == (500, 7) and numbers.min() >= 32000 - BINS and numbers.max() <= 31999
    bin_width = 2.0 / (BINS - 1)
    width = np.array([0.06, 0.08, 0.08, 0.4, 2.0]) / 2  # data set units of one normalised unit
    bound = 0.5 * bin_width * width / np.array(SCALE) + 1e-6
    assert (np.abs(chain.from_tokens(numbers) - action) <= bound).all()
    # dimensions that the robot lacks are taught as zero motion
    assert set(numbers[:, 3]) == set(numbers[:, 4]) == {int(chain.to_tokens(np.zeros(5))[3])}


def test_tokens_are_those_of_the_published_equations() -> None:
    """Token = vocabulary − digitize(u, linspace(−1, 1, 256)); a token is its bin's centre, un-normalised by q01 and q99."""
    chain = ActionTokens.of(32000, {"q01": [-0.5], "q99": [1.5], "mask": [True]}, None, (1.0,), None)
    assert chain.to_tokens(np.array([[-0.5]]))[0, 0] == 31999 and chain.to_tokens(np.array([[1.5]]))[0, 0] == 32000 - 256
    centre = -1 + 1 / 255  # of the lowest bin
    assert chain.from_tokens(np.array([[31999]]))[0, 0] == pytest.approx(0.5 * (centre + 1) * 2.0 - 0.5)
    # the two lowest tokens are one bin: 256 edges make 255 bins
    assert chain.from_tokens(np.array([[31744]])) == chain.from_tokens(np.array([[31745]]))


def test_an_unmasked_dimension_is_not_unnormalised() -> None:
    """Bridge's gripper: 0 closed, 1 open; the robot's: −1 closed, +1 open."""
    chain = tokens()
    opened, closed = chain.to_tokens(np.array([0, 0, 0, 0, 1.0])), chain.to_tokens(np.array([0, 0, 0, 0, -1.0]))
    assert opened[6] == 32000 - 256 and closed[6] == 32000 - 128
    assert chain.from_tokens(opened)[4] == pytest.approx(1.0, abs=0.01) and chain.from_tokens(closed)[4] == pytest.approx(
        -1.0, abs=0.01
    )


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"scale": (1.0,)}, "1 scales"),
        ({"dims": (0, 0, 2, 5, 6)}, "not distinct"),
        ({"dims": (0, 1, 2, 5, 9)}, "from 0 to 6"),
        ({"scale": (0.0, 1, 1, 1, 1)}, "not all positive"),
    ],
)
def test_a_mapping_that_does_not_fit_is_refused(changes: dict, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        tokens(**changes)
