"""Offline training: the whole recipe on stored data, in one process, without a robot and without ROS.

The result is a run folder like any other: `etude evaluate` runs its policy, `etude practice run --from` goes on from it. With
``--from RUN`` a fresh agent learns from the data of a practice run by the recipe's rewards alone (offline retraining after
exploration; Mark et al. 2023, "Offline Retraining for Online RL").
"""

from __future__ import annotations

import json
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from etude.config import ConfigError, RunConfig
from etude.episodes.store import EpisodeStore
from etude.metrics import MetricsWriter
from etude.policy_file import save_policy
from etude.run_folder import RunFolder
from learner import export, pretraining
from learner.checkpoint import Checkpoints, to_host
from learner.parts import Metrics
from learner.recipe import Agent, AgentState, Stage
from learner.replay.candidates import candidates_of
from learner.replay.demonstrations import add_practice, load_demonstrations, state_statistics
from learner.replay.mixing import BatchSampler
from learner.replay.relabelling import InterventionLabels
from learner.replay.ring import Ring

LOG_INTERVAL_S = 5.0


@dataclass(frozen=True)
class Progress:
    """What a listener hears every few seconds."""

    done: int
    total: int
    updates_per_s: float
    metrics: dict[str, float]


class Block(NamedTuple):
    """After some updates: how many were done in all, the state, the metrics of the last one ``(D,)`` each."""

    done: int
    state: AgentState
    metrics: Metrics


def train(
    config: RunConfig,
    folder: RunFolder,
    demonstrations: Path,
    practice: Path | None,
    say: Callable[[Progress], None],
) -> dict[str, float]:
    """Do the recipe's updates before practice, from the folder's newest checkpoint on; returns the last metrics.

    Args:
        demonstrations: episode store whose segments are all successful demonstrations; ``config.prior_data`` are more of them.
        practice: episode store of a practice run, or None; its rows are never cloned.

    Raises:
        ConfigError: the recipe asks for no updates or a direction has no data.
    """
    recipe = config.recipe
    specs = EpisodeStore.open(demonstrations, "r")
    observation_spec, action_spec = specs.observation_spec, specs.action_spec
    prior = load_demonstrations((demonstrations, *config.prior_data), recipe, observation_spec, action_spec)
    practised = Ring(recipe.data.replay_capacity_steps, observation_spec, action_spec, recipe.policy.chunk)
    if practice is not None:
        add_practice(practised, EpisodeStore.open(practice, "r"), recipe, InterventionLabels(recipe, practised))
    total = pretraining.total_updates(recipe, prior)
    if total == 0:
        missing = [phase for phase in recipe.phases if prior.transitions(phase) == 0]
        why = (
            f"{demonstrations} has no {' and no '.join(missing)} data"
            if missing
            else "data.pretrain_bc_steps and data.offline_steps are 0"
        )
        raise ConfigError(f"there is nothing to train: {why}")
    agent = Agent(recipe, observation_spec, action_spec, config.task.instructions)
    mean, std = state_statistics(prior)
    state = agent.init(jax.random.key_data(jax.random.key(config.seed)), mean, std)
    candidates = candidates_of(config, tuple(observation_spec.shapes()), action_spec.dim)
    sampler = BatchSampler(recipe, prior, practised, config.seed, candidates)
    checkpoints = Checkpoints(folder.checkpoints)
    writer = MetricsWriter(folder.metrics("learner"), folder.tensorboard)
    done = 0
    if checkpoints.newest() is not None:
        state, counters = checkpoints.restore(state)
        done = int(counters["pretrained_updates"])
        sampler.rng.bit_generator.state = json.loads(counters["sampler"])
    program = export.export_program(agent, state)

    def save() -> None:
        counters = {
            "updates": 0,
            "pretrained_updates": done,
            "version": 1,
            "sampler": json.dumps(sampler.rng.bit_generator.state),
        }
        with _interrupted_afterwards():
            checkpoints.save(done, to_host(state), counters)
            weights = export.weights(folder.root.name, 1, program, export.host_parameters(agent, state))
            save_policy(folder.policy, program, weights)

    metrics: dict[str, float] = {}
    began_s, began_at = time.monotonic(), done
    last_log = last_save = began_s
    try:
        with _interrupted_between_blocks() as raise_if_interrupted:
            for block in pretrain(agent, state, sampler, done, total):
                state, done = block.state, block.done
                now = time.monotonic()
                if now - last_log > LOG_INTERVAL_S or done >= total:
                    metrics = {
                        f"{name}/{direction}": float(np.asarray(value)[i])
                        for name, value in block.metrics.items()
                        for i, direction in enumerate(recipe.directions)
                    }
                    writer.write(done, metrics)
                    say(Progress(done, total, (done - began_at) / max(1e-9, now - began_s), metrics))
                    last_log = now
                if now - last_save > config.publish.checkpoint_interval_s and done < total:
                    save()
                    last_save = now
                if done < total:
                    raise_if_interrupted()
        state = agent.begin_practice(state)
    finally:
        # also after Ctrl-C: nothing that was trained is lost. A second one may end a block halfway: its state is gone, and the
        # newest checkpoint and its policy stay. A finished training that was killed before its policy was written writes it now
        try:
            if (done > began_at or done >= total) and not any(leaf.is_deleted() for leaf in jax.tree.leaves(state)):
                save()
        finally:
            checkpoints.close()
            writer.close()
    return metrics


def pretrain(agent: Agent, state: AgentState, sampler: BatchSampler, done: int, total: int) -> Iterator[Block]:
    """The updates before practice, from the one after `done` to `total`.

    A block's state must not be used after the next block was asked for, which is computed in its memory.
    Cloning sees demonstrations only; the offline stage whatever the sampler has (demonstrations alone where nothing else is).
    """
    stages: tuple[Stage, ...] = ("clone", "offline")
    blocks = {stage: agent.update_block(stage) for stage in stages}
    length = pretraining.block(agent.recipe)
    while done < total:
        stage = pretraining.stage(agent.recipe, done)
        batch = sampler.sample(length, demonstrations_only=stage == "clone")
        state, metrics = blocks[stage](state, jax.tree.map(jnp.asarray, batch))
        done += length
        yield Block(done, state, metrics)


@contextmanager
def _interrupted_between_blocks() -> Iterator[Callable[[], None]]:
    """Holds a first Ctrl-C back until the yielded function is called: within a block there is no state that could be saved.

    A second one is not held back.
    """
    if threading.current_thread() is not threading.main_thread():
        yield lambda: None  # only the main thread hears of signals
        return
    heard: list[int] = []

    def hold(number: int, _: object) -> None:
        if heard:
            raise KeyboardInterrupt
        heard.append(number)

    def raise_if_interrupted() -> None:
        if heard:
            raise KeyboardInterrupt

    before = signal.signal(signal.SIGINT, hold)
    try:
        yield raise_if_interrupted
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def _interrupted_afterwards() -> Iterator[None]:
    """Holds every Ctrl-C back until the block of code has ended; whoever listened before hears one of them then."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    heard: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, _: heard.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if heard:
        signal.raise_signal(signal.SIGINT)
