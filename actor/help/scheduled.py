"""Help rule `scheduled`: somebody resets the scene after so many steps, needed or not (MEDAL++, and PAINT's episodic baseline).

It is what a robot is left with that neither knows what it cannot undo nor is told so by a simulation. What it costs is
certain, one intervention per interval; a scene that is lost at its beginning stays lost to its end.
"""

from __future__ import annotations

from dataclasses import dataclass

from actor.help import Ask, Attempt


@dataclass
class Scheduled:
    """Counts control steps since the newest answer; `helped_at` is its step, at first the one before the first that was seen."""

    interval_steps: int
    helped_at: int | None = None
    steps: int = 0

    def after_step(self, steps: int, irreversible: float) -> Ask | None:
        self.steps = steps
        if self.helped_at is None:
            self.helped_at = steps - 1
        if steps - self.helped_at < self.interval_steps:
            return None
        return Ask("schedule", f"A reset is due every {self.interval_steps} steps: please put the scene back.")

    def after_attempt(self, attempt: Attempt) -> Ask | None:
        return None

    def object_lost(self) -> Ask | None:
        return None

    def answered(self) -> None:
        self.helped_at = self.steps
