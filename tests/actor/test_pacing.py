"""Deadlines and measured rates, with a clock of the test's own."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actor.pacing import Pacer, RateMeter

work_s = st.lists(st.floats(0, 0.5), min_size=2, max_size=60)


def run(rate_hz, work):
    """Start times of ticks whose work takes `work` seconds each."""
    pacer, now, starts = Pacer(rate_hz), 0.0, []
    for seconds in work:
        now = pacer.next_deadline(now)
        starts.append(now)
        now += seconds
    return pacer, starts


@given(work_s)
def test_a_late_loop_skips_and_never_bursts(work):
    _, starts = run(10, work)
    for before, after in itertools.pairwise(starts):
        assert after - before >= 0.05 - 1e-9, "two ticks are at least half a period apart"


@given(st.lists(st.floats(0, 0.0999), min_size=2, max_size=60))
def test_a_loop_in_time_never_drifts(work):
    pacer, starts = run(10, work)
    assert starts == pytest.approx([0.1 * i for i in range(len(starts))])
    assert pacer.missed == 0


@given(work_s)
def test_ticks_are_on_the_grid_or_less_than_half_a_period_late(work):
    _, starts = run(10, work)
    for start in starts:
        assert start % 0.1 < 0.05 + 1e-6 or 0.1 - start % 0.1 < 1e-6


def test_a_slightly_late_tick_keeps_the_rate():
    pacer, starts = run(10, [0.11] + [0.05] * 9)
    assert starts[1:3] == pytest.approx([0.11, 0.2])
    assert pacer.missed == 1


def test_a_pause_is_not_lateness():
    pacer = Pacer(10)
    pacer.next_deadline(0.0)
    pacer.reset()
    assert pacer.next_deadline(7.0) == 7.0
    assert pacer.missed == 0


def test_the_rate_is_of_the_last_ten_seconds_and_ignores_breaks():
    meter = RateMeter()
    for i in range(100):
        meter.tick(i * 1.0)
    meter.interrupt()
    for i in range(101):
        meter.tick(1000 + i * 0.1)
    assert meter.rate_hz == pytest.approx(10, rel=0.02)
    assert meter.p99_ms == pytest.approx(1000)


def test_p99_is_the_99th_percentile_of_the_last_600_periods():
    meter, now = RateMeter(), 0.0
    for i in range(601):
        meter.tick(now)
        now += 0.2 if i % 50 == 0 else 0.1
    assert meter.p99_ms == pytest.approx(200)
    for _ in range(600):
        meter.tick(now)
        now += 0.1
    assert meter.p99_ms == pytest.approx(100)
