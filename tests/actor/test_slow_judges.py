"""The control loop in real time never waits for a classifier, however slow: its periods stay what they are without one."""

from __future__ import annotations

import time

import numpy as np
from point_robot import PixelJudge, PointRobot, point_config

from reward_classifiers.worker import DeadlineJudge

RATE_HZ = 20.0
LOOK_S = 0.4
STEPS = 40


class SlowJudge(PixelJudge):
    """Eight periods of the loop for every look."""

    def probability(self, observation, phase: str) -> float:
        time.sleep(LOOK_S)
        return super().probability(observation, phase)


def periods_ms(bench, judge) -> np.ndarray:
    """Between the actions of `STEPS` control steps of one attempt after another, those between attempts left out."""
    config = point_config(
        reward__kind="classifier",
        run__observation="pixels",
        robot__pace="realtime",
        robot__control_rate_hz=RATE_HZ,
        task__forward={"instruction": "go right", "max_steps": STEPS + 5},
    )
    robot = PointRobot(pixels=True, rate_hz=RATE_HZ)
    b = bench(robot=robot, judge=judge, config=config)
    b.policy.speed = 0.0  # it never gets there, so the attempt is long
    b.practise(lambda: len(robot.action_times_s) > STEPS, timeout_s=20.0)
    return np.diff(robot.action_times_s[: STEPS + 1]) * 1e3


def test_a_judge_of_eight_periods_delays_no_step(bench):
    slow = DeadlineJudge(SlowJudge(), deadline_s=5.0)
    periods = periods_ms(bench, slow)
    period_ms = 1e3 / RATE_HZ
    assert slow.answered >= 2, "it did look"
    assert np.median(periods) < 1.2 * period_ms
    # a waiting loop would have steps as long as a look; one step in forty may be late on a busy machine
    assert np.sort(periods)[-2] < LOOK_S * 1e3 / 2, f"periods of {np.sort(periods)[-4:].round()} ms"
    slow.close()


def test_asked_in_the_loop_the_same_judge_delays_every_step(bench):
    """What the test above would see if the loop did wait."""
    b = bench(
        robot=PointRobot(pixels=True, rate_hz=RATE_HZ),
        judge=SlowJudge(),
        config=point_config(
            reward__kind="classifier", run__observation="pixels", robot__pace="realtime", robot__control_rate_hz=RATE_HZ
        ),
    )
    b.policy.speed = 0.0
    b.practise(lambda: len(b.robot.action_times_s) > 3, timeout_s=20.0)
    assert np.diff(b.robot.action_times_s[:4]).min() > LOOK_S / 2
