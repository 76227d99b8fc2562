"""The keyboard driver of the proof: keys are whole or nothing, and over time they move as far as was wished."""

from __future__ import annotations

import importlib.util
import sys

import numpy as np

from etude.config import REPOSITORY

sys.path.insert(0, str(REPOSITORY / "tools"))
spec = importlib.util.spec_from_file_location("prove_keyboard", REPOSITORY / "tools" / "prove_keyboard.py")
assert spec and spec.loader
proof = importlib.util.module_from_spec(spec)
spec.loader.exec_module(proof)


def moved(wishes: np.ndarray, full: float) -> np.ndarray:
    owed, sum_of = np.zeros(3), np.zeros(3)
    for wish in wishes:
        down, owed = proof.taps(wish, owed, full)
        for axis, (positive, negative) in enumerate(proof.KEYS):
            assert not {positive, negative} <= down
            sum_of[axis] += full * ((positive in down) - (negative in down))
    return sum_of


def test_taps_add_up_to_the_wish_within_one_key_press() -> None:
    wishes = np.tile([0.2, -0.5, 0.0], (40, 1))
    assert np.abs(moved(wishes, 0.6) - wishes.sum(0)).max() <= 0.6


def test_what_no_key_can_do_is_not_owed_for_ever() -> None:
    wishes = np.concatenate([np.tile([1.0, 0.0, 0.0], (20, 1)), np.tile([-0.6, 0.0, 0.0], (5, 1))])
    _, owed = proof.taps(np.array([1.0, 0.0, 0.0]), np.array([9.0, 0.0, 0.0]), 0.5)
    assert owed[0] <= 0.5
    assert moved(wishes, 0.6)[0] < 20 * 0.6, "the way back begins at once"


def test_nothing_wished_is_nothing_held() -> None:
    assert proof.taps(np.zeros(3), np.zeros(3), 0.6)[0] == set()


def test_a_direction_of_which_nothing_was_said_is_not_better_than_chance():
    assert proof.better({"forward": 3, "backward": 2}, {"forward": 2, "backward": 1})
    assert not proof.better({}, {"forward": 0, "backward": 0})
    assert not proof.better({"forward": 3}, {"forward": 2, "backward": 1})
