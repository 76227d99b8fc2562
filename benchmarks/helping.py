"""Help in practice without ROS: the rule and the desk of practice, and a scripted person who answers at once from ground truth.

Separate from `benchmarks.autonomous`, which only wants to know whether somebody has to come. Every answer resets the
scene; with rule `paint` the states since the last help are labelled by bisection first.
"""

from __future__ import annotations

import time

from actor import practice
from actor.help import Attempt
from actor.help.desk import HelpDesk
from actor.help.scripted import OPERATOR
from etude.config import RunConfig
from etude.robot import Reading
from etude.status import HelpRequest, StuckLabels

AT_ONCE = {"meanwhile": "hold", "cooldown_s": 0.0, "scripted_answer_delay_s": 0.0}
"""What the recipe's help settings become: nobody is waited for here, and wall-clock time means nothing."""


class Helper:
    """Watches attempts; `open` says that practice has to wait for `answer`. `questions` counts the pictures asked about."""

    def __init__(self, config: RunConfig) -> None:
        recipe = config.recipe.model_copy(update={"help": config.recipe.help.model_copy(update=AT_ONCE)})
        self.questions = 0
        self._labels: list[StuckLabels] = []
        at_once = config.model_copy(update={"recipe": recipe, "headless": True})
        self._desk = HelpDesk(at_once, True, self._told, self._labels.append)
        self._state = practice.PracticeState(active=True)
        self._reported_lost = False

    @property
    def open(self) -> bool:
        return self._state.help_open

    @property
    def reason(self) -> str:
        """Of the newest request, a sentence."""
        return self._state.help_reason

    def saw(self, place: tuple[int, int], reading: Reading) -> None:
        """The first observation of an attempt, at `place` (segment, 0)."""
        self._desk.saw(place, reading)

    def after_step(self, place: tuple[int, int], reading: Reading, steps: int, irreversible: float, phase: str) -> bool:
        """Whether the attempt of `phase` has to end at `reading`, the observation at `place`; `steps` are those of the run, and
        `irreversible` the classifier's word on the observation before (NaN: it has none)."""
        self._desk.saw(place, reading)
        self._reported_lost = reading.object_lost and self._desk.rule.object_lost() is not None
        self._apply(self._desk.after_step(steps, irreversible, phase), steps)
        return self.open or self._reported_lost

    def after_attempt(self, attempt: Attempt, steps: int) -> None:
        lost = self._desk.rule.object_lost() if self._reported_lost else None
        self._reported_lost = False
        self._apply(self._desk.after_attempt(attempt, lost), steps)

    def answer(self) -> StuckLabels | None:
        """Answer the open request, as somebody does who resets the scene; returns what they said about the states before it."""
        self._labels.clear()
        self._desk.turn(True, time.monotonic())
        self._apply(practice.HelpAnswered(f"Answered by {OPERATOR}: reset."), 0)
        return self._labels[-1] if self._labels else None

    def scene_reset(self) -> None:
        """The scene was put back and nobody was asked."""
        self._desk.scene_reset()

    def _apply(self, event: practice.Event | None, steps: int) -> None:
        if event is None:
            return
        before, self._state = self._state, practice.advance(self._state, event)
        self._desk.follow(before, self._state, event, steps)

    def _told(self, request: HelpRequest) -> None:
        self.questions += bool(request.question)
