"""The control loop on a point robot: RLDS steps, who is counted, what stops it, and what it promises about time."""

from __future__ import annotations

import itertools
import threading
import time

import numpy as np
import pytest
from point_robot import PixelJudge, PointPolicy, PointRobot, point_config

from actor.control_loop import ControlLoop
from etude.config import ConfigError
from etude.status import Mode
from etude.step import UNKNOWN

SCRIPTED_HELP = {"run__headless": True, "help__scripted_answer_delay_s": 0.0, "help__timeouts_before_help": 3}


def check_rlds(segment, reward_success=1.0, reward_step=0.0, max_steps=12):
    """The meaning of a segment's flags, as etude/step.py has it."""
    assert [step.index for step in segment] == list(range(len(segment)))
    assert [step.is_first for step in segment] == [True] + [False] * (len(segment) - 1)
    assert [step.is_last for step in segment] == [False] * (len(segment) - 1) + [True]
    assert not any(step.is_terminal for step in segment[:-1])
    assert not segment[-1].action.any() and segment[-1].reward == 0
    assert len(segment) <= max_steps + 1
    assert len({step.phase for step in segment}) == 1
    for step, following in itertools.pairwise(segment):
        moved = following.observation["state"][0] - step.observation["state"][0]
        assert moved == pytest.approx(step.action[0] * 0.2, abs=1e-5), "the action is the one executed on this observation"
        assert step.reward == (reward_success if following.success == 1 else reward_step)


# --- steps ----------------------------------------------------------------------------------------------------------


def test_practice_alternates_and_every_segment_is_well_formed(bench):
    b = bench()
    b.practise(lambda: b.loop.status().segment > 6)
    segments = b.segments()
    assert [segment[0].phase for segment in segments[:4]] == ["forward", "backward", "forward", "backward"]
    for segment in segments[:5]:
        check_rlds(segment)
        assert segment[-1].is_terminal and segment[-1].success == 1 and segment[-1].judged_by == "environment"
        assert segment[0].instruction == ("go right" if segment[0].phase == "forward" else "go left")
        assert all(step.policy_version == 3 for step in segment)
    assert [segment[0].segment for segment in segments] == list(range(1, len(segments) + 1))


def test_practice_explores(bench):
    b = bench()
    b.practise(lambda: len(b.policy.explored) > 9)
    assert all(b.policy.explored)


def test_a_time_out_is_last_but_not_terminal(bench):
    b = bench(policy=PointPolicy(0.01))
    b.practise(lambda: b.loop.status().segment > 2)
    first = b.segments()[0]
    check_rlds(first)
    assert len(first) == 13 and first[-1].is_last and not first[-1].is_terminal
    rate = b.loop.status().success["forward"]
    assert rate.successes == 0 and rate.attempts >= 1


def test_rewards_and_terminals_follow_the_recipe(bench):
    b = bench(config=point_config(reward__step=-1.0, reward__success=0.0, reward__success_is_terminal=False))
    b.practise(lambda: b.loop.status().segment > 2)
    first = b.segments()[0]
    check_rlds(first, reward_success=0.0, reward_step=-1.0)
    assert first[-1].success == 1 and not first[-1].is_terminal


def test_where_the_robot_shows_its_goal_the_policy_sees_the_new_one_from_the_first_step(bench):
    class ShowsGoal(PointRobot):
        shown = 0.0

        def begin_phase(self, phase, rng):
            self.shown = 1.0 if phase == "forward" else -1.0
            return True

        def read(self):
            reading = super().read()
            reading.observation["state"][1] = self.shown
            return reading

    class Noting(PointPolicy):
        def act(self, observation, phase, explore):
            seen.append((phase, float(observation["state"][1])))
            return super().act(observation, phase, explore)

    seen: list[tuple[str, float]] = []
    b = bench(robot=ShowsGoal(), policy=Noting())
    b.practise(lambda: b.loop.status().segment > 4)
    wanted = {"forward": 1.0, "backward": -1.0}
    assert {phase for phase, _ in seen} == set(wanted)
    assert all(goal == wanted[phase] for phase, goal in seen)
    assert all(step.observation["state"][1] == wanted[step.phase] for step in b.steps)


def test_a_phase_whose_goal_is_met_already_is_skipped_and_not_counted(bench):
    b = bench()
    b.robot.x_m = 1.0
    b.practise(lambda: b.loop.status().segment > 1)
    assert b.segments()[0][0].phase == "backward"
    ended = sum(step.is_last and bool(step.success) for step in b.steps)
    assert sum(b.loop.counters()["total"].values()) == ended


def test_when_both_goals_seem_met_somebody_is_asked(bench):
    b = bench(config=point_config(help__timeouts_before_help=100))
    b.robot.both_met = True
    b.practise(lambda: b.help)
    assert "both directions" in b.help[0].reason
    assert not any(step.success for step in b.steps), "a start that looks like success must first look otherwise"


def test_a_policy_that_goes_mad_is_held_and_its_steps_stay_finite(bench):
    b = bench(policy=PointPolicy(float("nan")))
    b.practise(lambda: b.loop.status().segment > 1)
    assert not any(action[0] for action in b.robot.actions)
    for step in b.steps:
        assert np.isfinite(step.action).all() and np.isfinite(step.policy_action).all()


def test_a_proposal_that_the_filter_changed_is_kept_beside_the_executed_one(bench):
    b = bench(policy=PointPolicy(1.0), config=point_config(robot__safety={"max_translation_per_step_m": 0.1}))
    b.practise(lambda: b.steps)
    assert b.steps[0].policy_action[0] == 1.0
    assert b.steps[0].action[0] == pytest.approx(0.5)


@pytest.mark.parametrize("speed", [5.0, -1e30, float("inf")])
def test_whatever_the_policy_proposes_the_stored_step_fits_the_specification(bench, speed):
    b = bench(policy=PointPolicy(speed))
    b.practise(lambda: b.steps)
    for step in b.steps:
        b.robot.action_spec.check(step.action)
        b.robot.action_spec.check(step.policy_action)


def test_an_environment_that_ends_its_episode_ends_the_segment_and_is_reset_in_between(bench):
    b = bench(config=point_config(help__kind="never"))
    b.robot.x_m, b.robot.episode_ends_at_m = 0.0, 0.5
    b.practise(lambda: len(b.robot.resets) > 2)
    first = b.segments()[0]
    check_rlds(first)
    assert first[-1].is_last and not first[-1].is_terminal and first[-1].success == 0
    assert first[-1].observation["state"][0] == pytest.approx(0.6), "the last observation is the one that ended it"
    for segment in b.segments()[:-1]:
        check_rlds(segment)
    assert b.loop.status().hard_resets == len(b.robot.resets)


def test_success_is_terminal_also_where_the_environment_ends_with_it(bench):
    b = bench()
    b.robot.episode_ends_at_m = 0.7
    b.practise(lambda: b.loop.status().segment > 2)
    first = b.segments()[0]
    check_rlds(first)
    assert first[-1].is_terminal and first[-1].success == 1


# --- the judge ------------------------------------------------------------------------------------------------------


def pixel_bench(bench, judge, **changes):
    config = point_config(reward__kind="classifier", run__observation="pixels", **changes)
    return bench(robot=PointRobot(pixels=True), judge=judge, config=config)


def test_success_by_the_judge_needs_consecutive_frames(bench):
    judge = PixelJudge()
    b = pixel_bench(bench, judge)
    b.practise(lambda: b.loop.status().segment > 2)
    assert judge.forgotten >= 3, "what it saw in one attempt counts for nothing in the next"
    first = b.segments()[0]
    met = [step.success_probability >= 0.5 for step in first]
    assert met[-2:] == [True, True] and not any(met[:-2])
    assert [step.success for step in first] == [0] * (len(first) - 1) + [1]
    assert first[-1].judged_by == "cnn:test" and first[-1].success_truth == 1


def test_one_lying_frame_is_no_success(bench):
    judge = PixelJudge()
    judge.lies = {4}
    b = pixel_bench(bench, judge)
    b.practise(lambda: b.loop.status().segment > 1)
    first = b.segments()[0]
    assert sum(step.success_probability >= 0.5 and step.observation["state"][0] < 0.5 for step in first) == 1
    assert first[-1].success_truth == 1


def test_the_judge_is_counted_against_the_truth(bench):
    judge = PixelJudge()
    judge.lies = {3, 4}
    b = pixel_bench(bench, judge)
    b.practise(lambda: 3 < b.loop.status().segment < 20)
    status = b.loop.status()
    assert status.judge_false_positives == 1
    assert status.judge_true_positives >= 1
    assert status.success["forward"].successes > status.success_truth["forward"].successes


def test_a_recipe_with_a_classifier_needs_one():
    config = point_config(reward__kind="classifier", run__observation="pixels")
    with pytest.raises(ConfigError, match="etude classifier train --task point"):
        ControlLoop(config, PointRobot(pixels=True), PointPolicy(), None, print, first_segment=1, seed=0)


# --- commands -------------------------------------------------------------------------------------------------------


def test_a_pause_cuts_the_segment_short_and_the_attempt_is_not_counted(bench):
    b = bench(policy=PointPolicy(0.02), config=point_config(robot__pace="realtime"))
    b.loop.set_mode("practise")
    b.start().until(lambda: len(b.steps) >= 3)
    b.loop.set_mode("pause")
    b.until(lambda: b.loop.status().mode is Mode.PAUSED)
    moves = len(b.robot.actions)
    time.sleep(0.1)
    assert len(b.robot.actions) == moves and b.robot.holds
    assert b.steps[-1].is_last and not b.steps[-1].is_terminal
    assert b.loop.counters()["total"]["forward"] == 0
    b.loop.set_mode("practise")
    b.until(lambda: b.steps[-1].segment == 2)
    b.stop()
    assert b.segments()[1][0].phase == "forward"


def test_a_software_stop_holds_until_cleared_and_then_waits_for_a_person(bench):
    b = bench(config=point_config(robot__pace="realtime"))
    b.loop.set_mode("practise")
    b.start().until(lambda: b.robot.actions)
    b.loop.software_stop(True)
    b.until(lambda: b.loop.status().mode is Mode.STOPPED)
    moves = len(b.robot.actions)
    assert not b.loop.set_mode("practise").accepted
    time.sleep(0.1)
    assert len(b.robot.actions) == moves
    b.loop.software_stop(False)
    b.until(lambda: b.loop.status().mode is Mode.PAUSED)
    assert len(b.robot.actions) == moves
    b.loop.set_mode("practise")
    b.until(lambda: len(b.robot.actions) > moves)


def test_unknown_commands_are_refused_with_the_known_ones(bench):
    loop = bench().loop
    assert "practise" in loop.set_mode("fly").message
    assert not loop.resolve_help("reset", "me").accepted
    assert not loop.label(0, True).accepted
    assert not loop.request_evaluation(3, "before").accepted, "there is no second scene"


def test_a_label_corrects_the_count_of_a_finished_attempt(bench):
    b = bench(policy=PointPolicy(0.0), config=point_config(help__kind="never"))
    b.loop.set_mode("practise")
    b.start().until(lambda: b.loop.status().segment > 3)
    b.loop.set_mode("pause")
    b.until(lambda: b.loop.status().mode is Mode.PAUSED)
    before = b.loop.status().success["forward"].successes
    b.loop.label(1, True)
    b.until(lambda: b.labels == [(1, True)])
    b.until(lambda: b.loop.status().success["forward"].successes == before + 1)
    b.loop.label(999, True)
    b.until(lambda: True).stop()
    assert b.labels == [(1, True)]


# --- help -----------------------------------------------------------------------------------------------------------


def test_a_stuck_robot_asks_holds_and_goes_on_when_answered(bench):
    b = bench(policy=PointPolicy(0.0), config=point_config(help__timeouts_before_help=3))
    b.robot.x_m = 0.0
    b.loop.set_mode("practise")
    b.start().until(lambda: b.loop.status().mode is Mode.AWAITING_HELP)
    assert "3 forward attempts timed out" in b.help[0].reason and b.help[0].open and "holds" in b.help[0].meanwhile
    assert b.loop.status().message == b.help[0].reason
    moves = len(b.robot.actions)
    time.sleep(0.06)
    assert len(b.robot.actions) == moves
    assert not b.loop.resolve_help("perhaps", "Ada").accepted
    assert b.loop.resolve_help("reset", "Ada").accepted
    b.until(lambda: len(b.help) >= 2 and len(b.robot.actions) > moves).stop()
    assert not b.help[1].open and b.help[1].id == b.help[0].id and "Ada" in b.help[1].meanwhile
    assert b.robot.resets and b.loop.status().hard_resets >= 1


def test_a_lost_object_is_asked_about_at_once_and_ends_the_attempt_as_a_failure(bench):
    b = bench(policy=PointPolicy(0.02))
    b.loop.set_mode("practise")
    b.robot.lost = True
    b.start().until(lambda: b.help).stop()
    assert "left the table" in b.help[0].reason
    first = b.segments()[0]
    assert len(first) == 2 and first[-1].is_last and not first[-1].is_terminal
    assert b.loop.counters()["total"]["forward"] == 1


def test_the_scripted_helper_answers_in_headless_simulation_and_is_counted(bench):
    b = bench(policy=PointPolicy(0.0), config=point_config(**SCRIPTED_HELP))
    b.robot.x_m = 0.0
    b.practise(lambda: len(b.robot.resets) >= 2)
    status = b.loop.status()
    assert status.help_requests >= 2 and status.hard_resets == len(b.robot.resets)
    assert [request.open for request in b.help[:4]] == [True, False, True, False]
    assert "scripted helper" in b.help[1].meanwhile


def test_nobody_answers_where_a_person_watches(bench):
    b = bench(policy=PointPolicy(0.0), config=point_config(**{**SCRIPTED_HELP, "run__headless": False}))
    b.robot.x_m = 0.0
    b.loop.set_mode("practise")
    b.start().until(lambda: b.help)
    time.sleep(0.1)
    b.until(lambda: b.loop.status().mode is Mode.AWAITING_HELP)
    assert not b.robot.resets


def test_the_never_rule_asks_nobody(bench):
    b = bench(policy=PointPolicy(0.0), config=point_config(help__kind="never", help__timeouts_before_help=1))
    b.robot.x_m, b.robot.lost = 0.0, True
    b.practise(lambda: b.loop.status().segment > 5)
    assert not b.help


def test_ending_practice_cancels_an_open_request(bench):
    b = bench(config=point_config(reset__kind="human"))
    b.loop.set_mode("practise")
    b.start().until(lambda: b.help)
    b.loop.set_mode("idle")
    b.until(lambda: len(b.help) == 2)
    assert not b.help[1].open and "ancelled" in b.help[1].meanwhile


# --- evaluation -----------------------------------------------------------------------------------------------------


def test_evaluations_leave_the_practice_scene_alone(bench):
    other = PointRobot()
    b = bench(evaluation_robot=other)
    b.loop.request_evaluation(4, "before")
    b.start().until(lambda: len(b.evaluations) == 2).stop()
    assert [(e["phase"], e["kind"], e["episodes"], e["successes"]) for e in b.evaluations] == [
        ("forward", "before", 4, 4),
        ("backward", "before", 4, 4),
    ]
    assert not b.robot.actions and len(other.resets) == 8
    assert not any(b.policy.explored), "evaluation is deterministic"
    assert {"env_steps", "practice_time_s", "policy_version", "stamp_ns"} <= set(b.evaluations[0])
    assert not b.steps


def test_interval_evaluations_come_between_segments_and_stop_the_practice_clock(bench):
    config = point_config(evaluation__interval_episodes=2, evaluation__interval_s=0.05)
    policy = PointPolicy()
    policy.delay_s = 0.001
    b = bench(config=config, evaluation_robot=PointRobot(), policy=policy)
    b.practise(lambda: len(b.evaluations) >= 4)
    assert {e["kind"] for e in b.evaluations} == {"interval"}
    first, second = b.evaluations[:2], b.evaluations[2:4]
    assert first[0]["practice_time_s"] == first[1]["practice_time_s"] >= 0.05, "evaluating takes no practice time"
    assert second[0]["practice_time_s"] > first[0]["practice_time_s"]
    for segment in b.segments()[:-1]:
        assert segment[-1].is_last and segment[-1].success == 1, "no segment is cut by an evaluation"


def test_a_software_stop_ends_an_evaluation(bench):
    policy = PointPolicy(0.0)
    policy.delay_s = 0.005
    b = bench(policy=policy, evaluation_robot=PointRobot())
    b.loop.request_evaluation(1000, "after")
    b.start().until(lambda: b.loop.status().mode is Mode.EVALUATING)
    b.loop.software_stop(True)
    b.until(lambda: b.loop.status().mode is Mode.STOPPED).until(lambda: b.evaluations)
    assert not b.evaluations[0]["complete"]


# --- time -----------------------------------------------------------------------------------------------------------


def test_it_waits_for_the_first_policy_and_says_so(bench):
    b = bench()
    b.policy.ready = False
    b.loop.set_mode("practise")
    b.start().until(lambda: "waiting for the policy" in b.loop.status().message)
    assert not b.robot.actions and b.loop.status().practice_time_s == 0
    b.policy.ready = True
    b.until(lambda: b.robot.actions)


def test_the_simulation_never_runs_ahead_of_the_learner(bench):
    allowed = [5]
    b = bench(config=point_config(robot__pace="learner"), lead=lambda: len(b.robot.actions) < allowed[0])
    b.loop.set_mode("practise")
    b.start().until(lambda: len(b.robot.actions) == 5)
    time.sleep(0.05)
    assert len(b.robot.actions) == 5
    allowed[0] = 9
    b.until(lambda: len(b.robot.actions) == 9)


def test_real_time_pace_keeps_the_rate_and_reports_it(bench):
    b = bench(policy=PointPolicy(0.01), config=point_config(robot__pace="realtime"))
    b.practise(lambda: len(b.robot.actions) > 40)
    periods = np.diff(b.robot.action_times_s)
    assert np.median(periods) == pytest.approx(0.02, rel=0.2)
    status = b.loop.status()
    assert 25 < status.loop_rate_hz < 55
    assert status.loop_period_p99_ms > 15


def test_only_real_time_pace_fits_a_robot_that_moves_by_itself():
    with pytest.raises(ConfigError, match="pace=realtime"):
        ControlLoop(point_config(), PointRobot(advances_on_act=False), PointPolicy(), None, print, first_segment=1, seed=0)


@pytest.mark.parametrize(
    ("trouble", "word"),
    [({"age_s": 2.0}, "stale"), ({"faults": ("reflex",)}, "reflex"), ({"noise_m": float("nan")}, "not finite in x_m")],
)
def test_a_stale_or_faulty_reading_means_hold_and_the_segment_is_cut(bench, trouble, word):
    b = bench(robot=PointRobot(advances_on_act=False), policy=PointPolicy(0.02), config=point_config(robot__pace="realtime"))
    b.loop.set_mode("practise")
    b.start().until(lambda: len(b.steps) >= 3)
    for name, value in trouble.items():
        setattr(b.robot, name, value)
    b.until(lambda: b.loop.status().holding)
    assert word in b.loop.status().holding[0]
    moves = len(b.robot.actions)
    time.sleep(0.08)
    assert len(b.robot.actions) == moves and b.robot.holds and b.steps[-1].is_last
    b.robot.age_s, b.robot.faults, b.robot.noise_m = 0.0, (), 0.0
    b.until(lambda: len(b.robot.actions) > moves)
    assert not any(step.is_terminal for step in b.steps)
    for step in b.steps:
        b.robot.observation_spec.check(step.observation)


def test_when_the_loop_dies_the_robot_holds_and_the_segment_is_closed(bench):
    b = bench(policy=PointPolicy(0.02))

    def act(action):
        if len(b.steps) > 3:
            raise OSError("arm disconnected")
        PointRobot.act(b.robot, action)

    b.robot.act = act
    b.loop.set_mode("practise")
    with pytest.raises(OSError, match="disconnected"):
        b.loop.run(threading.Event())
    assert b.robot.holds and b.steps[-1].is_last


def test_counts_survive_a_restart(bench):
    first = bench()
    first.practise(lambda: first.loop.status().segment > 4)
    status = first.loop.status()
    second = bench(resume_from=first.loop.counters(), first_segment=status.segment)
    assert second.loop.status().env_steps == status.env_steps
    assert second.loop.status().success == status.success
    assert second.loop.status().practice_time_s == status.practice_time_s


def test_pictures_are_taken_while_somebody_asks(bench):
    b = bench(robot=PointRobot(pixels=True), policy=PointPolicy(0.0))
    b.loop.set_mode("practise")
    b.start().until(lambda: "front" in b.loop.latest_images())
    assert "beauty" not in b.loop.latest_images()
    b.loop.request_render("beauty", 48, 64)
    b.until(lambda: "beauty" in b.loop.latest_images())
    assert b.loop.latest_images()["beauty"].shape == (48, 64, 3)


def test_slow_pictures_shrink_rather_than_break_the_rate(bench):
    robot = PointRobot()
    robot.render = lambda camera, h, w: (time.sleep(h * w * 1e-6), np.zeros((h, w, 3), np.uint8))[1]
    b = bench(robot=robot, policy=PointPolicy(0.01), config=point_config(robot__pace="realtime"))
    b.loop.set_mode("practise")
    b.start()
    for _ in range(10):
        b.loop.request_render("beauty", 200, 200)
        time.sleep(0.1)
    b.stop()
    assert b.loop.latest_images()["beauty"].shape[0] < 200


def test_success_truth_is_unknown_without_a_simulator():
    from actor.scoring import truth_of
    from etude.robot import Reading

    assert truth_of(Reading({}, 0.0), "forward") == UNKNOWN
