"""A learner process for tests: the real LearnerNode over a stand-in learner, told on stdin what to publish.

Prints ``ready`` when program and first weights are out, then answers each command line with ``done``.
"""

from __future__ import annotations

import dataclasses
import sys
import uuid

import jax
import jax.numpy as jnp
import numpy as np
from etude_msgs import msg

from etude.config import load_run_config
from etude.policy_file import PolicyProgram, PolicyWeights
from etude.specs import ActionSpec, ObservationSpec, specs_to_json
from etude_nodes import convert
from etude_nodes.learner_node import LearnerNode
from etude_nodes.process import configure_logging, middleware, spinning
from etude_nodes.weights import split

OBSERVATION, ACTION = ObservationSpec(("x_m", "y_m")), ActionSpec(("x", "y"), (0.1, 0.1))
SHAPES = {"w": ((2, 2), "float32"), "ballast": ((300_000,), "float32")}


def export_program() -> PolicyProgram:
    """A linear policy whose weights fill three chunks of 512 KB."""

    def policy(params, observation, key, explore):
        return jnp.tanh(observation["state"] @ params["w"] + 0.0 * params["ballast"].sum())

    leaves = {name: jax.ShapeDtypeStruct(shape, dtype) for name, (shape, dtype) in SHAPES.items()}
    inputs = {"state": jax.ShapeDtypeStruct((2,), "float32"), "phase": jax.ShapeDtypeStruct((2,), "float32")}
    key, explore = jax.ShapeDtypeStruct((2,), "uint32"), jax.ShapeDtypeStruct((), "float32")
    exported = jax.export.export(jax.jit(policy), platforms=["cpu"])(leaves, inputs, key, explore)
    return PolicyProgram(exported.serialize(), specs_to_json(OBSERVATION, ACTION), SHAPES, "a linear policy")


class StandIn:
    """What LearnerNode needs of `learner.training.Learner`."""

    run_id = "test-run"
    failure = None
    environment_steps = updates = 0

    def __init__(self, program: PolicyProgram) -> None:
        self.learner_id = uuid.uuid4().hex
        self.program = program
        self.program_bytes = program.to_bytes()
        self.newest: tuple[int, bytes] | None = None
        self.steps: list = []

    def weights(self, version: int, value: float, digest: str | None = None) -> bytes:
        parameters = {name: np.full(shape, 0.1, dtype) for name, (shape, dtype) in SHAPES.items()}
        parameters["w"][:] = value
        return PolicyWeights(self.run_id, version, digest or self.program.digest, parameters).to_bytes()

    def ingest(self, step) -> None:
        self.steps.append(step)

    def acknowledgements(self) -> dict[str, tuple[int, int]]:
        return {}

    def may_advance(self) -> bool:
        return True

    def newest_weights(self) -> tuple[int, bytes] | None:
        return self.newest

    def metrics(self) -> dict[str, float]:
        return {"critic/q_mean": 0.5}


def main() -> None:
    configure_logging()
    learner = StandIn(export_program())
    learner.newest = (1, learner.weights(1, 0.5))
    config = load_run_config("robot_configs/runs/demo_state.yaml", ["publish.weights_interval_s=0.1"])
    with middleware():
        node = LearnerNode(config, learner, OBSERVATION, ACTION)
        with spinning(node):
            node.start()
            while node.numbers()["publish/version"] < 1:
                pass
            print("ready", flush=True)
            for line in sys.stdin:
                command, version = line.split()
                publish(node, learner, command, int(version))
                print("done", flush=True)
            node.stop()


def publish(node: LearnerNode, learner: StandIn, command: str, version: int) -> None:
    """``good``, ``nan``, ``digest`` (of another program) or ``corrupt`` (one chunk damaged on the way), as `version`."""
    value, digest = {"nan": float("nan")}.get(command, 0.1 * version), "0" * 64 if command == "digest" else None
    blob = learner.weights(version, value, digest)
    if command == "good":
        learner.newest = (version, blob)
        return
    chunks = split(
        blob, run_id=learner.run_id, learner_id=learner.learner_id, version=version, program_digest=learner.program.digest
    )
    if command == "corrupt":
        damaged = bytearray(chunks[1].data)
        damaged[1000] ^= 0xFF
        chunks[1] = dataclasses.replace(chunks[1], data=bytes(damaged))
    publisher = node._publisher_for(len(chunks))
    for chunk in chunks:
        message: msg.PolicyWeights = convert.chunk_to_message(chunk)
        publisher.publish(message)


if __name__ == "__main__":
    main()
