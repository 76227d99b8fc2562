"""Operators' commands on their way into the control loop: whose counts, and which action it means.

Separate from the loop, which asks once per turn, and from the authority machine, which knows neither threads nor actions.
"""

from __future__ import annotations

from collections import deque

import numpy as np

from actor import authority, practice
from actor.authority import Authority, Holder
from actor.teleop.command import TeleopCommand, action_of, refusal
from etude.robot import Reading
from etude.specs import ActionSpec

QUEUE = 256
"""Commands kept between two turns of the loop, at most; the oldest are dropped."""


class Takeover:
    """Owned by the loop's thread, but for `put`, `hand_back` and `authority`, which any thread may use."""

    def __init__(self, spec: ActionSpec, step_s: float) -> None:
        self._spec, self._step_s = spec, step_s
        self.refusal = refusal(spec)
        if step_s >= authority.STALE_AFTER_S:
            self.refusal = f"a control step of {step_s:g} s is longer than a command may be old ({authority.STALE_AFTER_S:g} s)"
        self.authority = Authority()
        self._events: deque[TeleopCommand | authority.Event] = deque(maxlen=QUEUE)
        self._command: TeleopCommand | None = None
        self._attempting = False

    def put(self, command: TeleopCommand) -> str:
        """Returns why this robot cannot be taken over; empty when it can."""
        if not self.refusal:
            self._events.append(command)
        return self.refusal

    def hand_back(self) -> None:
        """A person's word to practise, where the operator is gone."""
        self._events.append(authority.HandBack())

    def turn(self, state: practice.PracticeState, now_s: float) -> practice.Event | None:
        """Hear what was said since the last turn; what the practice machine must be told, if anything."""
        before = self.authority
        if state.stopped != before.stopped:
            self._advance(authority.Stop() if state.stopped else authority.Clear())
        if self._attempting and not state.attempting:
            self._advance(authority.EndWords())
        self._attempting = state.attempting
        while self._events:
            said = self._events.popleft()
            if isinstance(said, TeleopCommand):
                self._hear(said, state)
            else:
                self._advance(said)
        self._advance(authority.Tick(now_s))
        if self.authority.taken_over == state.takeover:
            return None
        return practice.Takeover() if self.authority.taken_over else practice.Release()

    def who_moves(self, practising: bool, now_s: float) -> Holder:
        """See `actor.authority.who_moves`."""
        return authority.who_moves(self.authority, practising, now_s, self._step_s)

    def action(self, previous: np.ndarray | None, reading: Reading) -> np.ndarray:
        """The operator's action, normalised, not yet filtered; `previous` was executed last, None: nothing yet."""
        assert self._command is not None
        return action_of(self._command, self._spec, self._step_s, previous, reading.gripper_as_it_is)

    @property
    def instruction(self) -> str:
        """The words that the operator's newest command carries out; empty when it carries out none."""
        return self._command.instruction if self._command is not None else ""

    def reasons(self) -> tuple[str, ...]:
        """Why the robot holds although an operator has taken over."""
        if not self.authority.taken_over:
            return ()
        if self.authority.holder is Holder.HOLD:
            return (f"the command of {self.authority.operator} was lost: take over again, or resume practice",)
        return (f"{self.authority.operator} has control and does not move it",)

    def _hear(self, command: TeleopCommand, state: practice.PracticeState) -> None:
        finite = np.isfinite((*command.linear_m_s, *command.angular_rad_s)).all()
        if not finite or (state.evaluating and command.takeover):
            return
        words = bool(command.instruction)
        self._advance(authority.Command(command.operator, command.at_s, command.takeover, command.deadman, words))
        if self.authority.operator == command.operator and self.authority.heard_s == command.at_s:
            self._command = command

    def _advance(self, event: authority.Event) -> None:
        self.authority = authority.advance(self.authority, event)
