"""The scripted helper: answers help requests after a delay where nobody watches, in headless simulation only.

It stands for a person who walks over and resets the scene; every answer is counted and logged like a person's.
"""

from __future__ import annotations

from etude.config import RunConfig

OPERATOR = "scripted helper"


class ScriptedHelper:
    """Remembers since when a request waits. `delay_s` None means that there is no such helper."""

    def __init__(self, delay_s: float | None) -> None:
        self.delay_s = delay_s
        self._opened_s: float | None = None

    @classmethod
    def from_config(cls, config: RunConfig, simulated: bool) -> "ScriptedHelper":
        """A helper for headless simulated runs whose recipe sets a delay; elsewhere one that never answers."""
        return cls(config.recipe.help.scripted_answer_delay_s if config.headless and simulated else None)

    def answer(self, request_open: bool, now_s: float) -> str | None:
        """The answer word once the open request has waited long enough, else None. `now_s` is monotonic."""
        if self.delay_s is None or not request_open:
            self._opened_s = None
            return None
        if self._opened_s is None:
            self._opened_s = now_s
        if now_s - self._opened_s < self.delay_s:
            return None
        self._opened_s = None
        return "reset"
