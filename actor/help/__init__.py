"""When a person is asked, and what their answers mean. One file per rule; `make_help_rule` picks the recipe's.

A rule looks at steps and at how attempts end; it does not know whether anybody listens. The practice machine keeps the request
open, `actor.help.desk` is what a person deals with, and the control loop acts on the answer.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

from etude.config import HelpConfig

ANSWERS = {
    "reset": "the scene was put back to a start state (a simulation resets itself)",
    "continue": "go on as it is",
    "skip": "leave this direction and go on with the other one",
    "take_over": "practice pauses, so that a person can move robot and scene, until it is resumed",
    "stop": "practice ends",
}
"""Answer words of `resolve_help` that close a request, and what they say."""
LABELS = {"stuck": "the robot cannot undo what this picture shows", "not_stuck": "the robot can go on from this picture"}
"""Answer words to the question about one picture; the request stays open."""


class Ask(NamedTuple):
    """A rule wants a person. `about` names the kind of reason, which the cooldown counts by; `reason` is a sentence."""

    about: str
    reason: str


class Attempt(NamedTuple):
    """How an attempt ended. `probability` is the judge's at its last observation; not `known`: nobody can say whether it
    succeeded (a learned reward, without ground truth). `disagreement` is the spread of the judge's members."""

    segment: int
    phase: str
    success: bool
    probability: float
    known: bool = True
    disagreement: float = 0.0


class HelpRule(Protocol):
    """Decides whether a person is needed."""

    def after_step(self, steps: int, irreversible: float) -> Ask | None:
        """After every control step, the `steps`-th of the run; `irreversible`: probability that the scene before it cannot be
        undone, NaN when the policy does not tell."""
        ...

    def after_attempt(self, attempt: Attempt) -> Ask | None:
        """Once per finished attempt."""
        ...

    def object_lost(self) -> Ask | None:
        """When the scene reports an irreversible state; None to go on."""
        ...

    def answered(self) -> None:
        """A request was answered, or needs no answer any more: start counting anew."""
        ...


def make_help_rule(config: HelpConfig) -> HelpRule:
    """The rule that `config.kind` names."""
    from actor.help.classifier_doubt import ClassifierDoubt
    from actor.help.never import Never
    from actor.help.paint import Paint
    from actor.help.scheduled import Scheduled
    from actor.help.timeout import Timeout

    match config.kind:
        case "never":
            return Never()
        case "timeout":
            return Timeout(config.timeouts_before_help, config.lost_is_told)
        case "paint":
            return Paint(config.seed_steps, config.steps_before_asking, config.horizon_steps, config.alarm_states)
        case "scheduled":
            return Scheduled(config.horizon_steps)
        case "classifier_doubt":
            return ClassifierDoubt(config.doubt_band, config.doubt_disagreement, config.doubtful_attempts)
