"""The behaviours that a Go1 can choose from: one gait per situation, found by tools/search_gaits.py, and their mirror images."""

from __future__ import annotations

from dataclasses import replace

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


_LOADED = Gait(
    frequency_hz=2.921,
    stride_m=0.253,
    clearance_m=0.061,
    height_m=0.253,
    width_m=-0.005,
    ahead_m=-0.043,
    pitch_m=0.024,
    roll_m=0.003,
    sway_m=0.004,
    duty=0.422,
    phase=(-0.042, 0.463, 0.481, -0.076),
    effort=(0.894, 1.235, 1.128, 1.05),
    lift_m=(-0.007, 0.006, 0.005, 0.006),
)

LIBRARY: dict[str, Gait] = {
    "trot": Gait(stride_m=0.24),
    "payload": _LOADED,
}
