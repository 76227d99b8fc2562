"""Help rule `paint`: ask when a learned classifier calls the scene irreversible (PAINT, Xie et al. 2022, §4).

The robot acts on for N steps after the first alarm, so that the classifier sees what the region is like. Nothing tells it that an
object is lost: it learns that from the labels that people give when they help. Before there are any it cannot know, so a person
is asked once at the end of the seed steps, and whenever a long time has passed without help (the benchmark's own reset).
"""

from __future__ import annotations

from dataclasses import dataclass

from actor.help import Ask, Attempt

ALARM = 0.5
"""Probability of an irreversible scene above which the alarm is raised."""


@dataclass
class Paint:
    """Counts control steps.

    Attributes:
        seed_steps: no alarm before so many steps of the run; at their end somebody looks once.
        patience_steps: N, steps from the alarm to the question.
        horizon_steps: steps without help after which somebody is asked to look.
        alarm_states: states in a row above `ALARM` that raise the alarm. The release takes 1; but a lost object stays
            lost, so that an alarm which the next states contradict was false.
        helped_at: step of the newest answer, or the one before the first step that this process saw.
        alarm_at: step of the alarm that is on.
        suspicious: states in a row above `ALARM`, up to the newest one.
    """

    seed_steps: int
    patience_steps: int
    horizon_steps: int
    alarm_states: int = 1
    helped_at: int | None = None
    alarm_at: int | None = None
    suspicious: int = 0
    steps: int = 0

    def after_step(self, steps: int, irreversible: float) -> Ask | None:
        self.steps = steps
        if self.helped_at is None:
            self.helped_at = steps - 1
        if steps < self.seed_steps:
            return None
        if self.helped_at < self.seed_steps:
            return Ask("seed steps", f"The first {self.seed_steps} steps are over: please look whether the scene is still whole.")
        self.suspicious = self.suspicious + 1 if irreversible > ALARM else 0
        if self.alarm_at is None and self.suspicious >= self.alarm_states:
            self.alarm_at = steps
        if self.alarm_at is not None and steps - self.alarm_at >= self.patience_steps:
            return Ask("irreversible", "The scene looks as if the robot could not undo what has happened.")
        if steps - self.helped_at >= self.horizon_steps:
            return Ask("horizon", f"Nobody has helped for {steps - self.helped_at} steps: please look at the scene.")
        return None

    def after_attempt(self, attempt: Attempt) -> Ask | None:
        return None

    def object_lost(self) -> Ask | None:
        return None

    def answered(self) -> None:
        self.helped_at, self.alarm_at, self.suspicious = self.steps, None, 0
