"""Whose word moves the robot: the policy's, one operator's, or nobody's. One authority at a time, as a pure function of events.

The practice machine (`actor.practice`) says what the policy practises and when; this machine says whether a person has taken over
from it. It knows no robot, no thread and no clock, only the times that events carry, so every rule can be tested by itself.

A person takes over with a command that asks for it and gives the robot back with one that does not. A command that is not
renewed in time leaves the robot holding, never the policy acting: only an operator who takes over (again), or a person's word to
practise ends that. Words are the weakest operator, because nobody holds a switch while they are carried out: whoever takes over
by hand has the robot at once, and a pause ends them. The software stop is above all and latched. Who held the robot when it was
stopped, or asks for it meanwhile, must let go before taking over again, so that clearing a stop moves nothing.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from enum import StrEnum

STALE_AFTER_S = 0.3
"""A command moves the robot for at most this long after it was given."""


class Holder(StrEnum):
    POLICY = "policy"
    HUMAN = "human"
    HOLD = "hold"


@dataclass(frozen=True)
class Authority:
    """Who may move the robot.

    Attributes:
        holder: HOLD after a stop, and when the operator's command was lost.
        operator: who has taken over, or had when the command was lost; empty otherwise.
        heard_s: monotonic time of the operator's newest command, seconds.
        deadman: the newest command's: the operator holds the switch, so the robot may move.
        words: the newest command's: it carries out words.
        stopped: the software stop is on.
        must_let_go: operators whose wish to take over is not heard before they have let go once.
    """

    holder: Holder = Holder.POLICY
    operator: str = ""
    heard_s: float = -math.inf
    deadman: bool = False
    words: bool = False
    stopped: bool = False
    must_let_go: frozenset[str] = frozenset()

    @property
    def taken_over(self) -> bool:
        """An operator has the robot, or had it when the command was lost."""
        return bool(self.operator)


@dataclass(frozen=True)
class Command:
    """What an operator said at monotonic time `at_s`: to have the robot (`takeover`), and to let it move now (`deadman`); with
    `words` it carries out an instruction, and nobody's hands are there."""

    operator: str
    at_s: float
    takeover: bool
    deadman: bool
    words: bool = False


@dataclass(frozen=True)
class Tick:
    """Time passes."""

    now_s: float


@dataclass(frozen=True)
class Stop:
    """The software stop."""


@dataclass(frozen=True)
class Clear:
    """A person lifts the software stop."""


@dataclass(frozen=True)
class HandBack:
    """A person's word to go on practising. An operator who is there is not overruled by it."""


@dataclass(frozen=True)
class EndWords:
    """Practice pauses: what is left of words does not move the robot. Hands do."""


Event = Command | Tick | Stop | Clear | HandBack | EndWords


def advance(authority: Authority, event: Event) -> Authority:
    """The authority after `event`. Events may come late or twice."""
    match event:
        case Command():
            return _hear(authority, event)
        case Tick(now_s):
            lost = authority.holder is Holder.HUMAN and not now_s - authority.heard_s <= STALE_AFTER_S
            return replace(authority, holder=Holder.HOLD, deadman=False) if lost else authority
        case Stop():
            held = {authority.operator} if authority.taken_over else set()
            return Authority(Holder.HOLD, stopped=True, must_let_go=authority.must_let_go | held)
        case Clear():
            return Authority(must_let_go=authority.must_let_go) if authority.stopped else authority
        case HandBack():
            if authority.stopped or authority.holder is Holder.HUMAN:
                return authority
            held = {authority.operator} if authority.taken_over else set()
            return Authority(must_let_go=authority.must_let_go | held)
        case EndWords():
            if authority.holder is not Holder.HUMAN or not authority.words:
                return authority
            return Authority(must_let_go=authority.must_let_go | {authority.operator})
    raise TypeError(f"not an event of the authority: {event!r}")


def _hear(authority: Authority, command: Command) -> Authority:
    if not command.takeover:
        waiting = authority.must_let_go - {command.operator}
        # a device that comes back after a loss knows of no button, and that is nobody's word to let the policy go on
        if authority.stopped or authority.holder is Holder.HOLD or command.operator != authority.operator:
            return replace(authority, must_let_go=waiting)
        return Authority(must_let_go=waiting)
    if authority.stopped:
        return replace(authority, must_let_go=authority.must_let_go | {command.operator})
    if command.operator in authority.must_let_go:
        return authority
    waiting = authority.must_let_go
    if authority.holder is Holder.HUMAN and command.operator != authority.operator:
        if not authority.words or command.words:
            return authority
        waiting |= {authority.operator}
    if command.operator == authority.operator and command.at_s < authority.heard_s:
        return authority  # overtaken on its way by a newer one
    return Authority(Holder.HUMAN, command.operator, command.at_s, command.deadman, command.words, must_let_go=waiting)


def who_moves(authority: Authority, practising: bool, now_s: float, step_s: float) -> Holder:
    """Who moves the robot in the control step of `step_s` seconds that begins now. HOLD: nobody, it stands still.

    A command counts only when it is still fresh at the end of that step. `practising`: the practice machine lets the policy act.
    """
    if authority.stopped or authority.holder is Holder.HOLD:
        return Holder.HOLD
    if authority.holder is Holder.HUMAN:
        fresh = now_s + step_s - authority.heard_s <= STALE_AFTER_S
        return Holder.HUMAN if fresh and authority.deadman else Holder.HOLD
    return Holder.POLICY if practising else Holder.HOLD
