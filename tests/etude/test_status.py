"""What labels of called successes tell about all attempts."""

from __future__ import annotations

import math

import pytest

from etude.status import labelled_false_positives


def test_labels_of_called_successes_tell_the_false_positive_rate():
    # of 40 called successes 1 in 4 is none: 10 false ones beside 60 that were called failures
    rate, low, high = labelled_false_positives(15, 20, called=40, attempts=100)
    assert rate == pytest.approx(10 / 70) and low < rate < high
    _, surer_low, surer_high = labelled_false_positives(150, 200, called=40, attempts=100)
    assert surer_high - surer_low < high - low


def test_a_judge_that_calls_everything_success_is_wrong_about_every_failure():
    assert labelled_false_positives(5, 10, called=30, attempts=30)[0] == 1.0


def test_without_labels_nothing_is_said_about_false_positives():
    assert all(math.isnan(value) for value in labelled_false_positives(0, 0, 10, 20))
