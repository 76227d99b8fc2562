"""Between attempts the arm wanders: bounded, never downwards, and through the safety filter like everything else."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from point_robot import point_config

from actor.wander import ARRIVED_M, HOMING_STEPS, RETREAT_STEPS, Wander
from etude.specs import ActionSpec

SPEC = ActionSpec(("x", "y", "z", "gripper"), (0.03, 0.03, 0.03, 1.0))


@given(seed=st.integers(0, 1000), most=st.integers(0, 12))
def test_a_motion_is_bounded_and_never_downwards(seed: int, most: int) -> None:
    wander = Wander(SPEC, most, np.random.default_rng(seed))
    wander.plan()
    actions = []
    while (action := wander.next()) is not None:
        SPEC.check(action)
        actions.append(action)
    assert len(actions) <= most + RETREAT_STEPS if most else not actions
    assert all(action[2] >= 0 for action in actions)


def test_a_cancelled_motion_ends_at_once() -> None:
    wander = Wander(SPEC, 50, np.random.default_rng(0))
    wander.plan()
    wander.cancel()
    assert wander.next() is None


def test_an_arm_with_a_gripper_lets_go_and_rises_before_it_moves_sideways() -> None:
    wander = Wander(SPEC, 8, np.random.default_rng(0))
    wander.plan()
    for _ in range(RETREAT_STEPS):
        np.testing.assert_array_equal(wander.next(), np.array([0, 0, 1, 1], np.float32))
    while (action := wander.next()) is not None:
        assert action[3] == 1.0


def test_an_arm_without_a_gripper_needs_no_retreat() -> None:
    spec = ActionSpec(("x", "y", "z"), (0.03, 0.03, 0.03))
    lengths = []
    for seed in range(50):
        wander = Wander(spec, 4, np.random.default_rng(seed))
        wander.plan()
        count = 0
        while wander.next() is not None:
            count += 1
        lengths.append(count)
    assert set(lengths) == {0, 1, 2, 3, 4}


# --- the way to where attempts begin -------------------------------------------------------------------------------------

START = (np.array([0.40, -0.20, 0.09]), np.array([0.58, 0.20, 0.17]))


def follow(wander: Wander, tcp_m: np.ndarray, gain: float = 1.0) -> tuple[np.ndarray, list[np.ndarray]]:
    """Where a tool that moves `gain` times as far as it is told comes to rest, and what it was told."""
    wander.plan()
    actions = []
    while (action := wander.next(tcp_m)) is not None:
        SPEC.check(action)
        actions.append(action)
        tcp_m = tcp_m + gain * 0.03 * action[:3]
    return tcp_m, actions


@given(
    seed=st.integers(0, 1000),
    at=st.tuples(st.floats(0.37, 0.61), st.floats(-0.24, 0.24), st.floats(0.02, 0.18)),
    gain=st.sampled_from([0.6, 1.0]),
)
def test_wherever_an_attempt_ended_the_next_one_begins_in_the_start_box(seed, at, gain) -> None:
    end, actions = follow(Wander(SPEC, 8, np.random.default_rng(seed), START), np.array(at), gain)
    assert (end > START[0] - ARRIVED_M).all() and (end < START[1] + ARRIVED_M).all()
    assert all(action[3] == 1.0 for action in actions)  # it lets go and carries nothing along
    assert all((action[:2] == 0).all() and action[2] == 1 for action in actions[:RETREAT_STEPS])  # up before sideways


def test_starts_differ_from_one_attempt_to_the_next() -> None:
    wander = Wander(SPEC, 0, np.random.default_rng(0), START)
    ends = np.array([follow(wander, np.array([0.49, 0.0, 0.02]))[0] for _ in range(20)])
    assert (np.ptp(ends, axis=0) > 0.5 * (START[1] - START[0])).all()


def test_an_arm_that_cannot_get_there_gives_up() -> None:
    _, actions = follow(Wander(SPEC, 8, np.random.default_rng(0), START), np.array([0.61, 0.24, 0.02]), gain=0.0)
    assert len(actions) == RETREAT_STEPS + HOMING_STEPS


def test_a_robot_that_does_not_tell_where_its_tool_is_only_retreats() -> None:
    wander = Wander(SPEC, 8, np.random.default_rng(0), START)
    wander.plan()
    assert [wander.next(None) is not None for _ in range(RETREAT_STEPS + 1)] == [True] * RETREAT_STEPS + [False]


def test_a_scene_that_was_reset_needs_no_way_back() -> None:
    wander = Wander(SPEC, 8, np.random.default_rng(0), START)
    wander.plan()
    wander.cancel()
    assert wander.next(np.zeros(3)) is None


def test_in_practice_every_attempt_begins_in_the_start_box_and_the_way_there_is_no_part_of_any(bench) -> None:
    config = point_config(task__tool_start_min_m=(-0.1, -1.0, -1.0), task__tool_start_max_m=(0.1, 1.0, 1.0))
    b = bench(config=config)
    b.practise(lambda: b.loop.status().segment > 6)
    begun = [segment[0].observation["state"][0] for segment in b.segments()]
    assert begun[0] == -1.0  # nothing was attempted before
    assert max(abs(x) for x in begun[1:]) <= 0.1 + ARRIVED_M
    assert b.loop.status().env_steps < len(b.robot.actions)
    for segment in b.segments()[:-1]:
        assert segment[-1].success == 1
