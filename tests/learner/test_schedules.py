"""What is trained when, and how fast: policy steps every N critic updates, settings of practice, shares of demonstrations."""

from __future__ import annotations

import re

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import ACTION, OBSERVATION, STATE_ONLY, random_batch, segment, small_recipe

from etude.specs import PHASES, ObservationSpec
from learner import export, optimisers, pretraining
from learner.recipe import Agent, AgentState
from learner.replay.mixing import BatchSampler
from learner.replay.ring import Ring


def begun(agent: Agent) -> AgentState:
    dim = agent.observation_spec.state_dim
    return agent.init(jax.random.key_data(jax.random.key(0)), np.zeros(dim), np.ones(dim))


def same(before: object, after: object) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(jax.tree.leaves(before), jax.tree.leaves(after), strict=True))


POLICY_SIDE = ("policy", "policy_average", "policy_optimiser", "log_temperature", "temperature_optimiser")
CRITIC_SIDE = ("critic", "target_critic", "critic_optimiser", "key", "updates")


def test_an_update_without_improvement_moves_the_critic_and_nothing_of_the_policy() -> None:
    agent = Agent(small_recipe(policy={"average_rate": 0.5}), STATE_ONLY, ACTION)
    update = jax.jit(agent.update, static_argnames=("stage", "improve"))
    batch = random_batch(np.random.default_rng(0), STATE_ONLY, 8)
    state, _ = update(begun(agent), batch)  # so that average and policy differ, and optimisers have begun to count
    after, metrics = update(state, batch, improve=False)
    assert all(same(getattr(state, name), getattr(after, name)) for name in POLICY_SIDE)
    assert not any(same(getattr(state, name), getattr(after, name)) for name in CRITIC_SIDE)
    assert metrics and not any(name.startswith("policy/") for name in metrics)
    # the critic learns as it does beside the policy
    beside, _ = update(state, batch)
    for a, b in zip(jax.tree.leaves(after.critic), jax.tree.leaves(beside.critic), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7)


def test_of_a_block_every_nth_update_improves_the_policy_on_its_own_batch() -> None:
    """RLPD, algorithm 1: N critic updates, then one policy update on the last mini-batch."""
    agent = Agent(small_recipe(improvement={"every": 3}), STATE_ONLY, ACTION)
    batches = random_batch(np.random.default_rng(0), STATE_ONLY, 4, lead=(6, 2))
    update = jax.jit(agent.update, static_argnames=("improve",))
    by_hand = begun(agent)
    for k in range(6):
        by_hand, metrics = update(by_hand, jax.tree.map(lambda leaf, k=k: leaf[k], batches), improve=k in (2, 5))
    in_a_block, block_metrics = agent.update_block("online")(begun(agent), batches)
    for a, b in zip(jax.tree.leaves(by_hand), jax.tree.leaves(in_a_block), strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-4, atol=1e-6)
    assert metrics.keys() == block_metrics.keys() and "policy/q" in metrics
    assert int(in_a_block.policy_optimiser[0].count) == 2 and int(in_a_block.critic_optimiser[0].count) == 6
    with pytest.raises(ValueError, match="not made of whole turns"):
        agent.update_block("online")(begun(agent), jax.tree.map(lambda leaf: leaf[:4], batches))


def test_cloning_is_not_thinned_and_blocks_are_whole_turns() -> None:
    recipe = small_recipe(improvement={"every": 8}, data={"pretrain_bc_steps": 20, "offline_steps": 5})
    assert (pretraining.block(recipe), pretraining.block(recipe, at_least=4)) == (16, 8)
    ring = Ring(50, STATE_ONLY, ACTION)
    for number, phase in enumerate(PHASES):
        for step in segment(np.random.default_rng(0), STATE_ONLY, 5, phase, number=number):
            ring.add(step)
    assert pretraining.total_updates(recipe, ring) == 32 + 16
    assert [pretraining.stage(recipe, done) for done in (0, 16, 32)] == ["clone", "clone", "offline"]
    agent = Agent(recipe, STATE_ONLY, ACTION)
    state, _ = agent.update_block("clone")(begun(agent), random_batch(np.random.default_rng(0), STATE_ONLY, 4, lead=(2, 2)))
    assert int(state.policy_optimiser[0].count) == 2


def test_the_policy_has_a_learning_rate_of_its_own_while_practising() -> None:
    """Adam's first step is the learning rate in every element that has a gradient."""
    settings = {"policy": {"hidden": (16,), "learning_rate": 1e-3, "online_learning_rate": 1e-4}, "reset": {"kind": "human"}}
    agent = Agent(small_recipe(**settings), STATE_ONLY, ACTION)
    batch, state = random_batch(np.random.default_rng(0), STATE_ONLY, 8, lead=(1,)), begun(agent)
    for stage, rate in (("offline", 1e-3), ("online", 1e-4)):
        after, _ = jax.jit(agent.update, static_argnames=("stage",))(state, batch, stage=stage)
        moved = jax.tree.map(lambda a, b: float(jnp.abs(a - b).max()), state.policy, after.policy)
        np.testing.assert_allclose(max(jax.tree.leaves(moved)), rate, rtol=0.02)


@pytest.mark.parametrize(("online", "rate"), [(None, 1e-3), (1e-4, 1e-4), (0.0, 0.0)])
def test_the_encoder_has_a_learning_rate_of_its_own_while_practising(online: float | None, rate: float) -> None:
    """0 leaves it as it was; critics and policies learn as ever, and before practice the encoder does too."""
    settings = {"critic": {"hidden": (16,), "learning_rate": 1e-3}, "encoder": {"features": 8, "online_learning_rate": online}}
    agent = Agent(small_recipe(**settings), OBSERVATION, ACTION)
    batch, state = random_batch(np.random.default_rng(0), OBSERVATION, 8), begun(agent)
    for stage, expected in (("clone", 1e-3), ("online", rate)):
        after, _ = jax.jit(agent.update, static_argnames=("stage",))(state, batch, stage=stage)
        moved = jax.tree.map(lambda a, b: float(jnp.abs(a - b).max()), state.encoder, after.encoder)
        np.testing.assert_allclose(max(jax.tree.leaves(moved)), expected, rtol=0.02)
        assert not same(state.critic, after.critic) and not same(state.policy, after.policy)


def test_the_rate_rises_over_the_warm_up_and_begins_anew_with_the_optimiser() -> None:
    optimiser, params = optimisers.adam(0.1, 4), {"w": jnp.zeros(())}
    moves = []
    for _ in range(2):
        state = optimiser.init(params)
        for _ in range(6):
            moved, state = optimisers.apply(optimiser, {"w": jnp.ones(())}, state, params)
            moves.append(float(params["w"] - moved["w"]))
            params = moved
    # Adam moves by the rate as long as the gradient is constant
    np.testing.assert_allclose(moves, 2 * [0.0, 0.025, 0.05, 0.075, 0.1, 0.1], atol=1e-6)


def test_the_conservative_term_has_a_weight_of_its_own_while_practising() -> None:
    settings = {"kind": "cal_ql", "hidden": (16,), "cql_samples": 3, "cql_weight": 4.0, "cql_online_weight": 0.5}
    agent = Agent(small_recipe(critic=settings, reset={"kind": "human"}), STATE_ONLY, ACTION)
    batch, state = random_batch(np.random.default_rng(0), STATE_ONLY, 8, lead=(1,)), begun(agent)
    term = {}
    for stage in ("offline", "online"):
        _, metrics = jax.jit(agent.update, static_argnames=("stage",))(state, batch, stage=stage)
        term[stage] = float(metrics["critic/conservative_loss"][0])
    assert term["online"] > 0.0
    np.testing.assert_allclose(term["offline"], 8.0 * term["online"], rtol=1e-5)


# --- shares of demonstrations -----------------------------------------------------------------------------------------


def rings(demonstrated: int, practised: int) -> tuple[Ring, Ring]:
    """So many transitions of each direction."""
    made = []
    for count in (demonstrated, practised):
        ring = Ring(1000, STATE_ONLY, ACTION)
        for number, phase in enumerate(PHASES):
            for step in segment(np.random.default_rng(0), STATE_ONLY, count + 1, phase, number=number) if count else ():
                ring.add(step)
        made.append(ring)
    return made[0], made[1]


def test_demonstrations_in_proportion_to_the_data_grow_fewer_with_practice() -> None:
    recipe = small_recipe(data={"batch_size": 64, "demonstration_share": "proportional"})
    for practised, expected in ((0, 32), (25, 24), (75, 16), (225, 8)):
        batch = BatchSampler(recipe, *rings(75, practised), seed=0).sample(1)
        assert batch["demonstration"].sum(-1).tolist() == [[expected, expected]]


def test_distillation_in_proportion_to_the_data_weighs_the_rows_of_the_batch() -> None:
    """The weighted mean over the batch is the mean over all transitions, whatever the batch's own share is."""
    pa_rl = {"critic": {"cql_importance_sampling": False}, "improvement": {"kind": "pa_rl"}}
    data = {"batch_size": 64, "demonstration_share": 0.25, "distillation_share": "proportional"}
    sampler = BatchSampler(small_recipe(data=data, **pa_rl), *rings(90, 10), seed=0)
    batch = sampler.sample(3)
    weight, shown = batch["weight"], batch["demonstration"]
    np.testing.assert_allclose((weight * shown).mean(-1), 0.9, rtol=1e-6)
    np.testing.assert_allclose((weight * (1.0 - shown)).mean(-1), 0.1, rtol=1e-6)
    assert (shown.mean(-1) == 0.25).all()
    assert (sampler.sample(1, demonstrations_only=True)["weight"] == 1.0).all()
    assert (BatchSampler(small_recipe(data=data, **pa_rl), *rings(90, 0), seed=0).sample(1)["weight"] == 1.0).all()


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"data": {"distillation_share": "proportional"}}, "which improvement.kind 'gradient' does not do: set it to batch"),
        (
            {"improvement": {"kind": "pa_rl"}, "data": {"distillation_share": "proportional", "demonstration_share": 0.0}},
            "one kind is never drawn",
        ),
        (
            {"data": {"intervention_weights": True, "demonstration_share": "proportional"}},
            "set data.demonstration_share to a number",
        ),
        (
            {"data": {"intervention_weights": True, "corrections_are_demonstrations": True}},
            "data.corrections_are_demonstrations changes how often",
        ),
        (
            {"data": {"intervention_weights": True, "successes_are_demonstrations": True}},
            "data.successes_are_demonstrations changes how often",
        ),
        (
            {
                "critic": {"cql_importance_sampling": False},
                "improvement": {"kind": "pa_rl"},
                "data": {"distillation_share": "proportional", "successes_are_demonstrations": True},
            },
            "data.successes_are_demonstrations changes how often",
        ),
        (
            {"data": {"demonstration_share": 0.0, "successes_are_demonstrations": True}},
            "data.demonstration_share 0 draws none",
        ),
        (
            {"reset": {"kind": "vaprl"}, "data": {"successes_are_demonstrations": True}},
            "would clone the relabelled copies of reset.kind 'vaprl'",
        ),
    ],
)
def test_shares_that_cannot_be_had_are_refused(changes: dict, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        small_recipe(**changes)


# --- bfloat16 -----------------------------------------------------------------------------------------------------------

CAMERA = ObservationSpec(("tcp_x_m", "tcp_y_m"), {"front": (32, 32)})
"""The convolutions leave nothing of smaller images."""


@pytest.mark.parametrize("kind", ["patch", "conv"])
def test_bfloat16_products_change_features_little_and_parameters_not_at_all(kind: str) -> None:
    agents = [
        Agent(small_recipe(encoder={"kind": kind, "compute_dtype": dtype}), CAMERA, ACTION) for dtype in ("float32", "bfloat16")
    ]
    states = [begun(agent) for agent in agents]
    assert same(states[0].encoder, states[1].encoder)
    assert {leaf.dtype for leaf in jax.tree.leaves(states[1].encoder)} == {jnp.dtype("float32")}
    observation = random_batch(np.random.default_rng(0), CAMERA, 16, lead=())["observation"]
    exact, fast = (agent.encode(s.encoder, s.statistics, observation) for agent, s in zip(agents, states, strict=True))
    assert exact.dtype == fast.dtype == jnp.float32
    assert not np.array_equal(exact, fast)
    np.testing.assert_allclose(exact, fast, atol=0.05)
    program = export.export_program(agents[1], states[1])
    inputs = {name: array[0] for name, array in observation.items()} | {"phase": np.array([1, 0], np.float32)}
    arguments = (inputs, np.zeros(2, np.uint32), np.float32(0))
    exported = jax.export.deserialize(bytearray(program.serialized)).call(
        export.host_parameters(agents[1], states[1]), *arguments
    )
    np.testing.assert_allclose(exported, agents[1].act(agents[1].policy_parameters(states[1]), *arguments), atol=1e-2)


# --- convolutions and loops ---------------------------------------------------------------------------------------------


def in_loops(hlo: str) -> str:
    """The computations that the loops of an HLO module run, those that they call included."""
    bodies = dict(re.findall(r"^(?:ENTRY )?%?([\w.\-]+) [^\n]*\{\n(.*?)^\}", hlo, re.MULTILINE | re.DOTALL))
    called = {name: set(re.findall(r"(?:to_apply|calls|body|condition)=%?([\w.\-]+)", text)) for name, text in bodies.items()}
    due, found = [name for text in bodies.values() for name in re.findall(r"body=%?([\w.\-]+)", text)], set()
    while due:
        if (name := due.pop()) not in found:
            found.add(name)
            due += called[name]
    return "".join(bodies[name] for name in found)


@pytest.mark.parametrize("kind", ["patch", "conv"])
def test_no_convolution_is_inside_a_loop_on_a_cpu(kind: str) -> None:
    """Their gradients are many times slower there; everything else is rolled."""
    agent = Agent(small_recipe(encoder={"kind": kind}), CAMERA, ACTION)
    batches = random_batch(np.random.default_rng(0), CAMERA, 2, lead=(3, 2))
    hlo = agent.update_block("online").lower(begun(agent), batches).as_text(dialect="hlo")
    loops = in_loops(hlo)
    assert (" convolution(" in hlo) == (kind == "conv") and " convolution(" not in loops
    assert (" dot(" in loops) == (kind == "patch")
