"""Live checks of a demonstration that a person has just given: length, idle time, dropped frames, clock skew, jumps.

Apart from the recording, so that each check can be read and tested by itself.
"""

from __future__ import annotations

import numpy as np

from etude.step import Step

SHORTEST_STEPS = 3
PATIENCE = 5
"""A person may take this many times the steps that practice allows: keys and gamepads are slower than policies."""
LONGEST_IDLE_SHARE = 0.5
"""Of a demonstration's time; who waits longer shows hesitation, not the task."""
LATE_FACTOR = 2.0
"""Two observations further apart than this many control periods count as dropped frames."""
MAX_DROPPED_SHARE = 0.1
JUMP_FACTOR = 3.0
"""A tool that moved by more than this many times the longest allowed step, in one step, has jumped."""


def quality_problems(
    steps: list[Step], idle_s: float, period_s: float, limit: int, state_names: tuple[str, ...], longest_step_m: float
) -> tuple[str, ...]:
    """Why a recorded demonstration should be given again; empty when it is good.

    Args:
        steps: of one demonstration, the last one an observation.
        idle_s: time within it in which the person moved nothing, seconds; not part of `steps`.
        limit: steps that practice allows for this direction.
        state_names: of the observation; ``tcp_x_m`` and its like are watched for jumps.
        longest_step_m: that the safety filter allows, metres.
    """
    problems = []
    moves = len(steps) - 1
    if moves < SHORTEST_STEPS:
        problems.append(f"too short: {moves} steps")
    if moves > PATIENCE * limit:
        problems.append(f"too long: {moves} steps, practice allows {limit}")
    share = idle_s / (idle_s + moves * period_s) if idle_s > 0 else 0.0
    if share > LONGEST_IDLE_SHARE:
        problems.append(f"idle for {share:.0%} of the time")
    if moves < 1:
        return tuple(problems)
    gaps_s = np.diff([step.stamp_ns for step in steps]) * 1e-9
    backwards = int((gaps_s <= 0).sum())
    if backwards:
        problems.append(f"clock skew: {backwards} of {len(gaps_s)} steps are not later than the one before; was the clock set?")
    dropped = int((gaps_s > LATE_FACTOR * period_s).sum()) if idle_s == 0 else 0  # a pause of the person is a gap too
    if dropped > MAX_DROPPED_SHARE * len(gaps_s):
        problems.append(f"dropped frames: {dropped} of {len(gaps_s)} steps came late")
    tool = [index for index, name in enumerate(state_names) if name in ("tcp_x_m", "tcp_y_m", "tcp_z_m")]
    moved_m = np.linalg.norm(np.diff(np.stack([step.observation["state"][tool] for step in steps]), axis=0), axis=1)
    if moved_m.max() > JUMP_FACTOR * longest_step_m:
        problems.append(f"the tool jumps by {moved_m.max():.2f} m at step {int(np.argmax(moved_m))}")
    return tuple(problems)
