"""`etude bench learner`: gradient updates per second of every kind of recipe on this machine's device, and where the time goes.

Every case trains one direction (reset by a person), so that its numbers compare with published learners. Networks start from
random numbers and batches are random and already in memory: only the update itself is timed.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import optax

from benchmarks.device import jax_device
from benchmarks.learning import ACTION, STATE
from benchmarks.result import Result
from etude.config import RecipeConfig
from etude.specs import ObservationSpec
from learner.parts import Improver, Params, Propose, Rows
from learner.recipe import Agent, AgentState, Batch
from learner.replay.mixing import BatchSampler
from learner.replay.ring import Ring

CAMERAS = ObservationSpec(tuple(f"s{i}_m" for i in range(9)), {"front": (128, 128), "wrist": (128, 128)})
FEWEST_CALLS = 3
HIL_SERL = "HIL-SERL's learner on 2 CPU cores: "
"""Measured with its public code on a machine like the one of docs/benchmarks.md, otherwise idle."""


@dataclass(frozen=True)
class Case:
    """One configuration to measure.

    Attributes:
        recipe: settings of `RecipeConfig` by axis.
        spec: the observation; its cameras decide whether there is an image encoder.
        updates_per_call: K updates on K batches in one jitted call (UTD 20 is 20 of them).
        reference: what others reach, for the printed line.
        parts: time the parts of one update instead of whole updates.
        gpu_only: too slow elsewhere; on a CPU it runs only when it is named.
    """

    recipe: dict[str, dict[str, Any]]
    spec: ObservationSpec = STATE
    updates_per_call: int = 1
    reference: str = ""
    parts: bool = False
    gpu_only: bool = False


def _state(critics: int, **axes: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """RLPD's critic and networks, batch 256; other axes as given."""
    return {"critic": {"kind": "td", "ensemble": critics, "subset_min": 2}, "data": {"batch_size": 256}, **axes}


def _pixels(batch: int, encoder: str, compute_dtype: str = "float32") -> dict[str, dict[str, Any]]:
    encoding = {"kind": encoder, "features": 128, "patch_px": 8, "compute_dtype": compute_dtype}
    return {"data": {"batch_size": batch}, "encoder": encoding}


def _pa_rl(**policy: Any) -> dict[str, dict[str, Any]]:
    """PA-RL's published numbers: 32 samples, the best 10 of them improved in 10 steps by 10 critics."""
    return _state(10, policy=policy, improvement={"kind": "pa_rl", "candidates": 32, "keep": 10, "ascent_steps": 10})


_TWO, _TEN = HIL_SERL + "204 updates/s", HIL_SERL + "58 updates/s; aim here: 116"
_IMAGES = HIL_SERL + "0.62 s an update, that is 1.6 updates/s; aim here: 8.1"
_DIFFUSION = {"kind": "diffusion", "sampling_steps": 5, "width": 256, "blocks": 3, "dropout": 0.1}
_AUTOREGRESSIVE = {"kind": "autoregressive", "bins": 128, "width": 256, "blocks": 4, "heads": 8}

CASES: dict[str, Case] = {
    "state-2-utd1": Case(_state(2), reference=_TWO),
    "state-2-utd20": Case(_state(2), updates_per_call=20, reference=_TWO),
    "state-10-utd1": Case(_state(10), reference=_TEN),
    "state-10-utd20": Case(_state(10), updates_per_call=20, reference=_TEN),
    "state-2-rlpd": Case(_state(2, improvement={"every": 20}), updates_per_call=20, reference=_TWO),
    "state-10-rlpd": Case(_state(10, improvement={"every": 20}), updates_per_call=20, reference=_TEN),
    "pixels-64": Case(_pixels(64, "patch"), CAMERAS, reference=_IMAGES),
    "pixels-256": Case(_pixels(256, "patch"), CAMERAS),
    "conv-64": Case(_pixels(64, "conv"), CAMERAS, reference=_IMAGES, gpu_only=True),
    "conv-256": Case(_pixels(256, "conv"), CAMERAS, gpu_only=True),
    "conv-64-utd20": Case(_pixels(64, "conv"), CAMERAS, updates_per_call=20, reference=_IMAGES, gpu_only=True),
    "conv-64-bf16": Case(_pixels(64, "conv", "bfloat16"), CAMERAS, reference=_IMAGES, gpu_only=True),
    "conv-256-bf16": Case(_pixels(256, "conv", "bfloat16"), CAMERAS, gpu_only=True),
    "gradient": Case(_state(10, improvement={"kind": "gradient"})),
    "awr": Case(_state(10, improvement={"kind": "awr"})),
    "bc": Case({**_state(10, improvement={"kind": "bc"}), "critic": {"kind": "none"}}),
    "pa_rl-gaussian": Case(_pa_rl(kind="gaussian", cloning="log_likelihood")),
    "pa_rl-diffusion": Case(_pa_rl(**_DIFFUSION)),
    "pa_rl-autoregressive": Case(_pa_rl(**_AUTOREGRESSIVE)),
    "parts-state-10": Case(_state(10), parts=True, reference=_TEN),
    "parts-pixels-64": Case(_pixels(64, "patch"), CAMERAS, parts=True, reference=_IMAGES),
    "parts-pa_rl-diffusion": Case(_pa_rl(**_DIFFUSION), parts=True),
}


def main(argv: Sequence[str]) -> int:
    """Measure all or the named cases. Returns 0, or 1 when one failed (the others still run, and it gets a line that says so)."""
    parser = argparse.ArgumentParser(
        prog="etude bench learner",
        description="Measure gradient updates on the device of JAX; one JSON object per line on stdout, remarks on stderr.",
        epilog="cases: " + " ".join(CASES) + "\n\nexample: etude bench learner --only state-10-utd1 --only parts-state-10",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--only", action="append", metavar="CASE", choices=list(CASES), help="one case; may be repeated")
    parser.add_argument("--seconds", type=float, default=3.0, help="time spent on each measurement (default: %(default)s)")
    arguments = parser.parse_args(list(argv))
    chosen = list(dict.fromkeys(arguments.only or CASES))
    _say(f"device: {jax_device()}")
    failed = 0
    for number, name in enumerate(chosen, start=1):
        case, label = CASES[name], f"[{number}/{len(chosen)}] {name}"
        measured = "update_part_ms" if case.parts else "updates_per_s"
        if case.gpu_only and jax.default_backend() == "cpu" and not arguments.only:
            reason = f"convolutions are not for a CPU (docs/decisions/002); --only {name} measures them all the same"
            print(json.dumps({"name": measured, "skipped": reason, "config": {"case": name}}), flush=True)
            _say(f"{label}: skipped, {reason}")
            continue
        _say(f"{label}: compiling …")
        try:
            for result in (update_parts if case.parts else updates_per_s)(name, case, arguments.seconds):
                print(result.to_json(), flush=True)
                _say(f"{label}: {result.config.get('part', '')} {result.value:.4g} {result.unit}")
        except Exception as error:  # one case that cannot run here must not hide the others
            failed += 1
            line = {"name": measured, "error": f"{type(error).__name__}: {error}", "config": {"case": name}}
            print(json.dumps(line), flush=True)
            _say(f"{label}: failed, {line['error']}")
    return 1 if failed else 0


def updates_per_s(name: str, case: Case, seconds: float) -> Iterator[Result]:
    """Median updates per second of the whole update block, as the learner calls it; the fastest call is in the configuration."""
    agent = Agent(_recipe(name, case), case.spec, ACTION)
    state, batches = random_state(agent), random_batches(agent, case.updates_per_call)
    block = agent.update_block("online")
    holder = [state]

    def update() -> None:
        holder[0], metrics = block(holder[0], batches)
        jax.block_until_ready((holder[0], metrics))

    compile_s, times = _time(update, seconds)
    k = case.updates_per_call
    settings = _settings(name, case, agent.recipe) | {
        "updates_per_call": k,
        "best_updates_per_s": round(k / min(times), 2),
        "calls": len(times),
        "compile_s": round(compile_s, 1),
    }
    yield Result("updates_per_s", k / float(np.median(times)), "updates/s", settings)


def update_parts(name: str, case: Case, seconds: float) -> Iterator[Result]:
    """Median milliseconds of the parts of one update, each jitted alone, and of the whole.

    Together, XLA shares work between the parts that it cannot share here, so they need not add up.
    """
    agent = Agent(_recipe(name, case), case.spec, ACTION)
    state = random_state(agent)
    batch = jax.tree.map(lambda leaf: leaf[0], random_batches(agent, 1))
    for part, work in parts_of_an_update(agent, state, batch).items():
        compile_s, times = _time(work, seconds)
        settings = _settings(name, case, agent.recipe) | {
            "part": part,
            "best_ms": round(min(times) * 1e3, 4),
            "calls": len(times),
            "compile_s": round(compile_s, 1),
        }
        yield Result("update_part_ms", float(np.median(times)) * 1e3, "ms", settings)


def parts_of_an_update(agent: Agent, state: AgentState, batch: Batch) -> dict[str, Callable[[], None]]:
    """What an update of one direction is made of, as functions to call; batch leaves are ``(1, B, …)``.

    - ``encode``: both frames forward, the first one's gradient back into the encoder;
    - ``critic``: the critic's loss, its target included, and the gradient by critic and features;
    - ``policy``: the improvement's loss and the gradient by policy and temperature;
    - ``optimisers``: Adam of everything, target critic and averaged policy;
    - ``whole``: `Agent.update`.
    """
    frames = (batch["observation"], batch["next_observation"])
    z, z_next = (jax.jit(agent.encode)(state.encoder, state.statistics, observation) for observation in frames)
    one = {name: batch[name][0] for name in Rows._fields if name in batch}
    rows = Rows(z=z[0], z_next=z_next[0], irreversible=jnp.zeros_like(one["reward"]), temperature=jnp.asarray(0.01), **one)
    networks = (state.critic, state.target_critic, state.policy, state.policy_average, state.log_temperature)
    arguments = (*jax.tree.map(lambda leaf: leaf[0], networks), rows, state.key)
    return {
        "encode": _call(partial(_encode, agent), state.encoder, state.statistics, *frames, jnp.ones_like(z)),
        "critic": _call(partial(_critic_gradient, agent), *arguments),
        "policy": _call(partial(_policy_gradient, agent), *arguments),
        "optimisers": _call(partial(_optimise, agent), state),
        "whole": _call(agent.update, state, batch),
    }


def _encode(agent: Agent, encoder: Params, statistics: Params, observation: Any, following: Any, cotangent: jax.Array) -> Any:
    z, backwards = jax.vjp(lambda e: agent.encode(e, statistics, observation), encoder)
    return z, agent.encode(encoder, statistics, following), backwards(cotangent)


def _improver(agent: Agent, critic: Params) -> Improver:
    def values(features: jax.Array, action: jax.Array) -> Any:
        return agent.critic.values(agent.recipe, critic, features, action)

    return Improver(agent.recipe, agent.policy, values, agent.action_dim)  # type: ignore[arg-type]


def _proposing(agent: Agent, critic: Params, average: Params, rows: Rows) -> Propose:
    def propose(place: Literal["now", "next"], key: jax.Array, n: int) -> Any:
        improver = _improver(agent, jax.lax.stop_gradient(critic))
        features = jax.lax.stop_gradient(rows.z if place == "now" else rows.z_next)
        return jax.lax.stop_gradient(agent.improvement.propose(improver, average, features, key, n))

    return propose


def _critic_gradient(
    agent: Agent,
    critic: Params,
    target: Params,
    policy: Params,
    average: Params,
    log_temperature: jax.Array,
    rows: Rows,
    key: jax.Array,
) -> Any:
    def loss(critic: Params, z: jax.Array) -> jax.Array:
        propose = _proposing(agent, critic, average, rows)
        value: jax.Array = agent.critic.loss(agent.recipe, critic, target, rows._replace(z=z), propose, key)[0]
        return value

    # without cameras there is no encoder, so nobody asks for the gradient by the features
    return jax.value_and_grad(loss, argnums=(0, 1) if agent.observation_spec.cameras else 0)(critic, rows.z)


def _policy_gradient(
    agent: Agent,
    critic: Params,
    target: Params,
    policy: Params,
    average: Params,
    log_temperature: jax.Array,
    rows: Rows,
    key: jax.Array,
) -> Any:
    propose = _proposing(agent, critic, average, rows)

    def advantage(key: jax.Array) -> jax.Array:
        return jax.lax.stop_gradient(agent.critic.advantage(agent.recipe, critic, target, rows, propose, key))

    def loss(policy: Params, log_temperature: jax.Array) -> jax.Array:
        improver, step = _improver(agent, critic), jnp.zeros((), jnp.int32)
        value: jax.Array = agent.improvement.loss(improver, policy, average, rows, log_temperature, advantage, step, key)[0]
        return value

    return jax.value_and_grad(loss, argnums=(0, 1))(policy, log_temperature)


def _optimise(agent: Agent, state: AgentState) -> Any:
    """Parameters stand for their gradients: only the shapes matter."""
    trained = (state.encoder, state.critic)
    updates, critic_optimiser = agent.critic_optimiser.update(trained, state.critic_optimiser, trained)
    encoder, critic = optax.apply_updates(trained, updates)
    updates, policy_optimiser = agent.policy_optimiser.update(state.policy, state.policy_optimiser, state.policy)
    policy = optax.apply_updates(state.policy, updates)
    tau, rate = agent.recipe.critic.tau, agent.recipe.policy.average_rate
    target = jax.tree.map(lambda slow, fast: slow + tau * (fast - slow), state.target_critic, critic)
    average = jax.tree.map(lambda slow, fast: slow + rate * (fast - slow), state.policy_average, policy)
    return encoder, critic, policy, target, average, critic_optimiser, policy_optimiser


def random_state(agent: Agent) -> AgentState:
    """A state of the right shapes filled with small random numbers: quicker than `Agent.init`, and no slower to train."""
    dim = agent.observation_spec.state_dim
    mean, std, key = np.zeros(dim, np.float32), np.ones(dim, np.float32), jax.random.key_data(jax.random.key(0))
    rng = np.random.default_rng(0)
    shapes = jax.eval_shape(agent.init, key, mean, std)
    state = jax.tree.map(
        lambda leaf: jnp.asarray(
            rng.normal(0.0, 0.05, leaf.shape) if jnp.issubdtype(leaf.dtype, jnp.floating) else np.zeros(leaf.shape), leaf.dtype
        ),
        shapes,
    )
    optimisers = ("critic_optimiser", "policy_optimiser", "temperature_optimiser")
    zeros = {name: jax.tree.map(jnp.zeros_like, getattr(state, name)) for name in optimisers}
    statistics = {"mean": jnp.asarray(mean), "std": jnp.asarray(std)}
    return replace(state, key=key, statistics=statistics, **zeros)


def random_batches(agent: Agent, updates: int) -> Batch:
    """`updates` batches of random numbers on the device, leaves ``(K, 1, B, …)``."""
    rng = np.random.default_rng(0)
    ring = Ring(2, agent.observation_spec, agent.action_spec, agent.recipe.policy.chunk)
    batch = BatchSampler(agent.recipe, ring, ring, 0).example(updates)

    def fill(leaf: np.ndarray) -> jax.Array:
        if leaf.dtype == np.uint8:
            return jnp.asarray(rng.integers(0, 256, leaf.shape, dtype=np.uint8))
        return jnp.asarray(rng.uniform(-1.0, 1.0, leaf.shape).astype(leaf.dtype))

    batch = {name: jax.tree.map(fill, leaf) for name, leaf in batch.items()}
    return batch | {name: (batch[name] > 0.0).astype(jnp.float32) for name in ("terminal", "demonstration")}


def _recipe(name: str, case: Case) -> RecipeConfig:
    return RecipeConfig.model_validate(
        {"name": name, "reward": {"kind": "environment"}, "reset": {"kind": "human"}, **case.recipe}
    )


def _settings(name: str, case: Case, recipe: RecipeConfig) -> dict[str, Any]:
    settings = {
        "case": name,
        "device": jax_device(),
        "observation": "2x128x128x3 uint8" if case.spec.cameras else "state",
        "batch_size": recipe.data.batch_size,
        "directions": len(recipe.directions),
        "critic": recipe.critic.kind,
        "critics": 0 if recipe.critic.kind == "none" else recipe.critic.ensemble,
        "policy": recipe.policy.kind,
        "improvement": recipe.improvement.kind,
        "encoder": recipe.encoder.kind if case.spec.cameras else "none",
        "compute_dtype": recipe.encoder.compute_dtype if case.spec.cameras else "float32",
    }
    return settings | ({"reference": case.reference} if case.reference else {})


def _call(function: Callable[..., Any], *arguments: Any) -> Callable[[], None]:
    """A call of the jitted `function` that waits for its result."""
    jitted = jax.jit(function)

    def call() -> None:
        jax.block_until_ready(jitted(*arguments))

    return call


def _time(work: Callable[[], None], at_least_s: float) -> tuple[float, list[float]]:
    """Seconds of the first call, which compiles, and of each later one, for `at_least_s` and `FEWEST_CALLS` calls at least."""
    began = time.perf_counter()
    work()
    compile_s = time.perf_counter() - began
    times: list[float] = []
    while len(times) < FEWEST_CALLS or sum(times) < at_least_s:
        began = time.perf_counter()
        work()
        times.append(time.perf_counter() - began)
    return compile_s, times


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
