"""A judge or a camera that fails in the middle of practice: what the robot does meanwhile, and that no step is lost."""

from __future__ import annotations

import math

import numpy as np
import pytest
from point_robot import PixelJudge, PointPolicy, PointRobot, point_config

from reward_classifiers.endpoint import EndpointError
from reward_classifiers.worker import NO_ANSWER, DeadlineJudge

RATE_HZ = 50.0


class Reachable(PixelJudge):
    """Behind an endpoint that can be down."""

    down = False

    def probability(self, observation, phase: str) -> float:
        if self.down:
            raise EndpointError("endpoint http://gpu:8000 does not answer")
        return super().probability(observation, phase)


def pixel_config():
    return point_config(
        reward__kind="classifier",
        reward__consecutive_frames=1,
        run__observation="pixels",
        robot__pace="realtime",
        robot__control_rate_hz=RATE_HZ,
        task__forward={"instruction": "go right", "max_steps": 30},
        task__backward={"instruction": "go left", "max_steps": 30},
        help__timeouts_before_help=1000,
    )


def successes(steps) -> int:
    return sum(step.success == 1 for step in steps)


@pytest.mark.parametrize("missed", [NO_ANSWER, 0.0], ids=["no_vote", "failure"])
def test_practice_goes_on_without_successes_while_the_endpoint_is_down_and_loses_no_step(bench, missed):
    said = Reachable()
    judge = DeadlineJudge(said, 0.2, missed)
    b = bench(robot=PointRobot(pixels=True, rate_hz=RATE_HZ), judge=judge, config=pixel_config())
    b.loop.set_mode("practise")
    b.start().until(lambda: successes(b.steps) >= 2, timeout_s=20.0)
    said.down = True
    b.until(lambda: judge.problem, timeout_s=5.0)
    began = len(b.steps) + 2  # an answer from before may still lie ready for one step
    b.until(lambda: len(b.steps) > began + 70, timeout_s=20.0)
    said.down, ended = False, len(b.steps)
    without = b.steps[began:ended]
    assert successes(without) == 0 and any(step.is_last for step in without), "attempts end by time"
    told = {step.success_probability for step in without}
    assert all(map(math.isnan, told)) if math.isnan(missed) else told == {0.0}
    b.until(lambda: successes(b.steps[ended:]) >= 1, timeout_s=20.0).stop()
    for segment in b.segments():
        assert [step.index for step in segment] == list(range(len(segment)))
    assert judge.failures >= 1 and judge.problem == ""
    judge.close()


@pytest.mark.parametrize(
    ("broken", "words"),
    [({}, "lacks 'image/front'"), ({"image/front": np.zeros((4, 4, 3), np.uint8)}, r"'image/front' is uint8(4, 4, 3), expected")],
    ids=["view missing", "wrong size"],
)
def test_a_view_that_is_missing_or_of_another_size_means_hold_until_it_is_right_again(bench, broken, words):
    class Loose(PointRobot):
        fine = True

        def read(self):
            reading = super().read()
            if not self.fine:
                del reading.observation["image/front"]
                reading.observation.update(broken)
            return reading

    robot = Loose(pixels=True, rate_hz=RATE_HZ)
    b = bench(robot=robot, policy=PointPolicy(0.05), judge=PixelJudge(), config=pixel_config())
    b.loop.set_mode("practise")
    b.start().until(lambda: len(b.steps) >= 3)
    robot.fine = False
    b.until(lambda: b.loop.status().holding)
    assert words in b.loop.status().holding[0]
    moves = len(robot.actions)
    robot.fine = True
    b.until(lambda: len(robot.actions) > moves + 3).stop()
    for step in b.steps:
        robot.observation_spec.check(step.observation)
