"""Offline training: what it leaves in the run folder, interruption and resuming, retraining on practice, clear refusals."""

from __future__ import annotations

import json
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers import ACTION, STATE_ONLY, segment, small_recipe

from etude.config import ConfigError, DirectionConfig, RobotConfig, RunConfig, TaskConfig, save_config
from etude.episodes.store import EpisodeStore
from etude.policy_file import load_policy
from etude.run_folder import RunFolder
from etude.specs import PHASES
from learner import commands, offline
from learner.checkpoint import Checkpoints
from learner.replay.mixing import BatchSampler

STORED_REWARD = 0.25
"""What the practice run's own recipe paid per step; another recipe learns from it by its own rewards."""


def config(**changes: dict) -> RunConfig:
    changes["data"] = {"pretrain_bc_steps": 20, "offline_steps": 20} | changes.get("data", {})
    changes["policy"] = {"average_rate": 0.1}
    direction = DirectionConfig(instruction="go", max_steps=10)
    return RunConfig(
        task=TaskConfig(name="test", forward=direction, backward=direction),
        robot=RobotConfig(name="fake"),
        recipe=small_recipe(**changes),
        observation="state",
    )


def demonstrations(path: Path, phases: tuple[str, ...] = PHASES) -> Path:
    rng = np.random.default_rng(0)
    with EpisodeStore.create(path, STATE_ONLY, ACTION) as store:
        for number in range(4):
            for step in segment(rng, STATE_ONLY, 8, phases[number % len(phases)], "person", number + 1, 8 * number + 1):
                store.append(step)
    return path


def practice(path: Path) -> Path:
    rng = np.random.default_rng(1)
    with EpisodeStore.create(path, STATE_ONLY, ACTION) as store:
        for number in range(6):
            for step in segment(rng, STATE_ONLY, 6, PHASES[number % 2], "robot", number + 1, 6 * number + 1, terminal=False):
                store.append(replace(step, reward=0.0 if step.is_last else STORED_REWARD))
    return path


def folder_in(path: Path) -> RunFolder:
    folder = RunFolder(path)
    folder.create()
    return folder


def counters(folder: RunFolder) -> dict:
    """Counters of the newest checkpoint, and its number."""
    checkpoints = Checkpoints(folder.checkpoints)
    try:
        _, found = checkpoints.restore(None)
        return {**found, "number": checkpoints.newest()}
    finally:
        checkpoints.close()


@pytest.fixture
def sampler_of(monkeypatch):
    """Calls `offline.train` without any update and returns the sampler that the updates would have drawn from."""
    seen: list[BatchSampler] = []

    def pretrain(agent, state, sampler, done, total):
        seen.append(sampler)
        return iter(())

    monkeypatch.setattr(offline, "pretrain", pretrain)

    def call(*arguments) -> BatchSampler:
        offline.train(*arguments, lambda _: None)
        return seen[-1]

    return call


def test_training_leaves_a_checkpoint_and_a_policy_and_resumes_where_ctrl_c_stopped_it(tmp_path, monkeypatch):
    monkeypatch.setattr(offline, "LOG_INTERVAL_S", 0.0)
    folder, store, heard = folder_in(tmp_path / "run"), demonstrations(tmp_path / "demonstrations"), []

    def interrupt(progress: offline.Progress) -> None:
        heard.append(progress.done)
        if progress.done == 20:
            signal.raise_signal(signal.SIGINT)

    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        offline.train(config(), folder, store, None, interrupt)
    assert signal.getsignal(signal.SIGINT) is before
    assert heard == [10, 20]
    assert (counters(folder)["number"], counters(folder)["pretrained_updates"]) == (20, 20)
    _, halfway = load_policy(folder.policy)

    heard.clear()
    metrics = offline.train(config(), folder, store, None, lambda progress: heard.append(progress.done))
    assert heard == [30, 40]  # those of the offline stage, after the 20 of cloning
    assert (counters(folder)["number"], counters(folder)["pretrained_updates"], counters(folder)["updates"]) == (40, 40, 0)
    assert {"critic/td_loss/forward", "critic/td_loss/backward"} <= set(metrics) and np.isfinite(list(metrics.values())).all()
    _, finished = load_policy(folder.policy)
    assert finished.parameters.keys() == halfway.parameters.keys()
    assert any(not np.array_equal(array, finished.parameters[name]) for name, array in halfway.parameters.items())
    lines = [json.loads(line) for line in folder.metrics("learner").read_text().splitlines()]
    assert len(lines) == 4

    heard.clear()
    assert offline.train(config(), folder, store, None, heard.append) == {} and not heard  # finished is finished


def test_ctrl_c_while_a_checkpoint_is_written_waits_until_checkpoint_and_policy_are_whole(tmp_path, monkeypatch):
    """Also the second and the third one, which come while what the first one stopped is kept."""
    folder, store = folder_in(tmp_path / "run"), demonstrations(tmp_path / "demonstrations")
    monkeypatch.setattr(offline, "LOG_INTERVAL_S", 0.0)
    save = Checkpoints.save

    def impatient(self, *arguments):
        signal.raise_signal(signal.SIGINT)
        save(self, *arguments)
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(Checkpoints, "save", impatient)
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        offline.train(config(), folder, store, None, lambda progress: signal.raise_signal(signal.SIGINT))
    assert signal.getsignal(signal.SIGINT) is before
    assert counters(folder)["pretrained_updates"] == 10
    load_policy(folder.policy)


def test_a_finished_training_that_lost_its_policy_writes_it_when_resumed(tmp_path):
    folder, store = folder_in(tmp_path / "run"), demonstrations(tmp_path / "demonstrations")
    offline.train(config(), folder, store, None, lambda _: None)
    _, weights = load_policy(folder.policy)
    for file in folder.policy.iterdir():
        file.unlink()
    offline.train(config(), folder, store, None, lambda _: None)
    _, again = load_policy(folder.policy)
    assert all(np.array_equal(array, again.parameters[name]) for name, array in weights.parameters.items())


def test_a_direction_without_data_is_refused_by_name(tmp_path):
    store = demonstrations(tmp_path / "demonstrations", phases=("forward",))
    with pytest.raises(ConfigError, match=r"nothing to train: .*demonstrations has no backward data"):
        offline.train(config(), folder_in(tmp_path / "run"), store, None, lambda _: None)


def test_a_recipe_without_updates_before_practice_is_refused(tmp_path):
    settings = config(data={"pretrain_bc_steps": 0, "offline_steps": 0})
    store = demonstrations(tmp_path / "demonstrations")
    with pytest.raises(ConfigError, match=r"nothing to train: data\.pretrain_bc_steps and data\.offline_steps are 0"):
        offline.train(settings, folder_in(tmp_path / "run"), store, None, lambda _: None)


def test_retraining_on_practice_uses_this_recipes_rewards_and_clones_none_of_its_rows(tmp_path, sampler_of):
    stored, shown = practice(tmp_path / "practice"), demonstrations(tmp_path / "demonstrations")
    changes = {"data": {"demonstration_share": 0.5}, "reward": {"kind": "environment", "success": 0.0, "step": -1.0}}
    sampler = sampler_of(config(**changes), folder_in(tmp_path / "run"), shown, stored)
    whole = sampler.sample(2)
    practised = whole["demonstration"] == 0.0
    assert practised.mean() == 0.5
    assert (whole["reward"][practised] == -1.0).all()
    assert set(np.unique(whole["reward"][~practised])) <= {0.0, -1.0}
    cloned = sampler.sample(2, demonstrations_only=True)
    assert (cloned["demonstration"] == 1.0).all()


def test_without_practice_all_rows_are_demonstrations(tmp_path, sampler_of):
    sampler = sampler_of(config(), folder_in(tmp_path / "run"), demonstrations(tmp_path / "demonstrations"), None)
    assert (sampler.sample(2)["demonstration"] == 1.0).all()


def test_only_cloning_is_limited_to_demonstrations():
    class Draws:
        def __init__(self) -> None:
            self.asked: list[bool] = []

        def sample(self, updates: int, demonstrations_only: bool) -> dict:
            assert updates == 10
            self.asked.append(demonstrations_only)
            return {}

    class Agent:
        recipe = config().recipe

        def update_block(self, stage):
            return lambda state, batch: (f"{state} {stage}", {})

    draws = Draws()
    blocks = list(offline.pretrain(Agent(), "new", draws, 0, 40))
    assert draws.asked == [True, True, False, False]
    assert (blocks[-1].done, blocks[-1].state) == (40, "new clone clone offline offline")
    assert [block.done for block in offline.pretrain(Agent(), "old", draws, 20, 40)] == [30, 40]


# --- the command ------------------------------------------------------------------------------------------------------


def test_the_command_says_what_it_needs(monkeypatch, tmp_path):
    monkeypatch.setattr(commands, "runs_root", lambda: tmp_path)
    with pytest.raises(ConfigError, match="needs --recipe and --task, or --from RUN, or --resume RUN"):
        commands.train_offline(["--recipe", "iql"])
    with pytest.raises(ConfigError, match="Did you mean 'cal_ql'"):
        commands.train_offline(["--recipe", "cal_q", "--task", "slide"])
    with pytest.raises(ConfigError, match="Did you mean 'offline_steps'"):
        commands.train_offline(["--recipe", "iql", "--task", "slide", "recipe.data.offline_step=5"])
    assert not list(tmp_path.iterdir())  # a refused call leaves no run folder


def test_an_existing_run_is_not_overwritten(monkeypatch, tmp_path):
    monkeypatch.setattr(commands, "runs_root", lambda: tmp_path)
    save_config(config(), folder_in(tmp_path / "mine").config)
    with pytest.raises(ConfigError, match=r"mine exists already: go on with --resume .*mine, or choose another --name"):
        commands.train_offline(["--recipe", "iql", "--task", "slide", "--name", "mine"])


def test_practice_does_not_begin_from_a_retraining_that_has_not_ended(monkeypatch, tmp_path):
    """Practice would do the missing updates without the steps that they are about; with demonstrations alone it may go on."""
    monkeypatch.setattr(commands, "runs_root", lambda: tmp_path / "runs")
    shown, origin = demonstrations(tmp_path / "demonstrations"), folder_in(tmp_path / "origin")
    practice(origin.episodes)
    save_config(config(), origin.config)
    learnt_from = []

    def stopped(config, folder, demonstrations, practice, say):
        learnt_from.append(practice)
        raise KeyboardInterrupt

    monkeypatch.setattr(offline, "train", stopped)
    asked = ["--from", str(origin.root), "--data", str(shown), "--name", "again"]
    assert commands.train_offline(asked) == 130
    folder = RunFolder(tmp_path / "runs" / "again")
    with pytest.raises(ConfigError, match=r"has not ended.*etude train offline --resume .*again"):
        commands.refuse_unfinished_retraining(folder)
    monkeypatch.setattr(offline, "train", lambda *arguments: learnt_from.append(arguments[3]))
    assert commands.train_offline(["--resume", str(folder.root)]) == 0
    commands.refuse_unfinished_retraining(folder)
    assert commands.train_offline(["--resume", str(folder.root)]) == 0
    assert learnt_from == [origin.episodes] * 3
    commands.refuse_unfinished_retraining(origin)  # never was a retraining


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"data": {"offline_steps": 0}}, "would learn nothing from that run"),
        ({"critic": {"kind": "cal_ql"}}, "add recipe.critic.kind=cql"),
    ],
)
def test_a_recipe_that_would_not_learn_from_the_steps_of_a_run_is_refused(changes, reason, monkeypatch, tmp_path):
    monkeypatch.setattr(commands, "runs_root", lambda: tmp_path / "runs")
    origin = folder_in(tmp_path / "origin")
    save_config(config(**changes), origin.config)
    with pytest.raises(ConfigError, match=reason):
        commands.train_offline(["--from", str(origin.root)])
    assert not (tmp_path / "runs").exists()


def test_a_resumed_training_takes_no_overrides(tmp_path):
    save_config(config(), folder_in(tmp_path / "run").config)
    with pytest.raises(ConfigError, match="overrides are not possible"):
        commands.train_offline(["--resume", str(tmp_path / "run"), "recipe.data.offline_steps=5"])


def test_missing_demonstrations_are_named_with_the_remedy(monkeypatch, tmp_path):
    monkeypatch.setattr(commands, "runs_root", lambda: tmp_path)
    wanted = ["--recipe", "iql", "--task", "slide", "--data", str(tmp_path / "nothing")]
    with pytest.raises(ConfigError, match=r"no episode store at .*nothing.*etude demo record --task slide"):
        commands.train_offline(wanted)
