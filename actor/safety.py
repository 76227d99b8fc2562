"""The safety filter: the one gate between anything that proposes an action and the robot, independent of any policy.

A pure function, applied to every action (policy, scripted expert, evaluation, demonstrations), so that its promises can be
tested from any action and any state. It is a software limit and does not replace the hardware emergency stop.
"""

from __future__ import annotations

import numpy as np

from etude.config import SafetyLimits
from etude.robot import Reading
from etude.specs import ActionSpec, ObservationSpec, SpecError, bare, side_of

TRANSLATION = ("x", "y", "z")
ROTATION = ("roll", "pitch", "yaw")
GRIPPER = "gripper"
JOINT_SUFFIX = "_joint"
ROUNDING = 1e-6
"""Slack for float32 rounding before a limit counts as exceeded."""


def reading_problems(reading: Reading, limits: SafetyLimits, now_s: float, observation_spec: ObservationSpec) -> tuple[str, ...]:
    """Why no motion is allowed on this reading: it is stale, does not fit its specification, or the robot reports faults.

    Empty when it is good. What does not fit (a NaN of a driver, a picture of another size) could neither be judged nor stored.
    """
    problems = [f"robot fault: {fault}" for fault in reading.faults]
    age_s = now_s - reading.stamp_s
    if not age_s <= limits.max_reading_age_s:  # also true for a NaN stamp
        problems.append(f"stale observation ({age_s:.2f} s old, limit {limits.max_reading_age_s:.2f} s)")
    try:
        observation_spec.check(reading.observation)
    except SpecError as error:
        problems.append(str(error))
    return tuple(problems)


def filter_action(
    action: np.ndarray,
    reading: Reading,
    limits: SafetyLimits,
    action_spec: ActionSpec,
    now_s: float,
    *,
    observation_spec: ObservationSpec,
    previous: np.ndarray | None = None,
    stopped: bool = False,
) -> tuple[np.ndarray, tuple[str, ...]]:
    """The action that may be executed, and the reasons why it differs from `action`.

    Order: stop, faults, staleness and observations that do not fit, shape and finiteness (all of these hold); then range,
    translation, rotation and change of joint targets per step, and the workspace box. Outside the box only motion back
    inwards passes.

    Args:
        action: proposed normalised action; anything, also of wrong shape or not finite.
        now_s: ``time.monotonic()``, seconds.
        observation_spec: what `reading` must fit.
        previous: the action executed last; on a hold the gripper keeps its opening, because zero would half open it, and joints
            keep their targets. None counts as the stance of joint robots.
        stopped: the software stop is on.

    Returns:
        float32 ``(dim,)`` in [-1, 1], and short reasons (empty when nothing changed).
    """
    reasons = list(reading_problems(reading, limits, now_s, observation_spec))
    if stopped:
        reasons.append("software stop")
    proposed = _as_vector(action)
    if proposed is None or proposed.shape != (action_spec.dim,):
        reasons.append(f"action has shape {np.shape(action)}, expected ({action_spec.dim},)")
    elif not np.isfinite(proposed).all():
        reasons.append("action is not finite")
    boxed = limits.workspace_min_m is not None or limits.workspace_max_m is not None
    located = reading.tcp_position_m is not None and bool(np.isfinite(reading.tcp_position_m).all())
    if boxed and not located and any(name in action_spec.names for name in TRANSLATION):
        reasons.append("tool position is unknown, the workspace box cannot be checked")
    if reasons:
        return hold_action(action_spec, previous, reading.gripper_as_it_is), tuple(reasons)
    assert proposed is not None
    safe = np.clip(proposed, -1.0, 1.0)
    if np.abs(proposed - safe).max(initial=0.0) > ROUNDING:
        reasons.append("action clipped to [-1, 1]")
    _limit_norm(safe, action_spec, TRANSLATION, limits.max_translation_per_step_m, "translation", "m", reasons)
    _limit_norm(safe, action_spec, ROTATION, limits.max_rotation_per_step_rad, "rotation", "rad", reasons)
    _limit_joint_change(safe, previous, action_spec, limits.max_joint_change_per_step_rad, reasons)
    if boxed:
        _limit_box(safe, reading, limits, action_spec, reasons)
    return safe.astype(np.float32), tuple(reasons)


def hold_action(action_spec: ActionSpec, previous: np.ndarray | None, gripper_as_it_is: float = 1.0) -> np.ndarray:
    """The action of standing still: zeros, joint targets and the gripper as they were in `previous`; see
    `etude.robot.Reading.gripper_as_it_is` for a gripper that was never commanded."""
    action = action_spec.zeros()
    if previous is not None:
        joints = _joints(action_spec)
        action[joints] = np.clip(np.nan_to_num(previous[joints]), -1.0, 1.0)
    for index in grippers(action_spec):
        action[index] = gripper_as_it_is if previous is None else np.clip(np.nan_to_num(previous[index]), -1.0, 1.0)
    return action


def grippers(action_spec: ActionSpec) -> list[int]:
    """Indices of the elements that are absolute openings, one per arm."""
    return [i for i, name in enumerate(action_spec.names) if bare(name) == GRIPPER]


def _as_vector(action: np.ndarray) -> np.ndarray | None:
    try:
        return np.asarray(action, np.float64)
    except (TypeError, ValueError):
        return None


def _limit_norm(
    action: np.ndarray, spec: ActionSpec, group: tuple[str, ...], limit: float, word: str, unit: str, reasons: list[str]
) -> None:
    """Shrink the elements of `group`, those of one arm together, in place, so that their physical length keeps within `limit`."""
    for side in dict.fromkeys(map(side_of, spec.names)):
        indices = [i for i, name in enumerate(spec.names) if side_of(name) == side and bare(name) in group]
        length = float(np.linalg.norm(action[indices] * np.asarray(spec.scale)[indices]))
        if length > limit + ROUNDING:
            action[indices] *= limit / length
            reasons.append(f"{side} {word} limited from {length:.3f} to {limit:.3f} {unit} per step".lstrip())


def _joints(spec: ActionSpec) -> list[int]:
    """Indices of the elements that are absolute joint targets."""
    return [i for i, name in enumerate(spec.names) if name.endswith(JOINT_SUFFIX)]


def _limit_joint_change(
    action: np.ndarray, previous: np.ndarray | None, spec: ActionSpec, limit_rad: float | None, reasons: list[str]
) -> None:
    """Clip joint targets in place to within `limit_rad` of the last ones. The joints' range is the spec's own: [-1, 1]."""
    joints = _joints(spec)
    if not joints or limit_rad is None:
        return
    last = np.zeros(len(joints)) if previous is None else np.clip(np.nan_to_num(previous[joints]), -1.0, 1.0)
    scale = np.asarray(spec.scale)[joints]
    change = (action[joints] - last) * scale
    allowed = np.clip(change, -limit_rad, limit_rad)
    if np.abs(change - allowed).max() > ROUNDING:
        reasons.append(f"joint targets limited from {np.abs(change).max():.2f} to {limit_rad:.2f} rad per step")
        action[joints] = last + allowed / scale


def _limit_box(action: np.ndarray, reading: Reading, limits: SafetyLimits, spec: ActionSpec, reasons: list[str]) -> None:
    """Clip x, y, z in place so that the tool stays in the box, or moves only towards it when it is outside."""
    for axis, name in enumerate(TRANSLATION):
        if name not in spec.names:
            continue
        index = spec.names.index(name)
        scale = spec.scale[index]
        if scale == 0.0:
            continue
        position = float(reading.tcp_position_m[axis])  # type: ignore[index]
        low = -np.inf if limits.workspace_min_m is None else limits.workspace_min_m[axis] - position
        high = np.inf if limits.workspace_max_m is None else limits.workspace_max_m[axis] - position
        # Standing still is always allowed (min with 0, max with 0): outside, a forced jump inwards would be worse than waiting.
        delta = float(np.clip(action[index] * scale, min(low, 0.0), max(high, 0.0)))
        if abs(delta - action[index] * scale) > ROUNDING:
            reasons.append(f"workspace limit on {name}")
        action[index] = delta / scale
