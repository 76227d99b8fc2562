"""Action chunks: h steps of replay are one transition, and what a program plans is what the agent plans."""

from __future__ import annotations

from dataclasses import replace

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import ACTION, STATE_ONLY, random_batch, segment, small_recipe
from hypothesis import given, settings
from hypothesis import strategies as st

from learner import export
from learner.critics import td
from learner.parts import Rows
from learner.recipe import Agent
from learner.replay.demonstrations import fill_returns
from learner.replay.mixing import BatchSampler
from learner.replay.ring import Ring

DISCOUNT = 0.9


def practised(
    chunk: int, lengths: list[tuple[int, bool, int]], capacity: int, seed: int = 0
) -> tuple[Ring, dict[int, list], dict[int, int]]:
    """A ring that interleaved segments of (steps, terminal, actor) went into, with random rewards; the state is (segment, index).

    Returns the ring, the steps of each segment, and how many of them the ring was given.
    """
    rng = np.random.default_rng(seed)
    segments, queues = {}, {}
    for number, (length, terminal, actor) in enumerate(lengths):
        steps = segment(rng, STATE_ONLY, length, actor=f"actor{actor}", number=number, terminal=terminal)
        steps = [replace(step, reward=float(rng.normal())) for step in steps]
        for step in steps:
            step.observation["state"][:] = (number, step.index)
        segments[number] = steps
        queues.setdefault(actor, []).extend(steps)
    ring, given_to_it = Ring(capacity, STATE_ONLY, ACTION, chunk), dict.fromkeys(segments, 0)
    unfinished = int(rng.integers(0, 4))  # the last steps never come: the actor was killed
    for _ in range(sum(len(queue) for queue in queues.values()) - unfinished):
        actor = rng.choice([name for name, queue in queues.items() if queue])
        step = queues[actor].pop(0)
        given_to_it[step.segment] += 1
        ring.add(step)
    return ring, segments, given_to_it


@settings(max_examples=60, deadline=None)
@given(
    chunk=st.integers(1, 5),
    capacity=st.integers(6, 60),
    lengths=st.lists(st.tuples(st.integers(2, 9), st.booleans(), st.integers(0, 2)), min_size=1, max_size=10),
    seed=st.integers(0, 2**16),
)
def test_a_transition_is_the_next_h_steps_or_what_is_left_of_the_segment(chunk, capacity, lengths, seed) -> None:
    """Against a plain loop over the steps, whatever was interleaved, overwritten or never finished."""
    ring, segments, given_to_it = practised(chunk, lengths, capacity, seed)
    if ring.transitions("forward") == 0:
        return
    rows = np.unique(ring.sample_rows("forward", 100, np.random.default_rng(0)))
    made = ring.transitions_of(rows, DISCOUNT)
    for i, row in enumerate(rows):
        number, index = (int(x) for x in ring.observation["state"][row])
        steps = segments[number]
        actions, reward, count = [], 0.0, 0
        while count < chunk and not steps[index + count].is_last:
            actions.append(steps[index + count].action)
            reward += DISCOUNT**count * steps[index + count].reward
            count += 1
        assert count == chunk or given_to_it[number] == len(steps)  # shorter ones only where the segment is known to have ended
        actions += [actions[-1]] * (chunk - count)
        np.testing.assert_array_equal(made.action[i], np.concatenate(actions))
        np.testing.assert_allclose(made.reward[i], reward, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(made.discount[i], DISCOUNT**count, rtol=1e-6)
        assert tuple(ring.observation["state"][ring.next_row[made.last[i]]]) == (number, index + count)
        after = steps[index + count]
        assert (ring.terminal[made.last[i]], ring.ended[made.last[i]]) == (after.is_terminal, after.is_last)


def test_every_step_of_a_finished_segment_begins_a_transition_and_the_last_h_lead_to_success() -> None:
    ring = Ring(100, STATE_ONLY, ACTION, chunk=4)
    steps = segment(np.random.default_rng(0), STATE_ONLY, 10)
    for step in steps[:-1]:
        ring.add(step)
    assert ring.transitions("forward") == 5  # rows 0 to 4: the four steps of the others are not all known
    ring.add(steps[-1])
    assert ring.transitions("forward") == 9
    assert set(ring.sample_rows("forward", 200, np.random.default_rng(0), success_share=1.0)) == {5, 6, 7, 8}


def test_a_time_out_within_a_chunk_bootstraps_by_the_steps_that_were_made() -> None:
    """``y = Σ γ^i r_i + γ^k · V(last observation)`` after k < h steps, and no bootstrap after a terminal one."""
    recipe = small_recipe(critic={"discount": DISCOUNT}, policy={"chunk": 4}, data={"batch_size": 64}, reset={"kind": "human"})
    for terminal in (False, True):
        ring = Ring(100, STATE_ONLY, ACTION, chunk=4)
        steps = [replace(step, reward=1.0) for step in segment(np.random.default_rng(0), STATE_ONLY, 8, terminal=terminal)]
        for step in steps:
            step.observation["state"][:] = step.index
            row = ring.add(step)
        fill_returns(ring, row, recipe)
        batch = jax.tree.map(lambda leaf: leaf[0, 0], BatchSampler(recipe, ring, ring, seed=0).sample(1))
        assert batch["action"].shape == (64, 8)
        start, end = batch["observation"]["state"][:, 0], batch["next_observation"]["state"][:, 0]
        made = np.minimum(4, 7 - start)
        np.testing.assert_array_equal(end, start + made)
        following = jnp.full(64, 10.0)
        rows = Rows(**{name: jnp.asarray(batch.get(name, np.zeros(64)), jnp.float32) for name in Rows._fields})
        y = td.bellman_target(recipe, rows, following)
        value = np.where(terminal & (end == 7), 0.0, 10.0)
        np.testing.assert_allclose(y, [sum(DISCOUNT**i for i in range(int(k))) for k in made] + DISCOUNT**made * value, rtol=1e-5)
        # the calibration stays that of single steps: the whole rest of the segment
        rest = [sum(DISCOUNT**i for i in range(int(7 - s))) for s in start]
        np.testing.assert_allclose(batch["monte_carlo_return"], rest, rtol=1e-5)


POLICIES = {
    "gaussian": {"policy": {"chunk": 4}},
    "diffusion": {"policy": {"kind": "diffusion", "chunk": 4}, "improvement": {"kind": "pa_rl"}},
    "flow": {"policy": {"kind": "flow", "chunk": 4}, "improvement": {"kind": "awr"}},
}


@pytest.mark.parametrize("kind", POLICIES)
def test_every_policy_class_plans_chunks_and_its_program_plans_the_same(kind) -> None:
    """And an update takes rows of chunks as they are."""
    recipe = small_recipe(**POLICIES[kind], reset={"kind": "human"})
    chunk = recipe.policy.chunk
    agent = Agent(recipe, STATE_ONLY, ACTION)
    state = agent.init(jax.random.key_data(jax.random.key(0)), np.zeros(2), np.ones(2))
    batch = random_batch(np.random.default_rng(0), STATE_ONLY, 4, lead=(1,)) | {"action": np.zeros((1, 4, 2 * chunk), np.float32)}
    after, _ = jax.eval_shape(agent.update, state, batch)
    assert jax.tree.map(jnp.shape, after) == jax.tree.map(jnp.shape, state)
    program = export.export_program(agent, state)
    call = jax.jit(jax.export.deserialize(bytearray(program.serialized)).call)
    observation = {"state": np.array([0.3, -0.2], np.float32), "phase": np.array([1, 0], np.float32)}
    arguments = (observation, np.array([3, 4], np.uint32), np.float32(1))
    here = np.asarray(jax.jit(agent.act)(agent.policy_parameters(state), *arguments))
    assert here.shape == (chunk, 2) and here.dtype == np.float32 and np.abs(here).max() <= 1.0
    np.testing.assert_array_equal(np.asarray(call(export.host_parameters(agent, state), *arguments)), here)


def test_an_autoregressive_policy_plans_chunks_token_by_token() -> None:
    """Shapes only: compiling it takes long; that programs act as agents do is tested for every class without chunks."""
    settings = {"policy": {"kind": "autoregressive", "chunk": 3}, "improvement": {"kind": "bc"}, "critic": {"kind": "none"}}
    agent = Agent(small_recipe(**settings), STATE_ONLY, ACTION)
    state = jax.eval_shape(agent.init, np.zeros(2, np.uint32), np.zeros(2), np.ones(2))
    observation = {"state": np.zeros(2, np.float32), "phase": np.array([1, 0], np.float32)}
    planned = jax.eval_shape(agent.act, agent.policy_parameters(state), observation, np.zeros(2, np.uint32), np.float32(1))
    assert planned.shape == (3, 2)


def test_the_first_action_of_a_plan_is_the_first_of_the_cloned_ones() -> None:
    """A policy that clones the chunk (a, b, c) plans a, then b, then c: the inner order is that of time."""
    recipe = small_recipe(
        policy={"chunk": 3, "hidden": (32,), "learning_rate": 1e-2},
        critic={"kind": "none"},
        improvement={"kind": "bc"},
        reset={"kind": "human"},
    )
    agent = Agent(recipe, STATE_ONLY, ACTION)
    state = agent.init(jax.random.key_data(jax.random.key(0)), np.zeros(2), np.ones(2))
    plan = np.array([[0.6, -0.6], [0.2, 0.1], [-0.5, 0.4]], np.float32)
    rings = [Ring(400, STATE_ONLY, ACTION, chunk=3) for _ in range(2)]
    rng = np.random.default_rng(0)
    for number in range(20):
        for step in segment(rng, STATE_ONLY, 4, "forward", number=number):
            action = plan[min(step.index, 2)]
            step.observation["state"][:] = step.index
            for ring in rings:
                ring.add(replace(step, action=action))
    sampler, block = BatchSampler(recipe, *rings, seed=0), agent.update_block("online")
    for _ in range(15):
        state, _ = block(state, jax.tree.map(jnp.asarray, sampler.sample(20)))
    observation = {"state": np.zeros(2, np.float32), "phase": np.array([1, 0], np.float32)}
    planned = agent.act(agent.policy_parameters(state), observation, np.zeros(2, np.uint32), np.float32(0))
    np.testing.assert_allclose(planned, plan, atol=0.1)


def test_chunks_and_rewards_by_intervention_are_refused_together() -> None:
    with pytest.raises(ValueError, match="blame would fall on actions that were never executed"):
        small_recipe(policy={"chunk": 2}, reward={"kind": "intervention"})
