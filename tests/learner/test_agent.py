"""The composed agent: what a step trains, what it leaves alone, and that the exported program is the same policy."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import ACTION, OBSERVATION, STATE_ONLY, random_batch, small_recipe

from etude.policy_file import PolicyProgram
from learner import export
from learner.directions import map_directions
from learner.recipe import Agent


@functools.cache
def _agent(pixels: bool = True, kind: str = "td"):
    """One agent per kind for all tests: compiling its update is what takes the time."""
    agent = Agent(small_recipe(critic={"kind": kind, "tau": 0.25}), OBSERVATION if pixels else STATE_ONLY, ACTION)
    state = agent.init(jax.random.key_data(jax.random.key(0)), np.zeros(2), np.ones(2))
    return agent, state, jax.jit(agent.update, static_argnames="stage")


def _moved(before, after) -> bool:
    return any(not np.array_equal(a, b) for a, b in zip(jax.tree.leaves(before), jax.tree.leaves(after), strict=True))


@pytest.mark.parametrize("kind", ["td", "cal_ql"])
def test_an_update_moves_critic_policy_and_encoder_but_never_the_statistics(kind: str) -> None:
    _, state, update = _agent(kind=kind)
    after, metrics = update(state, random_batch(np.random.default_rng(0), OBSERVATION, 4))
    for name in ("encoder", "critic", "target_critic", "policy", "log_temperature"):
        assert _moved(getattr(state, name), getattr(after, name)), name
    assert not _moved(state.statistics, after.statistics)
    assert all(np.isfinite(value).all() for value in metrics.values())


def test_the_target_follows_by_tau() -> None:
    _, state, update = _agent()
    after, _ = update(state, random_batch(np.random.default_rng(0), OBSERVATION, 4))
    for old, online, target in zip(
        *(jax.tree.leaves(t) for t in (state.target_critic, after.critic, after.target_critic)), strict=True
    ):
        np.testing.assert_allclose(target, 0.75 * old + 0.25 * online, atol=1e-6)


def test_the_directions_do_not_share_heads() -> None:
    """A batch whose backward rows change must leave the forward heads' update as it was (state only: no shared encoder)."""
    _, state, update = _agent(pixels=False)
    batch = random_batch(np.random.default_rng(0), STATE_ONLY, 4)
    other = {**batch, "reward": batch["reward"].copy()}
    other["reward"][1] += 5.0
    first, second = update(state, batch)[0], update(state, other)[0]
    for a, b in zip(jax.tree.leaves((first.critic, first.policy)), jax.tree.leaves((second.critic, second.policy)), strict=True):
        np.testing.assert_allclose(a[0], b[0], atol=1e-7)
    assert _moved(jax.tree.map(lambda x: x[1], first.critic), jax.tree.map(lambda x: x[1], second.critic))


def test_practice_trains_the_encoder_by_the_critic_only() -> None:
    """With a critic that already fits (zero error) the encoder rests, though the policy learns."""
    _, state, update = _agent()
    state = dataclasses.replace(
        state, critic=jax.tree.map(jnp.zeros_like, state.critic), target_critic=jax.tree.map(jnp.zeros_like, state.target_critic)
    )
    batch = random_batch(np.random.default_rng(0), OBSERVATION, 4)
    batch["reward"][:] = 0.0
    after, _ = update(state, batch)
    assert not _moved(state.encoder, after.encoder)
    assert _moved(state.policy, after.policy)
    pretrained, _ = update(state, batch, stage="clone")
    assert _moved(state.encoder, pretrained.encoder)


def test_a_block_is_the_same_as_its_updates_one_by_one() -> None:
    agent, state, update = _agent()
    batches = random_batch(np.random.default_rng(0), OBSERVATION, 4, lead=(3, 2))
    expected = state
    for k in range(3):
        expected, _ = update(expected, jax.tree.map(lambda x, k=k: x[k], batches))
    block, _ = agent.update_block("online")(jax.tree.map(jnp.copy, state), batches)  # the block donates its state
    for a, b in zip(jax.tree.leaves(expected), jax.tree.leaves(block), strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-3, atol=2e-5)


def test_the_moving_average_acts_and_soon_forgets_the_random_start() -> None:
    recipe = small_recipe()
    data = recipe.data.model_copy(update={"pretrain_bc_steps": 8})
    recipe = recipe.model_copy(update={"policy": recipe.policy.model_copy(update={"average_rate": 0.25}), "data": data})
    agent = Agent(recipe, STATE_ONLY, ACTION)
    state = agent.init(jax.random.key_data(jax.random.key(0)), np.zeros(2), np.ones(2))
    batch = random_batch(np.random.default_rng(0), STATE_ONLY, 4)
    for stage, counted, rate in (("clone", 0, 1.0), ("clone", 10, 0.5), ("clone", 1000, 0.25), ("online", 0, 0.25)):
        before = dataclasses.replace(state, updates=jnp.asarray(counted, jnp.int32))
        state, _ = jax.jit(agent.update, static_argnames="stage")(before, batch, stage=stage)
        leaves = zip(*(jax.tree.leaves(x) for x in (before.policy_average, state.policy, state.policy_average)), strict=True)
        for old, new, average in leaves:
            np.testing.assert_allclose(average, (1 - rate) * old + rate * new, rtol=1e-4, atol=1e-6)
    assert agent.policy_parameters(state)["policy"] is state.policy_average
    assert agent.begin_practice(state).policy_average is state.policy_average


def test_the_target_critics_improve_what_is_executed_where_the_recipe_says_so() -> None:
    pa_rl = {"critic": {"kind": "td"}, "improvement": {"kind": "pa_rl", "candidates": 4, "keep": 2}}
    newest = Agent(small_recipe(**pa_rl), STATE_ONLY, ACTION)
    steady = Agent(small_recipe(**{**pa_rl, "critic": {"kind": "td", "acting": "target"}}), STATE_ONLY, ACTION)
    state = newest.init(jax.random.key_data(jax.random.key(0)), np.zeros(2), np.ones(2))
    assert newest.policy_parameters(state)["critic"] is state.critic
    assert steady.policy_parameters(state)["critic"] is state.target_critic


def test_a_policy_that_rests_offline_rests_with_its_average_but_follows_a_moving_encoder() -> None:
    improvement = {"kind": "pa_rl", "candidates": 2, "keep": 1, "ascent_steps": 0}
    recipe = small_recipe(improvement=improvement)
    for spec, rests in ((STATE_ONLY, True), (OBSERVATION, False)):
        agent = Agent(recipe, spec, ACTION)
        state = agent.init(jax.random.key_data(jax.random.key(0)), np.zeros(2), np.ones(2))
        state = dataclasses.replace(state, policy_average=jax.tree.map(lambda leaf: leaf + 1.0, state.policy))
        batch = random_batch(np.random.default_rng(0), spec, 4)
        after, _ = jax.jit(agent.update, static_argnames="stage")(state, batch, stage="offline")
        for old, new in ((state.policy, after.policy), (state.policy_average, after.policy_average)):
            same = [np.array_equal(a, b) for a, b in zip(jax.tree.leaves(old), jax.tree.leaves(new), strict=True)]
            assert all(same) if rests else not all(same)


def test_behaviour_cloning_fits_the_demonstrations() -> None:
    _, state, update = _agent(pixels=False)
    batch = random_batch(np.random.default_rng(0), STATE_ONLY, 8)
    losses = []
    for _ in range(300):
        state, metrics = update(state, batch, stage="clone")
        losses.append(float(metrics["policy/bc_loss"].mean()))
    assert losses[-1] < 0.3 * losses[0]


@pytest.mark.usefixtures("optimised")
@pytest.mark.parametrize("pixels", [True, False])
def test_the_exported_program_and_the_policy_agree_bit_for_bit(pixels: bool) -> None:
    spec = OBSERVATION if pixels else STATE_ONLY
    agent, state, _update = _agent(pixels)
    program = PolicyProgram.from_bytes(export.export_program(agent, state).to_bytes())
    run = jax.jit(jax.export.deserialize(bytearray(program.serialized)).call)
    parameters = export.host_parameters(agent, state)
    rng = np.random.default_rng(0)
    act = jax.jit(agent.act)
    for k in range(6):
        observation = {name: array[0, 0] for name, array in random_batch(rng, spec, 1)["observation"].items()}
        observation["phase"] = np.eye(2, dtype=np.float32)[k % 2]
        key, explore = np.array([7, k], np.uint32), np.float32(k % 3 > 0)
        here = act(agent.policy_parameters(state), observation, key, explore)
        np.testing.assert_array_equal(run(parameters, observation, key, explore), here)
        assert here.shape == (2,)


def test_the_two_directions_act_differently() -> None:
    agent, state, _update = _agent()
    observation = OBSERVATION.zeros()
    observation["state"][:] = 1.0
    actions = [
        agent.act(agent.policy_parameters(state), {**observation, "phase": phase}, np.zeros(2, np.uint32), np.float32(0))
        for phase in np.eye(2, dtype=np.float32)
    ]
    assert not np.array_equal(*actions)


def _name(axes: dict) -> str:
    return "-".join(axes[axis]["kind"] for axis in ("critic", "policy", "improvement"))


COMBINATIONS = [
    {
        "critic": {"kind": critic, "cql_importance_sampling": False, "head": head},
        "policy": {"kind": policy},
        "improvement": {"kind": kind},
        "reward": {"success": 0.0, "step": -1.0},
    }
    for critic, head, policy, kind in (
        ("td", "hl_gauss", "gaussian", "gradient"),
        ("cql", "scalar", "gaussian", "gradient"),
        ("iql", "scalar", "gaussian", "awr"),
        ("iql", "scalar", "flow", "pa_rl"),
        ("td", "scalar", "diffusion", "awr"),
        ("cal_ql", "hl_gauss", "diffusion", "pa_rl"),
        ("cal_ql", "scalar", "autoregressive", "pa_rl"),
        ("none", "scalar", "gaussian", "bc"),
        ("none", "scalar", "flow", "bc"),
    )
]


@pytest.mark.parametrize("axes", COMBINATIONS, ids=_name)
def test_any_fitting_parts_learn_together(axes: dict) -> None:
    """One update of every stage is finite and trains what it should."""
    agent = Agent(small_recipe(**axes), STATE_ONLY, ACTION)
    state = agent.init(jax.random.key_data(jax.random.key(0)), np.zeros(2), np.ones(2))
    update = jax.jit(agent.update, static_argnames="stage")
    batch = random_batch(np.random.default_rng(0), STATE_ONLY, 4)
    for stage in ("clone", "offline", "online"):
        after, metrics = update(state, batch, stage=stage)
        assert all(np.isfinite(value).all() for value in metrics.values()), stage
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(after)), stage
        rests = stage == "offline" and axes["improvement"]["kind"] == "pa_rl"
        assert _moved(state.policy, after.policy) is not rests, stage
        if axes["critic"]["kind"] != "none":
            assert _moved(state.critic, after.critic), stage
        assert _moved(state.log_temperature, after.log_temperature) is (
            stage != "clone" and axes["improvement"]["kind"] == "gradient"
        ), stage
        state = after


@pytest.mark.usefixtures("optimised")
@pytest.mark.parametrize("axes", COMBINATIONS, ids=_name)
def test_any_exported_program_is_the_policy_bit_for_bit(axes: dict) -> None:
    agent = Agent(small_recipe(**axes), STATE_ONLY, ACTION)
    state = agent.init(jax.random.key_data(jax.random.key(0)), np.zeros(2), np.ones(2))
    program = PolicyProgram.from_bytes(export.export_program(agent, state).to_bytes())
    run = jax.jit(jax.export.deserialize(bytearray(program.serialized)).call)
    act = jax.jit(agent.act)
    observation = {**STATE_ONLY.zeros(), "phase": np.eye(2, dtype=np.float32)[1]}
    for explore in (0.0, 1.0):
        arguments = (observation, np.array([7, 1], np.uint32), np.float32(explore))
        here = act(agent.policy_parameters(state), *arguments)
        np.testing.assert_array_equal(run(export.host_parameters(agent, state), *arguments), here)
        assert here.shape == (2,) and np.abs(here).max() <= 1.0


def test_a_recipe_without_backward_policy_has_one_direction() -> None:
    agent = Agent(small_recipe(reset={"kind": "human"}), STATE_ONLY, ACTION)
    state = agent.init(jax.random.key_data(jax.random.key(0)), np.zeros(2), np.ones(2))
    batch = random_batch(np.random.default_rng(0), STATE_ONLY, 4, lead=(1,))
    state, metrics = jax.jit(agent.update)(state, batch)
    assert metrics["critic/td_loss"].shape == (1,)
    observation = {**STATE_ONLY.zeros(), "phase": np.eye(2, dtype=np.float32)[1]}
    assert agent.act(agent.policy_parameters(state), observation, np.zeros(2, np.uint32), np.float32(0)).shape == (2,)


@pytest.mark.parametrize("directions", [1, 2])
def test_every_direction_is_computed_alike_however_many_there_are(directions: int) -> None:
    def function(x: dict, y: jax.Array) -> tuple[jax.Array, dict]:
        return (x["a"] * y).sum(), {"m": x["a"].mean()}

    a, y = jnp.arange(directions * 6.0).reshape(directions, 2, 3), jnp.arange(directions * 3.0).reshape(directions, 3)
    total, metrics = map_directions(function, {"a": a}, y)
    np.testing.assert_allclose(total, [(a[i] * y[i]).sum() for i in range(directions)])
    np.testing.assert_allclose(metrics["m"], a.mean((1, 2)))


def test_the_novelty_bonus_is_for_practice_only_and_changes_the_rewards() -> None:
    recipe = small_recipe(data={"rnd_coefficient": 1.0})
    agent = Agent(recipe, STATE_ONLY, ACTION)
    state = agent.init(jax.random.key_data(jax.random.key(0)), np.zeros(2), np.ones(2))
    update = jax.jit(agent.update, static_argnames="stage")
    batch = random_batch(np.random.default_rng(0), STATE_ONLY, 4)
    offline, quiet = update(state, batch, stage="offline")
    online, loud = update(state, batch, stage="online")
    assert not _moved(state.novelty, offline.novelty) and _moved(state.novelty, online.novelty)
    assert (loud["critic/target_mean"] > quiet["critic/target_mean"]).all()


def test_targets_with_a_novelty_bonus_are_not_clipped_while_practising() -> None:
    """Rewards of 0 and -1 allow returns of 0 at most, and what is new may be worth more than success."""
    recipe = small_recipe(
        critic={"bound_targets": True},
        data={"rnd_coefficient": 100.0},
        reward={"kind": "environment", "success": 0.0, "step": -1.0},
    )
    agent = Agent(recipe, STATE_ONLY, ACTION)
    state = agent.init(jax.random.key_data(jax.random.key(0)), np.zeros(2), np.ones(2))
    update = jax.jit(agent.update, static_argnames="stage")
    batch = random_batch(np.random.default_rng(0), STATE_ONLY, 4)
    assert (update(state, batch, stage="online")[1]["critic/target_mean"] > 1.0).all()
    assert (update(state, batch, stage="offline")[1]["critic/target_mean"] <= 0.0).all()


def test_the_switch_to_practice_begins_the_optimisers_anew_unless_the_recipe_keeps_them() -> None:
    batch = random_batch(np.random.default_rng(0), STATE_ONLY, 4)
    for reset in (True, False):
        agent = Agent(small_recipe(data={"reset_optimisers": reset}), STATE_ONLY, ACTION)
        state = agent.init(jax.random.key_data(jax.random.key(0)), np.zeros(2), np.ones(2))
        fresh = (state.critic_optimiser, state.policy_optimiser, state.temperature_optimiser)
        trained, _ = jax.jit(agent.update)(state, batch)
        after = agent.begin_practice(trained)
        kept = (trained.critic_optimiser, trained.policy_optimiser, trained.temperature_optimiser)
        of_practice = (after.critic_optimiser, after.policy_optimiser, after.temperature_optimiser)
        assert _moved(fresh, kept)
        assert not _moved(of_practice, fresh if reset else kept)
        assert not _moved(after.critic, trained.critic) and not _moved(after.policy, trained.policy)


@pytest.mark.parametrize("rnd_coefficient", [0.0, 1.0])
def test_each_frame_is_encoded_once_per_update(rnd_coefficient: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two directions, one camera: the encoder runs twice (observations, next observations), each on all rows at once."""
    recipe = small_recipe(critic={"kind": "cal_ql"}, data={"rnd_coefficient": rnd_coefficient})
    agent = Agent(recipe, OBSERVATION, ACTION)
    state = agent.init(jax.random.key_data(jax.random.key(0)), np.zeros(2), np.ones(2))
    encoded: list[int] = []
    encode = agent.encode

    def counting(encoder, statistics, observation):
        encoded.append(int(np.prod(observation["state"].shape[:-1])))
        return encode(encoder, statistics, observation)

    monkeypatch.setattr(agent, "encode", counting)
    jax.eval_shape(agent.update, state, random_batch(np.random.default_rng(0), OBSERVATION, 4))
    assert encoded == [8, 8]
