"""Which state between two interventions was the first stuck one, asked of a person with as few pictures as possible.

PAINT (Xie et al. 2022, §4) labels by binary search, because a stuck scene stays stuck: after the first stuck state all are. The
final state is asked about first, so that a search among T states finds a stuck last state and ends at once when none is stuck;
it needs at most ``ceil(log2 T) + 1`` answers. Pure and resumable: a person may take an hour between two answers.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np


@dataclass(frozen=True)
class Bisection:
    """A search among the states 0 … `count` - 1, in the order of time.

    Attributes:
        count: T, number of states, at least 1.
        free: states before this one are known not to be stuck.
        stuck: the earliest state known to be stuck; `count` until one is.
        asked: answers so far.
    """

    count: int
    free: int
    stuck: int
    asked: int = 0

    @property
    def question(self) -> int | None:
        """Index of the state to ask about next; None when the search is over."""
        if self.free == self.stuck:
            return None
        return self.count - 1 if self.stuck == self.count else (self.free + self.stuck) // 2

    @property
    def first_stuck(self) -> int | None:
        """Index of the first stuck state, None when there is none. Only meaningful when `question` is None."""
        return self.stuck if self.stuck < self.count else None


def begin(count: int) -> Bisection:
    """A search among `count` states. Raises ValueError without any."""
    if count < 1:
        raise ValueError(f"there are {count} states to search: a search needs at least one")
    return Bisection(count, 0, count)


def answer(search: Bisection, stuck: bool) -> Bisection:
    """The search after a person said whether state `search.question` is stuck. Raises ValueError when nothing was asked."""
    asked = search.question
    if asked is None:
        raise ValueError("the search is over: there is no question to answer")
    return replace(search, **({"stuck": asked} if stuck else {"free": asked + 1}), asked=search.asked + 1)


def transition_labels(count: int, first_stuck: int | None) -> np.ndarray:
    """Labels ``(count - 1,)`` float32 of the transitions between `count` states: 1 where the state that is *reached* is stuck.

    Transition i leads from state i to i + 1, so it is 1 from ``first_stuck - 1`` on.
    """
    reached = np.arange(1, count)
    return (reached >= (count if first_stuck is None else first_stuck)).astype(np.float32)
