"""Runs with the learned reward are held against runs with the ground truth, seed by seed, and are not repeated."""

from __future__ import annotations

import importlib.util
import json

import pytest

from etude.config import REPOSITORY

spec = importlib.util.spec_from_file_location("prove_learned_reward", REPOSITORY / "tools" / "prove_learned_reward.py")
assert spec is not None and spec.loader is not None
proof = importlib.util.module_from_spec(spec)
spec.loader.exec_module(proof)


def made(success):
    return {"forward_success": success, "status": 0}


def test_within_five_points_of_the_truth_passes_and_six_do_not():
    rows = {"truth": {"0": made(0.90), "1": made(1.0)}, "classifier": {"0": made(0.80), "1": made(1.0)}}
    assert proof.verdicts(rows) == {"classifier": True, "mislabelled": None}
    rows["classifier"]["0"] = made(0.78)
    assert proof.verdicts(rows)["classifier"] is False


def test_only_seeds_that_both_have_are_compared():
    rows = {"truth": {"0": made(0.9)}, "classifier": {"0": made(0.9), "1": made(0.1)}}
    assert proof.verdicts(rows)["classifier"] is True
    rows["truth"]["0"] = {"forward_success": None, "status": 0}
    assert proof.verdicts(rows)["classifier"] is None, "a run that was stopped says nothing"


def test_finished_runs_are_not_repeated(tmp_path, monkeypatch, capsys):
    asked = []
    monkeypatch.setattr(proof, "run", lambda arm, seed, minutes: asked.append((arm, seed)) or made(0.9))
    out = tmp_path / "r.json"
    command = ["--seeds", "0", "--minutes", "1", "--out", str(out)]
    assert proof.main(command) == 0 and len(asked) == 3
    assert proof.main([*command[:2], "1", *command[2:]]) == 0
    assert sorted(asked) == sorted((arm, seed) for arm in proof.ARMS for seed in (0, 1))
    assert json.loads(out.read_text())["within_5_points"] == {"classifier": True, "mislabelled": True}
    assert proof.main(["--minutes", "2", "--out", str(out)]) == 2, "runs of another length are not mixed in"


@pytest.mark.parametrize("arm", list(proof.ARMS))
def test_every_arm_is_a_run_that_can_be_configured(arm):
    from etude.config import load_run_config

    config = load_run_config(REPOSITORY / "robot_configs" / "runs" / "demo.yaml", proof.ARMS[arm])
    assert config.recipe.reward.kind == ("environment" if arm == "truth" else "classifier")
    assert config.recipe.reward.classifier.mislabelled_share == (0.1 if arm == "mislabelled" else 0.0)
