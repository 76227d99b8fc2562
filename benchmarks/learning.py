"""What learning costs on this machine: replay in memory and on disk, gradient updates, one action."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from benchmarks.result import Result
from etude.config import RunConfig, load_run_config
from etude.run_folder import REPOSITORY
from etude.specs import PHASES, ActionSpec, ObservationSpec
from etude.step import Step

RUNS = REPOSITORY / "robot_configs" / "runs"
STEPS = 2000
SEGMENT = 50
ACTION = ActionSpec(("x", "y", "z"), (0.03, 0.03, 0.03))
PIXELS = ObservationSpec(tuple(f"s{i}_m" for i in range(9)), {"front": (64, 64), "wrist": (64, 64)})
STATE = ObservationSpec(tuple(f"s{i}_m" for i in range(14)))


def replay() -> Iterator[Result]:
    """Rendered steps of the demo scene: memory and disk per 10,000 steps, transitions per second sampled from the RAM ring."""
    from etude.episodes.store import EpisodeStore
    from learner.replay.mixing import BatchSampler
    from learner.replay.ring import Ring

    config = load_run_config(RUNS / "demo.yaml")
    steps, observation_spec, action_spec = rendered_steps(config, STEPS)
    ring = Ring(STEPS, observation_spec, action_spec)
    for step in steps:
        ring.add(step)
    settings = {"cameras": "2x64x64x3 uint8", "steps": STEPS}
    yield Result("replay_mb_per_10k_steps_ram", ring.bytes_used() / 1e6 * 10_000 / STEPS, "MB", settings)
    with tempfile.TemporaryDirectory(prefix="etude-bench-") as name:
        store = EpisodeStore.create(Path(name) / "episodes", observation_spec, action_spec, {"kind": "benchmark"})
        for sequence, step in enumerate(steps, start=1):
            store.append(replace(step, actor_id="bench", sequence=sequence))
        store.close()
        size = sum(file.stat().st_size for file in Path(name).rglob("*") if file.is_file())
    yield Result("replay_mb_per_10k_steps_disk", size / 1e6 * 10_000 / STEPS, "MB", {**settings, "segment_steps": SEGMENT})
    data = config.recipe.data
    sampler = BatchSampler(data, PHASES, ring, ring, 0)
    seconds = _seconds(lambda: sampler.sample(4), 2.0)
    settings = {"batch_size": data.batch_size, "random_shift_px": data.random_shift_px, "cameras": "2x64x64x3 uint8"}
    yield Result("replay_samples_per_s", 4 * data.batch_size / seconds, "transitions/s", settings)


def updates_per_s() -> Iterator[Result]:
    """Gradient updates (critics, both policies, temperature) alone on this machine, by configuration."""
    state, pixels = load_run_config(RUNS / "demo_state.yaml"), load_run_config(RUNS / "demo.yaml")
    ten = load_run_config(RUNS / "demo_state.yaml", ["recipe.critic.ensemble=10"])
    for name, config, spec in (("state", state, STATE), ("state, 10 critics", ten, STATE), ("pixels", pixels, PIXELS)):
        updates, seconds = _time_updates(config, spec)
        recipe = config.recipe
        settings = {
            "observation": name,
            "batch_size": recipe.data.batch_size,
            "critics": recipe.critic.ensemble,
            "encoder": recipe.encoder.kind if spec.cameras else "none",
            "updates_per_call": updates,
        }
        yield Result("updates_per_s", updates / seconds, "updates/s", settings)


def action_latency_ms() -> Iterator[Result]:
    """One action of the exported policy through the actor's policy runner, median and 99th percentile."""
    import jax

    from actor.policy_runner import PolicyRunner
    from learner import export
    from learner.recipe import Agent

    for name, spec in (("state", STATE), ("pixels", PIXELS)):
        config = load_run_config(RUNS / ("demo_state.yaml" if name == "state" else "demo.yaml"))
        agent = Agent(config.recipe, spec, ACTION)
        zeros = np.zeros(spec.state_dim, np.float32)
        agent_state = agent.init(jax.random.key_data(jax.random.key(0)), zeros, zeros + 1)
        program = export.export_program(agent, agent_state)
        runner = PolicyRunner()
        runner.load_program(program.to_bytes())
        runner.load_weights(export.weights("bench", 1, program, export.host_parameters(agent, agent_state)).to_bytes())
        observation, times = spec.zeros(), []
        for i in range(2000):
            began = time.perf_counter()
            runner.act(observation, PHASES[i % 2], True)
            times.append((time.perf_counter() - began) * 1000)
        p50, p99 = np.percentile(times[100:], [50, 99])
        yield Result("action_latency_ms", float(p50), "ms", {"observation": name, "p99_ms": round(float(p99), 3)})


def rendered_steps(config: RunConfig, count: int) -> tuple[list[Step], ObservationSpec, ActionSpec]:
    """Steps of the demo scene under random actions, in segments of `SEGMENT`, both directions in turn."""
    from actor.robots import make_robot
    from etude.step import Source

    robot = make_robot(config, 0)
    rng = np.random.default_rng(0)
    steps = []
    for i in range(count):
        index, segment = i % SEGMENT, i // SEGMENT + 1
        phase = PHASES[segment % 2]
        if index == 0:
            robot.hard_reset(phase, rng)
        last = index == SEGMENT - 1
        action = (
            np.zeros(robot.action_spec.dim, np.float32) if last else rng.uniform(-1, 1, robot.action_spec.dim).astype(np.float32)
        )
        observation = {key: array.copy() for key, array in robot.read().observation.items()}
        steps.append(
            Step(
                actor_id="bench",
                sequence=i + 1,
                segment=segment,
                index=index,
                stamp_ns=time.time_ns(),
                phase=phase,
                task=config.task.name,
                instruction="",
                observation=observation,
                action=action,
                policy_action=action,
                reward=0.0,
                is_first=index == 0,
                is_last=last,
                is_terminal=False,
                source=Source.SCRIPTED,
                policy_version=0,
            )
        )
        if not last:
            robot.act(action)
    spec, action_spec = robot.observation_spec, robot.action_spec
    robot.close()
    return steps, spec, action_spec


def _time_updates(config: RunConfig, spec: ObservationSpec, count: int = 4) -> tuple[int, float]:
    """(updates per call, seconds per call) with random batches that are already in memory."""
    import jax
    import jax.numpy as jnp

    from learner.recipe import Agent
    from learner.replay.mixing import BatchSampler
    from learner.replay.ring import Ring

    agent = Agent(config.recipe, spec, ACTION)
    rng = np.random.default_rng(0)
    ring = Ring(10, spec, ACTION)
    batch = BatchSampler(config.recipe.data, config.recipe.phases, ring, ring, 0).example(count)
    batch = jax.tree.map(
        lambda a: jnp.asarray(
            rng.integers(0, 255, a.shape).astype(a.dtype) if a.dtype == np.uint8 else rng.uniform(-1, 1, a.shape).astype(a.dtype)
        ),
        batch,
    )
    zeros = np.zeros(spec.state_dim, np.float32)
    state = agent.init(jax.random.key_data(jax.random.key(0)), zeros, zeros + 1)
    block = agent.update_block("online")
    state, _ = block(state, batch)
    holder = [state]

    def update() -> None:
        holder[0], metrics = block(holder[0], batch)
        jax.block_until_ready(metrics)

    return count, _seconds(update, 4.0)


def _seconds(work, at_least_s: float) -> float:
    """Mean seconds of one call, over at least `at_least_s`."""
    work()
    count, began = 0, time.perf_counter()
    while time.perf_counter() - began < at_least_s:
        work()
        count += 1
    return (time.perf_counter() - began) / count
