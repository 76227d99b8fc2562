"""Help rule `never`: the robot goes on by itself whatever happens.

For scenes that cannot be broken, and as the baseline that shows what the other rules are worth.
"""

from __future__ import annotations


class Never:
    """Asks nobody."""

    def after_attempt(self, phase: str, success: bool) -> str | None:
        return None

    def object_lost(self) -> str | None:
        return None

    def answered(self) -> None:
        return None
