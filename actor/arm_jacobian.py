"""How far a Panda or FR3 is from a singularity, from its joint angles alone. Base frame; metres, radians.

Both arms have the same geometry (Franka Robotics, "Denavit-Hartenberg parameters", Craig's convention).
"""

from __future__ import annotations

import numpy as np

# distance and twist to the next axis, offset along it: a_{i-1}, alpha_{i-1}, d_i of joints 1 to 7
_A_M = (0.0, 0.0, 0.0, 0.0825, -0.0825, 0.0, 0.088)
_ALPHA_RAD = (0.0, -np.pi / 2, np.pi / 2, np.pi / 2, -np.pi / 2, np.pi / 2, np.pi / 2)
_D_M = (0.333, 0.0, 0.316, 0.0, 0.384, 0.0, 0.0)
TOOL_M = 0.107 + 0.1034
"""From the last joint along its axis to the flange, and from there to the tip of the Franka hand."""
LENGTH_M = 0.3
"""By which rotations are made comparable with translations: the lever of a typical tool."""


def jacobian(joints_rad: np.ndarray, tool_m: float = TOOL_M) -> np.ndarray:
    """``(6, 7)``: velocity of the tool's tip (rows 0 to 2, m/s) and angular velocity (rows 3 to 5, rad/s) per joint speed."""
    pose = np.eye(4)
    origins, axes = [], []
    for a, alpha, d, theta in zip(_A_M, _ALPHA_RAD, _D_M, joints_rad, strict=True):
        ca, sa, ct, st = np.cos(alpha), np.sin(alpha), np.cos(theta), np.sin(theta)
        pose = pose @ np.array(
            [
                [ct, -st, 0.0, a],
                [st * ca, ct * ca, -sa, -d * sa],
                [st * sa, ct * sa, ca, d * ca],
                [0.0, 0.0, 0.0, 1.0],
            ]
        )
        origins.append(pose[:3, 3])
        axes.append(pose[:3, 2])
    tip = pose[:3, 3] + tool_m * pose[:3, 2]
    return np.vstack([np.cross(axes, tip - np.array(origins)).T, np.array(axes).T])


def singularity_margin(joints_rad: np.ndarray) -> float:
    """Smallest singular value of the `jacobian` with rotations times `LENGTH_M`, metres per radian: 0 where a direction is lost.

    Around 0.1 in the middle of the workspace; joint speeds grow with its inverse.
    """
    scaled = jacobian(joints_rad)
    scaled[3:] *= LENGTH_M
    return float(np.linalg.svd(scaled, compute_uv=False)[-1])
