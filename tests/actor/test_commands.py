"""`etude demo record|list` and `etude evaluate`: what they print and write, and their errors."""

from __future__ import annotations

import numpy as np
import pytest
from point_robot import PointRobot, point_config

from actor import commands
from etude.config import ConfigError, save_config
from etude.episodes.store import EpisodeStore
from etude.policy_file import PolicyProgram, PolicyWeights, save_policy
from etude.specs import specs_to_json


@pytest.fixture
def point(monkeypatch, tmp_path):
    """Commands act on the point robot, and data lives in a temporary folder."""
    monkeypatch.setenv("ETUDE_DATA", str(tmp_path))
    monkeypatch.setattr(commands, "task_config", lambda *_: point_config())
    monkeypatch.setattr("actor.robots.make_robot", lambda config, seed: PointRobot())
    return tmp_path


def test_record_writes_a_store_that_list_shows(point, capsys):
    assert commands.demo_record(["--task", "point", "--count", "2", "--observation", "state"]) == 0
    folder = point / "demonstrations" / "point-state" / "demos"
    with EpisodeStore.open(folder) as store:
        assert len(store.segments()) == 4
        assert store.metadata["source"] == "scripted expert"
    assert commands.demo_list([]) == 0
    out = capsys.readouterr().out
    assert "point-state/demos: 2 forward, 2 backward" in out


def test_existing_demonstrations_are_never_overwritten_by_accident(point):
    arguments = ["--task", "point", "--count", "1"]
    commands.demo_record(arguments)
    with pytest.raises(commands.CommandError, match="--force"):
        commands.demo_record(arguments)
    assert commands.demo_record([*arguments, "--force"]) == 0


def test_an_interrupted_recording_leaves_nothing_behind(point, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(PointRobot, "expert_action", interrupt)
    with pytest.raises(KeyboardInterrupt):
        commands.demo_record(["--task", "point", "--count", "1"])
    assert not any((point / "demonstrations" / "point-state").iterdir())


def test_an_empty_list_says_how_to_record(point, capsys):
    assert commands.demo_list([]) == 0
    assert "etude demo record" in capsys.readouterr().out


def test_a_damaged_store_is_reported_and_the_others_are_listed(point, capsys):
    commands.demo_record(["--task", "point", "--count", "1"])
    broken = point / "demonstrations" / "old" / "demos"
    broken.mkdir(parents=True)
    (broken / "store.json").write_text("{")
    assert commands.demo_list([]) == 1
    captured = capsys.readouterr()
    assert "point-state/demos" in captured.out and "old/demos" in captured.err


def test_an_unknown_task_names_a_known_one():
    with pytest.raises(ConfigError, match="slide"):
        commands.demo_record(["--task", "slid"])


def test_a_missing_policy_folder_says_where_policies_are(tmp_path):
    with pytest.raises(commands.CommandError, match="runs/<name>/policy"):
        commands.evaluate_command(["--policy", str(tmp_path / "nothing")])


@pytest.mark.parametrize("command", [commands.demo_record, commands.demo_list, commands.evaluate_command])
def test_help_shows_examples(command, capsys):
    with pytest.raises(SystemExit):
        command(["--help"])
    assert "example" in capsys.readouterr().out


@pytest.fixture(scope="module")
def exported():
    """An exported policy for the point robot that walks towards the goal of the phase."""
    import jax
    import jax.export
    import jax.numpy as jnp

    robot = PointRobot()

    def policy(params, observation, key, explore):
        return jnp.stack([(observation["phase"] @ jnp.array([1.0, -1.0])) * params["speed"], 1.0])

    inputs = {key: jax.ShapeDtypeStruct(shape, dtype) for key, (shape, dtype) in robot.observation_spec.shapes().items()}
    inputs["phase"] = jax.ShapeDtypeStruct((2,), "float32")
    leaves = {"speed": jax.ShapeDtypeStruct((), "float32")}
    key, explore = jax.ShapeDtypeStruct((2,), "uint32"), jax.ShapeDtypeStruct((), "float32")
    blob = jax.export.export(jax.jit(policy))(leaves, inputs, key, explore).serialize()
    specs = specs_to_json(robot.observation_spec, robot.action_spec)
    program = PolicyProgram(bytes(blob), specs, {"speed": ((), "float32")}, "walks")
    return program, PolicyWeights("run-1", 7, program.digest, {"speed": np.ones((), np.float32)})


def test_evaluate_prints_successes_with_their_interval_and_writes_a_film(point, exported, capsys):
    save_policy(point / "policy", *exported)
    film = point / "out.gif"
    arguments = ["--policy", str(point / "policy"), "--task", "point", "--episodes", "6", "--video", str(film)]
    assert commands.evaluate_command(arguments) == 0
    out = capsys.readouterr().out
    assert "policy version 7 of run-1" in out
    assert "forward: 6 of 6 succeeded = 100% (95% interval 61% to 100%)" in out
    assert "backward: 6 of 6" in out
    assert film.stat().st_size > 0


def test_the_task_of_a_policy_is_that_of_its_run(point, exported, capsys):
    save_policy(point / "run" / "policy", *exported)
    save_config(point_config(), point / "run" / "config.yaml")
    assert commands.evaluate_command(["--policy", str(point / "run" / "policy"), "--episodes", "1", "--phase", "forward"]) == 0
    out = capsys.readouterr().out
    assert "task point, state" in out and "backward" not in out


def test_a_policy_of_both_directions_is_evaluated_in_both(point, exported, capsys):
    config = point_config(reset__kind="instruction", encoder__instruction="hashed")
    policy = point / "runs" / "told" / "policy"
    save_policy(policy, *exported)
    save_config(config, policy.parent / "config.yaml")
    assert commands.evaluate_command(["--policy", str(policy), "--episodes", "1"]) == 0
    printed = capsys.readouterr().out
    assert "forward: " in printed and "backward: " in printed


def test_a_policy_outside_a_run_needs_the_task_named(point, exported):
    save_policy(point / "alone", *exported)
    with pytest.raises(commands.CommandError, match="--task"):
        commands.evaluate_command(["--policy", str(point / "alone")])


def test_a_policy_for_other_observations_is_refused(point, exported, monkeypatch):
    save_policy(point / "policy", *exported)
    monkeypatch.setattr("actor.robots.make_robot", lambda config, seed: PointRobot(pixels=True))
    with pytest.raises(ConfigError, match="trained on"):
        commands.evaluate_command(["--policy", str(point / "policy"), "--task", "point"])
