"""Sends an external policy what it should imitate: now and then a few rows of a training batch, with improved actions.

The server works in a thread of this module, so training never waits for it; what comes while it works is not sent.
"""

from __future__ import annotations

import logging
import queue
import threading
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from etude.policy_server import PolicyServerError
from learner.recipe import Agent, AgentState
from learner.replay.candidates import Candidates

log = logging.getLogger("etude.learner")


def spread_rows(of: int, count: int) -> np.ndarray:
    """`count` row numbers evenly over a batch of `of` rows, whose first ones are demonstrations and last ones practice."""
    return np.arange(count) * of // count


class Distiller:
    """`offer` after every block of updates, from the thread that trains; `close` at the end.

    Attributes:
        steps: how many distillation steps the server made.
        loss: of the newest one, NaN before.
    """

    def __init__(self, agent: Agent, candidates: Candidates, seed: int) -> None:
        self._policy, self._directions = agent.recipe.policy, agent.directions
        self._candidates = candidates
        self._targets = jax.jit(agent.distillation_targets)
        self._key = jax.random.key_data(jax.random.key(seed))
        self._due = self._policy.distil_every_updates
        self._waiting: queue.Queue[tuple[dict[str, np.ndarray], tuple[str, ...], np.ndarray] | None] = queue.Queue(maxsize=1)
        self._trouble = ""
        self.steps, self.loss = 0, float("nan")
        self._thread = threading.Thread(target=self._work, name="distillation", daemon=True)
        self._thread.start()

    def offer(self, state: AgentState, batch: dict[str, Any], updates: int) -> None:
        """Distil rows of the last mini-batch of `batch` (leaves ``(K, D, B, …)``) when `updates` say that it is time."""
        if updates < self._due or self._waiting.full():
            return
        self._due = updates + self._policy.distil_every_updates
        rows = spread_rows(batch["reward"].shape[-1], max(1, self._policy.distil_batch // len(self._directions)))
        used = {name: batch[name] for name in ("observation", "action", "candidates", "text")}
        chosen = jax.tree.map(lambda leaf: leaf[-1][:, rows], used)
        key = jax.random.fold_in(self._key, updates)
        target = np.asarray(self._targets(state, jax.tree.map(jnp.asarray, chosen), key))
        observation = {name: array.reshape(-1, *array.shape[2:]) for name, array in chosen["observation"].items()}
        instructions = tuple(self._candidates.texts[number] for number in chosen["text"].ravel())
        self._waiting.put_nowait((observation, instructions, target.reshape(-1, target.shape[-1])))

    def metrics(self) -> dict[str, float]:
        server = self._candidates
        values = {"policy/server_version": float(server.version), "policy/server_requests": float(server.requests)}
        return values | ({"policy/server_distillation_loss": self.loss} if self.steps else {})

    def close(self, timeout_s: float = 2.0) -> None:
        """End the thread; a request that is under way is not waited for longer than `timeout_s`."""
        while not self._waiting.empty():
            self._waiting.get_nowait()
        self._waiting.put(None)
        self._thread.join(timeout_s)

    def _work(self) -> None:
        while (item := self._waiting.get()) is not None:
            try:
                answer = self._candidates.client.distil(self._candidates.info, *item)
            except PolicyServerError as error:
                if not self._trouble:
                    log.warning("distillation failed: %s; training goes on and tries again", error)
                self._trouble = str(error)
                continue
            self._trouble = ""
            self._candidates.moved_to(answer.version)
            self.loss = answer.loss
            self.steps += 1
