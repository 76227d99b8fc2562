"""Candidate actions of an external policy, kept beside the replay rings by (frame, version of the server's weights).

A batch's frames that are not known yet are asked for together, each once. When the server is gone, training goes on with what
is known: candidates of older weights, and for a frame that was never asked for the action that was executed there (SARSA).
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from etude.config import RunConfig
from etude.policy_server import PolicyServerClient, PolicyServerError, Samples
from etude.specs import Observation
from learner.replay.ring import NONE, Ring

log = logging.getLogger("etude.learner")

RETRY_S = 5.0
"""Shortest pause after a failed request; a request that failed slowly is not repeated before as much time has passed again."""


FRAMES_PER_REQUEST = 256
"""A large model takes minutes for more; what was answered is kept, should the next request fail."""


class Drawn(NamedTuple):
    """Rows of `ring` that were drawn into one slice of the batch's ``(K, D, B)`` leaves."""

    ring: Ring
    where: tuple[int, int]
    part: slice
    rows: np.ndarray


class _Kept:
    """Candidates of one ring: `frame` and `version` say whose they are; a row that was overwritten holds another frame."""

    def __init__(self, capacity: int, count: int, action_dim: int) -> None:
        self.action = np.zeros((capacity, count, action_dim), np.float32)
        self.frame = np.full(capacity, NONE, np.int64)
        self.version = np.zeros(capacity, np.int64)


class _Place(NamedTuple):
    """Where candidates go: `leaf` of the batch, and which rows of the ring they are for."""

    leaf: str
    drawn: Drawn
    rows: np.ndarray


class _Missing(NamedTuple):
    """A frame to ask for, and what was executed there."""

    kept: _Kept
    row: int
    frame: int
    instruction: str
    executed: np.ndarray


class Plan(NamedTuple):
    """What one batch needs; made under the ring's lock, carried out without it."""

    places: list[_Place]
    missing: list[_Missing]
    observation: dict[str, np.ndarray]
    texts: list[tuple[Drawn, np.ndarray]]


def candidates_of(config: RunConfig, observation_keys: Sequence[str], action_dim: int) -> Candidates | None:
    """Those of the run's policy server; None when its policy lives in the learner.

    Raises:
        PolicyServerError: the server is not there, or does not fit the robot.
    """
    recipe = config.recipe
    if recipe.policy.kind != "external":
        return None
    client = PolicyServerClient(recipe.policy.server, recipe.policy.server_timeout_s)
    return Candidates(client, recipe.candidates_per_frame, config.task.instructions, observation_keys, action_dim, config.seed)


class Candidates:
    """Fills ``candidates`` and ``next_candidates`` ``(…, K, d)`` of batches, and ``text`` ``(…)``, which of `texts` is the row's
    instruction. One thread draws; `moved_to` is for any thread.

    Attributes:
        texts: the instructions of all rows that were drawn; it only grows.
        version: newest known version of the server's weights; other candidates are asked for anew.
        requests: how many were answered.
        trouble: why the server cannot be asked now, empty when it can.
    """

    def __init__(
        self,
        client: PolicyServerClient,
        count: int,
        instructions: Mapping[str, str],
        observation_keys: Sequence[str],
        action_dim: int,
        seed: int,
    ) -> None:
        """`instructions`: phase -> text, for observations that are not in replay; rows have their own.

        Raises:
            PolicyServerError: the server is not there or does not fit the robot.
        """
        self.client, self.count, self._instructions = client, count, dict(instructions)
        self.info = client.require(observation_keys, action_dim)
        self.version = self.info.version
        self.requests = 0
        self.trouble = ""
        self._seeds = np.random.default_rng([seed, 0xCA])
        self._kept: dict[int, _Kept] = {}
        self.texts: list[str] = []
        self._not_before_s = float("-inf")

    def moved_to(self, version: int) -> None:
        """The server's weights are of `version` now: older candidates are asked for anew when they are needed."""
        self.version = max(self.version, version)

    def plan(self, drawn: list[Drawn]) -> Plan:
        """Which candidates the batch needs and which of them nobody has; copies the observations of those."""
        places: list[_Place] = []
        missing: dict[tuple[int, int], _Missing] = {}
        observation: dict[str, list[np.ndarray]] = {name: [] for name in self.info.observations}
        texts: list[tuple[Drawn, np.ndarray]] = []
        for item in drawn:
            numbers = np.array([self._number(text) for text in item.ring.texts], np.int32)
            texts.append((item, numbers[item.ring.instruction[item.rows]]))
            for leaf, rows in (("candidates", item.rows), ("next_candidates", item.ring.next_row[item.rows])):
                frames = item.ring.frame[rows]
                places.append(_Place(leaf, item, rows))
                kept = self._of(item.ring)
                unknown = (kept.frame[rows] != frames) | (kept.version[rows] != self.version)
                for row in np.unique(rows[unknown]):
                    if (id(kept), int(row)) in missing:
                        continue
                    missing[id(kept), int(row)] = _Missing(
                        kept,
                        int(row),
                        int(item.ring.frame[row]),
                        item.ring.texts[item.ring.instruction[row]],
                        item.ring.action[row].copy(),
                    )
                    for name, arrays in observation.items():
                        arrays.append(item.ring.observation[name][row].copy())
        stacked = {name: np.stack(arrays) for name, arrays in observation.items()} if missing else {}
        return Plan(places, list(missing.values()), stacked, texts)

    def fill(self, batch: dict[str, Any], plan: Plan) -> None:
        """Ask for what is missing, keep it, and write the three leaves of `batch`."""
        for item, numbers in plan.texts:
            batch["text"][item.where][item.part] = numbers
        for first in range(0, len(plan.missing), FRAMES_PER_REQUEST):
            part = slice(first, first + FRAMES_PER_REQUEST)
            asked = plan.missing[part]
            answer = self._ask(asked, {name: array[part] for name, array in plan.observation.items()})
            if answer is None:
                break
            for i, wanted in enumerate(asked):
                wanted.kept.action[wanted.row] = answer.action[:, i]
                wanted.kept.frame[wanted.row], wanted.kept.version[wanted.row] = wanted.frame, answer.version
        unknown = {
            (id(wanted.kept), wanted.row): wanted.executed
            for wanted in plan.missing
            if wanted.kept.frame[wanted.row] != wanted.frame
        }
        for place in plan.places:
            kept = self._of(place.drawn.ring)
            out = batch[place.leaf][place.drawn.where][place.drawn.part]
            out[:] = kept.action[place.rows]
            for i, row in enumerate(place.rows if unknown else ()):
                executed = unknown.get((id(kept), int(row)))
                if executed is not None:
                    out[i] = executed

    def at(self, observation: Observation, phase: str) -> np.ndarray:
        """Candidates ``(K, d)`` for one observation that is not in replay; waits for the server.

        Raises:
            PolicyServerError: it does not answer.
        """
        rows = {name: observation[name][None] for name in self.info.observations}
        seed = int(self._seeds.integers(1 << 32))
        return self.client.sample(self.info, rows, [self._instructions[phase]], self.count, seed).action[:, 0]

    def _number(self, text: str) -> int:
        if text not in self.texts:
            self.texts.append(text)
        return self.texts.index(text)

    def _of(self, ring: Ring) -> _Kept:
        kept = self._kept.get(id(ring))
        if kept is None:
            kept = self._kept[id(ring)] = _Kept(ring.capacity, self.count, ring.action.shape[1])
        return kept

    def _ask(self, missing: list[_Missing], observation: dict[str, np.ndarray]) -> Samples | None:
        """Candidates ``(K, frames, d)``, or None when the server does not answer."""
        began_s = time.monotonic()
        if began_s < self._not_before_s:
            return None
        try:
            samples = self.client.sample(
                self.info,
                observation,
                [wanted.instruction for wanted in missing],
                self.count,
                int(self._seeds.integers(1 << 32)),
            )
        except PolicyServerError as error:
            if not self.trouble:
                log.warning("%s; training goes on with the candidates that it has and asks again", error)
            self.trouble = str(error)
            now_s = time.monotonic()
            self._not_before_s = now_s + max(RETRY_S, now_s - began_s)
            return None
        if self.trouble:
            log.info("the policy server at %s answers again", self.client.address)
        self.trouble = ""
        self.requests += 1
        self.moved_to(samples.version)
        return samples
