"""What a Go1's safety node decides: which velocity, or which motor commands, go to the robot now. Plain times, no ROS, no socket.

It runs outside the process that learns and acts. With the high level it sends a velocity all the time, zero when nobody asks for
one, because the vendor driver's own watchdog can miss; with the low level it streams motor commands and, when in doubt, lets the
legs go against damping, so that the robot sinks and does not fall.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from actor.robots.go1_packets import MotorCommand
from actor.safety_gate import BEAT_LIMIT_S, CALM_S, LOOP_LIMIT_S
from etude.config.go1 import SERVO, Go1Config, JointLimits, VelocityLimits
from etude.specs import digest

STANCE_RAD = np.tile([0.0, 0.9, -1.8], 4)
"""Joint targets of action zero, as in simulation."""
FOLDED_RAD = np.tile([0.0, 1.25, -2.68], 4)
"""The robot lies on its belly."""
COMMAND_LIMIT_S = 0.3
"""A command that is older counts for nothing."""
HOLD_S = 0.25
"""With nobody alive behind it, the robot stands on its last targets so long, then its legs are let go."""
BEYOND_RAD = 0.15
"""A joint so far beyond its limit is no rounding: something is bent, or the joints are numbered otherwise."""
ARRIVED_RAD = 0.25
"""Legs that carry weight stay a little short of their targets."""
LONGEST_STEP_S = 0.02
LET_GO = "the legs are let go: look, then make it stand up (`etude robot recover`)"
JOINTS = tuple(f"{leg} {part}" for leg in ("FR", "FL", "RR", "RL") for part in ("hip", "thigh", "calf"))


def limits_digest(config: Go1Config) -> str:
    """By which driver and safety node know that they keep the same limits."""
    return digest(f"{config.level} {config.max_tilt_rad} {config.velocity.model_dump_json()} {config.joints.model_dump_json()}")


@dataclass(frozen=True)
class Body:
    """What is known of the robot. Joint values are None with the high level, which knows only the trunk."""

    roll_rad: float
    pitch_rad: float
    joints_rad: np.ndarray | None = None
    speeds_rad_s: np.ndarray | None = None
    hottest_c: float = 0.0


class SignsOfLife:
    """`beat` of the actor and `state` of the robot; `missing` says what is late. Times are monotonic seconds."""

    def __init__(self, limits: str, max_state_age_s: float) -> None:
        self._limits, self._max_state_age_s = limits, max_state_age_s
        self._beat_s = self._state_s = self._bad_s = -math.inf
        self._loop_age_s, self._beat_limits, self._bad = 0.0, "", ""
        self.publishers = 1

    def beat(self, now_s: float, loop_age_s: float, limits: str) -> None:
        self._beat_s, self._loop_age_s, self._beat_limits = now_s, loop_age_s, limits

    def state(self, now_s: float) -> None:
        self._state_s = now_s

    def missing(self, now_s: float) -> tuple[str, ...]:
        found = []
        if not now_s - self._beat_s <= BEAT_LIMIT_S:
            found.append("the actor was never heard" if self._beat_s == -math.inf else "the actor's heartbeat is late")
        elif self._loop_age_s > LOOP_LIMIT_S:
            found.append("the actor lives, but its control loop hangs")
        elif self._beat_limits != self._limits:
            found.append("the actor keeps other limits than the safety node: start both with the same run folder")
        if not now_s - self._state_s <= self._max_state_age_s:
            found.append("the robot's state was never heard" if self._state_s == -math.inf else "the robot's state is late")
        if self.publishers > 1:
            found.append(f"{self.publishers} programs send commands; there must be one")
        if found:
            self._bad, self._bad_s = found[0], now_s
        elif now_s - self._bad_s < CALM_S:
            found.append(self._bad)  # the reason is gone, but only just
        return tuple(found)


def tilt_problem(body: Body, max_tilt_rad: float) -> str:
    """A sentence for a trunk that is tilted too far, or whose attitude is not finite, else ``""``."""
    tilt = float(np.max(np.abs([body.roll_rad, body.pitch_rad])))  # NaN when either is
    if tilt <= max_tilt_rad:
        return ""
    return f"the trunk is tilted by {tilt:.2f} rad, limit {max_tilt_rad:g} rad"


class VelocityGate:
    """The velocity of the trunk (forward, left, turn left) that is sent now, zero in every doubt."""

    def __init__(self, config: Go1Config) -> None:
        self.life = SignsOfLife(limits_digest(config), config.max_state_age_s)
        self._limits: VelocityLimits = config.velocity
        self._max_tilt_rad = config.max_tilt_rad
        self._wanted, self._wanted_s = np.zeros(3), -math.inf
        self._body: Body | None = None
        self._now, self._now_s = np.zeros(3), -math.inf
        self.passed = self.refused = 0

    def want(self, now_s: float, velocity: np.ndarray) -> None:
        """The actor's wish, ``(3,)``; what is not finite counts as none."""
        if np.shape(velocity) != (3,) or not np.isfinite(velocity).all():
            self.refused += 1
            self._wanted_s = -math.inf
            return
        self._wanted, self._wanted_s = np.asarray(velocity, float), now_s

    def state(self, now_s: float, body: Body) -> None:
        self.life.state(now_s)
        self._body = body

    def reasons(self, now_s: float) -> tuple[str, ...]:
        """Why the robot stands; empty when the actor's wishes count."""
        tilt = tilt_problem(self._body, self._max_tilt_rad) if self._body is not None else ""
        return (*self.life.missing(now_s), *([tilt] if tilt else []))

    def next(self, now_s: float) -> np.ndarray:
        step_s = float(np.clip(now_s - self._now_s, 0.0, 0.1))
        self._now_s = now_s
        if self.reasons(now_s):
            self._now = np.zeros(3)
            return self._now.copy()
        fresh = now_s - self._wanted_s <= COMMAND_LIMIT_S
        self.passed += fresh
        largest = np.array(self._limits.largest)
        wanted = np.clip(self._wanted, -largest, largest) if fresh else np.zeros(3)
        gain = self._limits.max_acceleration_m_s2 * step_s
        turn = self._limits.max_turn_acceleration_rad_s2 * step_s
        self._now = self._now + np.clip(wanted - self._now, [-gain, -gain, -turn], [gain, gain, turn])
        return self._now.copy()


class JointGate:
    """Motor commands, one per packet. It begins with the legs let go (`limp`); `stand_up` moves slowly to the stance (`rising`),
    then the actor's joint targets count (`driving`); `lie_down` folds the legs (`lowering`) and lets them go.

    Promises, from any wishes and states: targets are finite and inside the joint limits; stiffness times their distance from the
    joints never exceeds the largest torque; where the body is in danger there is no stiffness at all.
    """

    def __init__(self, config: Go1Config) -> None:
        self.life = SignsOfLife(limits_digest(config), config.max_state_age_s)
        self._limits: JointLimits = config.joints
        self._max_tilt_rad = config.max_tilt_rad
        self._low = np.array(self._limits.joint_min_rad) + self._limits.joint_margin_rad
        self._high = np.array(self._limits.joint_max_rad) - self._limits.joint_margin_rad
        self._wanted: np.ndarray | None = None
        self._body: Body | None = None
        self._target = STANCE_RAD.copy()
        self._missing_since_s: float | None = None
        self._now_s = -math.inf
        self._latched = ""
        self.phase = "limp"
        self.passed = self.refused = 0

    # --- in -----------------------------------------------------------------------------------------------------------

    def want(self, target_rad: np.ndarray) -> None:
        """The actor's joint targets ``(12,)``; they count while `driving`."""
        if np.shape(target_rad) != (SERVO,) or not np.isfinite(target_rad).all():
            self.refused += 1
            return
        if self.phase == "driving":
            self.passed += 1
            self._wanted = np.asarray(target_rad, float)

    def state(self, now_s: float, body: Body) -> None:
        self.life.state(now_s)
        self._body = body
        danger = self._danger(body)
        if danger and self.phase != "limp":
            self._latched, self.phase = danger, "limp"

    def stand_up(self, now_s: float) -> str:
        """Begin to get up; ``""``, or why not."""
        refusal = "; ".join(self._blocked(now_s))
        if refusal:
            return refusal
        if self.phase in ("rising", "driving"):
            return ""
        assert self._body is not None and self._body.joints_rad is not None
        self._latched, self.phase = "", "rising"
        self._target = np.clip(self._body.joints_rad, self._low, self._high)
        return ""

    def lie_down(self) -> None:
        if self.phase in ("rising", "driving"):
            self.phase = "lowering"

    # --- out ----------------------------------------------------------------------------------------------------------

    def reasons(self, now_s: float) -> tuple[str, ...]:
        """Why the actor's targets do not count; empty while they do."""
        found = list(self._blocked(now_s))
        if self._latched and self._latched not in found:
            found.append(self._latched)
        if self.phase == "limp":
            found.append(LET_GO)
        elif self.phase != "driving":
            found.append("the robot is getting up" if self.phase == "rising" else "the robot is lying down")
        return tuple(found)

    def next(self, now_s: float) -> MotorCommand:
        step_s = float(np.clip(now_s - self._now_s, 0.0, LONGEST_STEP_S))
        self._now_s = now_s
        missing = self.life.missing(now_s)
        if not missing:
            self._missing_since_s = None
        elif self._missing_since_s is None:
            self._missing_since_s = now_s
        if missing and self.phase != "limp" and now_s - (self._missing_since_s or now_s) > HOLD_S:
            self._latched, self.phase = missing[0], "limp"
        body = self._body
        if self.phase == "limp" or body is None or body.joints_rad is None:
            return self._damped()
        if not missing:  # else it stands on its last targets for a moment
            self._move(step_s, body.joints_rad)
        lead = self._limits.max_torque_nm / self._limits.stiffness_nm_rad
        target = np.clip(self._target, body.joints_rad - lead, body.joints_rad + lead)
        stiffness, damping = self._limits.stiffness_nm_rad, self._limits.damping_nm_s_rad
        return MotorCommand(target, np.full(SERVO, stiffness), np.full(SERVO, damping))

    def _move(self, step_s: float, joints_rad: np.ndarray) -> None:
        goal = {"rising": STANCE_RAD, "lowering": FOLDED_RAD}.get(self.phase)
        fast = self.phase == "driving"
        if goal is None:
            goal = STANCE_RAD if self._wanted is None else self._wanted
        longest = (self._limits.max_joint_velocity_rad_s if fast else self._limits.rise_velocity_rad_s) * step_s
        goal = np.clip(goal, self._low, self._high)
        self._target = self._target + np.clip(goal - self._target, -longest, longest)
        if fast or np.abs(self._target - goal).max() > 1e-6:
            return
        if self.phase == "lowering":
            self.phase = "limp"
        elif np.abs(joints_rad - goal).max() < ARRIVED_RAD:
            self.phase, self._wanted = "driving", None

    def _damped(self) -> MotorCommand:
        known = self._body.joints_rad if self._body is not None else None
        here = STANCE_RAD  # without stiffness it means nothing
        if known is not None and np.isfinite(known).all():
            here = np.clip(known, self._low, self._high)
        return MotorCommand(here, np.zeros(SERVO), np.full(SERVO, self._limits.stop_damping_nm_s_rad))

    # --- judging ------------------------------------------------------------------------------------------------------

    def _blocked(self, now_s: float) -> tuple[str, ...]:
        danger = self._danger(self._body) if self._body is not None else ""
        return (*self.life.missing(now_s), *([danger] if danger else []))

    def _danger(self, body: Body) -> str:
        """A sentence when the legs must be let go now, else ``""``."""
        tilt = tilt_problem(body, self._max_tilt_rad)
        if tilt:
            return tilt
        joints, speeds, limits = body.joints_rad, body.speeds_rad_s, self._limits
        if joints is None or speeds is None or not (np.isfinite(joints).all() and np.isfinite(speeds).all()):
            return "the robot's joints are unknown"
        beyond = np.maximum(np.array(limits.joint_min_rad) - joints, joints - np.array(limits.joint_max_rad))
        worst = int(np.argmax(beyond))
        if beyond[worst] > BEYOND_RAD:
            return f"{JOINTS[worst]} is {beyond[worst]:.2f} rad beyond its limit"
        fastest = int(np.argmax(np.abs(speeds)))
        if abs(speeds[fastest]) > limits.fault_joint_velocity_rad_s:
            return (
                f"{JOINTS[fastest]} turns at {abs(speeds[fastest]):.0f} rad/s, limit {limits.fault_joint_velocity_rad_s:g} rad/s"
            )
        if not body.hottest_c <= limits.max_temperature_c:
            return f"a motor has {body.hottest_c:.0f} °C, limit {limits.max_temperature_c:g} °C"
        return ""
