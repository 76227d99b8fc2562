"""A scripted stand-up for the Go1: from its back or its side onto its belly, then fold the legs, then push up.

It decides from gravity, height and joint angles, so that it works from any position and after a slip. A real Go1 has such a
routine in its firmware; in a single life nobody puts the robot back on its feet.
"""

from __future__ import annotations

import numpy as np

from simulation.go1 import Go1
from simulation.go1_model import LEFT, NOMINAL_RAD, UPPER_RAD

FOLDED = np.tile([0.0, 1.25, -2.7], 4)
SPEED_RAD_S = 5.0
"""How fast targets move."""
BELLY_UPRIGHT = 0.55
"""Cosine of the tilt above which the robot counts as belly down."""
ON_SIDE, BACK_AGAIN = -0.05, -0.5
"""Cosines of the tilt: from the back it has arrived on its side, from the side it has rolled onto its back."""
STANDING_UPRIGHT, STANDING_HEIGHT_M = 0.9, 0.2
RETRY_S, SHAKE_S = 2.5, 0.5
"""An attempt that takes longer is given up: the legs move at random for a moment, and the next begins from another pose."""


class StandUp:
    """One stand-up. Call `step` once per control period until it returns True."""

    def __init__(self, robot: Go1, control_rate_hz: float = 20.0) -> None:
        self._robot = robot
        self._period_s = 1.0 / control_rate_hz
        self._rng = np.random.default_rng(0)
        self._target = robot.joints_rad
        self._trying_s = 0.0
        self._shake = FOLDED
        self._folded = False
        self._steady = 0
        self._side = 0.0
        self._turn, self._tried = 1.0, False
        self._on_side = True

    def step(self) -> bool:
        """Moves the robot by one control period. True once it has stood in the nominal stance for half a second."""
        upright = -self._robot.gravity[2]
        belly = upright > BELLY_UPRIGHT
        spared = 2 if self._tried else 1  # after a failed attempt one joint may be elsewhere: it may be stuck
        unfolded = np.sort(np.abs(self._robot.joints_rad - FOLDED))[-spared]
        self._folded = belly and bool(self._folded or unfolded < 0.35)
        self._trying_s += self._period_s
        if self._trying_s > RETRY_S + SHAKE_S:
            self._trying_s, self._side, self._on_side, self._folded = 0.0, 0.0, upright > BACK_AGAIN, False
            self._tried = True
            self._turn = -self._turn  # over the other side: the legs of this one may not be able to push
            self._shake = np.tile([0.0, 1.2, -1.8], 4) + self._rng.uniform(-1.0, 1.0, 12) * np.tile([0.8, 1.2, 0.9], 4)
        if self._trying_s > RETRY_S:
            goal = self._shake
        elif self._folded:
            goal = NOMINAL_RAD
        else:
            # the trunk must rest on its belly with the feet beside it before the legs push
            goal = FOLDED if belly else self._righting(upright)
        step = SPEED_RAD_S * self._period_s
        self._target = self._target + np.clip(goal - self._target, -step, step)
        self._robot.step_targets(self._target)
        standing = upright > STANDING_UPRIGHT and self._robot.position_m[2] > STANDING_HEIGHT_M
        self._steady = self._steady + 1 if standing and np.abs(self._target - NOMINAL_RAD).max() < 0.05 else 0
        return self._steady * self._period_s >= 0.5

    def _righting(self, upright: float) -> np.ndarray:
        """Legs reach over the back to the floor and push: from the back onto one side (`_side`), from there onto the belly."""
        if self._side == 0.0:
            self._side = self._turn * (1.0 if self._robot.gravity[1] > 0 else -1.0)
        self._on_side = upright > (BACK_AGAIN if self._on_side else ON_SIDE)
        goal = FOLDED.reshape(4, 3).copy()
        # thighs swing to where the back points: from the back those of the upper side, on the side those of the lower one
        pushing = (self._side if self._on_side else -self._side) == LEFT
        outwards = -LEFT if self._on_side else LEFT
        goal[pushing] = np.stack([outwards[pushing] * UPPER_RAD[0], np.full(2, np.pi), np.full(2, -0.95)], -1)
        return goal.reshape(-1)
