"""Instructions as an input: rows keep their own, one policy follows two, and the exported program needs no text."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import ACTION, STATE_ONLY, segment, small_recipe
from pydantic import ValidationError

from actor.policy_runner import PolicyRunner
from etude.config import ConfigError, DataConfig, RobotConfig, RunConfig, TaskConfig, build, read_yaml
from etude.episodes.store import EpisodeStore
from etude.run_folder import RunFolder
from etude.specs import PHASES
from etude.step import Step
from etude.text_embedding import TextEmbeddingError, embed
from learner import commands, export
from learner.recipe import Agent
from learner.replay.demonstrations import load_demonstrations
from learner.replay.mixing import BatchSampler
from learner.replay.ring import Ring
from learner.training import Learner

DIM = 16
GO = {"forward": "go right", "backward": "go left"}
ONE_POLICY = {"reset": {"kind": "instruction"}, "encoder": {"instruction": "hashed", "instruction_dim": DIM}}


def told(length: int, phase: str, text: str, state: float, **names: object) -> Iterator[Step]:
    """A segment whose states are `state` and whose actions are 1 forward and −1 backward."""
    rng = np.random.default_rng(0)
    for step in segment(rng, STATE_ONLY, length, phase, **names):  # type: ignore[arg-type]
        action = step.action if step.is_last else np.full(2, 1.0 if phase == "forward" else -1.0, np.float32)
        yield replace(step, instruction=text, observation={"state": np.full(2, state, np.float32)}, action=action)


def store_of(path: Path, task: str, instructions: dict[str, str], phases: tuple[str, ...] = PHASES) -> Path:
    with EpisodeStore.create(path, STATE_ONLY, ACTION) as store:
        for number in range(4):
            phase = phases[number % len(phases)]
            steps = told(
                6, phase, instructions[phase], 0.1 * number, actor="person", number=number + 1, first_sequence=6 * number + 1
            )
            for step in steps:
                store.append(replace(step, task=task))
    return path


def point_sampler(recipe, rows: int = 64) -> BatchSampler:
    """Demonstrations of a point that goes right or left from anywhere: only the instruction says which."""
    ring, rng = Ring(2000, STATE_ONLY, ACTION), np.random.default_rng(0)
    for number in range(100):
        phase = PHASES[number % 2]
        for step in told(4, phase, GO[phase], float(rng.uniform(-1, 1)), number=number):
            ring.add(step)
    recipe = recipe.model_copy(update={"data": DataConfig(batch_size=rows)})
    return BatchSampler(recipe, ring, Ring(100, STATE_ONLY, ACTION), 0)


# --- rows -------------------------------------------------------------------------------------------------------------


def test_rows_of_several_tasks_keep_their_own_instruction_and_phases_share_one_policy_equally(tmp_path: Path) -> None:
    tasks = {"drawer": {"forward": "open the drawer", "backward": "close the drawer"}, "point": GO}
    stores = [store_of(tmp_path / name, name, texts) for name, texts in tasks.items()]
    recipe = small_recipe(**ONE_POLICY, data={"batch_size": 32})
    prior, practised = load_demonstrations(stores, recipe, STATE_ONLY, ACTION), Ring(100, STATE_ONLY, ACTION)
    for number, phase in enumerate(PHASES):
        for step in told(9, phase, GO[phase], 9.0, number=number):
            practised.add(step)
    sampler = BatchSampler(recipe, prior, practised, 0)
    batch = sampler.sample(3)
    assert {name: leaf.shape for name, leaf in sampler.example(3)["observation"].items()} == {
        name: leaf.shape for name, leaf in batch["observation"].items()
    }
    seen = batch["observation"]["instruction"]
    assert seen.shape == (3, 1, 32, DIM) and batch["reward"].shape == (3, 1, 32)
    np.testing.assert_array_equal(seen, batch["next_observation"]["instruction"])
    forward = batch["action"][..., 0] > 0
    np.testing.assert_array_equal(forward.sum(-1), 16)
    demonstrated = batch["demonstration"] == 1
    np.testing.assert_array_equal((forward & demonstrated).sum(-1), 8)
    for phase, rows in (("forward", forward), ("backward", ~forward)):
        own, other = (embed("hashed", texts[phase], DIM) for texts in (GO, tasks["drawer"]))
        assert (seen[rows & ~demonstrated] == own).all()
        of_point = (seen[rows & demonstrated] == own).all(-1)
        assert (of_point | (seen[rows & demonstrated] == other).all(-1)).all() and 0 < of_point.sum() < len(of_point)


def test_two_policies_may_read_instructions_too() -> None:
    recipe = small_recipe(encoder={"instruction": "hashed", "instruction_dim": DIM})
    assert recipe.directions == recipe.phases == PHASES
    ring = Ring(100, STATE_ONLY, ACTION)
    for number, phase in enumerate(PHASES):
        for step in told(9, phase, GO[phase], 0.0, number=number):
            ring.add(step)
    batch = BatchSampler(recipe, ring, ring, 0).sample(1)
    for i, phase in enumerate(PHASES):
        assert (batch["observation"]["instruction"][:, i] == embed("hashed", GO[phase], DIM)).all()


# --- one policy, two instructions -------------------------------------------------------------------------------------


def test_one_policy_goes_where_it_is_told_and_the_robot_needs_no_text() -> None:
    recipe = small_recipe(**ONE_POLICY, policy={"hidden": (32,), "learning_rate": 5e-3})
    assert recipe.directions == ("both",) and recipe.phases == PHASES
    agent, sampler = Agent(recipe, STATE_ONLY, ACTION, GO), point_sampler(recipe)
    state = agent.init(jax.random.key_data(jax.random.key(0)), np.zeros(2), np.ones(2))
    assert {leaf.shape[0] for leaf in jax.tree.leaves((state.critic, state.policy))} == {1}
    block = agent.update_block("clone")
    for _ in range(10):
        state, metrics = block(state, jax.tree.map(jnp.asarray, sampler.sample(10)))
    assert metrics["critic/td_loss"].shape == (1,)
    state = agent.begin_practice(state)

    program = export.export_program(agent, state)
    parameters = export.host_parameters(agent, state)
    np.testing.assert_array_equal(parameters["instructions"], [embed("hashed", GO[phase], DIM) for phase in PHASES])
    robot = PolicyRunner(seed=7)
    robot.load_program(program.to_bytes())
    robot.load_weights(export.weights("run", 1, program, parameters).to_bytes())
    act, called = jax.jit(agent.act), 0
    for x in (-0.8, 0.0, 0.8):
        observation = {"state": np.full(2, x, np.float32)}
        for phase, sign in (("forward", 1.0), ("backward", -1.0)):
            for explore in (False, True):
                called += 1
                inputs = {**observation, "phase": np.eye(2, dtype=np.float32)[PHASES.index(phase)]}
                key = np.array([7, called], np.uint32)
                here = act(agent.policy_parameters(state), inputs, key, np.float32(explore))
                there = robot.act(observation, phase, explore)
                np.testing.assert_array_equal(there, here)
                assert explore or (sign * there > 0.5).all(), (x, phase, there)


def test_the_critic_learns_how_instructions_are_read() -> None:
    recipe = small_recipe(
        **ONE_POLICY,
        critic={"kind": "cal_ql"},
        improvement={"bc_weight": 1.0, "bc_schedule": "balanced"},
        policy={"cloning": "log_likelihood"},
    )
    agent, batch = Agent(recipe, STATE_ONLY, ACTION, GO), point_sampler(recipe, 8).sample(1)
    state = agent.init(jax.random.key_data(jax.random.key(0)), np.zeros(2), np.ones(2))
    batch = jax.tree.map(lambda leaf: jnp.asarray(leaf[0]), batch)
    after, metrics = jax.jit(agent.update)(state, batch)
    assert all(np.isfinite(value).all() for value in metrics.values())
    assert not np.array_equal(*(s.encoder["instruction_projection"]["kernel"] for s in (state, after)))


def test_one_policy_plans_chunks_as_it_is_told_in_thinned_steps(tmp_path: Path) -> None:
    recipe = small_recipe(
        **ONE_POLICY,
        policy={"chunk": 3, "hidden": (32,), "learning_rate": 5e-3},
        improvement={"every": 2},
        data={"batch_size": 32},
    )
    stores = [store_of(tmp_path / name, name, GO) for name in ("here", "there")]
    practised = Ring(100, STATE_ONLY, ACTION, recipe.policy.chunk)
    for number, phase in enumerate(PHASES):
        for step in told(9, phase, GO[phase], 0.2, number=number):
            practised.add(step)
    sampler = BatchSampler(recipe, load_demonstrations(stores, recipe, STATE_ONLY, ACTION), practised, 0)
    agent = Agent(recipe, STATE_ONLY, ACTION, GO)
    state = agent.init(jax.random.key_data(jax.random.key(0)), np.zeros(2), np.ones(2))
    clone, online = agent.update_block("clone"), agent.update_block("online")
    for _ in range(10):
        state, _ = clone(state, jax.tree.map(jnp.asarray, sampler.sample(10)))
    batch = sampler.sample(4)
    assert batch["action"].shape == (4, 1, 32, 6) and batch["observation"]["instruction"].shape == (4, 1, 32, DIM)
    np.testing.assert_array_equal(batch["observation"]["instruction"], batch["next_observation"]["instruction"])
    state, metrics = online(state, jax.tree.map(jnp.asarray, batch))
    assert metrics["policy/q"].shape == (1,) and all(np.isfinite(value).all() for value in metrics.values())
    for i, sign in enumerate((1.0, -1.0)):
        observation = {"state": np.full(2, 0.2, np.float32), "phase": np.eye(2, dtype=np.float32)[i]}
        plan = agent.act(agent.policy_parameters(state), observation, np.zeros(2, np.uint32), np.float32(0))
        assert plan.shape == (3, 2) and (sign * plan > 0.5).all()


# --- what cannot be ---------------------------------------------------------------------------------------------------


def test_one_policy_that_is_told_nothing_is_refused() -> None:
    with pytest.raises(ValidationError, match=r"encoder\.instruction is 'none', so nothing tells it which: set .* hashed"):
        small_recipe(reset={"kind": "instruction"})


@pytest.mark.parametrize("kind", ["bert", "open_clip", "open_clip:ViT-B-32", "open_clip::openai", ""])
def test_an_unknown_embedding_is_refused(kind: str) -> None:
    with pytest.raises(ValidationError, match="String should match pattern"):
        small_recipe(encoder={"instruction": kind})


def test_two_instructions_with_the_same_words_are_refused() -> None:
    task = TaskConfig(name="point", forward={"instruction": "Go "}, backward={"instruction": "go"})  # type: ignore[arg-type]
    with pytest.raises(ValidationError, match="both instructions of task 'point' are 'go'"):
        RunConfig(task=task, robot=RobotConfig(name="fake"), recipe=small_recipe(**ONE_POLICY), observation="state")


def test_an_agent_that_reads_instructions_wants_them() -> None:
    with pytest.raises(ValueError, match=r"recipe 'test' reads instructions: give Agent those of the task"):
        Agent(small_recipe(**ONE_POLICY), STATE_ONLY, ACTION)
    recipe = small_recipe(encoder={"instruction": "open_clip:no-such-model:none", "instruction_dim": DIM})
    with pytest.raises(TextEmbeddingError, match="open_clip"):
        Agent(recipe, STATE_ONLY, ACTION, GO)


# --- RoboFuME: prior data of several tasks, then practice --------------------------------------------------------------

TINY = [
    "recipe.critic.hidden=[16]",
    "recipe.policy.hidden=[16]",
    "recipe.critic.cql_samples=2",
    "recipe.data.batch_size=8",
    "recipe.data.offline_steps=20",
    f"recipe.encoder.instruction_dim={DIM}",
]


def test_offline_training_on_two_tasks_and_practice_from_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commands, "runs_root", lambda: tmp_path / "runs")
    slide = store_of(tmp_path / "slide", "slide", {"forward": "slide right", "backward": "slide left"})
    drawer = store_of(tmp_path / "drawer", "drawer", {"forward": "open the drawer"}, phases=("forward",))
    wanted = ["--recipe", "robofume", "--task", "slide", "--name", "told"]
    with pytest.raises(ConfigError, match=r"the first --data, .*drawer, shows drawer and not the task 'slide'"):
        commands.train_offline([*wanted, "--data", str(drawer), "--data", str(slide), *TINY])
    assert commands.train_offline([*wanted, "--data", str(slide), "--data", str(drawer), *TINY]) == 0
    folder = RunFolder(tmp_path / "runs" / "told")
    config = build(RunConfig, read_yaml(folder.config), "config.yaml")
    assert (config.demonstrations, config.prior_data) == (slide, (drawer,))
    robot = PolicyRunner()
    robot.load_program((folder.policy / "policy.program").read_bytes())
    robot.load_weights((folder.policy / "policy.safetensors").read_bytes())
    said = [robot.act({"state": np.zeros(2, np.float32)}, phase, False) for phase in PHASES]
    assert not np.array_equal(*said), "the weights hold both instructions"

    learner = Learner(config, folder, slide, STATE_ONLY, ACTION)  # what `etude practice run --from` starts
    try:
        assert learner.pretrained and learner.updates == 0
        assert learner._demonstrations.texts == ["slide right", "slide left", "open the drawer"]
        metrics = learner.metrics()
        assert {"replay/forward_transitions", "replay/backward_transitions"} <= metrics.keys()
        assert learner._sampler.sample(1)["observation"]["instruction"].shape == (1, 1, 8, DIM)
    finally:
        learner.stop()
