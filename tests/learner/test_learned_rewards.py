"""Discriminator rewards (MEDAL, MEDAL++, VICE, QWALE) against their equations, and inside the agent."""

from __future__ import annotations

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import yaml
from helpers import ACTION, OBSERVATION, STATE_ONLY, segment, small_recipe

from etude.config import DiscriminatorConfig, EncoderConfig, RecipeConfig
from learner.commands import recipe_show
from learner.recipe import Agent
from learner.replay.mixing import BatchSampler
from learner.replay.ring import Ring
from learner.rewards import q_weighted
from learner.rewards.discriminator import Discriminator, mix_up, power_iteration, reward_of_logits, spectrally_normalised

STATISTICS = {"mean": jnp.zeros(2), "std": jnp.ones(2)}
KEY = jax.random.key_data(jax.random.key(0))


def medal(**changes: object) -> RecipeConfig:
    return small_recipe(reset={"kind": "medal", "discriminator": {"rows": 16, "hidden": (16,), "period_updates": 4} | changes})


def rings(spec=STATE_ONLY, practised: tuple[str, ...] = ("forward", "backward")) -> tuple[Ring, Ring]:
    rng = np.random.default_rng(0)
    prior, online = Ring(100, spec, ACTION), Ring(100, spec, ACTION)
    for number, phase in enumerate(("forward", "backward", "forward"), 1):
        for step in segment(rng, spec, 6, phase, number=number):
            prior.add(step)
    for number, phase in enumerate(practised, 1):
        for step in segment(rng, spec, 8, phase, number=number, terminal=False):
            online.add(step)
    return prior, online


def test_rewards_at_known_logits():
    logits = jnp.array([0.0, jnp.inf, -jnp.inf])
    np.testing.assert_allclose(reward_of_logits(logits, "minus_log_one_minus_d"), [0.693147, 23.02585, 0.0], atol=1e-5)
    np.testing.assert_allclose(reward_of_logits(logits, "log_d"), [-0.693147, 0.0, -23.02585], atol=1e-5)


def test_the_scale_multiplies_the_reward():
    plain, scaled = (Discriminator(DiscriminatorConfig(scale=s), EncoderConfig(), STATE_ONLY) for s in (1.0, 10.0))
    state = plain.init(jax.random.key(0), STATISTICS)
    x = {"state": jnp.ones((3, 2))}
    np.testing.assert_allclose(scaled.reward(state, STATISTICS, x), 10 * plain.reward(state, STATISTICS, x), rtol=1e-6)


def test_mix_up_mixes_features_by_shares_of_one():
    features = jnp.arange(12.0).reshape(6, 2)
    mixed, partner, share = mix_up(features, jax.random.key(1))
    assert sorted(partner.tolist()) == list(range(6)) and float(share.min()) >= 0 and float(share.max()) <= 1
    for i in range(6):
        np.testing.assert_allclose(mixed[i], share[i] * features[i] + (1 - share[i]) * features[partner[i]], rtol=1e-6)


def test_the_loss_is_cross_entropy_with_mixed_labels():
    part = Discriminator(DiscriminatorConfig(rows=5, hidden=(8,)), EncoderConfig(), STATE_ONLY)
    state = part.init(jax.random.key(0), STATISTICS)
    rng = np.random.default_rng(0)
    positive, negative = (rng.normal(size=(5, 2)).astype(np.float32) for _ in range(2))
    key = jax.random.key(7)
    loss = part.loss(state.params, {}, STATISTICS, {"state": positive}, {"state": negative}, jnp.ones(5), key)
    mixed, partner, share = (np.asarray(x) for x in mix_up(jnp.concatenate([positive, negative]), key))
    labels = np.array([1.0] * 5 + [0.0] * 5)
    label = share * labels + (1 - share) * labels[partner]
    logits = np.asarray(part.head.apply({"params": state.params["head"]}, mixed)[:, 0], np.float64)
    d = 1 / (1 + np.exp(-logits))
    assert float(loss) == pytest.approx(float(-(label * np.log(d) + (1 - label) * np.log(1 - d)).mean()), rel=1e-5)


@pytest.mark.parametrize("kind", ["conv", "patch"])
def test_spectral_normalisation_bounds_every_layer_at_one(kind):
    config = DiscriminatorConfig(spectral_norm=True, trunk_features=8)
    part = Discriminator(config, EncoderConfig(kind=kind), dataclasses.replace(OBSERVATION, cameras={"front": (32, 32)}))
    state = part.init(jax.random.key(0), STATISTICS)
    params, vectors, rng = jax.tree.map(np.asarray, state.params), state.vectors, np.random.default_rng(0)
    for _ in range(20):  # steps of the size of Adam's
        params = jax.tree.map(lambda leaf: leaf + 3e-4 * rng.choice((-1, 1), leaf.shape).astype(np.float32), params)
        vectors = power_iteration(params, vectors)
    layers = [
        np.asarray(leaf).reshape(-1, leaf.shape[-1])
        for path, leaf in jax.tree_util.tree_leaves_with_path(spectrally_normalised(params, vectors))
        if path[-1].key == "kernel"
    ]
    assert len(layers) == len(vectors) >= 5
    for layer in layers:
        assert np.linalg.svd(layer, compute_uv=False)[0] == pytest.approx(1.0, abs=0.01)


def test_the_reward_draws_towards_the_positives(optimised):
    part = Discriminator(DiscriminatorConfig(rows=64, hidden=(32,), learning_rate=3e-3), EncoderConfig(), STATE_ONLY)
    state = part.init(jax.random.key(0), STATISTICS)
    rng = np.random.default_rng(0)
    update = jax.jit(part.update)
    for i in range(200):
        positive, negative = ({"state": rng.normal((x, 0), 0.3, (64, 2)).astype(np.float32)} for x in (1.0, -1.0))
        state, _ = update(state, STATISTICS, positive, negative, jnp.ones(64), jax.random.key(i))
    way = {"state": jnp.stack([jnp.linspace(-1, 1, 9), jnp.zeros(9)], axis=1)}
    rewards = np.asarray(part.reward(state, STATISTICS, way))
    assert (np.diff(rewards) > 0).all() and rewards[-1] > 4 * rewards[0]


def test_value_weights_pull_towards_states_that_are_better_than_now():
    q = jnp.array([0.0, 5.0, 10.0])
    np.testing.assert_allclose(q_weighted.weights(q, jnp.asarray(5.0)), np.exp([-0.5, 0.0, 0.5]), rtol=1e-6)
    assert float(q_weighted.weights(q, jnp.asarray(99.0))[2]) == pytest.approx(1.0)
    assert np.isfinite(q_weighted.weights(jnp.ones(3), jnp.asarray(1.0))).all()


def test_positives_are_the_chosen_frames_of_forward_demonstrations():
    prior, online = rings()
    for changes, expected in (
        ({}, {*range(6), *range(12, 18)}),
        ({"last_frames": 2}, {4, 5, 16, 17}),
        ({"first_frames": 1}, {0, 12}),
        ({"first_frames": 1, "last_frames": 1}, {0, 5, 12, 17}),
    ):
        rows = BatchSampler(medal(rows=200, **changes), prior, online, 0).sample(1)["contrast"]["backward"]
        assert {tuple(x) for x in rows["positive"]["state"].tolist()} == {
            tuple(prior.observation["state"][row].tolist()) for row in expected
        }
        visited = {tuple(x) for x in online.observation["state"][8:16].tolist()}
        assert {tuple(x) for x in rows["negative"]["state"].tolist()} == visited and rows["ready"] == 1


def test_what_is_compared_is_drawn_four_times_in_a_period_and_at_once_when_practice_begins():
    prior, _ = rings()
    online = rings(practised=())[1]
    sampler = BatchSampler(medal(rows=64, period_updates=40), prior, online, 0)

    def drawn(blocks: int) -> list:
        return [sampler.sample(5)["contrast"]["backward"] for _ in range(blocks)]

    before = drawn(8)
    assert not any(rows["ready"] for rows in before)
    assert len({id(rows) for rows in before}) == 3, "after 15 and after 30 updates"
    for step in segment(np.random.default_rng(1), STATE_ONLY, 8, "backward", number=1, terminal=False):
        online.add(step)
    after = drawn(9)
    assert all(rows["ready"] for rows in after) and len({id(rows) for rows in after}) == 3
    assert len({id(rows) for rows in after[:3]}) == 1


def test_only_the_backward_direction_of_medal_is_relabelled_and_never_ends():
    recipe = medal(scale=10.0)
    agent = Agent(recipe, STATE_ONLY, ACTION)
    state = agent.init(KEY, np.zeros(2), np.ones(2))
    prior, online = rings()
    batch = BatchSampler(recipe, prior, online, 0).sample(1)
    one = {name: jax.tree.map(lambda x: jnp.asarray(x[0]), leaf) for name, leaf in batch.items() if name != "contrast"}
    one["terminal"] = jnp.ones_like(one["terminal"])
    reward, terminal = agent.learned_rewards.relabel(state.discriminators, state.statistics, one)
    np.testing.assert_array_equal(reward[0], one["reward"][0])
    following = {name: x[1] for name, x in one["next_observation"].items()}
    part = Discriminator(recipe.reset.discriminator, recipe.encoder, STATE_ONLY)
    expected = part.reward(state.discriminators["backward"], state.statistics, following)
    np.testing.assert_allclose(reward[1], expected, rtol=1e-6)
    assert terminal[0].all() and not terminal[1].any()


def test_a_discriminator_learns_once_per_period_and_only_when_there_are_negatives():
    recipe = medal()
    agent = Agent(recipe, STATE_ONLY, ACTION)
    block = agent.update_block("online")

    def steps_taken(practised: tuple[str, ...]) -> list[bool]:
        prior, online = rings(practised=practised)
        sampler = BatchSampler(recipe, prior, online, 0)
        state = agent.init(KEY, np.zeros(2), np.ones(2))
        taken = []
        for _ in range(4):
            before = jax.tree.map(np.asarray, state.discriminators["backward"].params)
            state, metrics = block(state, jax.tree.map(jnp.asarray, sampler.sample(2)))
            after = state.discriminators["backward"].params
            taken.append(not all(map(np.array_equal, jax.tree.leaves(before), jax.tree.leaves(after))))
            assert (float(metrics["reward/discriminator_loss"][1]) > 0) == taken[-1]
        return taken

    assert steps_taken(("forward", "backward")) == [False, True, False, True]
    assert steps_taken(("forward",)) == [False] * 4


def test_thinned_blocks_discriminate_once_too():
    recipe = small_recipe(
        reset={"kind": "medal", "discriminator": {"rows": 16, "hidden": (16,), "period_updates": 4}},
        improvement={"every": 2},
        data={"train_only_acting": True},
    )
    agent = Agent(recipe, STATE_ONLY, ACTION)
    block = agent.update_block("online")
    state, sampler = agent.init(KEY, np.zeros(2), np.ones(2)), BatchSampler(recipe, *rings(), 0)
    losses = []
    for _ in range(4):
        state, metrics = block(state, jax.tree.map(jnp.asarray, sampler.sample(2)))
        losses.append(float(metrics["reward/discriminator_loss"][1]))
    assert [loss > 0 for loss in losses] == [False, True, False, True]


def test_instructions_are_read_by_the_critic_of_prior_data_and_not_by_discriminators():
    discriminator = {"rows": 8, "hidden": (8,), "period_updates": 1}
    recipe = small_recipe(
        reward={"kind": "q_weighted", "discriminator": discriminator},
        reset={"kind": "medal", "discriminator": discriminator},
        encoder={"instruction": "hashed", "instruction_dim": 8},
    )
    agent = Agent(recipe, STATE_ONLY, ACTION, {"forward": "go left", "backward": "go right"})
    state = agent.begin_practice(agent.init(KEY, np.zeros(2), np.ones(2)))
    assert not state.discriminators["backward"].params["encoder"]
    sampler = BatchSampler(recipe, *rings(), 0)
    _, metrics = agent.update_block("online")(state, jax.tree.map(jnp.asarray, sampler.sample(2)))
    assert (np.asarray(metrics["reward/discriminator_loss"]) > 0).all()


def test_qwale_weighs_by_the_critic_that_practice_began_with():
    recipe = small_recipe(
        reward={"kind": "q_weighted", "discriminator": {"rows": 8, "hidden": (8,), "period_updates": 1}}, reset={"kind": "none"}
    )
    agent = Agent(recipe, STATE_ONLY, ACTION)
    state = agent.begin_practice(agent.init(KEY, np.zeros(2), np.ones(2)))
    prior, online = rings(practised=("forward",))
    sampler = BatchSampler(recipe, prior, online, 0)
    before = jax.tree.map(np.asarray, state.critic)
    block = agent.update_block("online")
    for _ in range(2):
        state, _ = block(state, jax.tree.map(jnp.asarray, sampler.sample(2)))
    kept = state.discriminators["forward"].prior["critic"]
    jax.tree.map(np.testing.assert_array_equal, before, kept)
    assert not np.array_equal(jax.tree.leaves(state.critic)[0], jax.tree.leaves(kept)[0])


def test_images_go_through_an_encoder_of_their_own():
    recipe = medal(spectral_norm=True, trunk_features=8)
    agent = Agent(recipe, OBSERVATION, ACTION)
    state = agent.init(KEY, np.zeros(2), np.ones(2))
    prior, online = rings(OBSERVATION)
    sampler = BatchSampler(recipe, prior, online, 0)
    state, metrics = agent.update_block("online")(state, jax.tree.map(jnp.asarray, sampler.sample(4)))
    assert math.isfinite(float(metrics["critic/td_loss"][1])) and float(metrics["reward/discriminator_loss"][1]) > 0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"reset": {"kind": "medal", "discriminator": {"form": "log_d"}}, "data": {"bootstrap_through_timeouts": False}},
            "log_d",
        ),
        ({"reset": {"kind": "medal"}, "critic": {"bound_targets": True}}, "bound_targets"),
        ({"reward": {"kind": "vice"}, "critic": {"kind": "cal_ql"}}, "cal_ql"),
        ({"reward": {"kind": "q_weighted"}, "critic": {"kind": "none"}, "improvement": {"kind": "bc"}}, "q_weighted"),
        ({"reset": {"kind": "medal"}, "policy": {"chunk": 2}}, "policy.chunk is 2"),
        (
            {"reset": {"kind": "instruction"}, "encoder": {"instruction": "hashed"}, "reward": {"kind": "vice"}},
            "a policy of its own",
        ),
        (
            {
                "reset": {"kind": "instruction"},
                "encoder": {"instruction": "hashed"},
                "data": {"train_only_acting": True},
            },
            "train_only_acting",
        ),
        ({"reset": {"kind": "vaprl"}, "encoder": {"instruction": "hashed"}}, "vaprl"),
    ],
)
def test_combinations_that_cannot_work_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        small_recipe(**changes)


def with_moments(state):
    """What a resting direction must keep, leaves ``(D, …)``: parameters, and what its optimisers remember."""
    parameters = (state.critic, state.target_critic, state.policy, state.policy_average)
    (_, critic_mean), (_, critic_variance) = (getattr(state.critic_optimiser[0], name) for name in ("mu", "nu"))
    return *parameters, critic_mean, critic_variance, state.policy_optimiser[0].mu, state.policy_optimiser[0].nu


def test_only_the_direction_that_practised_last_is_trained():
    recipe = small_recipe(data={"train_only_acting": True})
    agent = Agent(recipe, STATE_ONLY, ACTION)
    block = agent.update_block("online")
    state = agent.init(KEY, np.zeros(2), np.ones(2))
    prior, online = rings(practised=("forward",))
    sampler = BatchSampler(recipe, prior, online, 0)
    for acting in (0, 1):
        before = jax.tree.map(np.asarray, with_moments(state))
        state, _ = block(state, jax.tree.map(jnp.asarray, sampler.sample(2)))
        after = with_moments(state)
        resting = 1 - acting
        jax.tree.map(lambda a, b: np.testing.assert_array_equal(a[resting], b[resting]), before, after)  # noqa: B023
        for a, b in zip(before, after, strict=True):
            assert not np.array_equal(jax.tree.leaves(a)[-1][acting], jax.tree.leaves(b)[-1][acting])
        for step in segment(np.random.default_rng(1), STATE_ONLY, 5, "backward", number=9, terminal=False):
            online.add(step)


def test_showing_a_recipe_explains_its_choices(capsys):
    assert recipe_show(["medal_pp"]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith("# MEDAL++") and "spectral norm on every layer" in shown
    assert RecipeConfig.model_validate(yaml.safe_load(shown)).learned_rewards.keys() == {"forward", "backward"}
