"""Checkpoints: the whole agent (parameters, optimisers, random state) and the counters, atomic, through orbax."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from learner.recipe import AgentState

log = logging.getLogger("etude.learner")


class CheckpointError(RuntimeError):
    """A checkpoint cannot be read; the message names the folder and the remedy."""


class Checkpoints:
    """The newest few checkpoints in one folder; a half-written one is never visible (orbax writes aside and renames)."""

    def __init__(self, folder: Path, keep: int = 2) -> None:
        self.folder = folder.resolve()
        options = ocp.CheckpointManagerOptions(max_to_keep=keep, create=True, enable_async_checkpointing=False)
        self._manager = ocp.CheckpointManager(self.folder, options=options)

    def save(self, updates: int, state: Any, counters: dict[str, Any]) -> None:
        """`state` is an AgentState of host arrays; `counters` is JSON."""
        if updates in self._manager.all_steps():
            return
        arguments = ocp.args.Composite(state=ocp.args.StandardSave(state), counters=ocp.args.JsonSave(counters))
        self._manager.save(updates, args=arguments, force=True)
        self._manager.wait_until_finished()

    def newest(self) -> int | None:
        return self._manager.latest_step()

    def restore(self, like: AgentState) -> tuple[AgentState, dict[str, Any]]:
        """The newest readable checkpoint in the shape of `like`. Raises CheckpointError when none fits the recipe."""
        if self.newest() is None:
            raise CheckpointError(f"there is no checkpoint in {self.folder}; start the run without resuming")
        abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, like)
        arguments = ocp.args.Composite(state=ocp.args.StandardRestore(abstract), counters=ocp.args.JsonRestore())
        problems = []
        for step in sorted(self._manager.all_steps(), reverse=True):
            try:
                restored = self._manager.restore(step, args=arguments)
            except (ValueError, KeyError, TypeError, OSError) as error:
                log.warning("checkpoint %d in %s cannot be read: %s", step, self.folder, error)
                problems.append(f"{step}: {error}")
                continue
            return jax.tree.map(jax.numpy.asarray, restored["state"]), restored["counters"]
        raise CheckpointError(
            f"no checkpoint in {self.folder} fits this recipe ({'; '.join(problems)}); resume with the configuration saved in "
            "the run folder"
        )

    def close(self) -> None:
        self._manager.close()


def to_host(state: AgentState) -> AgentState:
    """A copy on the host, so that training may donate the device buffers at once."""
    return jax.tree.map(np.array, state)
