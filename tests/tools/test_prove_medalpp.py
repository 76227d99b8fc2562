"""The proof of MEDAL++ from pixels: what is compared, and how it is recorded."""

from __future__ import annotations

import importlib.util
import json
import sys

import pytest

from etude.config import REPOSITORY

spec = importlib.util.spec_from_file_location("prove_medalpp", REPOSITORY / "tools" / "prove_medalpp.py")
assert spec and spec.loader
proof = importlib.util.module_from_spec(spec)
sys.modules["prove_medalpp"] = proof
spec.loader.exec_module(proof)


def row(method: str, seed: int, before: float, after: float) -> dict:
    steps = 2_000 if method == "medal_pp" else 0
    return {
        "method": method,
        "seed": seed,
        "steps": steps,
        "robot_minutes": steps / 600,
        "minutes": 5.0,
        "before": before,
        "after": after,
        "curve": [(0, before), (steps, after)] if steps else [(0, before)],
        "practice": [(22, "forward", 1), (44, "backward", 0), (66, "forward", 0)] if steps else [],
        "resets": int(steps > 0),
    }


def test_no_reward_of_the_simulator_reaches_training_and_nobody_helps():
    recipe = proof.configuration(proof.Run("medal_pp", 0, 100)).recipe
    assert set(recipe.learned_rewards) == {"forward", "backward"} and recipe.help.kind == "never"
    assert recipe.data.bootstrap_through_timeouts


def test_a_clone_has_the_updates_of_practice_too():
    practised, cloned = (proof.configuration(proof.Run(method, 3, 100)) for method in proof.METHODS)
    assert cloned.recipe.data.pretrain_bc_steps == practised.recipe.data.pretrain_bc_steps + 100 * practised.recipe.data.utd
    assert practised.seed == cloned.seed == 3


def test_practice_has_to_end_above_both_clones_in_every_seed():
    good = [row("medal_pp", 0, 0.4, 0.9), row("cloning", 0, 0.6, 0.6)]
    assert proof.verdict(good, [0])[0] is True
    assert proof.verdict(good, [0, 1])[0] is None
    assert proof.verdict([*good, row("medal_pp", 1, 0.4, 0.6), row("cloning", 1, 0.6, 0.6)], [0, 1])[0] is False


def test_results_are_recorded_and_not_repeated(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(proof, "RESULTS", tmp_path)
    started = []

    def run_all(runs, jobs):
        for run in runs:
            started.append((run.key, run.steps, run.overrides))
            yield run, row(run.method, run.seed, 0.4, 0.9)

    monkeypatch.setattr(proof, "run_all", run_all)
    assert proof.main(["--seeds", "0", "--steps", "2000", "recipe.data.utd=1"]) == 0
    assert "pass: medal_pp improves on cloning in every seed — seed 0: 0.40 (longer: 0.40) → 0.90" in capsys.readouterr().out
    assert (tmp_path / "proof-medalpp.png").is_file() and len(json.loads(proof.results_file().read_text())) == 2
    assert started[0] == (("medal_pp", 0), 2_000, ("recipe.data.utd=1",))
    assert proof.main(["--seeds", "0", "1", "--resume", "--only", "medal_pp"]) == 0  # the clone of seed 1 was not run
    assert "not run: cloning seed 1" in capsys.readouterr().out
    assert [key for key, *_ in started] == [("medal_pp", 0), ("cloning", 0), ("medal_pp", 1)]


def test_a_run_that_fails_fails_the_proof(tmp_path, monkeypatch):
    monkeypatch.setattr(proof, "RESULTS", tmp_path)
    monkeypatch.setattr(proof, "run_all", lambda runs, jobs: ((run, None) for run in runs))
    assert proof.main(["--seeds", "0"]) == 1


@pytest.mark.parametrize("method", ["medal_pp", "cloning"])
def test_the_command_makes_the_same_run_again(method):
    run = proof.Run(method, 2, 500, ("recipe.data.utd=1",))
    words = proof.command(run).split()
    assert words[:2] == ["python", "tools/prove_medalpp.py"]
    assert words[2:] == ["--only", method, "--seeds", "2", "--steps", "500", "recipe.data.utd=1"]
