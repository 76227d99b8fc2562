"""Checkpoints: the whole agent (parameters, optimisers, random state) and the counters, atomic, through orbax."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from learner.recipe import AgentState


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
        """The newest checkpoint in the shape of `like`. Raises CheckpointError when its arrays do not fit the recipe."""
        step = self.newest()
        if step is None:
            raise CheckpointError(f"there is no checkpoint in {self.folder}; start the run without resuming")
        abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, like)
        arguments = ocp.args.Composite(state=ocp.args.StandardRestore(abstract), counters=ocp.args.JsonRestore())
        try:
            restored = self._manager.restore(step, args=arguments)
        except (ValueError, KeyError, TypeError) as error:
            raise CheckpointError(
                f"checkpoint {step} in {self.folder} does not fit this recipe ({error}); resume with the "
                f"configuration saved in the run folder"
            ) from error
        return jax.tree.map(jax.numpy.asarray, restored["state"]), restored["counters"]

    def close(self) -> None:
        self._manager.close()


def to_host(state: AgentState) -> AgentState:
    """A copy on the host, so that training may donate the device buffers at once."""
    return jax.tree.map(np.array, state)
