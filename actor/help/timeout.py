"""Help rule `timeout`: ask when one direction has timed out n times in a row, and at once when the object has left the table.

A practising robot times out often while it learns; a long unbroken run in one direction means that it is stuck in a state from
which that direction does not get away. The other direction's successes do not count against it: they may be worth nothing there
(an object that was never moved is still where the other direction wants it).
"""

from __future__ import annotations

from dataclasses import dataclass, field

from actor.help import Ask, Attempt
from etude.specs import PHASES

OBJECT_LOST = "The object has left the table, the robot cannot bring it back."


@dataclass
class Timeout:
    """Counts consecutive time-outs of each direction. Not `told_of_lost`: it knows no more than a real robot does."""

    limit: int
    told_of_lost: bool = True
    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(PHASES, 0))

    def after_step(self, steps: int, irreversible: float) -> Ask | None:
        return None

    def after_attempt(self, attempt: Attempt) -> Ask | None:
        if not attempt.known:
            return None
        phase = attempt.phase
        self.counts[phase] = 0 if attempt.success else self.counts[phase] + 1
        if self.counts[phase] < self.limit:
            return None
        return Ask(f"{phase} timeouts", f"The last {self.counts[phase]} {phase} attempts timed out: the robot seems stuck.")

    def object_lost(self) -> Ask | None:
        return Ask("object lost", OBJECT_LOST) if self.told_of_lost else None

    def answered(self) -> None:
        self.counts = dict.fromkeys(PHASES, 0)
