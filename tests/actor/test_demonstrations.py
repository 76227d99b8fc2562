"""Demonstrations and evaluation: what is stored, what is counted, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
from point_robot import PointPolicy, PointRobot, point_config

from actor.demonstrations import DemonstrationError, record_demonstrations
from actor.evaluation import EvaluationError, evaluate
from etude.episodes.store import EpisodeStore
from etude.step import Source


@pytest.fixture
def store(tmp_path):
    robot = PointRobot()
    store = EpisodeStore.create(tmp_path / "demos", robot.observation_spec, robot.action_spec)
    yield store
    store.close()


def test_demonstrations_are_successful_and_end_at_success_in_both_directions(store):
    record_demonstrations(point_config(), PointRobot(), store, 5, seed=0)
    segments = store.segments()
    assert sorted(segment.phase for segment in segments) == ["backward"] * 5 + ["forward"] * 5
    for info in segments:
        steps = store.read(info).steps()
        assert [step.success for step in steps] == [0] * (len(steps) - 1) + [1]
        assert [step.reward for step in steps] == [0.0] * (len(steps) - 2) + [1.0, 0.0]
        assert steps[-1].is_terminal and steps[-1].judged_by == "environment"
        assert all(step.source is Source.SCRIPTED for step in steps)


def test_sequences_of_demonstrations_have_no_gap(store):
    record_demonstrations(point_config(), PointRobot(), store, 4, seed=1)
    sequences = [step.sequence for info in store.segments() for step in store.read(info).steps()]
    assert sequences == list(range(1, len(sequences) + 1))


def test_half_of_the_demonstrations_start_where_the_other_direction_ended(store):
    robot = PointRobot()
    record_demonstrations(point_config(), robot, store, 6, seed=0)
    assert robot.resets == ["forward", "backward"] * 3
    segments = store.segments()
    for first, second in zip(segments[::2], segments[1::2], strict=True):
        end, start = store.read(first).steps()[-1], store.read(second).steps()[0]
        np.testing.assert_array_equal(end.observation["state"], start.observation["state"])


def test_with_random_starts_every_demonstration_begins_with_a_reset_and_none_is_run_in_vain(store):
    robot = PointRobot()
    record_demonstrations(point_config(task__demonstration_starts="random"), robot, store, 3, seed=0)
    assert sorted(robot.resets) == ["backward"] * 3 + ["forward"] * 3
    assert len(store.segments()) == 6


def test_failed_attempts_leave_no_trace(store):
    class Clumsy(PointRobot):
        tries = 0

        def hard_reset(self, phase, rng):
            self.tries += 1
            super().hard_reset(phase, rng)

        def expert_action(self, phase, rng):
            return super().expert_action(phase, rng) * (self.tries % 2)

    record_demonstrations(point_config(), Clumsy(), store, 3, seed=0)
    assert all(info.success for info in store.segments())
    assert len(store.segments()) == 6


def test_an_expert_that_cannot_do_the_task_is_said_so(store):
    class Hopeless(PointRobot):
        def expert_action(self, phase, rng):
            return np.zeros(2, np.float32)

    with pytest.raises(DemonstrationError, match=r"task\.expert_noise"):
        record_demonstrations(point_config(), Hopeless(), store, 1, seed=0)


def test_a_robot_without_an_expert_is_said_so(store):
    class Mute(PointRobot):
        def expert_action(self, phase, rng):
            raise NotImplementedError

    with pytest.raises(DemonstrationError, match="no scripted expert"):
        record_demonstrations(point_config(), Mute(), store, 1, seed=0)


def test_where_a_person_resets_only_the_forward_direction_is_demonstrated(store):
    class ForwardOnly(PointRobot):
        def expert_action(self, phase, rng):
            if phase == "backward":
                raise NotImplementedError
            return super().expert_action(phase, rng)

    robot, seen = ForwardOnly(), []
    record_demonstrations(point_config(reset__kind="human"), robot, store, 3, 0, lambda *progress: seen.append(progress))
    assert [segment.phase for segment in store.segments()] == ["forward"] * 3
    assert robot.resets == ["forward"] * 3 and seen == [(1, 3), (2, 3), (3, 3)]
    with pytest.raises(DemonstrationError, match=r"for phase 'backward'.*reset\.kind=human"):
        record_demonstrations(point_config(), ForwardOnly(), store, 1, seed=0)


def test_progress_is_reported_after_each_demonstration(store):
    seen = []
    record_demonstrations(point_config(), PointRobot(), store, 2, 0, lambda done, wanted: seen.append((done, wanted)))
    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]


def wide():
    return point_config().robot.safety


def test_evaluation_counts_successes_by_ground_truth():
    result = evaluate(PointRobot(), PointPolicy(), "backward", 7, 0, 12, limits=wide())
    assert result["episodes"] == result["successes"] == 7 and result["success_rate"] == 1.0
    assert 8 <= result["mean_steps"] <= 10
    assert evaluate(PointRobot(), PointPolicy(0.0), "forward", 3, 0, 12)["success_rate"] == 0.0


def test_evaluations_with_one_seed_see_the_same_starts():
    starts = []

    class Watched(PointRobot):
        def hard_reset(self, phase, rng):
            super().hard_reset(phase, rng)
            starts.append(self.x_m)

    robot = Watched()
    evaluate(robot, PointPolicy(), "forward", 3, 5, 4)
    evaluate(robot, PointPolicy(0.1), "forward", 3, 5, 2)
    assert starts[:3] == starts[3:] and len(set(starts[:3])) == 3


def test_every_evaluated_action_passes_the_safety_filter():
    robot = PointRobot()
    evaluate(robot, PointPolicy(np.nan), "forward", 1, 0, 5)
    assert not any(action[0] for action in robot.actions)


def test_a_stopped_evaluation_does_not_count_the_unfinished_episode():
    calls = iter(range(100))
    result = evaluate(PointRobot(), PointPolicy(), "forward", 50, 0, 12, should_stop=lambda: next(calls) > 20, limits=wide())
    assert not result["complete"] and 1 <= result["episodes"] <= 3


def test_a_robot_that_cannot_reset_or_knows_no_truth_cannot_be_evaluated():
    robot = PointRobot()
    robot.can_reset = False
    with pytest.raises(EvaluationError, match="cannot reset"):
        evaluate(robot, PointPolicy(), "forward", 1, 0, 5)
    with pytest.raises(EvaluationError, match="ground truth"):
        evaluate(PointRobot(), PointPolicy(), "sideways", 1, 0, 5)


class Glitching(PointRobot):
    """Its state is NaN on every 25th reading."""

    reads = 0

    def read(self):
        self.reads += 1
        self.noise_m = float("nan") if self.reads % 25 == 0 else 0.0
        return super().read()


def test_a_demonstration_with_a_reading_that_does_not_fit_is_not_stored(store):
    record_demonstrations(point_config(), Glitching(), store, 2, seed=0)
    assert len(store.segments()) == 4
    for info in store.segments():
        for step in store.read(info).steps():
            store.observation_spec.check(step.observation)


def test_an_evaluated_policy_is_not_asked_about_a_reading_that_does_not_fit():
    class Careful(PointPolicy):
        def prepare(self, observation, phase):
            assert np.isfinite(observation["state"]).all(), "a policy server would refuse it"
            return super().prepare(observation, phase)

        def act(self, observation, phase, explore):
            assert np.isfinite(observation["state"]).all()
            return super().act(observation, phase, explore)

    result = evaluate(Glitching(), Careful(), "forward", 4, 0, 100)
    assert result["successes"] == 4


def test_an_episode_that_the_environment_ended_is_evaluated_as_it_ended():
    robot = PointRobot()
    robot.episode_ends_at_m = 0.0
    result = evaluate(robot, PointPolicy(), "forward", 2, 0, 1000)
    assert result["successes"] == 0 and len(robot.actions) < 60
