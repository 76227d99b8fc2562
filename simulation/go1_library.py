"""The behaviours that a Go1 can choose from: one gait per situation, found by tools/search_gaits.py, and their mirror images."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from simulation.go1 import Perturbation
from simulation.go1_gaits import Gait


def mirrored(gait: Gait) -> Gait:
    """The same gait with left and right exchanged."""

    def swap(legs: tuple[float, float, float, float]) -> tuple[float, float, float, float]:
        return (legs[1], legs[0], legs[3], legs[2])

    return replace(
        gait,
        roll_m=-gait.roll_m,
        sway_m=-gait.sway_m,
        phase=swap(gait.phase),
        effort=swap(gait.effort),
        lift_m=swap(gait.lift_m),
    )


_FAST = Gait(
    frequency_hz=3.163,
    stride_m=0.27,
    clearance_m=0.055,
    height_m=0.239,
    width_m=-0.001,
    ahead_m=-0.057,
    pitch_m=0.02,
    roll_m=0.004,
    sway_m=-0.002,
    duty=0.433,
    phase=(-0.041, 0.49, 0.545, -0.055),
    effort=(0.885, 1.294, 1.246, 0.918),
    lift_m=(-0.006, 0.008, 0.007, 0.004),
)
_PAYLOAD = Gait(
    frequency_hz=3.02,
    stride_m=0.277,
    clearance_m=0.061,
    height_m=0.248,
    width_m=0.002,
    ahead_m=-0.056,
    pitch_m=0.027,
    roll_m=0.002,
    sway_m=0.005,
    duty=0.422,
    phase=(-0.029, 0.48, 0.544, -0.08),
    effort=(0.955, 1.321, 1.137, 1.006),
    lift_m=(-0.007, 0.005, 0.011, 0.006),
)
_PULL_BACK = Gait(
    frequency_hz=2.98,
    stride_m=0.246,
    clearance_m=0.056,
    height_m=0.25,
    width_m=-0.003,
    ahead_m=-0.05,
    pitch_m=0.018,
    roll_m=0.004,
    sway_m=-0.002,
    duty=0.416,
    phase=(-0.039, 0.471, 0.509, -0.092),
    effort=(0.77, 1.315, 1.237, 1.097),
    lift_m=(-0.005, 0.003, 0.007, 0.007),
)
_PULL_LEFT = Gait(
    frequency_hz=3.329,
    stride_m=0.245,
    clearance_m=0.055,
    height_m=0.233,
    width_m=0.003,
    ahead_m=-0.046,
    pitch_m=0.015,
    sway_m=0.036,
    duty=0.415,
    phase=(-0.067, 0.453, 0.507, -0.096),
    effort=(0.909, 1.395, 1.313, 1.162),
    lift_m=(-0.01, 0.002, 0.004, 0.001),
)
_FRONT_RIGHT = Gait(
    frequency_hz=2.968,
    stride_m=0.276,
    clearance_m=0.059,
    height_m=0.244,
    width_m=0.017,
    ahead_m=-0.062,
    pitch_m=0.03,
    roll_m=0.001,
    sway_m=-0.015,
    duty=0.401,
    phase=(0.174, 0.387, 0.536, -0.094),
    effort=(0.766, 1.293, 1.256, 1.03),
    lift_m=(-0.011, 0.006, 0.01, 0.008),
)
_REAR_RIGHT = Gait(
    frequency_hz=2.92,
    stride_m=0.264,
    clearance_m=0.045,
    height_m=0.241,
    width_m=0.009,
    ahead_m=-0.058,
    pitch_m=0.026,
    roll_m=0.002,
    sway_m=-0.012,
    duty=0.47,
    phase=(-0.07, 0.399, 0.683, -0.079),
    effort=(1.015, 1.179, 1.269, 0.957),
    lift_m=(-0.006, 0.003, 0.013, 0.006),
)

LIBRARY: dict[str, Gait] = {
    "trot": Gait(stride_m=0.24),
    "fast": _FAST,
    "payload": _PAYLOAD,
    "pull_back": _PULL_BACK,
    "pull_left": _PULL_LEFT,
    "pull_right": mirrored(_PULL_LEFT),
    "front_right": _FRONT_RIGHT,
    "front_left": mirrored(_FRONT_RIGHT),
    "rear_right": _REAR_RIGHT,
    "rear_left": mirrored(_REAR_RIGHT),
}
"""Name of a behaviour -> its gait: the plain trot, the fastest on a healthy robot, those for a load, for a pull backwards, to the
left and to the right, and those for a thigh that sticks."""


def made_for(perturbation: Perturbation) -> str | None:
    """Name of the behaviour that was found for trouble of this kind, or None."""
    stuck = {"FR_thigh": "front_right", "FL_thigh": "front_left", "RR_thigh": "rear_right", "RL_thigh": "rear_left"}
    if perturbation.stuck_joint in stuck:
        return stuck[perturbation.stuck_joint]
    x, y, _ = perturbation.pull_n
    if np.hypot(x, y) > 0:
        return "pull_back" if -x > abs(y) else "pull_left" if y > 0 else "pull_right"
    return "payload" if perturbation.payload_kg > 0 else None
