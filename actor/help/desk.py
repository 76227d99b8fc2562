"""The help desk: the request as a person sees it. Its picture, repetition while nobody answers, cooldown, and stuck labels.

Separate from the rules, which only say that a person is needed, and from the control loop, which acts on answers. Used by the
loop's thread; `request` is replaced as a whole, so that other threads may read it.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

import cv2
import numpy as np

from actor import practice
from actor.help import ANSWERS, LABELS, Ask, Attempt, bisection, make_help_rule
from actor.help.scripted import ScriptedHelper
from etude.config import RunConfig
from etude.robot import Reading
from etude.specs import IMAGE_PREFIX
from etude.status import HelpRequest, StuckLabels

MEANWHILE = {
    True: "The robot holds still and keeps its gripper as it is; the learner trains until it has caught up with its data.",
    False: "The robot goes on practising; the request is withdrawn when it gets on by itself.",
}
"""Whether the robot holds -> what an open request tells a person about it."""
HELD = "The robot holds; it goes on by itself, and the request is withdrawn, as soon as the fault is over."
PAUSE_S = 2.0
"""So long without a word about faults, and a hold counts from its beginning again."""
REMEMBERED_STATES = 8192
"""States since the last help that can be labelled; older ones stay without a label."""
HIGHEST_LEVEL = 3


class _State(NamedTuple):
    """One observation since the last help: its place (segment, index), its picture, and the simulator's truth."""

    place: tuple[int, int]
    picture: np.ndarray | None
    lost: bool


class HelpDesk:
    """Opens and closes requests and tells of every change (`tell`). Stuck labels of a finished search go to `on_labels`."""

    def __init__(
        self,
        config: RunConfig,
        simulated: bool,
        tell: Callable[[HelpRequest], None],
        on_labels: Callable[[StuckLabels], None],
        request: HelpRequest | None = None,
    ) -> None:
        """`request` is open since before a restart: it holds, and has no question about pictures, which are gone."""
        self.config = config.recipe.help
        self.rule = make_help_rule(self.config)
        self.request = request and replace(request, meanwhile=MEANWHILE[True], question="", answers=tuple(ANSWERS))
        self._tell, self._on_labels = tell, on_labels
        self._helper = ScriptedHelper.from_config(config, simulated)
        self._states: deque[_State] = deque(maxlen=REMEMBERED_STATES if self.config.kind == "paint" else 1)
        self._search: bisection.Bisection | None = None
        self._searched: tuple[_State, ...] = ()  # the states before the open request; practice may go on beside it
        self._told_s = time.monotonic()
        self._last_asked_s: dict[str, float] = {}
        self._held_since_s: float | None = None
        self._held_seen_s = -math.inf
        self._about_a_hold = False  # the newest request is about a fault that holds the robot

    # --- what the robot goes through --------------------------------------------------------------------------------

    def saw(self, place: tuple[int, int], reading: Reading) -> None:
        """The observation at `place` (segment, index) of practice."""
        pictures = (array for name, array in reading.observation.items() if name.startswith(IMAGE_PREFIX))
        self._states.append(_State(place, next(pictures, None), reading.object_lost))

    def scene_reset(self) -> None:
        """The scene was put back without a person: what was stuck before may not be now, so no search goes beyond this."""
        self._states.clear()

    def after_step(self, steps: int, irreversible: float, phase: str) -> practice.AskHelp | None:
        """What the rule says after a control step (`HelpRule.after_step`) of an attempt of `phase`."""
        return self._suspicion(self.rule.after_step(steps, irreversible), phase)

    def after_attempt(self, attempt: Attempt, lost: Ask | None) -> practice.Event | None:
        """What the end of an attempt means; `lost`: what the rule said about an object that is lost."""
        ask = self.rule.after_attempt(attempt)
        if lost is not None:
            return practice.AskHelp(lost.reason, attempt.phase)
        if self._waits and ask is None and attempt.success and self.request is not None and self.request.phase == attempt.phase:
            return practice.HelpWithdrawn()
        return self._suspicion(ask, attempt.phase)

    def _suspicion(self, ask: Ask | None, phase: str) -> practice.AskHelp | None:
        """A question with which the robot could also go on; none while one is open, or soon after one of the same kind."""
        now_s = time.monotonic()
        if ask is None or self._waits or now_s - self._last_asked_s.get(ask.about, -math.inf) < self.config.cooldown_s:
            return None
        self._last_asked_s[ask.about] = now_s
        return practice.AskHelp(ask.reason, phase, self.config.meanwhile == "hold")

    def held(self, faults: tuple[str, ...], phase: str, now_s: float) -> practice.Event | None:
        """What it means that `faults` hold the robot at this control step of `phase`, or nothing does: asked at every one."""
        if not faults:
            self._held_since_s = None
            return practice.HelpWithdrawn() if self._waits and self._about_a_hold else None
        if self._held_since_s is None or now_s - self._held_seen_s > PAUSE_S:
            self._held_since_s = now_s
        self._held_seen_s = now_s
        held_s = now_s - self._held_since_s
        if self.config.kind == "never" or self._waits or held_s < self.config.ask_when_held_s:
            return None
        self._about_a_hold = True  # answered without being mended, it is asked again after as long (`_close`)
        return practice.AskHelp(f"For {held_s:.0f} s the robot cannot move: {'; '.join(faults)}.", phase, holds=False)

    @property
    def _waits(self) -> bool:
        return self.request is not None and self.request.open

    # --- requests ---------------------------------------------------------------------------------------------------

    def follow(
        self, before: practice.PracticeState, state: practice.PracticeState, event: practice.Event, env_steps: int
    ) -> None:
        """Tell what `event` did to the request; `before` and `state` are the practice machine around it."""
        if state.help_id != before.help_id:
            phase = event.phase if isinstance(event, practice.AskHelp) else before.phase
            self._open(state, phase, env_steps)
        elif before.help_open and not state.help_open:
            match event:
                case practice.HelpAnswered(how):
                    self._close(how)
                case practice.Finish():
                    self._close("Cancelled: practice was ended.")
                case _ if self._about_a_hold:
                    self._close("Withdrawn: the fault is over.", helped=False)
                case _:
                    self._close("Withdrawn: the robot got on by itself.")
        elif state.help_open and state.help_holds != before.help_holds:
            assert self.request is not None
            self.request = replace(self.request, reason=state.help_reason, meanwhile=MEANWHILE[True])
            self._tell(self.request)

    def _open(self, state: practice.PracticeState, phase: str, env_steps: int) -> None:
        """A new request, with a picture. With rule `paint` its first question is about the newest state."""
        self._about_a_hold &= not state.help_holds
        self.request = HelpRequest(
            state.help_id,
            state.help_reason,
            phase,
            time.time_ns(),
            env_steps,
            HELD if self._about_a_hold else MEANWHILE[state.help_holds],
            open=True,
            image_jpeg=_jpeg(self._states[-1].picture) if self._states else b"",
        )
        self._searched = tuple(self._states)
        labels = self.config.kind == "paint" and self._searched and not self._about_a_hold
        self._search = bisection.begin(len(self._searched)) if labels else None
        self._publish()

    def _close(self, what: str, helped: bool = True) -> None:
        """The request is answered, cancelled or withdrawn: `what` happened, a sentence. Not `helped`: the rule counts on. States
        are forgotten all the same, because somebody may have freed the robot, and a search goes back to the last help only."""
        assert self.request is not None
        self._about_a_hold, self._held_since_s = False, None
        self.request = replace(self.request, meanwhile=what, open=False, question="", answers=())
        self._search, self._searched = None, ()
        self._states.clear()
        if helped:
            self.rule.answered()
        self._tell(self.request)

    def tell_again(self) -> None:
        """Tell of the request that is open since before a restart."""
        if self.request is not None:
            self._tell(self.request)

    def refusal(self, answer: str, request_id: int) -> str:
        """Why this answer cannot be given now; empty when it can. Any thread."""
        request = self.request
        if request is None or not request.open:
            return "no help request is open"
        if request_id not in (0, request.id):
            return f"help request {request_id} is not open any more; request {request.id} is: look at that one"
        if answer not in request.answers:
            known = ANSWERS | LABELS
            return f"there is no answer {answer!r}; use " + " or ".join(f"{word!r} ({known[word]})" for word in request.answers)
        return ""

    def label(self, question: HelpRequest, stuck: bool) -> None:
        """A person's word on the picture of `question`. Ignored when that is not the newest question any more."""
        if self._search is None or self.request is None or self.request.question != question.question:
            return
        self._search = bisection.answer(self._search, stuck)
        if self._search.question is None:
            first, places = self._search.first_stuck, [state.place for state in self._searched]
            self._on_labels(StuckLabels(places[0], places[-1], None if first is None else places[first]))
        self._publish()

    def turn(self, waiting: bool, now_s: float) -> str | None:
        """What to do while a request is `waiting`: repeat it, a level higher, when nobody answers. Returns the scripted helper's
        answer, if it is due."""
        if waiting and self.request is not None and self._search is not None and self._helper.delay_s is not None:
            while (asked := self._search.question) is not None:
                self.label(self.request, self._searched[asked].lost)
        if waiting and self.request is not None and now_s - self._told_s >= self.config.escalate_after_s:
            self._told_s = now_s
            if self.request.level < HIGHEST_LEVEL:
                self.request = replace(self.request, level=self.request.level + 1)
                self._tell(self.request)
        return self._helper.answer(waiting, now_s)

    def _publish(self) -> None:
        """Tell the open request, with its question where the search has one."""
        assert self.request is not None
        asked = None if self._search is None else self._search.question
        if asked is None:
            self.request = replace(self.request, question="", answers=tuple(ANSWERS))
        else:
            assert self._search is not None
            segment, index = self._searched[asked].place
            self.request = replace(
                self.request,
                question=f"Question {self._search.asked + 1}: is the scene of attempt {segment}, step {index}, stuck?",
                answers=(*LABELS, *ANSWERS),
                image_jpeg=_jpeg(self._searched[asked].picture),
            )
        self._told_s = time.monotonic()
        self._tell(self.request)


def _jpeg(picture: np.ndarray | None) -> bytes:
    """``(h, w, 3)`` uint8 RGB as JPEG; empty without a picture."""
    if picture is None:
        return b""
    return bytes(cv2.imencode(".jpg", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))[1])
