"""The policy classes with many modes: what they can fit, and their equations against numpy."""

from __future__ import annotations

import functools
from types import ModuleType
from typing import Any

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from etude.config import RecipeConfig
from learner.networks.residual import ResidualNet
from learner.networks.transformer import ActionTransformer
from learner.parts import part
from learner.policies import autoregressive, diffusion, flow

SMALL: dict[str, dict[str, Any]] = {
    "gaussian": {"hidden": (32,)},
    "diffusion": {"width": 64, "blocks": 1},
    "flow": {"width": 64, "blocks": 1},
    "autoregressive": {"width": 32, "heads": 4, "blocks": 1, "bins": 32},
}
MANY_MODES = ["diffusion", "flow", "autoregressive"]
KEY = jax.random.key(7)

# the two ways to act, and three observations: both ways, the first only, the second only
MODE = np.array([0.6, -0.6], np.float32)
EITHER, FIRST, SECOND = np.eye(3, dtype=np.float32)
NEAR = 0.3  # in every dimension: half way to the middle of the two


def recipe(kind: str, **policy: Any) -> RecipeConfig:
    return RecipeConfig(
        name="test",
        policy={"kind": kind} | SMALL[kind] | policy,  # type: ignore[arg-type]
        improvement={"kind": "bc"},  # type: ignore[arg-type]
        reward={"kind": "environment"},  # type: ignore[arg-type]
    )


@functools.cache
def rows() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng.normal(size=(16, 3)).astype(np.float32), rng.uniform(-1, 1, (16, 2)).astype(np.float32)


def awake(config: RecipeConfig, action_dim: int, features: int = 3) -> dict:
    """Parameters of which every one matters (those of an untrained output layer are nearly zero), made without compiling."""
    policy, rng = part("policies", config.policy.kind), np.random.default_rng(5)
    example = jax.ShapeDtypeStruct((1, features), np.float32)
    shapes = jax.eval_shape(lambda x: policy.init(config, jax.random.key(0), x, action_dim), example)
    scale = [leaf.shape[-2] ** -0.5 if len(leaf.shape) > 1 else 0.3 for leaf in jax.tree.leaves(shapes)]
    leaves, tree = jax.tree.flatten(shapes)
    return tree.unflatten([(s * rng.normal(size=x.shape)).astype(x.dtype) for s, x in zip(scale, leaves, strict=True)])


@functools.cache
def fitted(kind: str) -> tuple[RecipeConfig, ModuleType, dict]:
    """Parameters after a thousand Adam steps on ±MODE."""
    config, policy = recipe(kind), part("policies", kind)
    steps = 1000
    optimiser = optax.adam(optax.cosine_decay_schedule(3e-3, steps))

    def step(carry: tuple, key: jax.Array) -> tuple[tuple, None]:
        params, state = carry
        sign_key, context_key, noise_key, loss_key = jax.random.split(key, 4)
        context = jax.random.randint(context_key, (128,), 0, 3)
        sign = jnp.where(context == 0, jnp.where(jax.random.bernoulli(sign_key, 0.5, (128,)), 1.0, -1.0), 3.0 - 2.0 * context)
        action = sign[:, None] * MODE + 0.02 * jax.random.normal(noise_key, (128, 2))
        gradient = jax.grad(lambda p: policy.supervised_loss(config, p, jax.nn.one_hot(context, 3), action, loss_key).mean())(
            params
        )
        update, state = optimiser.update(gradient, state)
        return (optax.apply_updates(params, update), state), None

    @jax.jit
    def train(key: jax.Array) -> dict:
        params = policy.init(config, key, jnp.zeros((1, 3)), 2)
        (params, _), _ = jax.lax.scan(step, (params, optimiser.init(params)), jax.random.split(key, steps))
        return params

    return config, policy, train(jax.random.key(0))


@functools.cache
def fitted_samples(kind: str) -> np.ndarray:
    """``(1000, 3, 2)`` samples for the three observations."""
    config, policy, params = fitted(kind)
    sample = jax.jit(lambda params, features: policy.sample(config, params, features, 2, KEY, 1000))
    samples, log_prob = sample(params, np.stack([EITHER, FIRST, SECOND]))
    assert log_prob is None and samples.shape == (1000, 3, 2) and float(jnp.abs(samples).max()) <= 1.0
    return np.asarray(samples)


@pytest.mark.parametrize("kind", MANY_MODES)
def test_two_modes_are_both_kept(kind: str) -> None:
    samples = fitted_samples(kind)[:, 0]
    first, second = (np.abs(samples - sign * MODE).max(-1) < NEAR for sign in (1, -1))
    # the published five denoising or Euler steps leave a tenth on the way between the two, ten steps half of that
    assert (first | second).mean() > 0.85
    assert 0.25 < first.mean() < 0.75 and 0.25 < second.mean() < 0.75


@pytest.mark.parametrize("kind", MANY_MODES)
def test_the_observation_chooses_the_mode(kind: str) -> None:
    samples = fitted_samples(kind)
    assert (np.abs(samples[:, 1] - MODE).max(-1) < NEAR).mean() > 0.9
    assert (np.abs(samples[:, 2] + MODE).max(-1) < NEAR).mean() > 0.9


@pytest.mark.parametrize("kind", MANY_MODES)
def test_actions_follow_from_the_key_and_not_at_all_without_exploration(kind: str) -> None:
    config, policy, params = fitted(kind)
    act = jax.jit(functools.partial(policy.act, config), static_argnums=2)
    features = np.concatenate([np.tile(EITHER, (50, 1)), [FIRST, SECOND]])
    keys = [jax.random.key(k) for k in (3, 3, 4)]
    same, again, other = (act(params, features, 2, key, jnp.float32(1.0)) for key in keys)
    np.testing.assert_array_equal(same, again)
    assert same.shape == (52, 2) and float(jnp.abs(same - other).max()) > 0.1
    still = [act(params, features, 2, key, jnp.float32(0.0)) for key in keys]
    np.testing.assert_array_equal(still[0], still[2])
    np.testing.assert_allclose(still[0][50:], [MODE, -MODE], atol=0.2)


@pytest.mark.parametrize("kind", ["diffusion", "flow"])
def test_sampling_noise_scales_what_exploration_scales(kind: str) -> None:
    usual, quiet = recipe(kind), recipe(kind, sampling_noise=0.5)
    params, (features, _) = awake(usual, 2), rows()
    policy = part("policies", kind)
    half = policy.act(usual, params, features, 2, KEY, jnp.float32(0.5))
    np.testing.assert_allclose(policy.act(quiet, params, features, 2, KEY, jnp.float32(1.0)), half, rtol=1e-6)
    with pytest.raises(ValueError, match="sampling_noise"):
        recipe("gaussian", sampling_noise=0.5)


@pytest.mark.usefixtures("optimised")
@pytest.mark.parametrize("kind", list(SMALL))
def test_the_exported_program_acts_bit_for_bit_like_the_policy(kind: str) -> None:
    config, policy = recipe(kind), part("policies", kind)
    params = awake(config, 2)

    def program(params: dict, features: jax.Array, key: jax.Array, explore: jax.Array) -> jax.Array:
        return policy.act(config, params, features, 2, key, explore)

    arguments = (params, jnp.asarray(EITHER)[None], jnp.array([5, 6], jnp.uint32), jnp.float32(1.0))
    shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), arguments)
    serialized = jax.export.export(jax.jit(program), platforms=("cpu", "cuda"))(*shapes).serialize()
    loaded = jax.export.deserialize(serialized)
    np.testing.assert_array_equal(loaded.call(*arguments), jax.jit(program)(*arguments))


@pytest.mark.parametrize("kind", list(SMALL))
def test_parameters_are_nested_dicts_and_go_through_vmap_inside_a_scan(kind: str) -> None:
    """Two directions train side by side; traced only, since what vmap and scan compute is theirs to test."""
    config = recipe(kind, dropout=0.1)
    policy, params = part("policies", kind), awake(config, 3)
    assert all(isinstance(entry, jax.tree_util.DictKey) for path, _ in jax.tree.leaves_with_path(params) for entry in path)
    assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {np.dtype("float32")}
    stacked = jax.tree.map(lambda leaf: np.stack([leaf, 0.5 * leaf]), params)

    def one(params: dict, features: jax.Array, key: jax.Array) -> tuple[jax.Array, jax.Array]:
        actions, _ = policy.sample(config, params, features, 3, key, 2)
        return policy.supervised_loss(config, params, features, actions[0], key), actions

    def both(params: dict, features: jax.Array, keys: jax.Array) -> tuple:
        return jax.lax.scan(lambda carry, key: (carry, jax.vmap(one)(params, features, jax.random.split(key))), 0, keys)[1]

    loss, actions = jax.eval_shape(both, stacked, np.zeros((2, 4, 3), np.float32), jax.random.split(KEY, 5))
    assert loss.shape == (5, 2, 4) and actions.shape == (5, 2, 2, 4, 3)


@pytest.mark.parametrize("kind", ["gaussian", *MANY_MODES])
def test_dropout_is_for_training_only(kind: str) -> None:
    small = {"hidden": (16,), "width": 16, "heads": 2, "blocks": 1, "sampling_steps": 2, "bins": 8}
    plain, dropping = recipe(kind, **small), recipe(kind, **small, dropout=0.5)
    policy, params = part("policies", kind), awake(plain, 2)
    features, action = rows()

    @jax.jit
    def losses(params: dict) -> list[jax.Array]:
        return [policy.supervised_loss(config, params, features, action, KEY) for config in (plain, dropping)]

    without, with_dropout = losses(params)
    assert float(jnp.abs(without - with_dropout).max()) > 1e-3
    # dropout that is on asks for random numbers, so sampling would fail here
    jax.eval_shape(lambda params: policy.sample(dropping, params, features, 2, KEY, 3)[0], params)


# --- residual network ---------------------------------------------------------------------------------------------------


def dense(params: dict, x: np.ndarray) -> np.ndarray:
    return x @ np.asarray(params["kernel"], np.float64) + np.asarray(params["bias"], np.float64)


def layer_norm(params: dict, x: np.ndarray) -> np.ndarray:
    centred = x - x.mean(-1, keepdims=True)
    return centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-6) * params["scale"] + params["bias"]


def swish(x: np.ndarray) -> np.ndarray:
    return x / (1.0 + np.exp(-x))


def residual_net(params: dict, features: np.ndarray, x: np.ndarray, time: np.ndarray) -> np.ndarray:
    """The residual network in numpy: all inputs ``(B, ...)``."""
    phase = 2 * np.pi * time[:, None] * np.asarray(params["time"]["frequencies"], np.float64)
    embedded = np.concatenate([np.cos(phase), np.sin(phase)], -1)
    embedded = dense(params["time"]["output"], swish(dense(params["time"]["hidden"], embedded)))
    y = dense(params["input"], np.concatenate([features, x, embedded], -1))
    for name in sorted(n for n in params if n.startswith("block_")):
        block = params[name]
        y = y + dense(block["contract"], swish(dense(block["expand"], layer_norm(block["norm"], y))))
    return dense(params["output"], swish(y))


def test_the_network_has_the_sizes_of_the_paper() -> None:
    init = jax.jit(ResidualNet(32, 3, 2).init)
    params = init(KEY, jnp.zeros((1, 3)), jnp.zeros((1, 2)), jnp.zeros(1))["params"]
    assert params["time"]["frequencies"].shape == (64,)
    assert params["time"]["hidden"]["kernel"].shape == (128, 256) and params["time"]["output"]["kernel"].shape == (256, 128)
    assert params["input"]["kernel"].shape == (3 + 2 + 128, 32) and params["block_2"]["expand"]["kernel"].shape == (32, 128)
    assert 0.12 < float(params["time"]["frequencies"].std()) < 0.28


def test_a_shared_time_and_shared_features_are_the_same_as_one_per_row() -> None:
    features, x = rows()
    params = awake(recipe("flow", width=16, blocks=2), 2)
    candidates = np.stack([x, -x])
    out = jax.jit(ResidualNet(16, 2, 2).apply)({"params": params}, features, candidates, jnp.float32(3.0))
    expected = [residual_net(params, features, c, np.full(16, 3.0)) for c in candidates]
    np.testing.assert_allclose(out, expected, rtol=1e-3, atol=1e-4)


# --- diffusion ----------------------------------------------------------------------------------------------------------


def test_the_cosine_schedule_is_that_of_the_paper() -> None:
    schedule = diffusion.cosine_schedule(5)
    # f(t) = cos²((t/T + s) / (1 + s) · π/2), β_t = min(1 - f(t) / f(t - 1), 0.999), written out for T = 5
    f = [np.cos((t / 5 + 0.008) / 1.008 * np.pi / 2) ** 2 for t in range(6)]
    expected = [min(1 - f[t] / f[t - 1], 0.999) for t in range(1, 6)]
    np.testing.assert_allclose(schedule.beta, expected, rtol=1e-6)
    np.testing.assert_allclose(schedule.beta[[0, 4]], [0.101294, 0.999], atol=1e-6)
    np.testing.assert_allclose(schedule.alpha_product[:4], np.array(f[1:5]) / f[0], rtol=1e-5)
    np.testing.assert_allclose(schedule.alpha_product[4], f[4] / f[0] * 0.001, rtol=1e-4)


def test_ancestral_sampling_follows_the_paper_step_by_step() -> None:
    noise = np.random.default_rng(1).normal(size=(5, 6, 2))
    beta = diffusion.cosine_schedule(5).beta.astype(np.float64)
    product = np.cumprod(1 - beta)

    def predict(x: Any, t: Any) -> Any:
        return 0.9 * x + 0.05 * t

    x = noise[0]
    for index, t in enumerate(range(4, -1, -1)):
        x = (x - beta[t] / np.sqrt(1 - product[t]) * predict(x, t)) / np.sqrt(1 - beta[t])
        x = np.clip(x + (np.sqrt(beta[t]) * noise[index + 1] if t > 0 else 0.0), -1, 1)
    assert (np.abs(x) < 1).mean() > 0.0
    np.testing.assert_allclose(diffusion.denoise(predict, jnp.asarray(noise, jnp.float32)), x, atol=2e-5)


def test_a_perfect_prediction_finds_the_only_action() -> None:
    target = np.array([0.35, -0.8], np.float32)
    product = jnp.asarray(diffusion.cosine_schedule(5).alpha_product)

    def predict(x: jax.Array, t: jax.Array) -> jax.Array:
        share = product[t.astype(int)]
        return (x - jnp.sqrt(share) * target) / jnp.sqrt(1.0 - share)

    found = diffusion.denoise(predict, jax.random.normal(KEY, (5, 100, 2)))
    np.testing.assert_allclose(found, np.broadcast_to(target, (100, 2)), atol=1e-5)


def test_the_diffusion_loss_is_the_squared_error_of_the_predicted_noise() -> None:
    features, action = rows()
    config = recipe("diffusion", sampling_steps=5)
    params = awake(config, 2)
    key = jax.random.key(11)
    step_key, noise_key, _ = jax.random.split(key, 3)
    step = np.asarray(jax.random.randint(step_key, (16,), 0, 5))
    assert set(step) == set(range(5))
    noise = np.asarray(jax.random.normal(noise_key, (16, 2)), np.float64)
    product = np.cumprod(1.0 - diffusion.cosine_schedule(5).beta.astype(np.float64))[step][:, None]
    noisy = np.sqrt(product) * action + np.sqrt(1 - product) * noise
    expected = ((noise - residual_net(params, features, noisy, step.astype(np.float64))) ** 2).sum(-1)
    loss = jax.jit(functools.partial(diffusion.supervised_loss, config))(params, features, action, key)
    np.testing.assert_allclose(loss, expected, rtol=1e-3)


# --- flow ---------------------------------------------------------------------------------------------------------------


def test_euler_steps_through_a_linear_field() -> None:
    matrix, offset = np.array([[0.0, -1.0], [1.0, -0.5]]), np.array([0.2, -0.1])
    start = np.random.default_rng(2).normal(size=(7, 2))
    expected = start
    for _ in range(8):
        expected = expected @ (np.eye(2) + matrix.T / 8) + offset / 8
    end = flow.integrate(lambda x, t: x @ matrix.T + offset, jnp.asarray(start, jnp.float32), 8)
    np.testing.assert_allclose(end, expected, rtol=1e-5, atol=1e-6)


def test_times_run_from_zero_and_straight_paths_are_exact_in_any_number_of_steps() -> None:
    start = jnp.zeros((1, 1))
    np.testing.assert_allclose(flow.integrate(lambda x, t: jnp.full((1, 1), t), start, 4), (0 + 1 + 2 + 3) / 16, rtol=1e-6)
    target, noise = jnp.array([[0.4, -0.3]]), jnp.array([[1.5, 0.2]])
    for steps in (1, 5):  # the velocity of the only path to `target`
        end = flow.integrate(lambda x, t: (target - x) / (1.0 - t), noise, steps)
        np.testing.assert_allclose(end, target, atol=1e-6)


def test_the_flow_loss_is_the_squared_error_of_the_velocity() -> None:
    features, action = rows()
    config = recipe("flow")
    params = awake(config, 2)
    key = jax.random.key(12)
    time_key, noise_key, _ = jax.random.split(key, 3)
    time = np.asarray(jax.random.uniform(time_key, (16,)), np.float64)
    noise = np.asarray(jax.random.normal(noise_key, (16, 2)), np.float64)
    x = (1 - time[:, None]) * noise + time[:, None] * action
    expected = ((residual_net(params, features, x, time) - (action - noise)) ** 2).sum(-1)
    loss = jax.jit(functools.partial(flow.supervised_loss, config))(params, features, action, key)
    np.testing.assert_allclose(loss, expected, rtol=1e-3)


# --- autoregressive -----------------------------------------------------------------------------------------------------


def test_bins_are_the_nearest_of_a_linspace() -> None:
    for bins in (2, 5, 128):
        grid = np.linspace(-1, 1, bins)
        action = np.random.default_rng(3).uniform(-1.2, 1.2, (500, 3)).astype(np.float32)
        index = np.asarray(autoregressive.to_bins(jnp.asarray(action), bins))
        np.testing.assert_array_equal(index, np.abs(action[..., None] - grid).argmin(-1))
        back = np.asarray(autoregressive.from_bins(jnp.asarray(index), bins))
        np.testing.assert_allclose(back, grid[index], atol=1e-6)
        assert np.abs(back - np.clip(action, -1, 1)).max() <= 1.0 / (bins - 1) + 1e-6


def transformer(params: dict, features: np.ndarray, chosen: np.ndarray, heads: int) -> np.ndarray:
    """The causal transformer in numpy, head by head and token by token: ``(B, f)``, ``(B, d)`` → logits ``(B, d, bins)``."""
    hidden = dense(params["observation_hidden"], features)
    first = dense(params["observation"], np.where(hidden > 0, hidden, np.expm1(hidden)))
    embedding = np.asarray(params["embedding"], np.float64)
    x = np.stack([first, *(embedding[j][chosen[:, j]] for j in range(chosen.shape[1] - 1))], 1)
    for name in sorted(n for n in params if n.startswith("layers_")):
        block = params[name]
        q, k, v = np.split(dense(block["query_key_value"], layer_norm(block["norm_attention"], x)), 3, -1)
        mixed, size = np.zeros_like(q), q.shape[-1] // heads
        for b, h, t in np.ndindex(len(x), heads, x.shape[1]):
            part_of = slice(h * size, (h + 1) * size)
            scores = np.exp(k[b, : t + 1, part_of] @ q[b, t, part_of] / np.sqrt(size))
            mixed[b, t, part_of] = (scores / scores.sum()) @ v[b, : t + 1, part_of]
        x = x + dense(block["attention"], mixed)
        y = dense(block["expand"], layer_norm(block["norm_perceptron"], x))
        y = 0.5 * y * (1 + np.tanh(np.sqrt(2 / np.pi) * (y + 0.044715 * y**3)))
        x = x + dense(block["contract"], y)
    x = layer_norm(params["norm"], x)
    head = [params[f"head_{j}"] for j in range(chosen.shape[1])]
    return np.stack([dense(p["Dense_1"], np.maximum(dense(p["Dense_0"], x[:, j]), 0)) for j, p in enumerate(head)], 1)


def log_softmax(x: np.ndarray) -> np.ndarray:
    x = x - x.max(-1, keepdims=True)
    return x - np.log(np.exp(x).sum(-1, keepdims=True))


@functools.cache
def transformer_case() -> tuple[RecipeConfig, dict]:
    config = recipe("autoregressive", width=16, heads=2, blocks=2, bins=9)
    return config, awake(config, 3)


def test_the_autoregressive_loss_is_minus_the_log_probability_of_the_bins() -> None:
    config, params = transformer_case()
    features, _ = rows()
    action = np.random.default_rng(4).uniform(-1, 1, (16, 3)).astype(np.float32)
    index = np.abs(action[..., None] - np.linspace(-1, 1, 9)).argmin(-1)
    log_prob = log_softmax(transformer(params, features, index, heads=2))
    expected = -np.take_along_axis(log_prob, index[..., None], -1).sum((-1, -2))
    loss = jax.jit(functools.partial(autoregressive.supervised_loss, config))(params, features, action, KEY)
    np.testing.assert_allclose(loss, expected, rtol=1e-4, atol=1e-4)


def test_a_dimension_does_not_see_itself_or_those_after_it() -> None:
    config, params = transformer_case()
    policy = config.policy
    net = ActionTransformer(3, policy.bins, policy.width, policy.heads, policy.blocks)
    logits = jax.jit(lambda chosen: net.apply({"params": params}, rows()[0], chosen))
    before = np.asarray(logits(np.full((16, 3), 4)))
    for dim in range(3):
        chosen = np.full((16, 3), 4)
        chosen[:, dim] = 7
        change = np.abs(before - logits(chosen)).max((0, 2))
        np.testing.assert_array_equal(change[: dim + 1], 0.0)
        assert (change[dim + 1 :] > 1e-3).all()


def test_samples_are_drawn_from_the_conditionals_that_teacher_forcing_gives() -> None:
    config, params = transformer_case()
    features, _ = rows()

    @jax.jit
    def draw_and_score(params: dict) -> tuple:
        bins, logits = autoregressive.draw(config, params, features, 3, KEY, 5, jnp.ones(()))
        repeated = jnp.broadcast_to(features, (5, 16, 3)).reshape(80, 3)
        action = autoregressive.from_bins(bins.reshape(80, 3), 9)
        return bins, logits, -autoregressive.supervised_loss(config, params, repeated, action, KEY)

    bins, logits, forced = (np.asarray(x) for x in draw_and_score(params))
    assert bins.shape == (5, 16, 3) and logits.shape == (5, 16, 3, 9)
    conditionals = np.take_along_axis(log_softmax(logits), bins[..., None], -1).sum((-1, -2))
    np.testing.assert_allclose(forced.reshape(5, 16), conditionals, rtol=1e-4, atol=1e-4)


def test_draws_have_the_frequencies_of_the_distribution_and_dimensions_use_different_noise() -> None:
    config, params = transformer_case()
    params = jax.tree.map(np.zeros_like, params)
    slope = 0.3 * np.arange(9, dtype=np.float32)
    for j in range(3):  # the same distribution in every dimension, independent of the others
        params[f"head_{j}"]["Dense_1"]["bias"] = slope
    draw = jax.jit(lambda explore: autoregressive.draw(config, params, jnp.zeros((1, 3)), 3, KEY, 4000, explore)[0][:, 0])
    bins = np.asarray(draw(1.0))
    for j in range(3):
        np.testing.assert_allclose(np.bincount(bins[:, j], minlength=9) / 4000, np.exp(log_softmax(slope)), atol=0.03)
    assert np.abs(np.corrcoef(bins.T) - np.eye(3)).max() < 0.06
    assert (np.asarray(draw(0.0)) == 8).all()


def test_one_dimension_needs_no_past() -> None:
    config = recipe("autoregressive", width=16, heads=2, bins=9)
    params, features = awake(config, 1), np.zeros((4, 3), np.float32)

    @jax.jit
    def run(params: dict) -> tuple:
        actions, _ = autoregressive.sample(config, params, features, 1, KEY, 2)
        return actions, autoregressive.supervised_loss(config, params, features, actions[0], KEY)

    actions, loss = run(params)
    assert actions.shape == (2, 4, 1) and loss.shape == (4,) and np.isfinite(loss).all()
