"""Practice under a reward that a discriminator gives: what success still ends, and that nobody has to know the truth."""

from __future__ import annotations

from point_robot import PointRobot, point_config

from etude.step import UNKNOWN


def test_under_a_learned_reward_success_ends_neither_attempt_nor_task(bench):
    b = bench(config=point_config(reward__kind="vice"))
    b.practise(lambda: b.loop.status().segment > 2)
    forward, backward = b.segments()[:2]
    assert len(forward) == 13 and not forward[-1].is_terminal and sum(step.success for step in forward) > 2
    assert len(backward) < 13 and backward[-1].is_terminal, "the backward direction has the environment's reward"


def test_a_learned_reward_needs_nobody_who_knows_the_truth(bench):
    class KnowsHalf(PointRobot):
        def read(self):
            reading = super().read()
            del reading.success_truth["forward"]
            return reading

    b = bench(robot=KnowsHalf(), config=point_config(reward__kind="vice", help__timeouts_before_help=1))
    b.practise(lambda: b.loop.status().segment > 3)
    forward = b.segments()[0]
    assert len(forward) == 13 and {step.success for step in forward} == {UNKNOWN}
    assert not b.help, "attempts of which nobody knows the outcome are no failures"
    assert b.loop.status().success["forward"].attempts == 0
