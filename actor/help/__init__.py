"""When a person is asked, and what their answers mean. One file per rule; `make_help_rule` picks the recipe's.

A rule only looks at how attempts end. The practice machine keeps the request; the control loop acts on the answer.
"""

from __future__ import annotations

from typing import Protocol

from etude.config import HelpConfig

ANSWERS = {
    "reset": "the scene was put back to a start state (a simulation resets itself)",
    "continue": "go on as it is",
}
"""Answer words of `resolve_help`, and what they say."""

MEANWHILE = "The robot holds still and keeps its gripper as it is; the learner goes on training on what it has."
"""What every open request tells a person about the robot."""


class HelpRule(Protocol):
    """Decides from the outcomes of attempts whether a person is needed."""

    def after_attempt(self, phase: str, success: bool) -> str | None:
        """The reason to ask, as a sentence, or None. Called once per finished attempt of direction `phase`."""
        ...

    def object_lost(self) -> str | None:
        """The reason to ask when the scene reports an irreversible state, or None to go on."""
        ...

    def answered(self) -> None:
        """A request was answered: start counting anew."""
        ...


def make_help_rule(config: HelpConfig) -> HelpRule:
    """The rule that `config.kind` names."""
    from actor.help.never import Never
    from actor.help.timeout import Timeout

    return Never() if config.kind == "never" else Timeout(config.timeouts_before_help)
