"""What a person decided outlives the actor's process, and what a run starts by itself never overrules it."""

from __future__ import annotations

import json
import time

import pytest
from point_robot import PointPolicy, PointRobot, point_config

from etude.status import Mode


def restarted(bench, first, **keywords):
    """A loop that goes on with the counters of `first` as they come back from a file."""
    return bench(resume_from=json.loads(json.dumps(first.loop.counters())), first_segment=9, **keywords)


def test_a_stop_is_on_again_and_clearing_it_moves_nothing(bench):
    first = bench()
    first.loop.set_mode("practise")
    first.start().until(lambda: first.robot.actions)
    first.loop.software_stop(True)
    first.until(lambda: first.loop.status().mode is Mode.STOPPED).stop()
    second = restarted(bench, first)
    assert second.loop.status().mode is Mode.STOPPED and not second.loop.set_mode("practise").accepted
    second.loop.start_run()
    second.loop.software_stop(False)
    second.start().until(lambda: second.loop.status().mode is Mode.PAUSED)
    assert not second.robot.actions
    second.loop.set_mode("practise")
    second.until(lambda: second.robot.actions)


def test_a_pause_during_an_evaluation_is_not_forgotten(bench):
    policy = PointPolicy(0.0)
    policy.delay_s = 0.005
    first = bench(policy=policy, evaluation_robot=PointRobot())
    first.loop.set_mode("practise")
    first.loop.request_evaluation(1000, "manual")
    first.start().until(lambda: first.loop.status().mode is Mode.EVALUATING)
    first.loop.set_mode("pause")
    first.until(lambda: first.loop.counters()["practice"]["paused"])
    assert first.loop.status().mode is Mode.EVALUATING
    second = restarted(bench, first)
    first.stop()
    second.loop.start_run()
    second.start().until(lambda: second.loop.status().mode is Mode.PAUSED)
    assert not second.robot.actions


def test_an_open_request_is_open_again_under_its_number_and_the_next_one_counts_on(bench):
    config = point_config(help__timeouts_before_help=3)
    first = bench(policy=PointPolicy(0.0), config=config)
    first.robot.x_m = 0.0
    first.practise(lambda: first.loop.status().mode is Mode.AWAITING_HELP)
    second = restarted(bench, first, policy=PointPolicy(0.0), config=config)
    second.loop.start_run()
    second.start().until(lambda: second.help)
    assert second.help == [first.help[0]] and second.loop.status().mode is Mode.AWAITING_HELP
    time.sleep(0.06)
    assert not second.robot.actions and second.loop.status().help_requests == 1
    second.robot.can_reset = False
    second.robot.x_m = 0.0
    assert second.loop.resolve_help("continue", "Ada").accepted
    second.until(lambda: len(second.help) == 3).stop()
    assert [(request.id, request.open) for request in second.help] == [(1, True), (1, False), (2, True)]


def test_requests_of_a_run_from_before_are_counted_on(bench):
    first = bench()
    counters = {**first.loop.counters(), "help_requests": 4}
    del counters["practice"]
    second = bench(resume_from=counters, config=point_config(reset__kind="human"))
    second.practise(lambda: second.help)
    assert second.help[0].id == 5


@pytest.mark.parametrize("decide", [lambda loop: loop.set_mode("pause"), lambda loop: loop.software_stop(True)])
def test_a_pause_or_stop_before_the_run_began_lets_it_begin_waiting(bench, decide):
    b = bench()
    decide(b.loop)
    b.loop.software_stop(False)
    b.loop.start_run()
    b.start().until(lambda: b.loop.status().mode is Mode.PAUSED)
    assert not b.robot.actions


def test_a_start_asked_after_a_stop_is_refused_before_the_loop_has_seen_either(bench):
    b = bench()
    b.loop.software_stop(True)
    assert not b.loop.set_mode("practise").accepted
    b.loop.software_stop(False)
    assert b.loop.set_mode("practise").accepted


def test_an_answer_meant_for_an_older_request_answers_nothing(bench):
    b = bench(config=point_config(reset__kind="human"))
    b.loop.set_mode("practise")
    b.start().until(lambda: b.loop.status().mode is Mode.AWAITING_HELP)
    answer = b.loop.resolve_help("continue", "Ada", 7)
    assert not answer.accepted and "request 7 is not open any more; request 1 is" in answer.message
    assert b.loop.resolve_help("continue", "Ada", 1).accepted
