"""Take-overs in sequences of steps, written as one letter per step: p policy, h human; capitals end a segment, ! is terminal."""

from __future__ import annotations

import numpy as np
import pytest

from etude.step import Source
from learner.replay.interventions import Kind, rlif_rewards, sirius_class_weights, sirius_kinds, sirius_weights

Flags = tuple[np.ndarray, np.ndarray, np.ndarray]


def steps(text: str) -> Flags:
    """``"pppP hhH!"`` → source, is_last, is_terminal. The last step of a segment carries who acted before it."""
    letters = text.replace(" ", "").replace("!", "")
    terminal = [text.replace(" ", "")[i + 1 : i + 2] == "!" for i, c in enumerate(text.replace(" ", "")) if c != "!"]
    sources = {"p": Source.POLICY, "h": Source.HUMAN, "s": Source.SCRIPTED}
    source = np.array([sources[letter.lower()] for letter in letters], np.int64)
    return source, np.array([letter.isupper() for letter in letters]), np.array(terminal)


@pytest.mark.parametrize(
    ("text", "blamed", "kept"),
    [
        # policy, take-over at the observation of row 3, back to the policy: one −1, on the transition into that observation
        ("pppP hhhH ppP", [2], [0, 1, 2, 6, 8, 9]),
        # the same inside one segment
        ("ppphhhppP", [2], [0, 1, 2, 5, 6, 7]),
        # a burst over two segments of the person is one burst
        ("ppP hhH hhH ppP", [1], [0, 1, 7, 9, 10]),
        # a success ends the task: the person's next segment is no take-over
        ("pppP! hhhH!", [], [0, 1, 2, 6]),
        # two bursts, two
        ("ppP hhH ppP hhH", [1, 7], [0, 1, 4, 6, 7, 10]),
        # the task succeeds in the person's hands: the last transition stays
        ("ppP hhH! ppP", [1], [0, 1, 4, 6, 7]),
        # a sequence that ends while the person acts
        ("ppP hhh", [1], [0, 1, 5]),
        # a person's demonstration alone
        ("hhhH!", [], [2]),
        ("pppP", [], [0, 1, 2]),
        ("ssS! ppP", [], [0, 1, 3, 4]),
    ],
)
def test_each_take_over_costs_one_transition(text: str, blamed: list[int], kept: list[int]) -> None:
    reward, keep = rlif_rewards(*steps(text))
    assert reward.dtype == np.float32
    assert np.flatnonzero(reward).tolist() == blamed and (reward[blamed] == -1.0).all()
    assert np.flatnonzero(keep).tolist() == kept


def test_random_sequences_have_one_punished_transition_per_burst() -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        source = np.repeat(rng.integers(0, 2, 40), rng.integers(2, 6, 40))
        is_last = np.concatenate([source[1:] != source[:-1], [True]])
        reward, keep = rlif_rewards(source, is_last, np.zeros_like(is_last))
        bursts = sum(1 for t in range(1, len(source)) if source[t] == 1 and source[t - 1] == 0)
        assert -reward.sum() == bursts and keep[reward < 0].all()


def test_the_steps_before_a_take_over_are_marked_within_their_segment() -> None:
    N, R, P, H = Kind.NONE, Kind.ROBOT, Kind.PRE_INTERVENTION, Kind.INTERVENTION
    assert sirius_kinds(*steps("ppppP hhH ppP"), lookback=2).tolist() == [R, R, P, P, N, H, H, N, R, R, N]
    assert sirius_kinds(*steps("ppP ppP hhH"), lookback=9).tolist() == [R, R, N, P, P, N, H, H, N]
    assert sirius_kinds(*steps("pphhpphH"), lookback=3).tolist() == [P, P, H, H, P, P, H, N]
    assert sirius_kinds(*steps("ppP! hhH"), lookback=3).tolist() == [R, R, N, H, H, N]
    assert sirius_kinds(*steps("pppP"), lookback=15).tolist() == [R, R, R, N]


def test_interventions_make_up_half_of_the_weight() -> None:
    weights = sirius_weights(*steps("p" * 40 + "P" + "hhhhH" + "p" * 30 + "P"), lookback=10, demonstrations=20)
    total = 40 + 4 + 30 + 20
    kinds = sirius_kinds(*steps("p" * 40 + "P" + "hhhhH" + "p" * 30 + "P"), lookback=10)
    share = {kind: weights[kinds == kind].sum() / total for kind in Kind}
    assert np.isclose(share[Kind.INTERVENTION], 0.5)
    assert np.isclose(share[Kind.PRE_INTERVENTION], 0.002)
    assert np.isclose(share[Kind.ROBOT], 1 - 0.5 - 0.002 - 20 / total)
    assert share[Kind.NONE] == 0.0
    assert weights[kinds == Kind.PRE_INTERVENTION].max() < 0.02 < weights[kinds == Kind.ROBOT].min()


def test_without_interventions_every_transition_weighs_one() -> None:
    np.testing.assert_array_equal(sirius_weights(*steps("ppP ppP!"), lookback=15, demonstrations=7), [1, 1, 0, 1, 1, 0])


def test_class_weights_are_finite_and_not_negative_whatever_is_missing() -> None:
    rng = np.random.default_rng(0)
    for _ in range(200):
        amounts = rng.integers(0, 50, len(Kind)) * rng.integers(0, 2, len(Kind))
        weights = sirius_class_weights(amounts)
        assert np.isfinite(weights).all() and (weights >= 0).all()
        assert weights[Kind.PRE_INTERVENTION] <= 1.0 and weights[Kind.DEMONSTRATION] == 1.0
    # demonstrations half of the data: nothing is left to the robot's own steps
    amounts = np.zeros(len(Kind))
    amounts[[Kind.ROBOT, Kind.INTERVENTION, Kind.DEMONSTRATION]] = [30, 20, 50]
    weights = sirius_class_weights(amounts)
    assert weights[Kind.ROBOT] == 0.0 and np.isclose(weights[Kind.INTERVENTION], 2.5)
