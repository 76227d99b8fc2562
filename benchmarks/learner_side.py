"""The learner's process of the transport measurements: the real LearnerNode and episode store, without learning.

Reads commands on stdin and answers each with one line: ``publish VERSION``, ``train PUBLICATIONS``, ``quit``.
"""

from __future__ import annotations

import queue
import statistics
import sys
import threading
import time
import uuid
from pathlib import Path

import jax
import jax.export
import jax.numpy as jnp
import numpy as np

from benchmarks.transport import ACTION, OBSERVATION, PARAMETERS, RUN_CONFIG
from etude.config import load_run_config
from etude.episodes.store import EpisodeStore
from etude.policy_file import ParameterShapes, PolicyProgram, PolicyWeights
from etude.specs import specs_to_json
from etude.step import Step

SHAPES: ParameterShapes = {f"layer_{i}": ((PARAMETERS // 10,), "float32") for i in range(10)}
BETWEEN_PUBLICATIONS_S = 0.5


class StoringLearner:
    """What LearnerNode needs of a learner; stores what arrives, in a thread, as the real one does."""

    run_id = "bench"
    failure = None
    environment_steps = updates = 0

    def __init__(self, folder: Path) -> None:
        self.learner_id = uuid.uuid4().hex
        self.store = EpisodeStore.create(folder / "episodes", OBSERVATION, ACTION, {"kind": "benchmark"})
        self.program = export_program()
        self.program_bytes = self.program.to_bytes()
        self._actors: dict[str, None] = {}
        self._steps: queue.Queue[Step] = queue.Queue()
        threading.Thread(target=self._store_steps, daemon=True).start()

    def _store_steps(self) -> None:
        while True:
            step = self._steps.get()
            self._actors.setdefault(step.actor_id)
            self.store.append(step)

    def ingest(self, step: Step) -> None:
        self._steps.put(step)

    def acknowledgements(self) -> dict[str, tuple[int, int]]:
        return {actor: (self.store.received(actor), self.store.stored(actor)) for actor in tuple(self._actors)}

    def may_advance(self) -> bool:
        return True

    def newest_weights(self) -> None:
        return None  # published by command

    def metrics(self) -> dict[str, float]:
        return {}

    def weights(self, version: int) -> bytes:
        parameters = {name: np.full(shape, 1e-3 * version, np.float32) for name, (shape, _) in SHAPES.items()}
        return PolicyWeights(self.run_id, version, self.program.digest, parameters).to_bytes()


def export_program() -> PolicyProgram:
    """A policy with many parameters and little arithmetic: the transport is measured, not the network."""

    def policy(params, observation, key, explore):
        return jnp.tanh(observation["state"][:4] + sum(leaf[0] for leaf in params.values()))

    leaves = {name: jax.ShapeDtypeStruct(shape, dtype) for name, (shape, dtype) in SHAPES.items()}
    inputs = {name: jax.ShapeDtypeStruct(shape, dtype) for name, (shape, dtype) in OBSERVATION.shapes().items()}
    inputs["phase"] = jax.ShapeDtypeStruct((2,), "float32")
    key, explore = jax.ShapeDtypeStruct((2,), "uint32"), jax.ShapeDtypeStruct((), "float32")
    exported = jax.export.export(jax.jit(policy), platforms=["cpu"])(leaves, inputs, key, explore)
    return PolicyProgram(exported.serialize(), specs_to_json(OBSERVATION, ACTION), SHAPES, "benchmark")


class Training(threading.Thread):
    """Stands for training: the same jitted matrix products again and again; keeps when each update began and how long it took."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.updates: list[tuple[float, float]] = []
        self.stopping = False

    def run(self) -> None:
        @jax.jit
        def update(weights, batch):
            gradient = jax.grad(lambda w: jnp.square(jnp.tanh(batch @ w) @ w.T).mean())(weights)
            return weights - 1e-3 * gradient

        weights, batch = jnp.ones((512, 512)) * 0.01, jnp.ones((512, 512))
        update(weights, batch).block_until_ready()
        while not self.stopping:
            began = time.monotonic()
            weights = update(weights, batch)
            weights.block_until_ready()
            self.updates.append((began, time.monotonic() - began))


def measure_training(node, learner: StoringLearner, publications: int) -> tuple[float, float, float]:
    """(ms lost per publication, ms of an undisturbed update, ms of the longest update while publishing)."""
    training = Training()
    training.start()
    time.sleep(2.0)
    windows = []
    for version in range(2, 2 + publications):
        blob = learner.weights(version)
        time.sleep(BETWEEN_PUBLICATIONS_S)
        began = time.monotonic()
        node.publish_weights(version, blob)
        windows.append((began, time.monotonic()))
    training.stopping = True
    training.join()

    def published(moment: float) -> bool:
        return any(start <= moment <= end for start, end in windows)

    during = [seconds for began, seconds in training.updates if published(began) or published(began + seconds)]
    undisturbed = [seconds for began, seconds in training.updates if not (published(began) or published(began + seconds))]
    usual = statistics.median(undisturbed)
    lost = max(0.0, sum(during) - usual * len(during)) / publications
    return lost * 1000, usual * 1000, max(during, default=0.0) * 1000


def main() -> None:
    from etude_nodes.learner_node import LearnerNode
    from etude_nodes.process import configure_logging, middleware, spinning

    configure_logging()
    learner = StoringLearner(Path(sys.argv[1]))
    with middleware():
        node = LearnerNode(load_run_config(RUN_CONFIG), learner, OBSERVATION, ACTION)  # type: ignore[arg-type]
        with spinning(node):
            node.start()
            print("ready", flush=True)
            for line in sys.stdin:
                command, *arguments = line.split()
                if command == "quit":
                    break
                if command == "publish":
                    blob = learner.weights(int(arguments[0]))
                    began = time.monotonic()
                    print("publish", began, flush=True)
                    node.publish_weights(int(arguments[0]), blob)
                elif command == "train":
                    print("train", *measure_training(node, learner, int(arguments[0])), flush=True)
            node.stop()
    learner.store.close()


if __name__ == "__main__":
    main()
