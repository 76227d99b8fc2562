"""Evaluation: how often a policy reaches the goal from random starts, by ground truth, with deterministic actions.

Runs in a scene of its own, so that practice goes on where it was; the only place besides answered help where scenes are reset.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np

from actor.safety import filter_action, reading_problems
from actor.scoring import truth_of
from etude.config import SafetyLimits
from etude.robot import Reading, Robot
from etude.specs import Observation
from etude.step import UNKNOWN

log = logging.getLogger("etude.policy")

PATIENCE_S = 120.0
"""How long one step of an evaluation waits for a policy server."""


class EvaluationError(RuntimeError):
    """This robot cannot be evaluated; the message says why."""


class ActingPolicy(Protocol):
    """What evaluation needs of a policy (`actor.policy_runner.PolicyRunner` has it)."""

    def begin(self) -> None: ...

    def prepare(self, observation: Observation, phase: str) -> bool: ...

    def act(self, observation: Observation, phase: str, explore: bool) -> np.ndarray: ...


def evaluate(
    robot: Robot,
    policy: ActingPolicy,
    phase: str,
    episodes: int,
    seed: int,
    max_steps: int,
    progress: Callable[[int, int], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
    *,
    limits: SafetyLimits | None = None,
    on_frame: Callable[[Robot, int, bool], None] | None = None,
) -> dict[str, Any]:
    """Run `episodes` episodes of `phase`, each from a random start, and count successes by ground truth.

    The start of episode i depends only on (seed, phase, i): evaluations with one seed see the same starts.

    Args:
        progress: called with (finished episodes, successes) after each episode.
        should_stop: asked at every step; when True, the evaluation ends and the unfinished episode is not counted.
        limits: of the safety filter, which every action passes.
        on_frame: called with (robot, episode, success) after each step, for videos.

    Returns:
        ``{"phase", "episodes", "successes", "success_rate", "mean_steps", "complete"}``; `episodes` were finished, `mean_steps`
        is over the successful ones (0.0 without any), `complete` is False when it was stopped early.

    Raises:
        EvaluationError: the robot reports no ground truth, or cannot reset itself.
    """
    limits = limits or SafetyLimits()
    finished, lengths = 0, []
    complete = True
    for episode in range(episodes):
        steps, success = _episode(
            robot, policy, phase, [seed, int(phase == "backward"), episode], max_steps, limits, should_stop, on_frame, episode
        )
        if steps is None:
            complete = False
            break
        finished += 1
        if success:
            lengths.append(steps)
        if progress is not None:
            progress(finished, len(lengths))
    return {
        "phase": phase,
        "episodes": finished,
        "successes": len(lengths),
        "success_rate": len(lengths) / finished if finished else 0.0,
        "mean_steps": float(np.mean(lengths)) if lengths else 0.0,
        "complete": complete,
    }


def _episode(
    robot: Robot,
    policy: ActingPolicy,
    phase: str,
    entropy: list[int],
    max_steps: int,
    limits: SafetyLimits,
    should_stop: Callable[[], bool] | None,
    on_frame: Callable[[Robot, int, bool], None] | None,
    episode: int,
) -> tuple[int | None, bool]:
    """(steps taken, success); steps is None when stopped."""
    try:
        robot.hard_reset(phase, np.random.default_rng(entropy))
    except NotImplementedError:
        raise EvaluationError(
            "this robot cannot reset its scene by itself: evaluate in simulation, or count a person's labels"
        ) from None
    reading = robot.read()
    if truth_of(reading, phase) == UNKNOWN:
        raise EvaluationError(f"this robot reports no ground truth for phase {phase!r}, so that success cannot be counted")
    policy.begin()
    previous: np.ndarray | None = None
    for step in range(max_steps):
        if should_stop is not None and should_stop():
            return None, False
        now_s = reading_clock(robot, reading)
        blind = reading_problems(reading, limits, now_s, robot.observation_spec)
        if blind:
            policy.begin()  # it holds still instead: what was planned before does not continue from here
        elif not _prepared(policy, reading.observation, phase, should_stop):
            return None, False
        proposed = robot.action_spec.zeros() if blind else policy.act(reading.observation, phase, False)
        previous, _ = filter_action(
            proposed,
            reading,
            limits,
            robot.action_spec,
            now_s,
            observation_spec=robot.observation_spec,
            previous=previous,
        )
        robot.act(previous)
        reading = robot.read()
        success = truth_of(reading, phase) == 1
        if on_frame is not None:
            on_frame(robot, episode, success)
        if success:
            return step + 1, True
        if reading.episode_over:
            break
    return max_steps, False


def _prepared(policy: ActingPolicy, observation: Observation, phase: str, should_stop: Callable[[], bool] | None) -> bool:
    """Wait until `policy` can act on `observation`; False when asked to stop, or when its server stays away."""
    began_s = time.monotonic()
    while not policy.prepare(observation, phase):
        if should_stop is not None and should_stop():
            return False
        if time.monotonic() - began_s > PATIENCE_S:
            log.error("the policy server gave no candidates for %.0f s: the evaluation ends early", PATIENCE_S)
            return False
    return True


def reading_clock(robot: Robot, reading: Reading) -> float:
    """The time against which a reading may be stale: a simulation that moves only on `act` cannot grow stale while we think."""
    return reading.stamp_s if robot.advances_on_act else time.monotonic()
