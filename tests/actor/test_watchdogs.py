"""Watchdogs are functions of times: what is late, skewed, frozen or lost is told, and nothing else is."""

from __future__ import annotations

import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from actor.watchdogs import frozen_picture, late_inputs, lost_messages, skewed_clock


@given(st.floats(-1, 5), st.floats(0.01, 2))
def test_an_input_is_late_exactly_when_it_is_older_than_allowed(age, limit):
    now = 100.0
    told = late_inputs({"pose": now - age}, {"pose": limit}, now)
    assert bool(told) == (now - (now - age) > limit)


def test_what_was_never_heard_and_what_is_not_a_time_counts_as_late():
    told = late_inputs({"pose": None, "wrench": math.nan}, {"pose": 0.1, "wrench": 0.1, "joints": 0.1}, 1.0)
    assert [sentence.split()[0] for sentence in told] == ["pose", "wrench", "joints"]
    assert late_inputs({"pose": 0.95, "other": -50.0}, {"pose": 0.1}, 1.0) == ()


def test_a_clock_is_skewed_in_either_direction():
    assert skewed_clock("pose", 100.0, 100.05, 0.1) == ""
    assert "0.50 s before" in skewed_clock("pose", 100.0, 100.5, 0.1)
    assert "0.50 s after" in skewed_clock("pose", 100.5, 100.0, 0.1)


def test_the_same_picture_for_too_long_is_frozen():
    assert frozen_picture("front", None, 10.0, 1.0) == "" and frozen_picture("front", 9.5, 10.0, 1.0) == ""
    assert frozen_picture("front", 8.0, 10.0, 1.0) == "camera front is frozen (the same picture for 2.0 s)"


def test_loss_is_told_by_the_share_that_arrives():
    every = np.arange(0.0, 2.0, 0.02)
    assert lost_messages("pose", list(every), 2.0, 50.0) == ""
    assert lost_messages("pose", list(every[::3]), 2.0, 50.0).startswith("pose arrives 1")
    assert lost_messages("pose", [1.9], 2.0, 50.0) == "", "too early to say"
    assert lost_messages("pose", [], 2.0, 50.0) == ""
