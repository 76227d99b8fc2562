"""Bisection labelling: it finds every first stuck state with few questions, and labels refer to the state that is reached."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from actor.help import bisection


def search(count, first):
    """The search over, asked of somebody who knows that `first` is the first stuck state (None: none is)."""
    state = bisection.begin(count)
    while (asked := state.question) is not None:
        assert 0 <= asked < count
        state = bisection.answer(state, first is not None and asked >= first)
    return state


@st.composite
def trajectories(draw):
    count = draw(st.integers(1, 3000))
    return count, draw(st.one_of(st.none(), st.integers(0, count - 1)))


@given(trajectories())
def test_the_first_stuck_state_is_found_with_at_most_log2_and_one_questions(trajectory):
    count, first = trajectory
    found = search(count, first)
    assert found.first_stuck == first
    assert found.asked <= math.ceil(math.log2(count)) + 1


@given(st.integers(1, 3000))
def test_a_stuck_last_state_is_found_and_none_stuck_costs_one_question(count):
    assert search(count, count - 1).first_stuck == count - 1
    assert search(count, None).asked == 1
    assert bisection.begin(count).question == count - 1, "the final state is asked about first"


@given(trajectories())
def test_labels_are_those_of_the_states_that_are_reached(trajectory):
    count, first = trajectory
    stuck = np.arange(count) >= (count if first is None else first)
    labels = bisection.transition_labels(count, first)
    assert labels.shape == (count - 1,) and labels.dtype == np.float32
    assert np.array_equal(labels, stuck[1:].astype(np.float32))
    if first:
        assert labels[first - 1] == 1 and not labels[: first - 1].any(), "from the step that got it stuck on"


def test_a_search_that_is_over_takes_no_answer():
    over = bisection.answer(bisection.begin(1), False)
    assert over.question is None and over.first_stuck is None
    with pytest.raises(ValueError, match="over"):
        bisection.answer(over, True)
    with pytest.raises(ValueError, match="at least one"):
        bisection.begin(0)
