"""Turns ticks of the control loop into steps with RLDS flags (etude/step.py): one tick behind, because the reward of a step
and whether it was the last one are known only when the next observation is judged.

Also used for demonstrations, so that practice and demonstrations mean the same by every flag.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from actor.scoring import Verdict
from etude.robot import Reading
from etude.specs import ActionSpec
from etude.step import Source, Step


class SegmentRecorder:
    """Holds the newest, unfinished step of the open segment and emits it when its successor is known.

    Emitted steps carry segment and index; actor_id and sequence are given by the outbox (or by the caller of `emit`).
    """

    def __init__(
        self, action_spec: ActionSpec, task: str, instructions: dict[str, str], emit: Callable[[Step], None], first_segment: int
    ):
        self._spec = action_spec
        self._task = task
        self._instructions = instructions
        self._emit = emit
        self._next_segment = first_segment
        self._step: Step | None = None
        self._acted = False
        self.corrected = False
        """Whether a person acted in the open segment, or in the last one when none is open."""

    @property
    def open(self) -> bool:
        return self._step is not None

    @property
    def segment(self) -> int:
        """Number of the open segment, or of the next one to open."""
        return self._next_segment

    @property
    def index(self) -> int:
        return 0 if self._step is None else self._step.index

    def begin(self, reading: Reading, verdict: Verdict, phase: str, judged_by: str) -> None:
        """Open a segment on this observation."""
        if self._step is not None:
            raise RuntimeError(f"segment {self.segment} is still open")
        self._step = self._make(reading, verdict, phase, judged_by, index=0)
        self._acted = self.corrected = False

    def acted(
        self, action: np.ndarray, policy_action: np.ndarray, source: Source, policy_version: int, instruction: str = ""
    ) -> None:
        """Note what was executed on the newest observation, and what the policy proposed.

        `instruction`: words of a person that the action carries out; they are the step's own instruction, instead of the goal.

        A stored step fits its specification: a proposal out of range is clipped, and replaced by what was executed when it is not
        finite or of another shape.
        """
        policy_action = np.asarray(policy_action, np.float32)
        storable = policy_action.shape == action.shape and bool(np.isfinite(policy_action).all())
        policy_action = np.clip(policy_action, -1.0, 1.0) if storable else action
        assert self._step is not None
        self._step = replace(
            self._step,
            action=action,
            policy_action=policy_action,
            source=source,
            policy_version=policy_version,
            instruction=instruction or self._instructions[self._step.phase],
        )
        self._acted = True
        self.corrected |= source is Source.HUMAN

    def observe(self, reading: Reading, verdict: Verdict, reward: float, *, last: bool, terminal: bool) -> None:
        """The observation that the last action led to: emits the previous step with `reward` and, when `last`, this one too."""
        previous = self._step
        assert previous is not None and self._acted
        self._emit(replace(previous, reward=float(reward)))
        step = self._make(reading, verdict, previous.phase, previous.judged_by, index=previous.index + 1)
        if last:
            # who acted and with which version still describes the segment
            self._emit(
                replace(step, is_last=True, is_terminal=terminal, source=previous.source, policy_version=previous.policy_version)
            )
            self._close()
        else:
            self._step, self._acted = step, False

    def cut(self) -> None:
        """End the open segment without a further observation (pause, stop, stale camera).

        The newest step becomes the last one, not terminal; its action, whose effect nobody saw, is dropped. A segment in
        which nothing was emitted yet leaves no trace.
        """
        if self._step is None:
            return
        if self._step.index > 0:
            zeros = self._spec.zeros()
            goal = self._instructions[self._step.phase]
            self._emit(replace(self._step, is_last=True, action=zeros, policy_action=zeros, instruction=goal))
            self._close()
        else:
            self._step = None

    def _close(self) -> None:
        self._step = None
        self._next_segment += 1

    def _make(self, reading: Reading, verdict: Verdict, phase: str, judged_by: str, index: int) -> Step:
        zeros = self._spec.zeros()
        age_s = max(0.0, time.monotonic() - reading.stamp_s)
        return Step(
            actor_id="",
            sequence=0,
            segment=self._next_segment,
            index=index,
            stamp_ns=time.time_ns() - int(age_s * 1e9),
            phase=phase,
            task=self._task,
            instruction=self._instructions[phase],
            observation=reading.observation,
            action=zeros,
            policy_action=zeros,
            reward=0.0,
            is_first=index == 0,
            is_last=False,
            is_terminal=False,
            source=Source.POLICY,
            policy_version=0,
            success=verdict.label,
            success_probability=verdict.probability,
            success_truth=verdict.truth,
            judged_by=judged_by,
        )
