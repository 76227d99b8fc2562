"""The step: the one unit on the wire, in the outbox, in the store and in replay (RLDS semantics).

A **segment** is a run of steps under one policy and phase; within it a person may take over and give back, and each step says
who acted. Step ``t`` holds the observation ``o_t``, the action ``a_t`` that was executed on it, and the reward ``r_t`` earned by
reaching ``o_{t+1}``. The last step of a segment (`is_last`) holds only an observation: its action is zeros and its reward 0.
`is_terminal` is set on a last step whose observation ends the task (success, when the recipe says so); a time-out is `is_last`
and not `is_terminal`, so values bootstrap through it.
A transition is formed when sampled: ``(o_t, a_t, r_t, o_{t+1}, terminal = is_terminal_{t+1})`` for every step that is not last.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np

from etude.specs import Observation

UNKNOWN = -1
"""Value of `Step.success` and `Step.success_truth` when nobody judged or the truth is not known (real robots)."""


class Source(IntEnum):
    """Who acted. Part of the wire and disk format: never renumber."""

    POLICY = 0
    HUMAN = 1
    SCRIPTED = 2


@dataclass(frozen=True, slots=True)
class Step:
    """One control step. See the module docstring for the RLDS meaning of reward and flags.

    Attributes:
        actor_id: identity of the outbox that numbered this step; ``(actor_id, sequence)`` is unique for ever.
        sequence: 1, 2, 3, … per actor_id without gaps.
        segment: 1, 2, 3, … per actor_id.
        index: 0, 1, 2, … within the segment.
        stamp_ns: wall-clock time of the observation, nanoseconds since the epoch.
        instruction: the phase's goal in words; where a person's words were carried out by `action`, those words.
        observation: see `etude.specs.Observation`.
        action: float32 ``(d,)`` in [-1, 1], as executed after the safety filter.
        policy_action: float32 ``(d,)``, what the policy proposed (equal to `action` if nothing changed it).
        reward: reward of the transition that this step begins.
        success: label of *this observation* by `judged_by`: 1, 0 or UNKNOWN.
        success_probability: the judge's probability for this observation, NaN when there is none.
        success_truth: the simulator's ground truth for this observation, 1, 0 or UNKNOWN; for logging, never for learning
            unless the recipe's reward is ``environment``.
        judged_by: e.g. ``"environment"``, ``"cnn:3f2a…"``, ``"human"``; empty when nobody judged.
        source: who acted. Where a person did, `policy_action` is what the policy proposed instead.
        policy_version: version of the weights that proposed `policy_action`; 0 when no policy was asked.
    """

    actor_id: str
    sequence: int
    segment: int
    index: int
    stamp_ns: int
    phase: str
    task: str
    instruction: str
    observation: Observation
    action: np.ndarray
    policy_action: np.ndarray
    reward: float
    is_first: bool
    is_last: bool
    is_terminal: bool
    source: Source
    policy_version: int
    success: int = UNKNOWN
    success_probability: float = float("nan")
    success_truth: int = UNKNOWN
    judged_by: str = ""
