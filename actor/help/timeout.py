"""Help rule `timeout`: ask after n time-outs in a row, and at once when the object has left the table.

A practising robot times out often while it learns; a long unbroken run of time-outs means that it is stuck in a state from which
neither direction succeeds.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class Timeout:
    """Counts consecutive time-outs over both directions."""

    limit: int
    count: int = 0

    def after_attempt(self, success: bool) -> str | None:
        self.count = 0 if success else self.count + 1
        if self.count < self.limit:
            return None
        return f"The last {self.count} attempts timed out in both directions: the robot seems stuck."

    def object_lost(self) -> str | None:
        return "The object has left the table, the robot cannot bring it back."

    def answered(self) -> None:
        self.count = 0
