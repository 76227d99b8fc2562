"""What make and its scripts do before any program runs: the command lines, the interpreter, the bars of the slow proofs."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys

import pytest

from etude.config import REPOSITORY, load_run_config

spec = importlib.util.spec_from_file_location("prove", REPOSITORY / "tools" / "prove.py")
assert spec and spec.loader
prove = importlib.util.module_from_spec(spec)
sys.modules["prove"] = prove
spec.loader.exec_module(prove)


def call(*command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    ours = ("PYTHON", "ARGS")  # of a `make test ARGS=…` around it
    clean = {name: value for name, value in os.environ.items() if not name.startswith("MAKE") and name not in ours}
    return subprocess.run(
        command, cwd=REPOSITORY, env={**clean, **environment}, capture_output=True, text=True, check=False, timeout=60
    )


def demo_command(*options: str) -> str:
    printed = call("make", "--dry-run", "demo", *options).stdout
    return next(line for line in printed.splitlines() if "practice run" in line)


def test_make_demo_starts_the_demo_from_pixels():
    assert "--config robot_configs/runs/demo.yaml" in demo_command()
    assert "--headless" not in demo_command()


def test_make_demo_passes_every_option_on():
    options = ["HEADLESS=1", "MINUTES=20", "SEED=3", "OBS=state", "TASK=drawer", "PORT=9000", "NAME=x"]
    expected = "--config robot_configs/runs/demo_state.yaml --headless --minutes 20 --seed 3 --task drawer --port 9000 --name x"
    assert re.sub(r" +", " ", demo_command(*options)).strip().endswith(expected)


def test_an_unknown_observation_is_refused_before_anything_is_set_up():
    refused = call("make", "--dry-run", "demo", "OBS=stat")
    assert refused.returncode != 0 and "OBS=stat" in refused.stderr and "OBS=state" in refused.stderr
    assert "practice run" not in refused.stdout


def test_the_observation_goes_with_a_configuration_of_ones_own():
    assert "--config my.yaml --observation state" in re.sub(r" +", " ", demo_command("CONFIG=my.yaml", "OBS=state"))
    assert "--observation" not in demo_command("CONFIG=my.yaml")  # the file says which


@pytest.mark.parametrize("no", ["0", "no", "false", ""])
def test_headless_can_be_switched_off(no):
    assert "--headless" not in demo_command(f"HEADLESS={no}")


def test_make_help_explains_every_target():
    targets = re.findall(r"^\.PHONY: ([a-z-]+)$", (REPOSITORY / "Makefile").read_text(), re.MULTILINE)
    printed = call("make").stdout
    assert targets and all(re.search(rf"^  {target} +\w", printed, re.MULTILINE) for target in targets)


def test_an_interpreter_of_the_wrong_version_is_refused_with_what_is_needed(tmp_path):
    old = tmp_path / "python3.8"
    old.write_text("#!/bin/sh\necho 3.8\n")
    old.chmod(0o755)
    done = call("tools/find_python.sh", PYTHON=str(old), ROS_DISTRO="")
    assert done.returncode == 1 and "3.8" in done.stderr and "3.11 3.12" in done.stderr


def test_the_interpreter_that_is_asked_for_is_used():
    assert call("tools/find_python.sh", PYTHON=sys.executable).stdout.strip() == sys.executable


def test_with_a_system_ros_the_interpreter_is_the_one_of_its_rclpy(tmp_path):
    (tmp_path / "lib/python3.99/site-packages/rclpy").mkdir(parents=True)
    done = call("tools/find_python.sh", ROS_DISTRO="jazzy", AMENT_PREFIX_PATH=str(tmp_path), PYTHONPATH="")
    assert done.returncode == 1 and "3.99" in done.stderr


@pytest.mark.parametrize("script", sorted(path.name for path in (REPOSITORY / "tools").glob("*.sh")))
def test_scripts_are_well_formed(script):
    assert call("bash", "-n", f"tools/{script}").returncode == 0


@pytest.mark.parametrize("proof", [proof for proofs in prove.PROOFS.values() for proof in proofs], ids=str)
def test_the_configuration_of_every_proof_loads(proof):
    config = load_run_config(proof.config, [f"task={proof.task}"])
    assert config.observation == proof.observation


@pytest.mark.parametrize(
    ("summary", "verdict"),
    [
        ({"status": 0, "forward_success": 0.90, "forward_success_before": 0.2}, True),
        ({"status": 0, "forward_success": 0.84, "forward_success_before": 0.2}, False),
        ({"status": 0, "forward_success": 0.90, "forward_success_before": 0.5}, False),
        ({"status": 1, "forward_success": 0.90, "forward_success_before": 0.2}, False),
        ({"status": 0}, False),
    ],
)
def test_a_proof_passes_only_above_its_bar_from_a_low_start(summary, verdict):
    proof = prove.Proof("slide", "pixels", 20, at_least=0.85, before_below=0.40)
    assert prove.passed(proof, summary) is verdict
    assert ("**no**" in prove.table([(proof, 0, summary)])) is not verdict


def test_a_resumed_proof_repeats_what_did_not_come_to_its_end(tmp_path, monkeypatch):
    made = []

    def run(proof, seed, minutes):
        made.append(seed)
        end = {"forward_success": 1.0, "minutes": 5.02} if seed != 1 or made.count(1) > 1 else {"minutes": 0.37}
        names = {"task": proof.task, "observation": proof.observation, "seed": seed}
        return {"status": 0, **names, "minutes_planned": minutes, **end}

    monkeypatch.setattr(prove, "RESULTS", tmp_path)
    monkeypatch.setattr(prove, "run", run)
    prove.main(["demo", "--only", "state", "--seeds", "0", "1", "--minutes", "4.5"])
    prove.main(["demo", "--only", "state", "--seeds", "0", "1", "--minutes", "4.5", "--resume"])
    assert made == [0, 1, 1]  # the second run of seed 1 ended, the first one was stopped
    entries = json.loads((tmp_path / "proof-demo.json").read_text())
    assert [entry["command"] for entry in entries] == [
        f"python tools/prove.py demo --only state --seeds {seed} --minutes 4.5" for seed in (0, 1)
    ]


@pytest.mark.parametrize(
    ("change", "verdict"),
    [
        ({}, True),
        ({"help_requests": 6}, False),
        ({"forward_success": 0.84}, False),
        ({"env_steps": 35_999}, False),
        ({"env_steps": 20_000, "pace": "realtime", "minutes": 60.01}, True),
        ({"env_steps": 20_000, "pace": "realtime", "minutes": 30.0}, False),
        ({"env_steps": 20_000, "pace": "learner", "minutes": 60.01}, False),
    ],
)
def test_an_hour_alone_is_an_hour_of_the_robot_with_at_most_five_calls_for_help(change, verdict):
    (proof,) = prove.PROOFS["relocate-hour"]
    summary = {"status": 0, "forward_success": 0.9, "help_requests": 5, "env_steps": 36_000, "pace": "learner", "minutes": 20.0}
    assert prove.passed(proof, {**summary, **change}) is verdict


def test_settings_of_a_proof_are_part_of_the_command_that_it_records(tmp_path, monkeypatch):
    def run(proof, seed, minutes):
        assert "robot=sim_panda_fast" in proof.overrides
        return {"status": 0, "task": proof.task, "observation": proof.observation, "seed": seed, "minutes_planned": minutes}

    monkeypatch.setattr(prove, "RESULTS", tmp_path)
    monkeypatch.setattr(prove, "run", run)
    prove.main(["relocate-hour", "--set", "robot=sim_panda_fast", "--minutes", "25"])
    (entry,) = json.loads((tmp_path / "proof-relocate-hour.json").read_text())
    assert entry["command"].endswith("--minutes 25 --set robot=sim_panda_fast")
