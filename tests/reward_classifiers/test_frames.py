"""Which frames teach what."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from dot_world import OBSERVATION, Writer
from hypothesis import given
from hypothesis import strategies as st

from etude.episodes.store import EpisodeStore
from reward_classifiers.frames import (
    IGNORE,
    FrameRules,
    FrameSet,
    folds,
    frames_of,
    label_segment,
    mislabel,
    motion_indices,
    without_flicker,
)

RULES = FrameRules(positive_last=2, ambiguous_before=3, other_direction_tail=0.3)
FORWARD, BACKWARD = 0, 1


def only_segment(store: EpisodeStore):
    return store.read(store.segments()[0])


def test_a_demonstration_is_failure_then_doubt_then_success(tmp_path: Path) -> None:
    writer = Writer(tmp_path / "store")
    writer.segment("forward", list(np.linspace(0, 0.9, 20)), terminal=True)
    labels = label_segment(only_segment(writer.done()), "forward", RULES)[:, FORWARD]
    assert labels.tolist() == [0] * 15 + [IGNORE] * 3 + [1] * 2


def test_where_a_demonstration_starts_says_nothing_about_the_other_direction(tmp_path: Path) -> None:
    """Forward starts where backward ends: those frames may be backward's successes."""
    writer = Writer(tmp_path / "store")
    writer.segment("forward", list(np.linspace(0, 0.9, 20)), terminal=True)
    labels = label_segment(only_segment(writer.done()), "forward", RULES)[:, BACKWARD]
    assert labels.tolist() == [IGNORE] * 14 + [0] * 6


def test_a_failed_attempt_is_all_failure_in_its_own_direction_only(tmp_path: Path) -> None:
    writer = Writer(tmp_path / "store")
    writer.segment("forward", [0.1] * 10, terminal=False)
    labels = label_segment(only_segment(writer.done()), "forward", RULES)
    assert (labels[:, FORWARD] == 0).all()
    assert (labels[:, BACKWARD] == IGNORE).all()


def test_a_persons_label_wins_and_success_in_one_direction_is_failure_in_the_other(tmp_path: Path) -> None:
    writer = Writer(tmp_path / "store")
    writer.segment("backward", [0.5, 0.1, 0.1, 0.5], terminal=False, judged_by="human")
    labels = label_segment(only_segment(writer.done()), "backward", RULES)
    assert labels[:, BACKWARD].tolist() == [0, 1, 1, 0]
    assert labels[:, FORWARD].tolist() == [IGNORE, 0, 0, IGNORE]


def test_ground_truth_is_never_a_label(tmp_path: Path) -> None:
    """A demonstration whose truth says success half way is still labelled by its end."""
    writer = Writer(tmp_path / "store")
    writer.segment("forward", [0.1] * 5 + [0.9] * 5 + [0.1] * 9 + [0.9], terminal=True)
    labels = label_segment(only_segment(writer.done()), "forward", FrameRules(positive_last=1))[:, FORWARD]
    assert labels.tolist() == [0] * 16 + [IGNORE] * 3 + [1]


def test_frames_that_teach_nothing_are_left_out(tmp_path: Path) -> None:
    writer = Writer(tmp_path / "store")
    writer.segment("forward", list(np.linspace(0, 0.9, 20)), terminal=True)
    store = writer.done()
    rules = FrameRules(positive_last=1, ambiguous_before=3, other_direction_tail=0.05)
    frames = frames_of([("forward", only_segment(store))], OBSERVATION, rules.demonstration)
    assert len(frames) == 17
    assert frames.images["top"].shape == (17, 1, 16, 16, 3)
    assert frames.count("forward") == (1, 16)


def test_only_velocities_of_the_proprioception_are_an_input() -> None:
    assert motion_indices(("tcp_x_m", "tcp_velocity_x_m_s", "yaw_sin", "knob_velocity_y_m_s")) == [1, 3]


@given(
    lengths=st.lists(st.integers(1, 12), min_size=6, max_size=30),
    successful=st.lists(st.booleans(), min_size=30, max_size=30),
    count=st.integers(2, 3),
    seed=st.integers(0, 99),
)
def test_a_split_never_tears_a_segment_and_spreads_the_successes(
    lengths: list[int], successful: list[bool], count: int, seed: int
) -> None:
    group = np.repeat(np.arange(len(lengths), dtype=np.int32), lengths)
    labels = np.zeros((len(group), 2), np.int8)
    labels[:, 0] = np.repeat(np.array(successful[: len(lengths)], np.int8), lengths)
    images = {"top": np.zeros((len(group), 1, 1, 3), np.uint8)}
    frames = FrameSet(images, np.zeros((len(group), 0), np.float32), labels, group, labels)
    fold = folds(frames, count, np.random.default_rng(seed))
    assert set(fold.tolist()) <= set(range(count))
    for number in range(len(lengths)):
        assert len(set(fold[group == number].tolist())) == 1
    wins = sum(successful[: len(lengths)])
    per_fold = [len(set(group[(fold == f) & (labels[:, 0] == 1)].tolist())) for f in range(count)]
    assert max(per_fold) - min(per_fold) <= 1 and sum(per_fold) == wins


def test_a_share_of_successes_is_mislabelled_and_nothing_else_changes() -> None:
    labels = np.tile(np.array([[1, 0], [0, 1], [IGNORE, 1], [0, IGNORE]], np.int8), (500, 1))
    before = labels.copy()
    after = mislabel(labels, 0.1, np.random.default_rng(0))
    changed = after != labels
    assert (labels[changed] == 1).all() and (after[changed] == 0).all()
    assert 0.07 < changed.sum() / (labels == 1).sum() < 0.13
    np.testing.assert_array_equal(labels, before)


@pytest.mark.parametrize(
    ("said", "steady"),
    [
        ([0, 1, 0, 1, 1], [0, 1, IGNORE, 1, 1]),  # a slip
        ([1, 0, 0, 1, 0], [1, IGNORE, IGNORE, 1, 0]),  # two in a row
        ([1, 0, 0, 0, 1], [1, 0, 0, 0, 1]),  # it left the goal and came back
        ([0, 0, 1, 1, 0], [0, 0, 1, 1, 0]),  # nothing behind it
        ([1, IGNORE, 0, 1], [1, IGNORE, 0, 1]),  # not all of the gap was judged: single labels of a person, not play
        ([0, 0, IGNORE, 0], [0, 0, IGNORE, 0]),
        ([], []),
    ],
)
def test_failures_that_flicker_between_successes_say_nothing(said: list[int], steady: list[int]) -> None:
    labels = np.array([said, [0] * len(said)], np.int8).T.reshape(len(said), 2)
    before = labels.copy()
    after = without_flicker(labels)
    assert after[:, 0].tolist() == steady and (after[:, 1] == 0).all()
    np.testing.assert_array_equal(labels, before)


def test_nearly_all_slips_of_a_careless_person_are_left_out() -> None:
    truth = np.zeros((4000, 2), np.int8)
    for start in range(0, 4000, 40):
        truth[start : start + 12, 0] = 1  # 30% of the frames, as play has
    spoilt = mislabel(truth, 0.1, np.random.default_rng(0))
    steady = without_flicker(spoilt)
    wrong = (spoilt == 0) & (truth == 1)
    assert ((steady == 0) & (truth == 1)).sum() < 0.3 * wrong.sum()  # what is left lies at the edges, where nobody can tell
    assert (steady[truth == 0] == 0).all()
