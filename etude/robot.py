"""What the control loop asks of a robot, and what scores an observation: two small protocols and one reading.

Robots live in `actor/robots`, judges in `reward_classifiers`; the control loop knows only these types, so that neither
package imports the other.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np

from etude.specs import ActionSpec, Observation, ObservationSpec


@dataclass(frozen=True, slots=True)
class Reading:
    """The newest complete observation of a robot.

    Attributes:
        observation: arrays as in `ObservationSpec`.
        stamp_s: ``time.monotonic()`` of the oldest part (state or image) in it, seconds; staleness is judged by it.
        tcp_position_m: tool centre point, base frame, metres ``(3,)``; None for a robot without one.
        faults: short names of what the robot itself reports as wrong, e.g. ``("reflex",)``; any fault means hold.
        success_truth: phase -> ground truth, simulators only, else empty.
        object_lost: ground truth of an irreversible state (the object left the table), simulators only.
        gripper_as_it_is: the action of the gripper that leaves it as it is while none was commanded yet: +1 where it starts open,
            what a real one ignores where it may hold something since before a restart.
        episode_over: the environment ended its own episode with this observation (Gymnasium); actions do nothing until
            `Robot.hard_reset`, which such a robot must have.
    """

    observation: Observation
    stamp_s: float
    tcp_position_m: np.ndarray | None = None
    faults: tuple[str, ...] = ()
    success_truth: dict[str, bool] | None = None
    object_lost: bool = False
    episode_over: bool = False
    gripper_as_it_is: float = 1.0


class Robot(Protocol):
    """A robot, simulated or real. Methods return at once: a robot that blocks has a thread of its own.

    Actions are normalised (`ActionSpec`) and have already passed the safety filter.
    `advances_on_act` is True for a simulation that moves one control period per `act` (it may then run faster than real time).
    """

    observation_spec: ObservationSpec
    action_spec: ActionSpec
    control_rate_hz: float
    advances_on_act: bool

    def read(self) -> Reading: ...

    def act(self, action: np.ndarray) -> None: ...

    def hold(self) -> None:
        """Stay where it is: the commanded target becomes the current pose."""
        ...

    def expert_action(self, phase: str, rng: np.random.Generator) -> np.ndarray:
        """The scripted expert's normalised action for the current state, noise included. Raises NotImplementedError on robots
        without one."""
        ...

    def hard_reset(self, phase: str, rng: np.random.Generator) -> None:
        """Put the scene into a random start state of `phase`. Only for evaluation, answered help requests and environments that
        ended their own episode; real robots ask a person."""
        ...

    def begin_phase(self, phase: str, rng: np.random.Generator) -> bool:
        """An attempt of `phase` is about to begin, without a reset. An environment that shows its goal in the observation changes
        it now and says so with True; for others there is nothing to do."""
        ...

    def render(self, camera: str, height: int, width: int) -> np.ndarray:
        """A picture for a person, uint8 ``(height, width, 3)``."""
        ...

    def close(self) -> None: ...


class Judge(Protocol):
    """Scores success from an observation. `name` goes into `Step.judged_by` and names the version."""

    name: str

    def probability(self, observation: Observation, phase: str) -> float:
        """P(the goal of `phase` is reached in `observation`), in [0, 1]; NaN: no answer about this one."""
        ...

    def doubt(self, observation: Observation, phase: str) -> float:
        """How far its members disagree about `observation`: standard deviation of their probabilities, 0 to 0.5; 0 with one."""
        ...

    def threshold(self, phase: str) -> float:
        """Probability at and above which a frame counts as success (before hysteresis)."""
        ...

    def forget(self) -> None:
        """Another attempt begins: what was shown before counts for nothing from now on."""
        ...


@runtime_checkable
class CountingJudge(Judge, Protocol):
    """A judge that may miss frames, and counts."""

    def counts(self) -> dict[str, float]:
        """Answers, misses and latencies by name, units included."""
        ...
