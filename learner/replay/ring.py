"""The RAM ring over the episode store: steps go in as they arrive, transitions come out at random.

Images stay uint8 and are stored once; a transition's next observation is the row of the next step of the same segment. Several
actors may interleave. The oldest rows are overwritten, and a transition whose next row is gone is never sampled.

With a chunk of h actions a transition is h steps long (Li et al. 2025, Q-chunking): executed open loop, they are one action, so
values need no correction. A transition is sampled as soon as its h steps are there, or its segment has ended; at the end of a
segment it is as many steps long as there are.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from etude.specs import PHASES, ActionSpec, ObservationSpec
from etude.step import Source, Step

NONE = -1
UNLABELLED = -1.0
"""Of `Ring.stuck`: nobody said whether the state can be undone."""


def place(segment: int, index: int) -> int:
    """Order of an actor's steps as one number."""
    return segment << 24 | index


class IndexSet:
    """A set of row numbers with constant-time add, remove and uniform sampling."""

    def __init__(self, capacity: int) -> None:
        self.items = np.zeros(capacity, np.int64)
        self.position = np.full(capacity, NONE, np.int64)
        self.count = 0

    def __contains__(self, row: int) -> bool:
        return bool(self.position[row] != NONE)

    def sample(self, count: int, rng: np.random.Generator) -> np.ndarray:
        """`count` of its rows (uniform, with replacement); there must be some."""
        return self.items[rng.integers(self.count, size=count)]

    def add(self, row: int) -> None:
        if row not in self:
            self.items[self.count], self.position[row] = row, self.count
            self.count += 1

    def discard(self, row: int) -> None:
        if row not in self:
            return
        position = self.position[row]
        self.count -= 1
        last = self.items[self.count]
        self.items[position], self.position[last] = last, position
        self.position[row] = NONE


class Transitions(NamedTuple):
    """What some transitions are made of, beside their first observations; n rows.

    Attributes:
        action: float32 ``(n, h · d)``, the action of the first step first. Where the segment ends within the chunk its last
            action is repeated: zeros would open a gripper halfway, and nobody demonstrates that.
        reward: float32 ``(n,)``, ``Σ_i γ^i r_i`` over the steps that were made.
        discount: float32 ``(n,)``, γ to the power of the steps that were made.
        last: rows of the last step that was made: `next_row` of it is the next observation, and it says how the transition ended.
    """

    action: np.ndarray
    reward: np.ndarray
    discount: np.ndarray
    last: np.ndarray


class Ring:
    """Rows of steps with links to their successors; one sampling set per direction. `chunk` steps make a transition.

    Memory is claimed as rows are first written (numpy zero pages), so a large capacity costs nothing until it is used.
    """

    def __init__(self, capacity: int, observation_spec: ObservationSpec, action_spec: ActionSpec, chunk: int = 1) -> None:
        self.capacity = capacity
        self.chunk = chunk
        self.observation = {
            name: np.zeros((capacity, *shape), dtype) for name, (shape, dtype) in observation_spec.shapes().items()
        }
        self.action = np.zeros((capacity, action_spec.dim), np.float32)
        self.reward = np.zeros(capacity, np.float32)
        self.terminal = np.zeros(capacity, np.float32)
        self.ended = np.zeros(capacity, np.float32)
        """1 where the step was the last of its segment, for whatever reason."""
        self.success = np.zeros(capacity, bool)
        """Whether the step led to success."""
        self.human = np.zeros(capacity, bool)
        """Whether a person acted."""
        self.monte_carlo_return = np.zeros(capacity, np.float32)
        self.weight = np.ones(capacity, np.float32)
        self.next_row = np.full(capacity, NONE, np.int64)
        self.previous_row = np.full(capacity, NONE, np.int64)
        self.row_phase = np.full(capacity, NONE, np.int8)
        self.instruction = np.zeros(capacity, np.int32)
        """Index into `texts`."""
        self.stuck = np.full(capacity, UNLABELLED, np.float32)
        """A person's word on the row's observation: 1 it cannot be undone, 0 it can, or `UNLABELLED`."""
        self.actor, self.place = np.full(capacity, NONE, np.int32), np.zeros(capacity, np.int64)
        self._actors: dict[str, int] = {}
        self.texts: list[str] = []
        self._numbers: dict[str, int] = {}
        self.frame = np.full(capacity, NONE, np.int64)
        """Number of the step that the row holds, unique in this ring: 0, 1, 2, …"""
        self.valid = {phase: IndexSet(capacity) for phase in PHASES}
        self.successes = {phase: IndexSet(capacity) for phase in PHASES}
        self.corrections = {phase: IndexSet(capacity) for phase in PHASES}
        self.successful_attempts = {phase: IndexSet(capacity) for phase in PHASES}
        """Of attempts that ended in success, all transitions; `successes` has the last ones only."""
        self.cursor = 0
        self.steps = 0
        self._open: dict[str, tuple[int, int]] = {}

    def add(self, step: Step) -> int:
        """Append one step and link it to its predecessor; returns its row."""
        row = self.cursor
        self._forget(row)
        self.cursor = (self.cursor + 1) % self.capacity
        for name, array in self.observation.items():
            array[row] = step.observation[name]
        self.action[row] = step.action
        self.reward[row] = step.reward
        self.terminal[row] = self.ended[row] = 0.0
        self.success[row], self.human[row] = False, step.source is Source.HUMAN
        self.monte_carlo_return[row] = -np.inf
        self.weight[row] = 1.0
        self.stuck[row] = UNLABELLED
        self.actor[row], self.place[row] = self.actor_number(step.actor_id), place(step.segment, step.index)
        self.row_phase[row] = PHASES.index(step.phase)
        self.instruction[row] = self._number(step.instruction)
        self.frame[row] = self.steps
        opened = self._open.get(step.actor_id)
        if opened is not None and opened[0] == step.segment and not step.is_first and opened[1] != row:
            previous = opened[1]
            self.next_row[previous], self.previous_row[row] = row, previous
            self.terminal[previous], self.ended[previous] = float(step.is_terminal), float(step.is_last)
            self.success[previous] = step.success == 1
            self._admit(previous, step.phase, step.is_last)
            if step.is_last and self.success[previous]:
                for one in self.segment_rows(previous):
                    if one in self.valid[step.phase]:  # the others were dropped
                        self.successful_attempts[step.phase].add(one)
        if step.is_last:
            self._open.pop(step.actor_id, None)
        else:
            self._open[step.actor_id] = (step.segment, row)
        self.steps += 1
        return row

    def _admit(self, newest: int, phase: str, ended: bool) -> None:
        """Let the transitions be sampled that step `newest` completes: that of a whole chunk, and when the segment has `ended`
        those of fewer steps too."""
        row, success = newest, False
        for steps in range(1, self.chunk + 1):
            success = success or bool(self.success[row])
            if ended or steps == self.chunk:
                self.valid[phase].add(row)
                if self.human[row]:
                    self.corrections[phase].add(row)
                if success:
                    self.successes[phase].add(row)
            row = int(self.previous_row[row])
            if row == NONE:
                return

    def actor_number(self, actor_id: str) -> int:
        """What `actor` holds for rows of this actor."""
        return self._actors.setdefault(actor_id, len(self._actors))

    def _number(self, text: str) -> int:
        if text not in self._numbers:
            self._numbers[text] = len(self.texts)
            self.texts.append(text)
        return self._numbers[text]

    def _forget(self, row: int) -> None:
        """Unlink what the row held before it is overwritten."""
        if self.row_phase[row] == NONE:
            return
        self.drop(row)
        previous, following = self.previous_row[row], self.next_row[row]
        if previous != NONE:
            self.drop(int(previous))
            self.next_row[previous] = NONE
        if following != NONE:
            self.previous_row[following] = NONE
        self.next_row[row] = self.previous_row[row] = NONE
        for actor, (_, opened) in list(self._open.items()):
            if opened == row:
                del self._open[actor]

    def transitions(self, phase: str) -> int:
        """How many transitions of `phase` can be sampled."""
        return self.valid[phase].count

    def segment_rows(self, last_row: int) -> list[int]:
        """Rows of the segment that ends at `last_row`, first to last (those not yet overwritten)."""
        rows = [last_row]
        while self.previous_row[rows[-1]] != NONE:
            rows.append(int(self.previous_row[rows[-1]]))
        return rows[::-1]

    def drop(self, row: int) -> None:
        """Never sample the transition that begins at `row` again; its observation stays, as the end of the one before."""
        phase = PHASES[self.row_phase[row]]
        self.valid[phase].discard(row)
        self.successes[phase].discard(row)
        self.corrections[phase].discard(row)
        self.successful_attempts[phase].discard(row)

    def sample_rows(self, phase: str, count: int, rng: np.random.Generator, success_share: float = 0.0) -> np.ndarray:
        """`count` rows (uniform, with replacement) that begin a transition of `phase`.

        Of them `success_share` are drawn among the transitions that lead to success, as soon as there are any.
        """
        indices, successes = self.valid[phase], self.successes[phase]
        lucky = round(count * success_share) if successes.count else 0
        rows = indices.sample(count, rng)
        if lucky:
            rows[:lucky] = successes.sample(lucky, rng)
        return rows

    def transitions_of(self, rows: np.ndarray, discount: float) -> Transitions:
        """The transitions that begin at `rows` ``(n,)``, as `sample_rows` gives them; `discount` γ is per step."""
        action = np.empty((len(rows), self.chunk, self.action.shape[1]), np.float32)
        reward, factor, last = np.zeros(len(rows)), np.ones(len(rows)), rows
        for i in range(self.chunk):
            goes_on = np.ones(len(rows), bool) if i == 0 else self.ended[last] == 0.0
            last = last if i == 0 else np.where(goes_on, self.next_row[last], last)
            action[:, i] = self.action[last]
            reward += np.where(goes_on, factor * self.reward[last], 0.0)
            factor = np.where(goes_on, factor * discount, factor)
        return Transitions(action.reshape(len(rows), -1), reward.astype(np.float32), factor.astype(np.float32), last)

    def bytes_used(self) -> int:
        """Bytes of the rows written so far."""
        rows = min(self.steps, self.capacity)
        arrays: Sequence[np.ndarray] = (
            *self.observation.values(),
            self.action,
            self.reward,
            self.terminal,
            self.ended,
            self.monte_carlo_return,
            self.weight,
        )
        return sum(array.nbytes // self.capacity for array in arrays) * rows
