"""The learner process: `learner.training.Learner` behind ROS topics. The node only moves bytes; learning knows no ROS.

Steps come in, acknowledgements, the policy program, weights in chunks and metrics go out. Publishing has its own thread, so that
neither training nor acknowledging ever waits for it.
"""

from __future__ import annotations

import contextlib
import logging
import math
import os
import sys
import threading
import time
from typing import TYPE_CHECKING

from etude_msgs import msg
from rclpy.node import Node

from etude.cli import clear_message
from etude.config import RunConfig
from etude.episodes.store import EpisodeStore
from etude.policy_file import PolicyProgram
from etude.run_folder import RunFolder
from etude.specs import ActionSpec, ObservationSpec, SpecError
from etude_nodes import convert, diagnostics, qos
from etude_nodes.diagnostics import Condition
from etude_nodes.parameters import fact
from etude_nodes.prepare import demonstrations_of
from etude_nodes.process import (
    EXIT_DONE,
    EXIT_REFUSED,
    configure_logging,
    middleware,
    parse_run,
    spinning,
    stop_event_from_signals,
    write_json,
)
from etude_nodes.weights import split

if TYPE_CHECKING:
    from rclpy.publisher import Publisher

    from learner.training import Learner

log = logging.getLogger("etude.learner_node")

HEARTBEAT_S = 0.2
"""An acknowledgement goes out at least this often, so that actors know that the learner lives."""
CHANGED_S = {"learner": 0.01, "realtime": 0.05, "free": 0.02}
"""By the robot's pace: how soon after a change an acknowledgement goes out. A simulation at the learner's pace waits for it."""
BETWEEN_CHUNKS_S = 0.0005
LEAST_DISK_GB = 2.0
"""An hour of practice takes 1 to 3 GB."""
NICENESS = 5
"""Training yields the processor to control loops on the same machine."""


class LearnerNode(Node):
    """Topics of one learner. Starts its threads in `start`, after the learner has its program."""

    def __init__(self, config: RunConfig, learner: "Learner", observation_spec: ObservationSpec, action_spec: ActionSpec) -> None:
        super().__init__("learner")
        self._config, self._learner = config, learner
        fact(self, "recipe", config.recipe.name, "how is learned: a file in robot_configs/recipes")
        fact(self, "robot_namespace", config.robot_namespace, "of the actor whose steps are learned from")
        fact(self, "seed", config.seed, "of everything random in the run")
        self._observation_spec, self._action_spec = observation_spec, action_spec
        self._program = PolicyProgram.from_bytes(learner.program_bytes)
        self._stop = threading.Event()
        self._malformed = 0
        self._published_version = 0
        self._publish_ms = float("nan")
        self._weights_publisher: Publisher | None = None
        self._weights_chunks = 0
        namespace = config.robot_namespace
        self._acks = self.create_publisher(msg.StepAck, qos.robot_topic(namespace, "steps_ack"), qos.STEPS_ACK)
        self._metrics = self.create_publisher(msg.Metrics, qos.METRICS_TOPIC, qos.METRICS)
        self._tell_condition = diagnostics.teller(self, "learner")
        self._programs = self.create_publisher(msg.PolicyProgram, qos.POLICY_PROGRAM_TOPIC, qos.latched())
        self.create_subscription(msg.Step, qos.robot_topic(namespace, "steps"), self._on_step, qos.STEPS)
        self.create_subscription(
            msg.StuckLabels,
            qos.robot_topic(namespace, "stuck_labels"),
            lambda m: learner.label_stuck(m.actor_id, convert.stuck_labels_from_message(m)),
            qos.STUCK_LABELS,
        )
        self.create_timer(1.0, self._report)
        self._threads = [
            threading.Thread(target=self._acknowledge, name="acknowledge", daemon=True),
            threading.Thread(target=self._publish_weights, name="publish", daemon=True),
        ]

    def start(self) -> None:
        """Publish the program (latched) and start acknowledging and publishing weights."""
        program = self._program
        self._programs.publish(
            convert.program_to_message(self._learner.program_bytes, self._learner.run_id, program.digest, program.description)
        )
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            if thread.is_alive():
                thread.join(timeout=2.0)

    # --- steps in, acknowledgements out -----------------------------------------------------------------------------

    def _on_step(self, message: msg.Step) -> None:
        try:
            step = convert.step_from_message(message)
            self._observation_spec.check(step.observation)
            self._action_spec.check(step.action)
        except (convert.MessageError, SpecError) as error:
            self._malformed += 1
            text = f"step {message.sequence} of {message.actor_id!r} does not fit this run and was dropped: {error}"
            self.get_logger().error(text, throttle_duration_sec=5.0)
            return
        self._learner.ingest(step)

    def _acknowledge(self) -> None:
        pause = CHANGED_S[self._config.robot.pace]
        sent: dict[str, tuple[int, int, bool]] = {}
        sent_at = 0.0
        while not self._stop.wait(pause):
            try:
                # "" is for actors that the learner does not know yet: it lives, and whether they may advance
                acknowledgements = {"": (0, 0), **self._learner.acknowledgements()}
                may_advance = self._learner.may_advance()
                now = time.monotonic()
                beat = now - sent_at >= HEARTBEAT_S
                sent_at = now if beat else sent_at
                for actor_id, (received, stored) in acknowledgements.items():
                    content = (received, stored, may_advance)
                    if beat or sent.get(actor_id) != content:
                        sent[actor_id] = content
                        self._acks.publish(self._ack(actor_id, received, stored, may_advance))
            except Exception:
                if self._stop.is_set():
                    return
                log.exception("acknowledging failed; trying again")
                time.sleep(0.5)

    def _ack(self, actor_id: str, received: int, stored: int, may_advance: bool) -> msg.StepAck:
        return msg.StepAck(
            actor_id=actor_id,
            learner_id=self._learner.learner_id,
            received_sequence=received,
            stored_sequence=stored,
            learner_env_steps=self._learner.environment_steps,
            updates=self._learner.updates,
            may_advance=bool(may_advance),
        )

    # --- weights out ------------------------------------------------------------------------------------------------

    def _publish_weights(self) -> None:
        while not self._stop.wait(min(0.1, self._config.publish.weights_interval_s)):
            newest = self._learner.newest_weights()
            if newest is None or newest[0] == self._published_version:
                continue
            try:
                self.publish_weights(*newest)
            except Exception:
                if self._stop.is_set():
                    return
                log.exception("publishing weights version %d failed; the next version will be tried", newest[0])
            # the newest version then, at most every so often: versions in between are skipped, never queued
            self._stop.wait(self._config.publish.weights_interval_s)

    def publish_weights(self, version: int, blob: bytes) -> None:
        """Send one version in chunks, with a short rest after each, so that no other thread waits for the interpreter."""
        began = time.perf_counter()
        chunks = split(
            blob,
            run_id=self._learner.run_id,
            learner_id=self._learner.learner_id,
            version=version,
            program_digest=self._program.digest,
            chunk_bytes=self._config.publish.chunk_bytes,
        )
        publisher = self._publisher_for(len(chunks))
        for chunk in chunks:
            publisher.publish(convert.chunk_to_message(chunk))
            if len(chunks) > 1:
                time.sleep(BETWEEN_CHUNKS_S)
        self._published_version = version
        self._publish_ms = (time.perf_counter() - began) * 1000

    def _publisher_for(self, chunks: int) -> "Publisher":
        """The latched history must hold exactly one version, so its depth is the number of chunks."""
        if self._weights_publisher is None or self._weights_chunks != chunks:
            if self._weights_publisher is not None:
                self.destroy_publisher(self._weights_publisher)
            self._weights_publisher = self.create_publisher(msg.PolicyWeights, qos.POLICY_WEIGHTS_TOPIC, qos.weights(chunks))
            self._weights_chunks = chunks
        return self._weights_publisher

    # --- once a second ----------------------------------------------------------------------------------------------

    def _report(self) -> None:
        metrics = self.numbers()
        self._metrics.publish(
            convert.metrics_to_message("learner", self._learner.environment_steps, self._learner.updates, metrics)
        )
        self._tell_condition(self.condition(metrics))

    def condition(self, metrics: dict[str, float]) -> Condition:
        """For ``/diagnostics``: whether it trains, and whether there is room for what it stores."""
        if failure := getattr(self._learner, "failure", None):
            return Condition("error", f"training failed: {failure}", metrics)
        if (free_gb := metrics.get("disk/free_gb", math.inf)) < LEAST_DISK_GB:
            left = f"{free_gb:.1f} GB of disk are left for this run"
            return Condition("warn", f"{left}: free some, or steps stay in the actor's outbox", metrics)
        return Condition("ok", "training" if self._published_version else "pretraining", metrics)

    def numbers(self) -> dict[str, float]:
        """The learner's metrics and the node's own."""
        return {
            **self._learner.metrics(),
            "publish/version": float(self._published_version),
            "publish/ms": self._publish_ms,
            "steps/malformed": float(self._malformed),
        }


def run(folder: RunFolder, config: RunConfig, stop: threading.Event) -> int:
    """Learn until `stop`, then write a checkpoint. The process's exit status."""
    from learner.training import Learner  # imports JAX

    status_file = folder.root / "learner_status.json"
    write_json(status_file, {"state": "starting", "stamp_s": time.time()})
    demonstrations = demonstrations_of(config)
    store = EpisodeStore.open(demonstrations)
    observation_spec, action_spec = store.observation_spec, store.action_spec
    store.close()
    learner = Learner(config, folder, demonstrations, observation_spec, action_spec)
    try:
        learner.start()
        with middleware():
            node = LearnerNode(config, learner, observation_spec, action_spec)
            with spinning(node):
                node.start()
                log.info("learner %s of run %s is ready", learner.learner_id, learner.run_id)
                while not stop.wait(1.0) and learner.failure is None:
                    write_json(status_file, _status(node, learner))
                node.stop()
    finally:
        log.info("writing the last checkpoint")
        learner.stop()
        with contextlib.suppress(OSError):
            write_json(status_file, {**_status(None, learner), "state": "stopped"})
    if learner.failure is not None:
        raise learner.failure
    return EXIT_DONE


def _status(node: LearnerNode | None, learner: "Learner") -> dict[str, object]:
    return {
        "state": "training" if learner.pretrained else "pretraining",
        "stamp_s": time.time(),
        "updates": learner.updates,
        "env_steps": learner.environment_steps,
        "metrics": node.numbers() if node else learner.metrics(),
    }


def main(argv: list[str] | None = None) -> int:
    configure_logging()
    stop = stop_event_from_signals()
    with contextlib.suppress(OSError):
        os.nice(NICENESS)
    try:
        return run(*parse_run(argv, __doc__.splitlines()[0]), stop)
    except Exception as error:
        text = clear_message(error)
        if text is None:
            raise
        print(f"learner: {text}", file=sys.stderr)
        return EXIT_REFUSED


if __name__ == "__main__":
    sys.exit(main())
