"""What a take-over changes in the ring: rewards (RLIF) and weights (Sirius) of the segments around it."""

from __future__ import annotations

import dataclasses

import numpy as np
from helpers import ACTION, STATE_ONLY, segment, small_recipe

from etude.step import Source
from learner.replay.relabelling import InterventionLabels
from learner.replay.ring import Ring


def _practise(recipe) -> Ring:
    """The policy for 5 transitions, a person for 4, the policy for 5."""
    ring = Ring(50, STATE_ONLY, ACTION)
    labels = InterventionLabels(recipe, ring)
    rng = np.random.default_rng(0)
    for number, (source, length) in enumerate(((Source.POLICY, 6), (Source.HUMAN, 5), (Source.POLICY, 6), (Source.POLICY, 2))):
        for step in segment(rng, STATE_ONLY, length, number=number, terminal=False):
            step = dataclasses.replace(step, source=source)
            labels.add(step, ring.add(step))
    return ring


def test_the_transition_before_a_take_over_costs_one_and_the_person_is_not_imitated_by_reward() -> None:
    ring = _practise(small_recipe(reward={"kind": "intervention"}))
    assert np.flatnonzero(ring.reward).tolist() == [4] and ring.reward[4] == -1.0
    sampled = set(ring.sample_rows("forward", 500, np.random.default_rng(1)).tolist())
    # of the person's transitions 6 to 9 only the last stays; rows 5, 10 and 16 end segments
    assert sampled == {0, 1, 2, 3, 4, 9, 11, 12, 13, 14, 15, 17}


def test_corrections_weigh_half_and_what_led_to_them_next_to_nothing() -> None:
    ring = _practise(small_recipe(data={"intervention_weights": True, "demonstration_share": 0.0}))
    assert ring.weight[6] > ring.weight[11] > ring.weight[0]
    np.testing.assert_allclose(
        ring.weight[6:10].sum() / ring.weight[[*range(5), *range(6, 10), *range(11, 16), 17]].sum(), 0.5, rtol=1e-5
    )


def test_other_recipes_leave_the_ring_alone() -> None:
    ring = _practise(small_recipe())
    assert not ring.reward.any() and (ring.weight == 1.0).all()
