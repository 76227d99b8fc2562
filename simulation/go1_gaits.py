"""Open-loop gaits of the Go1: a clock and few numbers in, joint targets out. Single-life learning chooses among them.

Feet follow simple paths in the frames of their hips; inverse kinematics makes joint angles. A gait knows nothing of the robot's
state but its heading and yaw rate, by which it keeps straight.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from simulation.go1 import ACTION_SCALE_RAD
from simulation.go1_model import ABDUCTION_M, FRONT, LEFT, NOMINAL_RAD, SHANK_M, THIGH_M

TROT = (0.0, 0.5, 0.5, 0.0)
"""Phase of each leg, in cycles: diagonal legs move together."""
WALK = (0.0, 0.5, 0.75, 0.25)
"""One leg after the other."""


@dataclass(frozen=True)
class Gait:
    """Parameters of one gait. Lengths in metres; tuples of four are per leg in the order of `LEGS`.

    Attributes:
        frequency_hz: cycles per second.
        stride_m: how far a foot travels backwards on the ground in one cycle.
        clearance_m: how high a foot is lifted.
        height_m: hip above the feet.
        width_m: feet this far outside the line of the hips (plus the leg's own offset).
        ahead_m: feet this far ahead of the hips; negative leans the trunk forward over the feet.
        pitch_m: front legs longer and hind legs shorter by this.
        roll_m: left legs longer and right legs shorter by this.
        sway_m: feet this far to the left of the hips, all of them; moves the trunk to the right.
        duty: part of the cycle that a foot is on the ground.
        phase: of each leg, cycles.
        effort: factor on stride and clearance of each leg; 0 leaves a leg where it is.
        lift_m: a leg is held up by this, for limping.
        heading_gain: difference of the strides of left and right per rad of heading error.
    """

    frequency_hz: float = 2.5
    stride_m: float = 0.16
    clearance_m: float = 0.06
    height_m: float = 0.26
    width_m: float = 0.0
    ahead_m: float = 0.0
    pitch_m: float = 0.0
    roll_m: float = 0.0
    sway_m: float = 0.0
    duty: float = 0.5
    phase: tuple[float, float, float, float] = TROT
    effort: tuple[float, float, float, float] = (1.0, 1.0, 1.0, 1.0)
    lift_m: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)
    heading_gain: float = 1.0


def action(gait: Gait, time_s: float, heading_rad: float, yaw_rate_rad_s: float) -> np.ndarray:
    """The normalised action ``(12,)`` of `gait` at `time_s` since its start, in [-1, 1]; it turns towards heading 0."""
    targets = joint_angles(feet(gait, time_s, heading_rad, yaw_rate_rad_s))
    return np.clip((targets - NOMINAL_RAD) / ACTION_SCALE_RAD, -1.0, 1.0)


def feet(gait: Gait, time_s: float, heading_rad: float, yaw_rate_rad_s: float) -> np.ndarray:
    """Where the feet should be, each in the frame of its hip's abduction axis: ``(4, 3)``, x ahead, y left, z up."""
    phase = (gait.frequency_hz * time_s + np.asarray(gait.phase)) % 1.0
    stance = phase < gait.duty
    into_stance, into_swing = phase / gait.duty, (phase - gait.duty) / (1.0 - gait.duty)
    smooth = 0.5 - 0.5 * np.cos(np.pi * into_swing)
    along = np.where(stance, 0.5 - into_stance, smooth - 0.5)
    turn = np.sign(gait.stride_m) * gait.heading_gain * (heading_rad + 0.2 * yaw_rate_rad_s)
    stride = gait.stride_m * np.clip(1.0 + LEFT * turn, 0.0, 1.8) * np.asarray(gait.effort)
    lifted = np.where(stance, 0.0, np.sin(np.pi * np.clip(into_swing, 0.0, 1.0))) * gait.clearance_m * np.asarray(gait.effort)
    x = gait.ahead_m + stride * along
    y = LEFT * (ABDUCTION_M + gait.width_m) + gait.sway_m
    z = -(gait.height_m + FRONT * gait.pitch_m + LEFT * gait.roll_m) + lifted + np.asarray(gait.lift_m)
    return np.stack([x, y, z], -1)


def joint_angles(feet_m: np.ndarray) -> np.ndarray:
    """Inverse kinematics: feet ``(4, 3)`` in the frames of the hips → joint angles ``(12,)``. Out of reach is drawn in.

    The knee bends backwards, as the Go1's does.
    """
    x, y, z = feet_m.T
    offset = LEFT * ABDUCTION_M
    # in the plane across the trunk the leg is the hypotenuse of (offset, drop)
    drop = np.sqrt(np.maximum(y**2 + z**2 - ABDUCTION_M**2, 1e-6))
    abduction = np.arctan2(y, -z) - np.arctan2(offset, drop)
    reach = np.clip(np.hypot(x, drop), abs(THIGH_M - SHANK_M) + 0.05, THIGH_M + SHANK_M - 1e-3)
    knee = -(np.pi - np.arccos((THIGH_M**2 + SHANK_M**2 - reach**2) / (2 * THIGH_M * SHANK_M)))
    inner = np.arccos(np.clip((THIGH_M**2 + reach**2 - SHANK_M**2) / (2 * THIGH_M * reach), -1.0, 1.0))
    thigh = np.arctan2(-x, drop) + inner
    return np.stack([abduction, thigh, knee], -1).reshape(-1)


def foot_positions(joints_rad: np.ndarray) -> np.ndarray:
    """Forward kinematics: joint angles ``(12,)`` → feet ``(4, 3)`` in the frames of their hips."""
    abduction, thigh, knee = np.asarray(joints_rad).reshape(4, 3).T
    x = -THIGH_M * np.sin(thigh) - SHANK_M * np.sin(thigh + knee)
    drop = THIGH_M * np.cos(thigh) + SHANK_M * np.cos(thigh + knee)
    offset = LEFT * ABDUCTION_M
    y = offset * np.cos(abduction) + drop * np.sin(abduction)
    z = offset * np.sin(abduction) - drop * np.cos(abduction)
    return np.stack([x, y, z], -1)
