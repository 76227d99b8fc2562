"""The practice machine: who practises what, when to wait, when to hold, as a pure function of (state, event).

It knows no robot, no clock and no thread, so every rule about phases, pauses, stops and help can be tested by itself.
The control loop feeds it events and reads `mode` and `phase` back.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from etude.status import Mode

CONTRADICTIONS_BEFORE_HELP = 3
"""Phases in a row that started with both goals judged as met; then the judge or the scene needs a person."""


@dataclass(frozen=True)
class PracticeState:
    """What the machine remembers. The flags are independent conditions; `mode` is the strongest of them.

    Attributes:
        phase: the direction that is practised now, or will be when practice goes on.
        active: practice was started and not ended.
        paused: a person paused or stopped; only a person's `Start` leaves it, also when practice was not active then.
        stopped: the software stop is on; only `ClearStop` leaves it.
        evaluating: an evaluation runs (in a scene of its own).
        takeover: an operator moves the robot.
        help_open: a help request waits for its answer; at most one is open at a time.
        help_id: number of the newest request, 1, 2, 3, …; 0 before the first.
        help_reason: the sentence of the newest request.
        help_holds: the robot holds while the newest request is open; else practice goes on beside it.
        contradictions: consecutive phases that began with both goals judged as met.
        reset: the recipe's reset part. ``human``: a person undoes the task after every forward attempt. ``none``: nobody does,
            and one forward attempt follows another.
    """

    phase: str = "forward"
    active: bool = False
    paused: bool = False
    stopped: bool = False
    evaluating: bool = False
    takeover: bool = False
    help_open: bool = False
    help_id: int = 0
    help_reason: str = ""
    help_holds: bool = True
    contradictions: int = 0
    reset: Literal["human", "backward_policy", "instruction", "medal", "vaprl", "none"] = "backward_policy"

    @property
    def mode(self) -> Mode:
        if self.stopped:
            return Mode.STOPPED
        if self.evaluating:
            return Mode.EVALUATING
        if self.takeover:
            return Mode.TAKEOVER
        if not self.active:
            return Mode.IDLE
        if self.help_open and self.help_holds:
            return Mode.AWAITING_HELP
        if self.paused:
            return Mode.PAUSED
        return Mode.FORWARD if self.phase == "forward" else Mode.BACKWARD

    @property
    def practising(self) -> bool:
        return self.mode in (Mode.FORWARD, Mode.BACKWARD)

    @property
    def attempting(self) -> bool:
        """Attempts go on: the policy practises, or an operator has taken over from it."""
        return self.practising or (self.takeover and replace(self, takeover=False).practising)


# --- events ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Start:
    """A person's word: practise, from idle or from a pause. Ignored while stopped."""


@dataclass(frozen=True)
class StartOfRun:
    """The run's own word: practice begins. It leaves a pause or a stop of a person as it is."""


@dataclass(frozen=True)
class Pause:
    """Hold until `Start`; before practice began, it then begins paused."""


@dataclass(frozen=True)
class Finish:
    """End practice: idle. An open help request and a running evaluation are cancelled; a pause stays on."""


@dataclass(frozen=True)
class SegmentEnded:
    """An attempt of the current phase ended: success, or time-out when not."""

    success: bool


@dataclass(frozen=True)
class Begun:
    """A phase began as it should, with its goal not yet met."""


@dataclass(frozen=True)
class AlreadyMet:
    """The goal of the phase that was about to start is met already. `other_too`: so is the other one (they contradict)."""

    other_too: bool = False


@dataclass(frozen=True)
class AskHelp:
    """A help rule wants a person, because of the attempt of `phase`. Ignored while a request is open or practice is not active,
    but that a request during which practice goes on becomes one that holds, when this one does."""

    reason: str
    phase: str = "forward"
    holds: bool = True


@dataclass(frozen=True)
class HelpAnswered:
    """The open request is answered and practice may go on. `how`, a sentence, is for people."""

    how: str = ""


@dataclass(frozen=True)
class HelpWithdrawn:
    """The open request needs no answer any more: the robot got on by itself. Ignored by a request that holds."""


@dataclass(frozen=True)
class Skip:
    """A person's word: leave the direction that is practised and go on with the other one."""


@dataclass(frozen=True)
class Evaluate:
    """Evaluate now. Ignored while stopped or taken over."""


@dataclass(frozen=True)
class Evaluated:
    """The evaluation ended or was abandoned."""


@dataclass(frozen=True)
class SoftwareStop:
    """Hold at once, whatever runs."""


@dataclass(frozen=True)
class ClearStop:
    """A person lifts the software stop. Practice then waits, paused, for `Start`: clearing a stop never moves a robot."""


@dataclass(frozen=True)
class Takeover:
    """An operator has taken over (actor/authority.py). Ignored while stopped or evaluating."""


@dataclass(frozen=True)
class Release:
    """The operator gave the robot back."""


Event = (
    Start
    | StartOfRun
    | Pause
    | Finish
    | SegmentEnded
    | Begun
    | AlreadyMet
    | AskHelp
    | HelpAnswered
    | HelpWithdrawn
    | Skip
    | Evaluate
    | Evaluated
    | SoftwareStop
    | ClearStop
    | Takeover
    | Release
)


# --- the function ---------------------------------------------------------------------------------------------------


def advance(state: PracticeState, event: Event) -> PracticeState:
    """The state after `event`. Events that make no sense in a state leave it as it is, so they may arrive late or twice."""
    match event:
        case Start():
            return state if state.stopped else replace(state, active=True, paused=False)
        case StartOfRun():
            return replace(state, active=True)
        case Pause():
            return replace(state, paused=True)
        case Finish():
            return replace(state, active=False, evaluating=False, help_open=False)
        case SegmentEnded():
            return _after_attempt(state) if state.practising or state.takeover else state
        case Begun():
            return replace(state, contradictions=0)
        case AlreadyMet(other_too):
            return _after_skip(state, other_too) if state.attempting else state
        case AskHelp(reason, _, holds):
            return _ask(state, reason, holds)
        case HelpAnswered():
            return replace(state, help_open=False, contradictions=0)
        case HelpWithdrawn():
            return state if state.help_holds else replace(state, help_open=False)
        case Skip():
            return state if state.reset in ("human", "none") else replace(state, phase=opposite(state.phase))
        case Evaluate():
            return state if state.stopped or state.takeover else replace(state, evaluating=True)
        case Evaluated():
            return replace(state, evaluating=False)
        case SoftwareStop():
            return replace(state, stopped=True, evaluating=False, takeover=False, paused=True)
        case ClearStop():
            return replace(state, stopped=False, paused=True) if state.stopped else state
        case Takeover():
            return state if state.stopped or state.evaluating else replace(state, takeover=True)
        case Release():
            return replace(state, takeover=False)
    raise TypeError(f"not an event of the practice machine: {event!r}")


def _after_attempt(state: PracticeState) -> PracticeState:
    if state.reset == "human":
        return _ask(
            state, "The attempt is over and this recipe has no backward policy: please put the scene back to a start state."
        )
    if state.reset == "none":
        return state
    return replace(state, phase=opposite(state.phase))


def _after_skip(state: PracticeState, other_too: bool) -> PracticeState:
    if not other_too:
        if state.reset in ("human", "none"):
            return _ask(state, "The goal is already reached: please put the scene back to a start state.")
        return replace(state, phase=opposite(state.phase), contradictions=0)
    state = replace(state, contradictions=state.contradictions + 1)
    if state.contradictions >= CONTRADICTIONS_BEFORE_HELP:
        return _ask(
            state,
            f"The last {state.contradictions} phases began with the goals of both directions judged as reached: "
            "please look at the scene and at the success classifier.",
        )
    return state


def _ask(state: PracticeState, reason: str, holds: bool = True) -> PracticeState:
    if not state.active:
        return state
    if state.help_open:
        return replace(state, help_reason=reason, help_holds=True) if holds and not state.help_holds else state
    return replace(state, help_open=True, help_id=state.help_id + 1, help_reason=reason, help_holds=holds)


def opposite(phase: str) -> str:
    return "backward" if phase == "forward" else "forward"
