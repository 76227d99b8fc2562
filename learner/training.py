"""The learner process without ROS: threads that ingest steps, sample batches, train, snapshot weights and write checkpoints.

The node around it only moves bytes. Nothing here waits for the network, and training waits for nothing but data.
"""

from __future__ import annotations

import json
import logging
import math
import queue
import shutil
import threading
import time
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from etude.config import ConfigError, RunConfig
from etude.episodes.store import Appended, EpisodeStore, StoreError
from etude.metrics import MetricsWriter
from etude.policy_file import save_policy
from etude.run_folder import RunFolder
from etude.specs import ActionSpec, ObservationSpec
from etude.status import StuckLabels
from etude.step import Step
from learner import export, pretraining
from learner.checkpoint import Checkpoints, to_host
from learner.distillation import Distiller
from learner.help.labels import StuckStates, labelled_states
from learner.recipe import Agent, AgentState, Stage
from learner.replay.candidates import candidates_of
from learner.replay.demonstrations import add_practice, fill_returns, load_demonstrations, state_statistics
from learner.replay.mixing import BatchSampler
from learner.replay.relabelling import InterventionLabels
from learner.replay.ring import Ring

log = logging.getLogger("etude.learner")

ONLINE_BLOCK = 4
"""Updates per jitted call while practising, at least (`pretraining.block`): small, so that new data and new weights flow."""
STORE_RETRY_S = 0.5


def advance_slack(utd: float, block: int) -> int:
    """Steps that a simulation may run ahead of the update ratio: at least what allows one whole block, or both would wait."""
    return max(20, math.ceil(block / utd) + 1)


@dataclass(frozen=True)
class _CheckpointData:
    """What one checkpoint holds, copied to the host, and who waits for it."""

    number: int
    state: AgentState
    counters: dict[str, Any]
    parameters: dict[str, np.ndarray]
    pretrained: bool
    waiters: list[threading.Event]


class Learner:
    """Owns replay, agent and checkpoints of one run. `start` returns at once; progress is in `metrics`.

    Resumes by itself: when the run folder has a checkpoint, agent, optimisers, random state and counters continue from it and
    replay is
    refilled from the episode store.
    """

    def __init__(
        self,
        config: RunConfig,
        folder: RunFolder,
        demonstrations: Path,
        observation_spec: ObservationSpec,
        action_spec: ActionSpec,
    ) -> None:
        if config.recipe.reset.kind == "vaprl":
            raise ConfigError(
                "recipe.reset.kind vaprl chooses goals with the learner's critic, and no topic carries them to the actor: use "
                "`etude benchmark earl --method vaprl`, or another reset"
            )
        self.config, self.folder = config, folder
        self.run_id = folder.root.name
        self.learner_id = uuid.uuid4().hex
        data = config.recipe.data
        self._agent = Agent(config.recipe, observation_spec, action_spec, config.task.instructions)
        self._lock = threading.Lock()
        self._online = Ring(data.replay_capacity_steps, observation_spec, action_spec, config.recipe.policy.chunk)
        stores = (demonstrations, *config.prior_data)
        self._demonstrations = load_demonstrations(stores, config.recipe, observation_spec, action_spec)
        self._phases, self._directions = config.recipe.phases, config.recipe.directions
        self._block = pretraining.block(config.recipe, ONLINE_BLOCK)
        candidates = candidates_of(config, tuple(observation_spec.shapes()), action_spec.dim)
        self._distiller = Distiller(self._agent, candidates, config.seed) if candidates else None
        self._sampler = BatchSampler(config.recipe, self._demonstrations, self._online, config.seed, candidates, self._lock)
        self._store = _open_store(folder.episodes, observation_spec, action_spec, {"run": self.run_id, "task": config.task.name})
        self._labels = InterventionLabels(config.recipe, self._online)
        self._stuck, self._stuck_changed = StuckStates(self._online), False
        self.environment_steps = 0
        self.updates = 0
        self._pretrained_updates = 0
        self._version = 0
        self._actors = dict.fromkeys(self._store.actors())
        self._refill()

        mean, std = state_statistics(self._demonstrations)
        self._state = self._agent.init(jax.random.key_data(jax.random.key(config.seed)), mean, std)
        self._checkpoints = Checkpoints(folder.checkpoints)
        if self._checkpoints.newest() is not None:
            self._state, counters = self._checkpoints.restore(self._state)
            self._restore(counters)
        self._program = export.export_program(self._agent, self._state)
        self.program_bytes = self._program.to_bytes()

        self._stop = threading.Event()
        self._steps: queue.Queue[Step] = queue.Queue()
        self._batches: queue.Queue[tuple[Stage, int, Any]] = queue.Queue(maxsize=2)
        self._snapshot: tuple[int, dict[str, np.ndarray]] | None = None
        self._serialised: tuple[int, bytes] | None = None
        self._checkpoint_waiters: queue.SimpleQueue[threading.Event] = queue.SimpleQueue()
        self._checkpoint_data: queue.Queue[_CheckpointData] = queue.Queue(maxsize=1)
        self._newest_metrics: dict[str, float] = {}
        self._rate = _Rate()
        self.failure: BaseException | None = None
        self.trouble = ""
        self._writer = MetricsWriter(folder.metrics("learner"), folder.tensorboard)
        self._threads = [
            threading.Thread(target=self._guard, args=(work,), name=f"learner-{work.__name__.strip('_')}", daemon=True)
            for work in (self._ingest_steps, self._sample, self._train, self._write_checkpoints)
        ]

    # --- called by the node, any thread -----------------------------------------------------------------------------

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def ingest(self, step: Step) -> None:
        """Take one step from the wire; returns at once. Duplicates and gaps are sorted out by the store."""
        self._steps.put(step)

    def label_stuck(self, actor_id: str, labels: StuckLabels) -> None:
        """Take a person's labels of states; with help rule `paint` the classifier is trained anew, soon."""
        with self._lock:
            known = self._stuck.label(actor_id, labels)
        log.info("stuck labels of %s: %d states of practice are labelled now", actor_id, known)
        self._stuck_changed = self._agent.learns_irreversible

    def acknowledgements(self) -> dict[str, tuple[int, int]]:
        """actor_id -> (received, stored): highest contiguous sequence in memory and on disk."""
        # known actors are remembered here: asking the store for them would wait for its disk
        return {actor: (self._store.received(actor), self._store.stored(actor)) for actor in tuple(self._actors)}

    def may_advance(self) -> bool:
        """Whether a simulation that runs as fast as the learner may take further steps now."""
        slack = advance_slack(self.config.recipe.data.utd, self._block)
        return self.updates >= self._allowed_updates(self.environment_steps - slack)

    @property
    def pretrained(self) -> bool:
        return self._pretrained_updates >= self._pretraining_total()

    def newest_weights(self) -> tuple[int, bytes] | None:
        """(version, bytes) of the newest snapshot; None before pretraining is over. Serialised once per version, in the
        caller's thread."""
        snapshot = self._snapshot
        if snapshot is None:
            return None
        if self._serialised is None or self._serialised[0] != snapshot[0]:
            weights = export.weights(self.run_id, snapshot[0], self._program, snapshot[1])
            self._serialised = (snapshot[0], weights.to_bytes())
        return self._serialised

    def metrics(self) -> dict[str, float]:
        """Newest numbers: losses, rates, replay sizes. Plain floats."""
        with self._lock:
            sizes = {f"replay/{phase}_transitions": float(self._online.transitions(phase)) for phase in self._phases}
            sizes["replay/ram_mb"] = (self._online.bytes_used() + self._demonstrations.bytes_used()) / 1e6
        practised = max(1, self.environment_steps - self.config.recipe.data.min_online_steps)
        return {
            **self._newest_metrics,
            **(self._distiller.metrics() if self._distiller else {}),
            **sizes,
            "learner/updates": float(self.updates),
            "learner/updates_per_s": self._rate.per_second(self.updates + self._pretrained_updates),
            "learner/env_steps": float(self.environment_steps),
            "learner/utd": self.updates / practised,
            "learner/policy_version": float(self._version),
            "learner/pretraining": self._pretrained_updates / max(1, self._pretraining_total()),
            "learner/steps_waiting": float(self._steps.qsize()),
            "disk/free_gb": shutil.disk_usage(self.folder.root).free / 1e9,
        }

    def checkpoint(self, timeout_s: float = 60.0) -> bool:
        """Write a checkpoint of a state not older than this call; True when it is on disk."""
        done = threading.Event()
        self._checkpoint_waiters.put(done)
        return done.wait(timeout_s)

    def stop(self) -> None:
        """Checkpoint, stop the threads, close the store. The unfinished segment stays in the actor's outbox."""
        if self.failure is None and any(thread.is_alive() for thread in self._threads):
            self.checkpoint()
        self._stop.set()
        for thread in self._threads:
            if thread.is_alive():
                thread.join(timeout=10.0)
        if self._distiller:
            self._distiller.close()
        try:
            with self._lock:
                self._store.flush()
        except StoreError as error:
            log.error("%s; the actor keeps what is not stored and sends it again", error)
        finally:
            self._store.close()
            self._writer.close()
            self._checkpoints.close()

    # --- threads ----------------------------------------------------------------------------------------------------

    def _guard(self, work: Any) -> None:
        try:
            work()
        except BaseException as error:  # a dead thread must end the process, not hang it
            log.exception("learner thread %s failed", work.__name__)
            self.failure = error
            self._stop.set()

    def _ingest_steps(self) -> None:
        while not self._stop.is_set():
            try:
                step = self._steps.get(timeout=0.1)
            except queue.Empty:
                continue
            self._actors.setdefault(step.actor_id)
            try:
                with self._lock:
                    if self._store.append(step) is Appended.ACCEPTED:
                        self._add(step)
                self.trouble = ""
            except StoreError as error:
                # a full disk, or a step that does not fit: it is not acknowledged, so its actor keeps it and sends it again
                if self.trouble != str(error):
                    log.error("%s", error)
                self.trouble = str(error)
                self._stop.wait(STORE_RETRY_S)

    def _add(self, step: Step) -> None:
        row = self._online.add(step)
        self._labels.add(step, row)
        self.environment_steps += 0 if step.is_last else 1
        if step.is_last:
            fill_returns(self._online, row, self.config.recipe)

    def _sample(self) -> None:
        planned = self.updates
        pretraining_planned = self._pretrained_updates
        while not self._stop.is_set():
            remaining = self._pretraining_total() - pretraining_planned
            stage: Stage
            if remaining > 0:
                stage = pretraining.stage(self.config.recipe, pretraining_planned)
                count = pretraining.block(self.config.recipe)
            else:
                stage, count = "online", self._block
                if planned + count > self._allowed_updates(self.environment_steps):
                    time.sleep(0.002)
                    continue
            batch = self._sampler.sample(count, demonstrations_only=stage == "clone")
            if stage != "online":
                pretraining_planned += count
            else:
                planned += count
            self._put_batch((stage, count, batch))

    def _put_batch(self, item: tuple[Stage, int, Any]) -> None:
        while not self._stop.is_set():
            try:
                self._batches.put(item, timeout=0.1)
                return
            except queue.Full:
                continue

    def _train(self) -> None:
        blocks: dict[Stage, Any] = {stage: self._agent.update_block(stage) for stage in ("clone", "offline")}
        last_snapshot = last_checkpoint = last_log = time.monotonic()
        if self.pretrained:
            self._take_snapshot()
        while not self._stop.is_set():
            if self.pretrained and "online" not in blocks:
                # compiled while the actor is still evaluating the first policy, so that practice does not wait for it
                blocks["online"] = self._compile_online_block()
            if self._stuck_changed:
                self._learn_irreversible()
            now = time.monotonic()
            due = now - last_checkpoint > self.config.publish.checkpoint_interval_s and self.updates > 0
            if (due or not self._checkpoint_waiters.empty()) and not self._checkpoint_data.full():
                self._hand_over_checkpoint()
                last_checkpoint = now
            try:
                stage, count, batch = self._batches.get(timeout=0.05)
            except queue.Empty:
                continue
            self._state, metrics = blocks[stage](self._state, jax.tree.map(jnp.asarray, batch))
            values = {name: np.asarray(value) for name, value in metrics.items()}  # waits for the block
            self._newest_metrics = {
                f"{name}/{direction}": float(v[i]) for name, v in values.items() for i, direction in enumerate(self._directions)
            }
            if stage != "online":
                self._pretrained_updates += count
                if self.pretrained:
                    self._state = self._agent.begin_practice(self._state)
                    self._take_snapshot()
            else:
                self.updates += count
                if self._distiller:
                    self._distiller.offer(self._state, batch, self.updates)
            now = time.monotonic()
            if self.pretrained and now - last_snapshot > self.config.publish.weights_interval_s:
                self._take_snapshot()
                last_snapshot = now
            if now - last_log > 5.0:
                self._writer.write(self.environment_steps, self.metrics())
                last_log = now

    def _learn_irreversible(self) -> None:
        self._stuck_changed = False
        rings, rng = (self._demonstrations, self._online), np.random.default_rng(self.updates)
        with self._lock:
            stuck, free = (labelled_states(rings, which, rng) for which in (True, False))
        self._state = self._agent.learn_irreversible(self._state, stuck, free, rng)
        log.info("irreversible states: trained on %d stuck and %d free ones", len(stuck["state"]), len(free["state"]))

    def _compile_online_block(self) -> Any:
        example = jax.tree.map(jnp.asarray, self._sampler.example(self._block))
        return self._agent.update_block("online").lower(self._state, example).compile()

    def _take_snapshot(self) -> None:
        self._version += 1
        self._snapshot = (self._version, export.host_parameters(self._agent, self._state))

    def _hand_over_checkpoint(self) -> None:
        """Copy the state for the checkpoint thread, with everybody who waits for it."""
        waiters = []
        while not self._checkpoint_waiters.empty():
            waiters.append(self._checkpoint_waiters.get())
        counters = {
            "updates": self.updates,
            "pretrained_updates": self._pretrained_updates,
            "version": self._version,
            "sampler": json.dumps(self._sampler.rng.bit_generator.state),
        }
        self._checkpoint_data.put_nowait(
            _CheckpointData(
                number=self.updates + self._pretrained_updates,
                state=to_host(self._state),
                counters=counters,
                parameters=export.host_parameters(self._agent, self._state),
                pretrained=self.pretrained,
                waiters=waiters,
            )
        )

    def _write_checkpoints(self) -> None:
        while not (self._stop.is_set() and self._checkpoint_data.empty()):
            try:
                data = self._checkpoint_data.get(timeout=0.1)
            except queue.Empty:
                continue
            try:
                self._checkpoints.save(data.number, data.state, data.counters)
                if data.pretrained:
                    weights = export.weights(self.run_id, data.counters["version"], self._program, data.parameters)
                    save_policy(self.folder.policy, self._program, weights)
            except Exception:  # orbax raises many types on a full disk; training goes on and the next checkpoint is tried
                log.exception("checkpoint %d could not be written to %s", data.number, self.folder.checkpoints)
                continue
            for waiter in data.waiters:
                waiter.set()

    # --- resuming and ratios ----------------------------------------------------------------------------------------

    def _pretraining_total(self) -> int:
        return pretraining.total_updates(self.config.recipe, self._demonstrations)

    def _allowed_updates(self, environment_steps: int) -> float:
        """Updates that the update-to-data ratio allows after so many environment steps."""
        data = self.config.recipe.data
        if not self.pretrained or any(
            self._online.transitions(p) + self._demonstrations.transitions(p) == 0 for p in self._phases
        ):
            return 0.0 if not self.pretrained else float(self.updates)
        return data.utd * max(0, environment_steps - data.min_online_steps)

    def _refill(self) -> None:
        """Replay from the store: the newest segments that fit, oldest first."""
        self.environment_steps = sum(info.length - 1 for info in self._store.segments())
        add_practice(self._online, self._store, self.config.recipe, self._labels)

    def _restore(self, counters: dict[str, Any]) -> None:
        self.updates = int(counters["updates"])
        self._pretrained_updates = int(counters["pretrained_updates"])
        self._version = int(counters["version"])
        self._sampler.rng.bit_generator.state = json.loads(counters["sampler"])
        log.info(
            "resumed at %d updates, %d environment steps, policy version %d", self.updates, self.environment_steps, self._version
        )


def _open_store(path: Path, observation_spec: ObservationSpec, action_spec: ActionSpec, metadata: dict[str, str]) -> EpisodeStore:
    if path.exists():
        return EpisodeStore.open(path, "a")
    return EpisodeStore.create(path, observation_spec, action_spec, metadata)


class _Rate:
    """Events per second over about the last five seconds."""

    def __init__(self) -> None:
        self._marks: list[tuple[float, int]] = []

    def per_second(self, count: int) -> float:
        now = time.monotonic()
        self._marks.append((now, count))
        while len(self._marks) > 2 and now - self._marks[0][0] > 5.0:
            self._marks.pop(0)
        (start, first), (end, last) = self._marks[0], self._marks[-1]
        return (last - first) / (end - start) if end > start else 0.0
