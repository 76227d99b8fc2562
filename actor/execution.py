"""The last step before the robot: the safety filter, with a person's speed limit on top of the configured ones.

Separate from the loop, which decides what is wanted and when.
"""

from __future__ import annotations

import numpy as np

from actor.evaluation import reading_clock
from actor.safety import filter_action
from etude.config import SafetyLimits
from etude.robot import Reading, Robot

SLOWEST = 0.1
"""Smallest share of the configured limits that a person can ask for; who wants none stops or pauses."""


class Execution:
    """Owned by the loop's thread."""

    def __init__(self, robot: Robot, limits: SafetyLimits) -> None:
        self._robot, self._limits = robot, limits
        self.last: np.ndarray | None = None
        """The action that was executed last; None before the first."""

    def send(self, proposed: np.ndarray, reading: Reading, share: float, *, stopped: bool) -> np.ndarray:
        """Send what the safety filter leaves of `proposed`; returns it. `share` of the configured steps is allowed."""
        robot = self._robot
        action, _ = filter_action(
            proposed,
            reading,
            slower(self._limits, share),
            robot.action_spec,
            reading_clock(robot, reading),
            observation_spec=robot.observation_spec,
            previous=self.last,
            stopped=stopped,
        )
        robot.act(action)
        self.last = action
        return action


def slower(limits: SafetyLimits, share: float) -> SafetyLimits:
    """`limits` with `share` of every step: translation, rotation and joint targets, never more than all of it. The box and the
    age of readings stay; the gripper is not slowed."""
    share = min(max(share, SLOWEST), 1.0)
    if share == 1.0:
        return limits
    joints = limits.max_joint_change_per_step_rad
    return limits.model_copy(
        update={
            "max_translation_per_step_m": limits.max_translation_per_step_m * share,
            "max_rotation_per_step_rad": limits.max_rotation_per_step_rad * share,
            "max_joint_change_per_step_rad": None if joints is None else joints * share,
        }
    )
