"""Action chunks in practice and evaluation: no plan lives longer than the segment or episode that it was made in."""

from __future__ import annotations

import numpy as np
from point_robot import PointPolicy, PointRobot, point_config

from actor.chunks import ChunkPlayer
from actor.evaluation import evaluate
from etude.status import Mode

CHUNK = 5


class Planner(PointPolicy):
    """Plans five actions at once; the second element of each is its place in the plan, 0.0 to 0.4."""

    def __init__(self, speed: float = 1.0) -> None:
        super().__init__(speed)
        self.chunks = ChunkPlayer()
        self.planned = 0

    def begin(self) -> None:
        super().begin()
        self.chunks.begin()

    def act(self, observation, phase, explore):
        def plan() -> np.ndarray:
            self.planned += 1
            towards = super(Planner, self).act(observation, phase, explore)[0]
            return np.stack([np.full(CHUNK, towards), 0.1 * np.arange(CHUNK)], axis=1).astype(np.float32)

        return self.chunks.next((phase, explore), plan)


def check_places(segments) -> None:
    """Step i of a segment executes action i modulo 5: the first of a plan on the first step, whatever happened before."""
    for segment in segments:
        places = [round(10 * float(step.policy_action[1])) for step in segment if not step.is_last]
        assert places == [step.index % CHUNK for step in segment if not step.is_last]


def test_every_segment_plans_anew_after_success_a_time_out_a_pause_and_a_stale_reading(bench):
    b = bench(robot=PointRobot(advances_on_act=False), policy=Planner(0.05), config=point_config(robot__pace="realtime"))
    b.loop.set_mode("practise")
    b.start().until(lambda: len(b.steps) >= 3)
    b.robot.age_s = 2.0
    b.until(lambda: b.loop.status().holding)
    b.robot.age_s = 0.0
    b.until(lambda: b.steps[-1].segment == 2 and b.steps[-1].index >= 2)
    b.loop.set_mode("pause")
    b.until(lambda: b.loop.status().mode is Mode.PAUSED)
    b.loop.set_mode("practise")
    b.until(lambda: b.steps[-1].segment >= 4)  # the third one times out
    b.policy.speed = 1.0
    b.until(lambda: b.steps[-1].segment >= 6)
    b.stop()
    segments = b.segments()
    assert {len(segment) % CHUNK for segment in segments} != {1}  # some ended in the middle of a plan
    check_places(segments)
    assert b.policy.begun >= len(segments)


def test_practice_goes_on_with_a_new_plan_after_an_evaluation(bench):
    b = bench(policy=Planner(), evaluation_robot=PointRobot())
    b.loop.set_mode("practise")
    b.start().until(lambda: len(b.steps) >= 3)
    b.loop.request_evaluation(2, "manual")
    b.until(lambda: len(b.evaluations) == 2)
    seen = b.steps[-1].segment
    b.until(lambda: b.steps[-1].segment > seen + 2)
    b.stop()
    check_places(b.segments())


def test_every_evaluation_episode_begins_with_a_plan_of_its_own():
    robot, policy = PointRobot(), Planner()
    result = evaluate(robot, policy, "forward", 3, 0, 100)
    assert result["successes"] == 3 and policy.begun == 3
    steps = round(3 * result["mean_steps"])
    places = [round(10 * float(action[1])) for action in robot.actions[-steps:]]
    assert places.count(0) == policy.planned and policy.planned >= 3
    assert not any(policy.explored)
