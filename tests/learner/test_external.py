"""External policies: the learner asks a policy server for candidates once per frame and version, and makes it better by PA-RL."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import ACTION, STATE_ONLY, random_batch, segment, small_recipe

from etude.config import RecipeConfig
from etude.policy_server import PolicyServerClient, PolicyServerError, ServerInfo
from learner import export
from learner.distillation import Distiller, spread_rows
from learner.parts import candidate_features
from learner.policies import external
from learner.recipe import Agent
from learner.replay.candidates import Candidates
from learner.replay.mixing import BatchSampler
from learner.replay.ring import Ring
from policy_servers.http_server import PolicyServer

K = 6
GOOD = np.array([0.6, -0.4])
INSTRUCTIONS = {"forward": "go", "backward": "come back"}


class TwoModes:
    """A mixture of two Gaussians, the same everywhere; imitating moves weight and mean of the mode that explains an action."""

    def __init__(self) -> None:
        self.version = 100
        self.weight, self.mean = np.array([0.5, 0.5]), np.array([[0.2, 0.0], [-0.6, 0.4]])
        self.frames: list[tuple[float, ...]] = []
        self.asked: Counter[tuple] = Counter()
        self.texts: set[str] = set()

    @property
    def most_often(self) -> int:
        return max(self.asked.values())

    def info(self) -> ServerInfo:
        return ServerInfo("two modes", self.version, 2, ("state",))

    def sample(self, observation, instructions, n, seed):
        frames = [tuple(row) for row in observation["state"]]
        self.frames += frames
        self.asked.update((self.version, frame) for frame in frames)
        self.texts |= set(instructions)
        return self.draw(np.random.default_rng(seed), n, len(instructions))

    def draw(self, rng, n, rows):
        mode = rng.choice(2, size=(n, rows), p=self.weight)
        return np.clip(self.mean[mode] + 0.2 * rng.normal(size=(n, rows, 2)), -1, 1)

    def distil(self, observation, instructions, action):
        distance = ((action[:, None] - self.mean) ** 2).sum(-1)
        share = self.weight * np.exp(-distance / 0.08)
        share /= share.sum(-1, keepdims=True)
        self.weight = 0.7 * self.weight + 0.3 * share.mean(0)
        pull = (share[..., None] * (action[:, None] - self.mean)).sum(0) / np.maximum(share.sum(0)[:, None], 1.0)
        self.mean = self.mean + 0.5 * pull
        self.version += 1
        return float(distance.min(-1).mean())


@pytest.fixture
def served() -> Iterator[tuple[TwoModes, PolicyServer, PolicyServerClient]]:
    model = TwoModes()
    server = PolicyServer(model, port=0)
    server.start()
    yield model, server, PolicyServerClient(server.address, 10.0)
    server.close()


def recipe_of(**changes) -> RecipeConfig:
    axes = {
        "critic": {"hidden": (32,), "learning_rate": 3e-3},
        "policy": {"kind": "external", "distil_every_updates": 10, "distil_batch": 16},
        "improvement": {
            "kind": "pa_rl",
            "candidates": K,
            "keep": 3,
            "ascent_steps": 2,
            "ascent_step_size": 0.02,
            "distil": "argmax",
        },
        "data": {"batch_size": 32},
        "reset": {"kind": "human"},
    }
    return small_recipe(**{axis: axes.get(axis, {}) | changes.get(axis, {}) for axis in {**axes, **changes}})


def bandit(count: int, seed: int = 0) -> Ring:
    """Attempts of one step: the reward is how near the action is to GOOD, whatever the state."""
    ring, rng = Ring(4 * count, STATE_ONLY, ACTION), np.random.default_rng(seed)
    for number in range(count):
        first, last = segment(rng, STATE_ONLY, 2, number=number)
        ring.add(replace(first, reward=reward_of(first.action)))
        ring.add(last)
    return ring


def reward_of(action: np.ndarray) -> np.ndarray:
    return 1.0 - ((action - GOOD) ** 2).sum(-1)


def candidates_for(client: PolicyServerClient) -> Candidates:
    return Candidates(client, K, INSTRUCTIONS, ("state",), 2, 0)


def test_the_policy_is_its_candidates_and_the_critic_does_not_see_them() -> None:
    recipe, rng = recipe_of(), np.random.default_rng(0)
    agent = Agent(recipe, STATE_ONLY, ACTION)
    state = agent.init(jax.random.key_data(jax.random.key(0)), np.zeros(2), np.ones(2))
    assert jax.tree.leaves(state.policy) == []
    candidates = jnp.asarray(rng.uniform(-1, 1, (5, K, 2)), jnp.float32)
    z = jnp.asarray(rng.normal(size=(5, 2)), jnp.float32)
    features = candidate_features(z, candidates)
    drawn, density = external.sample(recipe, {}, features, 2, jax.random.key(0), K)
    np.testing.assert_array_equal(drawn, jnp.moveaxis(candidates, 1, 0))
    assert density is None
    np.testing.assert_array_equal(external.act(recipe, {}, features, 2, jax.random.key(0), jnp.ones(())), candidates[:, 0])
    with pytest.raises(ValueError, match=r"raise improvement\.candidates"):
        external.sample(recipe, {}, features, 2, jax.random.key(0), K + 1)

    critic = jax.tree.map(lambda leaf: leaf[0], state.critic)
    mean_q = agent.critic.values(recipe, critic, z, jnp.moveaxis(candidates, 1, 0)).mean(0)
    improver = agent._improver(critic)
    np.testing.assert_allclose(improver.critic(features, drawn).mean(0), mean_q, rtol=1e-5)
    chosen, _ = agent.improvement.propose(improver, {}, features, jax.random.key(1), 1)
    assert (agent.critic.values(recipe, critic, z, chosen[0]).mean(0) >= mean_q.max(0) - 1e-6).all()


def test_critics_ask_about_now_and_next_with_the_right_candidates() -> None:
    """Targets depend on the candidates of the next observation, and on nothing else of the two."""
    agent = Agent(recipe_of(), STATE_ONLY, ACTION)
    state = agent.init(jax.random.key_data(jax.random.key(0)), np.zeros(2), np.ones(2))
    rng = np.random.default_rng(0)
    batch = random_batch(rng, STATE_ONLY, 8, lead=(1,)) | {"terminal": np.zeros((1, 8), np.float32)}
    pools = [rng.uniform(-1, 1, (1, 8, K, 2)).astype(np.float32) for _ in range(2)]
    update = jax.jit(agent.update)

    def target(now: int, following: int) -> float:
        _, metrics = update(state, batch | {"candidates": pools[now], "next_candidates": pools[following]})
        return float(metrics["critic/target_mean"][0])

    assert target(0, 0) == target(1, 0) != target(0, 1)


def test_each_frame_is_asked_once_until_the_version_moves_or_its_row_is_overwritten(served) -> None:
    model, _, client = served
    ring, candidates = bandit(6), candidates_for(client)
    sampler = BatchSampler(recipe_of(data={"batch_size": 64, "demonstration_share": 0}), ring, ring, 0, candidates)
    batch = sampler.sample(2)
    assert batch["candidates"].shape == batch["next_candidates"].shape == (2, 1, 64, K, 2)
    assert candidates.requests == 1 and len(model.frames) == len(set(model.frames)) == 12 and model.texts == {"go"}
    # equal frames have equal candidates, now and next
    by_frame: dict[tuple, np.ndarray] = {}
    for where, leaf in (("observation", "candidates"), ("next_observation", "next_candidates")):
        for row, actions in zip(batch[where]["state"].reshape(-1, 2), batch[leaf].reshape(-1, K, 2), strict=True):
            np.testing.assert_array_equal(by_frame.setdefault(tuple(row), actions), actions)
    sampler.sample(4)
    assert candidates.requests == 1, "everything is known"
    candidates.moved_to(101)
    model.version = 101
    sampler.sample(2)
    assert candidates.requests == 2 and len(model.frames) == 24
    for step in segment(np.random.default_rng(9), STATE_ONLY, 2, number=99):
        ring.add(step)
    for number in range(100, 111):  # goes round: the first rows hold other frames now
        for step in segment(np.random.default_rng(number), STATE_ONLY, 2, number=number):
            ring.add(step)
    model.frames.clear()
    sampler.sample(2)
    assert candidates.requests == 3 and set(model.frames) <= {tuple(row) for row in ring.observation["state"]}
    assert len(model.frames) == len(set(model.frames)) == 24, "every row holds another frame than before"


def test_without_a_server_training_goes_on_with_what_is_known(served, caplog: pytest.LogCaptureFixture) -> None:
    _, server, client = served
    ring, candidates = bandit(4), candidates_for(client)
    sampler = BatchSampler(recipe_of(data={"batch_size": 64, "demonstration_share": 0}), ring, ring, 0, candidates)
    known = sampler.sample(1)
    kept = {tuple(s): c for s, c in zip(known["observation"]["state"][0, 0], known["candidates"][0, 0], strict=True)}
    server.close()
    candidates.moved_to(500)
    for step in segment(np.random.default_rng(7), STATE_ONLY, 2, number=50):
        ring.add(step)
    new = ring.observation["state"][8]
    for _ in range(3):
        batch = sampler.sample(1)
    seen = 0
    leaves = (batch["observation"]["state"], batch["action"], batch["candidates"])
    for s, a, c in zip(*(leaf[0, 0] for leaf in leaves), strict=True):
        if np.array_equal(s, new):
            seen += 1
            np.testing.assert_array_equal(c, np.tile(a, (K, 1)), err_msg="a frame nobody knows has the executed action")
        else:
            np.testing.assert_array_equal(c, kept[tuple(s)])
    assert seen and candidates.trouble
    assert sum("does not answer" in record.message for record in caplog.records) == 1, "said once"
    with pytest.raises(PolicyServerError, match="start it"):
        candidates_for(client)


def test_pa_rl_improves_a_served_model_and_survives_its_death(served) -> None:
    model, server, client = served
    agent, ring = Agent(recipe_of(), STATE_ONLY, ACTION), bandit(200)
    state = agent.init(jax.random.key_data(jax.random.key(0)), np.zeros(2), np.ones(2))
    candidates = candidates_for(client)
    sampler = BatchSampler(agent.recipe, ring, ring, 0, candidates)
    distiller = Distiller(agent, candidates, 0)
    block = agent.update_block("online")
    before = reward_of(model.draw(np.random.default_rng(1), 500, 1)).mean()
    updates = 0

    def train(blocks: int) -> None:
        nonlocal state, updates
        for _ in range(blocks):
            batch = sampler.sample(10)
            state, _ = block(state, jax.tree.map(jnp.asarray, batch))
            updates += 10
            distiller.offer(state, batch, updates)

    train(40)
    assert model.version >= 120 and distiller.steps >= 20 and np.isfinite(distiller.loss)
    assert candidates.version > 100 and model.most_often == 1, "no frame is asked twice of one version"
    after = reward_of(model.draw(np.random.default_rng(1), 500, 1)).mean()
    assert after > before + 0.3, f"the samples' reward went from {before:.2f} to {after:.2f}"

    server.close()
    answered, version = distiller.steps, model.version
    train(5)
    assert updates == 450 and np.isfinite(np.asarray(jax.tree.leaves(state.critic)[0])).all()
    distiller.close()
    assert distiller.steps <= answered + 1 and model.version <= version + 1


def test_one_served_policy_is_told_the_instruction_of_each_row(served) -> None:
    """Both phases and prior data of another task in one batch; the critic reads the same texts."""
    model, _, client = served
    told: dict[tuple[float, ...], str] = {}
    imitated: dict[tuple[float, ...], str] = {}
    sample, distil = model.sample, model.distil

    def note(book, observation, instructions):
        book.update(zip(map(tuple, observation["state"]), instructions, strict=True))

    model.sample = lambda o, i, n, seed: (note(told, o, i), sample(o, i, n, seed))[1]
    model.distil = lambda o, i, action: (note(imitated, o, i), distil(o, i, action))[1]
    rings, texts, rng = [Ring(100, STATE_ONLY, ACTION) for _ in range(2)], {}, np.random.default_rng(3)
    for ring, said in zip(rings, ({"forward": "open the drawer", "backward": "close it"}, INSTRUCTIONS), strict=True):
        for number, phase in enumerate(("forward", "backward")):
            for step in segment(rng, STATE_ONLY, 5, phase, number=number):
                ring.add(replace(step, instruction=said[phase]))
                texts[tuple(step.observation["state"])] = said[phase]
    recipe = recipe_of(
        reset={"kind": "instruction"}, encoder={"instruction": "hashed", "instruction_dim": 8}, improvement={"every": 2}
    )
    agent, candidates = Agent(recipe, STATE_ONLY, ACTION, INSTRUCTIONS), candidates_for(client)
    state = agent.init(jax.random.key_data(jax.random.key(0)), np.zeros(2), np.ones(2))
    sampler, distiller = BatchSampler(recipe, *rings, 0, candidates), Distiller(agent, candidates, 0)
    batch = sampler.sample(4)
    example = sampler.example(4)
    assert jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), batch) == jax.tree.map(lambda x: (x.shape, x.dtype), example)
    assert batch["candidates"].shape == (4, 1, 32, K, 2) and told == texts
    state, metrics = agent.update_block("online")(state, jax.tree.map(jnp.asarray, batch))
    assert all(np.isfinite(value).all() for value in metrics.values())
    distiller.offer(state, batch, 10)
    end_s = time.monotonic() + 20.0
    while not distiller.steps and time.monotonic() < end_s:
        time.sleep(0.01)
    distiller.close()
    assert distiller.steps == 1 and set(imitated.values()) == set(texts.values()) and imitated.items() <= texts.items()


def test_distillation_takes_demonstrations_and_practice_as_the_batch_does() -> None:
    demonstration = np.repeat([1.0, 0.0], [24, 8])
    for count in (4, 16, 32):
        rows = spread_rows(32, count)
        assert len(set(rows)) == count and demonstration[rows].mean() == 0.75


def test_the_exported_program_takes_candidates_and_is_the_agent() -> None:
    agent = Agent(recipe_of(), STATE_ONLY, ACTION)
    state = agent.init(jax.random.key_data(jax.random.key(0)), np.zeros(2), np.ones(2))
    program = export.export_program(agent, state)
    assert program.candidates == K and type(program).from_bytes(program.to_bytes()) == program
    observation = {"state": np.array([0.3, -0.2], np.float32), "phase": np.array([1, 0], np.float32)}
    candidates = np.random.default_rng(0).uniform(-1, 1, (K, 2)).astype(np.float32)
    key = jax.random.key_data(jax.random.key(5))
    exported = jax.export.deserialize(bytearray(program.serialized))
    action = exported.call(export.flatten(agent.policy_parameters(state)), observation, key, np.float32(0), candidates)
    expected = agent.act(agent.policy_parameters(state), observation, key, jnp.zeros(()), jnp.asarray(candidates))
    np.testing.assert_allclose(action, expected, atol=1e-5)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"improvement": {"kind": "awr"}}, "trained by its server"),
        ({"improvement": {"kind": "gradient"}}, "log density"),
        ({"policy": {"distil_batch": 64}}, "distil_batch is 64"),
        ({"policy": {"chunk": 2}}, "gives single actions"),
        ({"data": {"intervention_weights": True}}, "imitates all rows alike"),
        ({"data": {"distillation_share": "proportional"}}, "imitates all rows alike"),
        (
            {"improvement": {"kind": "bc"}, "critic": {"kind": "cql", "cql_samples": 9, "cql_importance_sampling": False}},
            "cql_samples is 9",
        ),
    ],
)
def test_what_a_served_policy_cannot_do_is_refused(changes: dict, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        recipe_of(**changes)
