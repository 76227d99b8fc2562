"""Replay: a transition is two consecutive steps of one segment, whatever else happened to the ring in between."""

from dataclasses import replace

import numpy as np
import pytest
from helpers import ACTION, OBSERVATION, STATE_ONLY, segment, small_recipe
from hypothesis import given, settings
from hypothesis import strategies as st

from etude.specs import PHASES
from etude.step import Source
from learner.replay.mixing import BatchSampler, shift_into
from learner.replay.ring import Ring


@settings(max_examples=60, deadline=None)
@given(
    capacity=st.integers(5, 40),
    lengths=st.lists(
        st.tuples(st.integers(2, 12), st.booleans(), st.integers(0, 2), st.sampled_from(PHASES)), min_size=1, max_size=12
    ),
    seed=st.integers(0, 2**16),
)
def test_every_sampled_transition_joins_consecutive_steps_of_one_segment(capacity, lengths, seed) -> None:
    """Several actors interleave at random and rows are overwritten; the state encodes (actor, segment, index)."""
    rng = np.random.default_rng(seed)
    queues: dict[str, list] = {}
    for number, (length, terminal, actor, phase) in enumerate(lengths):
        steps = segment(rng, STATE_ONLY, length, phase, f"actor{actor}", number, terminal=terminal)
        for step in steps:
            step.observation["state"][:] = (number, step.index)
        queues.setdefault(f"actor{actor}", []).extend(steps)
    ring = Ring(capacity, STATE_ONLY, ACTION)
    terminal_of = {number: terminal for number, (_, terminal, _, _) in enumerate(lengths)}
    length_of = {number: length for number, (length, _, _, _) in enumerate(lengths)}
    phase_of = {number: phase for number, (_, _, _, phase) in enumerate(lengths)}
    while any(queues.values()):
        actor = rng.choice([name for name, queue in queues.items() if queue])
        ring.add(queues[actor].pop(0))
        for phase in PHASES:
            if not ring.transitions(phase):
                continue
            for row in ring.sample_rows(phase, 4, rng):
                number, index = ring.observation["state"][row]
                assert tuple(ring.observation["state"][ring.next_row[row]]) == (number, index + 1)
                assert phase_of[int(number)] == phase
                ends = index + 2 == length_of[int(number)]
                assert ring.terminal[row] == float(ends and terminal_of[int(number)])


def test_images_are_stored_once() -> None:
    ring = Ring(100, OBSERVATION, ACTION)
    for step in segment(np.random.default_rng(0), OBSERVATION, 50):
        ring.add(step)
    per_step = ring.bytes_used() / 50
    assert per_step < 16 * 16 * 3 + 100


def test_half_of_every_minibatch_is_demonstrations() -> None:
    rng = np.random.default_rng(0)
    rings = [Ring(200, OBSERVATION, ACTION) for _ in range(2)]
    for ring in rings:
        for number, phase in enumerate(PHASES):
            for step in segment(rng, OBSERVATION, 20, phase, number=number):
                ring.add(step)
    batch = BatchSampler(small_recipe(data={"batch_size": 32}), *rings, seed=0).sample(20)
    assert batch["reward"].shape == (20, 2, 16)
    np.testing.assert_array_equal(batch["demonstration"].sum(-1), 8.0)


def test_a_direction_without_practice_yet_is_filled_with_demonstrations() -> None:
    demonstrations, online = Ring(50, OBSERVATION, ACTION), Ring(50, OBSERVATION, ACTION)
    rng = np.random.default_rng(0)
    for number, phase in enumerate(PHASES):
        for step in segment(rng, OBSERVATION, 10, phase, number=number):
            demonstrations.add(step)
    for step in segment(rng, OBSERVATION, 10, "forward"):
        online.add(step)
    batch = BatchSampler(small_recipe(data={"batch_size": 16}), demonstrations, online, seed=0).sample(1)
    np.testing.assert_array_equal(batch["demonstration"].sum(-1), [[4.0, 8.0]])


@pytest.mark.parametrize(("asked", "corrected"), [(True, 4), (False, 0)])
def test_corrections_are_drawn_among_the_demonstrations_when_asked(asked: bool, corrected: int) -> None:
    """30 demonstrated and 10 corrected transitions share the half of 32 rows: 12 and 4; the other half is all of practice."""
    rng = np.random.default_rng(0)
    demonstrations, online = Ring(50, STATE_ONLY, ACTION), Ring(50, STATE_ONLY, ACTION)
    for ring, length in ((demonstrations, 31), (online, 41)):
        for step in segment(rng, STATE_ONLY, length):
            step.observation["state"][:] = (ring is online, 10 <= step.index < 20)
            source = Source.HUMAN if ring is online and 10 <= step.index < 20 else Source.POLICY
            ring.add(replace(step, source=source))
    data = {"batch_size": 32, "corrections_are_demonstrations": asked}
    sampler = BatchSampler(small_recipe(data=data, reset={"kind": "human"}), demonstrations, online, seed=0)
    batch = sampler.sample(1)
    shown = batch["demonstration"][0, 0] == 1.0
    practised, by_a_person = batch["observation"]["state"][0, 0].T == 1.0
    assert shown.sum() == 16 and (shown & practised).sum() == corrected
    assert by_a_person[shown & practised].all() and not by_a_person[~shown].all()
    assert not sampler.sample(1, demonstrations_only=True)["observation"]["state"][..., 0].any()
    for row in range(40):
        online.drop(row)
    assert online.corrections["forward"].count == 0


@pytest.mark.parametrize(("asked", "own"), [(True, 4), (False, 0)])
def test_attempts_that_succeeded_are_drawn_among_the_demonstrations_when_asked(asked: bool, own: int) -> None:
    """30 demonstrated transitions and the 10 of a successful attempt share the half of 32 rows; a failed attempt does not."""
    rng = np.random.default_rng(0)
    demonstrations, online = Ring(50, STATE_ONLY, ACTION), Ring(50, STATE_ONLY, ACTION)
    for step in segment(rng, STATE_ONLY, 31):
        step.observation["state"][:] = (0, 0)
        demonstrations.add(step)
    for number, won in enumerate((False, True)):
        for step in segment(rng, STATE_ONLY, 11, number=number, terminal=won):
            step.observation["state"][:] = (1, won)
            online.add(step)
    data = {"batch_size": 32, "successes_are_demonstrations": asked}
    sampler = BatchSampler(small_recipe(data=data, reset={"kind": "human"}), demonstrations, online, seed=0)
    batch = sampler.sample(1)
    shown = batch["demonstration"][0, 0] == 1.0
    practised, won = batch["observation"]["state"][0, 0].T == 1.0
    assert shown.sum() == 16 and (shown & practised).sum() == own
    assert won[shown & practised].all() and practised[~shown].all()
    assert not sampler.sample(1, demonstrations_only=True)["observation"]["state"][..., 0].any()
    for row in range(22):
        online.drop(row)
    assert online.successful_attempts["forward"].count == 0


def test_a_transition_that_was_dropped_does_not_come_back_with_its_attempt() -> None:
    ring = Ring(50, STATE_ONLY, ACTION)
    for step in segment(np.random.default_rng(0), STATE_ONLY, 6):
        if step.index == 3:
            ring.drop(1)
        ring.add(step)
    assert sorted(ring.successful_attempts["forward"].items[:4]) == [0, 2, 3, 4]


def test_a_time_out_bootstraps_unless_the_recipe_says_otherwise() -> None:
    ring = Ring(50, STATE_ONLY, ACTION)
    for step in segment(np.random.default_rng(0), STATE_ONLY, 3, terminal=False):
        ring.add(step)
    for bootstrap, expected in ((True, {0.0}), (False, {0.0, 1.0})):
        recipe = small_recipe(data={"batch_size": 32, "bootstrap_through_timeouts": bootstrap}, reset={"kind": "human"})
        batch = BatchSampler(recipe, ring, ring, seed=0).sample(1)
        assert set(batch["terminal"].ravel().tolist()) == expected


def test_a_share_of_the_rows_leads_to_success() -> None:
    ring = Ring(200, STATE_ONLY, ACTION)
    rng = np.random.default_rng(0)
    for number, terminal in enumerate((False, False, True)):
        for step in segment(rng, STATE_ONLY, 40, number=number, terminal=terminal):
            ring.add(step)
    rows = ring.sample_rows("forward", 64, rng, success_share=0.25)
    assert (ring.terminal[rows] == 1.0).sum() >= 16
    ring.drop(int(np.flatnonzero(ring.terminal)[0]))
    assert not ring.terminal[ring.sample_rows("forward", 500, rng, success_share=0.25)].any()


@pytest.mark.parametrize(("dy", "dx"), [(0, 0), (4, 4), (8, 3)])
def test_a_shift_moves_the_image_and_repeats_its_border(dy: int, dx: int) -> None:
    image = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    out = np.empty_like(image)
    shift_into(out, image, 4, dy, dx)
    rows, columns = np.clip(np.arange(16) + dy - 4, 0, 15), np.clip(np.arange(16) + dx - 4, 0, 15)
    np.testing.assert_array_equal(out, image[rows][:, columns])
