"""Help rule `classifier_doubt`: ask for labels when the success judge was unsure at the end of several attempts in a row.

A judge whose probability stays between yes and no has met something that it was not trained on; going on would teach the policy
from guesses. A lost object is asked about as in `timeout`.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from actor.help import Ask, Attempt
from actor.help.timeout import OBJECT_LOST


@dataclass
class ClassifierDoubt:
    """Remembers the unsure attempts in a row: those that ended with a probability within `band`, its ends included, or with
    members that disagree by `disagreement` or more."""

    band: tuple[float, float]
    disagreement: float
    limit: int
    unsure: list[Attempt] = field(default_factory=list)

    def after_step(self, steps: int, irreversible: float) -> Ask | None:
        return None

    def after_attempt(self, attempt: Attempt) -> Ask | None:
        low, high = self.band
        unsure = low <= attempt.probability <= high or attempt.disagreement >= self.disagreement
        self.unsure = [*self.unsure, attempt] if unsure else []
        if len(self.unsure) < self.limit:
            return None
        segments = ", ".join(str(one.segment) for one in self.unsure[-self.limit :])
        return Ask(
            "classifier doubt",
            f"The success classifier was unsure about {len(self.unsure)} attempts in a row (the last one ended at "
            f"{attempt.probability:.2f}, its members {attempt.disagreement:.2f} apart): please label attempts {segments}.",
        )

    def object_lost(self) -> Ask | None:
        return Ask("object lost", OBJECT_LOST)

    def answered(self) -> None:
        self.unsure = []
