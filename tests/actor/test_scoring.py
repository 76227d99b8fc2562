"""Votes over frames: k in a row, k of n, and frames that a slow judge did not answer."""

from __future__ import annotations

import math

import numpy as np
import pytest

from actor.scoring import Scorer
from etude.robot import Reading


class Told:
    """A judge that says what it is told, frame by frame."""

    name = "told:0"

    def __init__(self, *probabilities: float) -> None:
        self._next = iter(probabilities)

    def probability(self, observation, phase: str) -> float:
        return next(self._next)

    def doubt(self, observation, phase: str) -> float:
        return 0.125

    def threshold(self, phase: str) -> float:
        return 0.5

    def forget(self) -> None:
        pass


NONE = math.nan
FRAME = Reading({"state": np.zeros(1, np.float32)}, 0.0)


@pytest.mark.parametrize(
    ("probabilities", "needed", "window", "success_at"),
    [
        ((0.9, 0.1, 0.9, 0.9), 2, None, 3),
        ((0.9, 0.1, 0.9), 2, 3, 2),
        ((0.9, 0.9, 0.1), 2, 3, 1),
        ((0.9, 0.1, 0.1, 0.9, 0.1), 2, 3, None),
        ((0.9, NONE, NONE, 0.9), 2, None, 3),
        ((NONE, NONE, NONE), 1, None, None),
    ],
)
def test_success_needs_k_of_n_answers(probabilities, needed, window, success_at):
    scorer = Scorer(Told(*probabilities), needed, window)
    scorer.start()
    verdicts = [scorer.score(FRAME, "forward") for _ in probabilities]
    assert next((i for i, verdict in enumerate(verdicts) if verdict.success), None) == success_at
    assert scorer.doubt(FRAME, "forward") == 0.125


def test_unarmed_success_needs_a_failure_first_and_no_answer_is_none():
    scorer = Scorer(Told(0.9, NONE, 0.9, 0.1, 0.9), 1)
    scorer.start(armed=False)
    assert [scorer.score(FRAME, "forward").success for _ in range(5)] == [False, False, False, False, True]


def test_a_start_that_nobody_answered_about_may_have_been_a_success():
    scorer = Scorer(Told(NONE, NONE, 0.9, 0.9, 0.1, 0.9), 1)
    assert not scorer.look(FRAME, "forward")[0]
    scorer.start()
    assert [scorer.score(FRAME, "forward").success for _ in range(5)] == [False, False, False, False, True]
