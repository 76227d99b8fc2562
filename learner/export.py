"""The policy as a program: StableHLO from `jax.export`, and its weights as flat named arrays.

The program runs anywhere jaxlib runs; nothing of this package travels with it.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.export
import jax.numpy as jnp
import numpy as np

from etude.policy_file import PolicyProgram, PolicyWeights
from etude.specs import PHASES, specs_to_json
from learner.recipe import Agent, AgentState

PLATFORMS = ("cpu", "cuda")


def flatten(tree: Any, prefix: str = "") -> dict[str, Any]:
    """Nested dicts of arrays → ``{"a/b/c": array}``."""
    if not isinstance(tree, dict):
        return {prefix: tree}
    flat: dict[str, Any] = {}
    for name, child in tree.items():
        flat |= flatten(child, f"{prefix}/{name}" if prefix else name)
    return flat


def unflatten(flat: dict[str, Any]) -> dict[str, Any]:
    """Inverse of `flatten`."""
    tree: dict[str, Any] = {}
    for path, leaf in flat.items():
        node = tree
        *parents, name = path.split("/")
        for parent in parents:
            node = node.setdefault(parent, {})
        node[name] = leaf
    return tree


def export_program(agent: Agent, state: AgentState) -> PolicyProgram:
    """The inference function ``(params, observation, key, explore) -> action`` for CPU and CUDA; works on a machine without a
    GPU. That of an external policy takes its server's candidates ``(K, d)`` at the end. With help `paint` it gives
    ``(action, probability that the observation cannot be undone)``."""
    parameters = flatten(agent.policy_parameters(state))

    def program(
        params: dict[str, jax.Array],
        observation: dict[str, jax.Array],
        key: jax.Array,
        explore: jax.Array,
        candidates: jax.Array | None = None,
    ) -> Any:
        # an encoder without cameras, an external policy, and no critic at all have no parameters: keep their empty branches
        tree = {"encoder": {}, "policy": {}} | unflatten(params)
        action = agent.act(tree, observation, key, explore, candidates)
        return (action, agent.irreversible(tree, observation)) if agent.learns_irreversible else action

    shapes = {name: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype) for name, leaf in parameters.items()}
    observation = {name: jax.ShapeDtypeStruct(shape, dtype) for name, (shape, dtype) in agent.observation_spec.shapes().items()}
    observation["phase"] = jax.ShapeDtypeStruct((len(PHASES),), jnp.float32)
    key = jax.ShapeDtypeStruct((2,), jnp.uint32)
    explore = jax.ShapeDtypeStruct((), jnp.float32)
    count = agent.recipe.candidates_per_frame
    candidates = (jax.ShapeDtypeStruct((count, agent.action_spec.dim), jnp.float32),) if count else ()
    exported = jax.export.export(jax.jit(program), platforms=PLATFORMS)(shapes, observation, key, explore, *candidates)
    return PolicyProgram(
        serialized=bytes(exported.serialize()),
        specs_json=specs_to_json(agent.observation_spec, agent.action_spec),
        parameters={name: (tuple(leaf.shape), str(leaf.dtype)) for name, leaf in parameters.items()},
        description=f"{agent.recipe.name}: {agent.recipe.policy.kind} policy, {agent.recipe.improvement.kind}, "
        f"{agent.recipe.encoder.kind} encoder",
        candidates=count,
    )


def host_parameters(agent: Agent, state: AgentState) -> dict[str, np.ndarray]:
    """The policy's parameters copied to the host, so that training may donate its buffers at once."""
    return {name: np.array(leaf) for name, leaf in flatten(agent.policy_parameters(state)).items()}


def weights(run_id: str, version: int, program: PolicyProgram, parameters: dict[str, np.ndarray]) -> PolicyWeights:
    return PolicyWeights(run_id=run_id, version=version, program_digest=program.digest, parameters=parameters)
