"""The last gate before a real arm: every commanded tool pose passes it, whoever proposed it, also a hold or a retreat.

`actor/safety.py` looks at one normalised action; this looks at the sequence of poses that the arm's controller gets, so it can
keep velocity, acceleration and jerk too. It remembers a *plan* that brakes from the present motion within all limits. A
command is a mixture of that plan and of what is wanted, with as much of the wanted as the limits allow; because the limits on
translation are convex in the positions, some mixture always keeps them all, and braking is possible at every moment (a
backup plan, as in Wabersich and Zeilinger 2021, "A predictive safety filter").
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from actor.arm_jacobian import singularity_margin
from etude import frames
from etude.config.hardware import CommandLimits

SLACK_M = 1e-10
"""Room for rounding when a plan is compared with a limit."""
_SMALLEST_SHARE = 1e-4
_HALVINGS = 24
_FAR_M = 1e3
_TRAIL_M = 0.02
DOWN = np.array([0.0, 0.0, -1.0])


@dataclass(frozen=True)
class Measured:
    """What is known of the arm now. None or non-finite means unknown.

    Attributes:
        pose: of the tool centre point, base frame, ``(4, 4)``.
        wrench: of the world on the tool, base frame, N and N m ``(6,)``; None for an arm without a sensor of it.
        joints_rad: in the order of the limits; not needed when the limits name no joints.
        problems: what makes the state unusable (late inputs, a fault of the arm): then nothing moves on.
    """

    pose: np.ndarray | None
    wrench: np.ndarray | None = None
    joints_rad: np.ndarray | None = None
    problems: tuple[str, ...] = ()


class CommandFilter:
    """Turns wanted tool poses into commands, one per control period. `restart` before the first one and after every fault.

    `refused` says why the newest wanted pose counted for nothing (an unusable state, force, an arm that does not follow); it is
    empty when the command only keeps limits.

    Promises, from any sequence of wanted poses and measured states, for the commands since `restart`: they are
    finite; the position stays in the workspace box, or outside never goes farther out than it was; steps, velocity,
    acceleration, jerk and angular velocity keep their limits, except that a stop (reaction ``hold``) may end a motion at once;
    the tool's axis stays in its cone, or outside only returns.
    """

    def __init__(self, limits: CommandLimits, period_s: float) -> None:
        self.limits, self._period_s = limits, period_s
        self._low, self._high = np.array(limits.workspace_min_m), np.array(limits.workspace_max_m)
        self._longest_m = min(limits.max_step_m, limits.max_velocity_m_s * period_s)
        self._change_m = limits.max_acceleration_m_s2 * period_s**2
        self._jerk_m = limits.max_jerk_m_s3 * period_s**3
        self._horizon = self._braking_steps(self._longest_m) + 1
        self._past: np.ndarray | None = None
        self._plan = np.zeros((self._horizon, 3))
        self._rotation = np.eye(3)
        self._trail: list[np.ndarray] = []
        self.refused: tuple[str, ...] = ()

    @property
    def pose(self) -> np.ndarray | None:
        """The newest command ``(4, 4)``; None before `restart`."""
        return None if self._past is None else frames.pose(self._past[-1], self._rotation)

    @property
    def at_rest(self) -> bool:
        return self._past is None or not np.ptp(self._past, axis=0).any()

    def restart(self, pose: np.ndarray) -> None:
        """The command becomes `pose`, where the tool is now, at rest."""
        self._rotation = pose[:3, :3].copy()
        self._rest(pose[:3, 3])

    def next(self, wanted: np.ndarray | None, measured: Measured) -> tuple[np.ndarray, tuple[str, ...]]:
        """The pose to command for the next control period, and reasons why it differs from `wanted`.

        `wanted` is a pose ``(4, 4)``, anything; None asks for standing still.
        """
        assert self._past is not None, "restart comes first"
        here = measured.pose
        blind = list(measured.problems)
        if here is None or not np.isfinite(here).all():
            blind.append("the arm's pose is unknown")
        if self.limits.joint_min_rad and not _known(measured.joints_rad, len(self.limits.joint_min_rad)):
            blind.append("the arm's joints are unknown")
        if measured.wrench is not None and not _known(measured.wrench, 6):
            blind.append("the force at the tool is not finite")
        self.refused = tuple(blind[len(measured.problems) :])
        if blind or here is None:
            return self._stop(), tuple(blind)
        if np.linalg.norm(here[:3, 3] - self._past[-1]) > self.limits.max_lag_m:
            far = f"the arm does not follow: it is more than {self.limits.max_lag_m:g} m from the last command"
            self.refused = (far,)
            return self._give_way(here), self.refused
        self.refused = forced = self._force_reasons(measured.wrench)
        if forced and self.limits.reaction == "retract":
            rise = np.array([0.0, 0.0, self.limits.retract_velocity_m_s * self._period_s])
            return self._advance(self._past[-1] + rise), forced
        if forced:
            return self._give_way(here), forced
        if wanted is None:
            return self._brake(), ()
        if np.shape(wanted) != (4, 4) or not np.isfinite(wanted).all():
            return self._stop(), ("the wanted pose is not finite",)
        return self._towards(np.asarray(wanted, float), here, measured.joints_rad)

    # --- reactions ------------------------------------------------------------------------------------------------------

    def _stop(self) -> np.ndarray:
        """The end of motion: at once with reaction ``hold``, else by braking."""
        assert self._past is not None
        if self.limits.reaction != "hold":
            return self._brake()
        self._rest(self._past[-1])
        return self._command()

    def _give_way(self, here: np.ndarray) -> np.ndarray:
        """Stop; then the command goes back to where the arm is, so that a stiff controller no longer pushes. An arm that was
        pressed out of its box is met at the wall: aimed beyond it, the command could not move at all."""
        if not self.at_rest and self.limits.reaction == "hold":
            return self._stop()
        before = self._past[-1]  # type: ignore[index]
        return self._advance(np.clip(here[:3, 3], np.minimum(self._low, before), np.maximum(self._high, before)))

    def _brake(self) -> np.ndarray:
        return self._accept(self._plan)

    def _rest(self, position_m: np.ndarray) -> None:
        self._past = np.tile(position_m, (3, 1))
        self._plan = np.tile(position_m, (self._horizon, 1))

    # --- motion ---------------------------------------------------------------------------------------------------------

    def _towards(self, wanted: np.ndarray, here: np.ndarray, joints_rad: np.ndarray | None) -> tuple[np.ndarray, tuple[str, ...]]:
        assert self._past is not None
        reasons: list[str] = []
        lead = np.clip(wanted[:3, 3] - here[:3, 3], -_FAR_M, _FAR_M)
        length = float(np.linalg.norm(lead))
        if length > self.limits.max_lead_m + 1e-6:
            reasons.append(f"the target leads the tool by {length:.3f} m, limit {self.limits.max_lead_m:g} m")
            lead *= self.limits.max_lead_m / length
        near, rotation = here[:3, 3] + lead, wanted[:3, :3]
        joint = self._tight_joint(joints_rad)
        if not joint:
            self._leave_trail(here[:3, 3])
        elif not self._trail or float((near - self._past[-1]) @ (self._trail[0] - here[:3, 3])) <= 0.0:
            reasons.append(joint)
            near, rotation = self._past[-1], self._rotation
        self._turn(rotation, reasons)
        command = self._advance(near)
        if np.linalg.norm(command[:3, 3] - near) > 1e-6:
            reasons.append("translation limited")
        return command, tuple(reasons)

    def _leave_trail(self, position_m: np.ndarray) -> None:
        """Remember where the joints had room, a few centimetres apart: that is the way back."""
        if not self._trail or np.linalg.norm(position_m - self._trail[-1]) > _TRAIL_M:
            self._trail = [*self._trail[-1:], position_m.copy()]

    def _advance(self, goal: np.ndarray) -> np.ndarray:
        """One period towards `goal` ``(3,)``, as far as the limits allow."""
        assert self._past is not None
        step = goal - self._past[-1]
        length = float(np.linalg.norm(step))
        if length > self._longest_m:
            step, length = step * (self._longest_m / length), self._longest_m
        candidate = self._past[-1] + step + step * self._decay(length)[:, None]
        return self._accept(self._plan + self._share(candidate) * (candidate - self._plan))

    def _share(self, candidate: np.ndarray) -> float:
        """The largest share of `candidate` in [0, 1] whose mixture with the plan keeps every limit; of 0 it is certain.

        Outside the box the limit "no farther out" is not convex: there halves are tried, and only shares that fit are taken.
        """
        if not self._inside(self._plan) or not self._inside(self._past[-1:]):  # type: ignore[index]
            share = 1.0
            while share > _SMALLEST_SHARE:
                if self._fits(self._plan + share * (candidate - self._plan)):
                    return share
                share /= 2
            return 0.0
        share = 1.0
        away = candidate - self._plan
        room = np.where(away > 0, self._high - self._plan, self._plan - self._low)
        moving = np.abs(away) > 1e-12
        if moving.any():
            share = min(share, float((np.maximum(room[moving], 0.0) / np.abs(away[moving])).min()))
        for limit, safe, wild in zip(
            (self._longest_m, self._change_m, self._jerk_m),
            self._differences(self._plan),
            self._differences(candidate),
            strict=True,
        ):
            share = min(share, _share_within(limit, safe, wild))
        return share

    def _accept(self, plan: np.ndarray) -> np.ndarray:
        """Command the first position of `plan`; the rest of it is how to brake from there."""
        assert self._past is not None
        self._past = np.vstack((self._past[1:], plan[:1]))
        self._plan = np.vstack((plan[1:], plan[-1:]))
        return self._command()

    def _command(self) -> np.ndarray:
        pose = self.pose
        assert pose is not None
        return pose

    def _inside(self, positions: np.ndarray) -> bool:
        return bool((positions >= self._low).all() and (positions <= self._high).all())

    def _differences(self, plan: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Steps, their changes and the changes' changes that `plan` makes after the past, coming to rest included."""
        assert self._past is not None
        positions = np.concatenate((self._past, plan, plan[-1:], plan[-1:], plan[-1:]))
        steps = positions[1:] - positions[:-1]
        changes = steps[1:] - steps[:-1]
        return steps[2:], changes[1:], changes[1:] - changes[:-1]

    def _fits(self, plan: np.ndarray) -> bool:
        """Does the motion of the past and then `plan` keep all limits, and come to rest?"""
        assert self._past is not None
        before = np.concatenate((self._past[-1:], plan[:-1]))
        if not (
            (plan >= np.minimum(self._low, before) - SLACK_M).all() and (plan <= np.maximum(self._high, before) + SLACK_M).all()
        ):
            return False
        limits = (self._longest_m, self._change_m, self._jerk_m)
        return all(_longest(rows) <= limit + SLACK_M for limit, rows in zip(limits, self._differences(plan), strict=True))

    def _braking_steps(self, length_m: float) -> int:
        """Periods in which a smooth brake from steps of `length_m` keeps acceleration and jerk (of a smoothstep of n periods the
        largest slope is 1.5/n, the largest curvature 6/n^2)."""
        return max(2, int(np.ceil(max(1.5 * length_m / self._change_m, np.sqrt(6.0 * length_m / self._jerk_m)))) + 1)

    def _decay(self, length_m: float) -> np.ndarray:
        """How far the motion goes on while it brakes, after each period, in steps ``(horizon,)``; the first is 0."""
        count = self._braking_steps(length_m)
        phase = np.clip(np.arange(self._horizon) / count, 0.0, 1.0)
        speed = 1.0 - phase**2 * (3.0 - 2.0 * phase)
        return np.concatenate(([0.0], np.cumsum(speed[1:])))

    def _turn(self, wanted: np.ndarray, reasons: list[str]) -> None:
        """Turn the command towards the rotation `wanted`, no faster than allowed and within the cone."""
        wanted = _orthonormal(wanted)
        allowed = max(self.limits.max_tilt_rad, tilt_rad(self._rotation))
        excess = tilt_rad(wanted) - allowed
        if excess > 1e-9:
            reasons.append(f"tilt limited to {allowed:.2f} rad")
            axis = np.cross(wanted[:, 2], DOWN)
            length = float(np.linalg.norm(axis))
            axis = axis / length if length > 1e-9 else np.array([1.0, 0.0, 0.0])
            wanted = frames.rotation_from_vector(axis * excess) @ wanted
        angle = frames.angle_between(self._rotation, wanted)
        longest = self.limits.max_angular_velocity_rad_s * self._period_s
        share = 1.0
        if angle > longest:
            reasons.append(f"turn limited from {angle:.2f} to {longest:.2f} rad per step")
            share = longest / angle
        for _ in range(_HALVINGS):
            turned = frames.turned_towards(self._rotation, wanted, share)
            if tilt_rad(turned) <= allowed + 1e-9:
                self._rotation = _orthonormal(turned)
                return
            share /= 2  # the way between two poses in the cone can bulge out of it

    # --- what is measured -----------------------------------------------------------------------------------------------

    def _force_reasons(self, wrench: np.ndarray | None) -> tuple[str, ...]:
        if wrench is None:
            return ()
        force, torque = np.linalg.norm(wrench[:3]), np.linalg.norm(wrench[3:])
        reasons = []
        if force > self.limits.max_force_n:
            reasons.append(f"force at the tool is {force:.0f} N, limit {self.limits.max_force_n:g} N")
        if torque > self.limits.max_torque_nm:
            reasons.append(f"torque at the tool is {torque:.1f} N m, limit {self.limits.max_torque_nm:g} N m")
        return tuple(reasons)

    def _tight_joint(self, joints_rad: np.ndarray | None) -> str:
        """A sentence about a singularity that is near, or the joint that is farthest beyond its margin, or ``""``."""
        if joints_rad is None or not self.limits.joint_min_rad:
            return ""
        least = self.limits.min_singularity_margin_m
        if least and (margin := singularity_margin(joints_rad)) < least:
            return f"the arm is near a singularity (margin {margin:.3f}, least {least:g}): only the way back is open"
        room = np.minimum(joints_rad - np.array(self.limits.joint_min_rad), np.array(self.limits.joint_max_rad) - joints_rad)
        worst = int(np.argmin(room))
        if room[worst] >= self.limits.joint_margin_rad:
            return ""
        return f"joint {worst + 1} is {room[worst]:.2f} rad from its limit"


def _known(values: np.ndarray | None, count: int) -> bool:
    return values is not None and np.shape(values) == (count,) and bool(np.isfinite(values).all())


def tilt_rad(rotation: np.ndarray) -> float:
    """Angle between the tool's z axis and straight down, rad."""
    axis = rotation[:, 2]
    return float(np.arctan2(np.linalg.norm(np.cross(axis, DOWN)), axis @ DOWN))


def _share_within(limit: float, safe: np.ndarray, wild: np.ndarray) -> float:
    """The largest share in [0, 1] such that no row of ``safe + share (wild - safe)`` is longer than `limit`."""
    away = wild - safe
    square = (away * away).sum(axis=1)
    along = (safe * away).sum(axis=1)
    left = np.maximum(limit**2 - (safe * safe).sum(axis=1), 0.0)
    moving = square > 1e-24
    if not moving.any():
        return 1.0
    square, along, left = square[moving], along[moving], left[moving]
    return float(np.clip(((-along + np.sqrt(along**2 + square * left)) / square).min(), 0.0, 1.0))


def _longest(vectors: np.ndarray) -> float:
    return float(np.sqrt((vectors**2).sum(axis=1).max()))


def _orthonormal(rotation: np.ndarray) -> np.ndarray:
    """The nearest rotation, so that neither a careless caller nor rounding over hours makes a pose that is not rigid."""
    left, _, right = np.linalg.svd(np.clip(rotation, -10.0, 10.0))
    return left @ np.diag([1.0, 1.0, np.linalg.det(left @ right)]) @ right
