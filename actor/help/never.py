"""Help rule `never`: the robot goes on by itself whatever happens.

For scenes that cannot be broken, and as the baseline that shows what the other rules are worth.
"""

from __future__ import annotations

from actor.help import Ask, Attempt


class Never:
    """Asks nobody."""

    def after_step(self, steps: int, irreversible: float) -> Ask | None:
        return None

    def after_attempt(self, attempt: Attempt) -> Ask | None:
        return None

    def object_lost(self) -> Ask | None:
        return None

    def answered(self) -> None:
        return None
