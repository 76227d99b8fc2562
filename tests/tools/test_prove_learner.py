"""The learner's proof: its settings are possible, its sums are right, and a tiny run of it goes from demonstrations to a row."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from actor.robots import make_robot
from benchmarks import learner_report
from etude.config import REPOSITORY
from etude.episodes.earl import EarlError, read_earl, write_demonstrations
from etude.episodes.store import EpisodeStore
from learner.replay.demonstrations import load_demonstrations

spec = importlib.util.spec_from_file_location("prove_learner", REPOSITORY / "tools" / "prove_learner.py")
assert spec and spec.loader
proof = importlib.util.module_from_spec(spec)
sys.modules["prove_learner"] = proof
spec.loader.exec_module(proof)

TINY = (
    "recipe.data.pretrain_bc_steps=10",
    "recipe.data.offline_steps=0",
    "recipe.data.batch_size=8",
    "recipe.data.utd=0.1",
    "recipe.critic.hidden=[8]",
    "recipe.policy.hidden=[8]",
)


def row(recipe: str, seed: int, curve: list[tuple[int, float]], suite: str = "earl") -> dict:
    return {
        "suite": suite,
        "recipe": recipe,
        "seed": seed,
        "offline": curve[0][1],
        "final": curve[-1][1],
        "dip": learner_report.dip(curve),
        "curve": curve,
        "updates_per_s": {"clone": 10.0, "online": 5.0},
        "seconds": {"online": 60.0},
        **made_today(suite, recipe),
    }


def made_today(suite: str, recipe: str) -> dict:
    entry = next(entry for entry in proof.SUITES[suite].recipes if entry.name == recipe)
    return {"settings": proof.overrides(entry), "budget": proof.budget_of(proof.Run(suite, entry, 0))}


def earl_file(path: Path, lengths: tuple[int, ...] = (3, 2), **changes: np.ndarray) -> Path:
    observations, following, terminals = [], [], []
    for length in lengths:
        states = np.random.default_rng(length).normal(size=(length + 1, 12)).astype(np.float32)
        observations.append(states[:-1])
        following.append(states[1:])
        terminals += [False] * (length - 1) + [True]
    flags = np.array(terminals)[:, None]
    arrays = {
        "observations": np.concatenate(observations),
        "next_observations": np.concatenate(following),
        "actions": np.full((len(flags), 3), 0.5, np.float32),
        "rewards": flags.astype(np.float32),
        "terminals": flags,
    }
    np.savez(path, **(arrays | changes))
    return path


def test_earl_demonstrations_become_whole_episodes(tmp_path):
    short, shorter = read_earl(earl_file(tmp_path / "forward.npz"))
    assert (len(short.actions), len(short.observations), len(shorter.actions)) == (3, 4, 2)
    assert not np.array_equal(short.observations[-1], shorter.observations[0])


def test_earl_files_that_do_not_hang_together_are_refused(tmp_path):
    flags = np.array([[0], [0], [1], [0], [0]], np.float32)
    with pytest.raises(EarlError, match="last episode is not whole"):
        read_earl(earl_file(tmp_path / "a.npz", terminals=flags))
    with pytest.raises(EarlError, match="terminal without its reward"):
        read_earl(earl_file(tmp_path / "b.npz", rewards=np.zeros((5, 1), np.float32)))
    with pytest.raises(EarlError, match="do not follow one another"):
        read_earl(earl_file(tmp_path / "c.npz", next_observations=np.zeros((5, 12), np.float32)))
    with pytest.raises(EarlError, match="different lengths"):
        read_earl(earl_file(tmp_path / "d.npz", actions=np.zeros((4, 3), np.float32)))
    with pytest.raises(EarlError, match=r"e\.npz cannot be read"):
        read_earl(tmp_path / "e.npz")
    np.savez(tmp_path / "f.npz", observations=np.zeros((1, 2)))
    with pytest.raises(EarlError, match="lacks actions, rewards, terminals, next_observations"):
        read_earl(tmp_path / "f.npz")


def test_earl_demonstrations_fit_the_gymnasium_robot_and_the_learner(tmp_path):
    config = proof.configuration(proof.Run("earl", proof.CAL_QL, 0))
    robot = make_robot(config, 0)
    with EpisodeStore.create(tmp_path / "store", robot.observation_spec, robot.action_spec) as store:
        for _ in range(2):  # a second writing goes on with the numbers of the first
            write_demonstrations(read_earl(earl_file(tmp_path / "x.npz")), store, "earl_tabletop", "forward", "go")
        assert [info.length for info in store.segments()] == [4, 3, 4, 3]
        first = store.read(store.segments()[0]).steps()
    assert [step.reward for step in first] == [0.0, 0.0, 1.0, 0.0] and [step.success for step in first] == [0, 0, 0, 1]
    assert first[0].is_first and first[-1].is_last and first[-1].is_terminal
    ring = load_demonstrations([tmp_path / "store"], config.recipe, robot.observation_spec, robot.action_spec)
    assert ring.transitions("forward") == 10
    np.testing.assert_array_equal(ring.reward[:4], [0.0, 0.0, 1.0, 0.0])  # the recipe's convention
    np.testing.assert_allclose(ring.monte_carlo_return[:3], [0.98**2, 0.98, 1.0], rtol=1e-6)


def test_every_setting_of_every_suite_is_possible():
    for suite, settings in proof.SUITES.items():
        for entry in settings.recipes:
            config = proof.configuration(proof.Run(suite, entry, 1))
            assert config.recipe.directions == ("forward",) and config.seed == 1
            assert (config.recipe.reward.success, config.recipe.reward.step) == (1.0, 0.0)
            assert settings.evaluate_every_steps >= config.task.forward.max_steps  # so that seeds are evaluated together


def test_the_dip_looks_at_the_first_third_of_practice():
    assert learner_report.dip([(0, 0.6), (300, 0.5), (1000, 0.2), (3000, 0.9)]) == pytest.approx(0.4)
    assert learner_report.dip([(0, 0.6), (300, 0.7), (1100, 0.0), (3000, 0.9)]) == 0.0
    assert learner_report.dip([(0, 0.6)]) == 0.0


def test_requirements_are_held_against_means_over_seeds():
    rows = [row("cal_ql", s, [(0, 0.5), (10, 0.4 + s / 10), (30, 0.6)]) for s in range(2)]
    rows += [row("cql", s, [(0, 0.5), (10, 0.0), (30, 0.1)]) for s in range(2)]
    rows += [row("pa_rl_diffusion", s, [(0, 0.5), (10, 0.5), (30, 0.5 + s / 5)]) for s in range(2)]
    rows += [row("iql", s, [(0, 0.5), (30, 0.5)]) for s in range(2)]
    found = {
        c.requirement: c for c in learner_report.checks(rows, "earl", ["cal_ql", "cql", "iql", "pa_rl_diffusion", "rlpd"], 2)
    }
    assert [check.passed for check in found.values()] == [True, False, True, None, True, True]
    assert not any(text.startswith("cql improves") for text in found)
    assert found["cal_ql's dip after the switch is at most 0.20"].measured == "0.05 (beside it cql 0.50)"
    assert found["pa_rl_diffusion ends at or above cal_ql"].measured == "0.60 and 0.60"
    assert found["rlpd improves from offline to online"].measured == "rlpd: fewer than 2 seeds"


def test_a_perfect_start_need_not_improve():
    rows = [row("rlpd", 0, [(0, 1.0), (30, 1.0)])]
    assert [check.passed for check in learner_report.checks(rows, "earl", ["rlpd"], 1)] == [True]


def test_the_table_shows_every_seed():
    rows = [row("cal_ql", s, [(0, 0.5), (10, 0.25), (30, 0.5 + s / 2)]) for s in range(2)] + [row("bc", 0, [(0, 0.3)])]
    text = learner_report.table(rows, ["earl"])
    assert "| earl | cal_ql | 0.50 (0.50 0.50) | 0.75 (0.50 1.00) | 0.25 (0.25 0.25) | 0 1 | 10.0, –, 5.0 | 1.0 |" in text
    assert "| earl | bc | 0.30 | – | – | 0 |" in text


def test_results_are_replaced_by_run_and_kept_in_order():
    old = [row("pa_rl_diffusion", 0, [(0, 0.1)], "door_open"), row("rlpd", 1, [(0, 0.1)]), row("rlpd", 0, [(0, 0.1)])]
    rows = proof.merge(old, row("rlpd", 1, [(0, 0.9)]))
    assert [(r["suite"], r["seed"], r["offline"]) for r in rows] == [("earl", 0, 0.1), ("earl", 1, 0.9), ("door_open", 0, 0.1)]


def test_only_chooses_suites_and_recipes():
    keys = [run.key for run in proof.chosen(["earl", "cal_ql", "bc"], [0, 2])]
    assert keys == [("earl", "cal_ql", 0), ("earl", "bc", 0), ("earl", "cal_ql", 2), ("earl", "bc", 2)]
    assert {run.suite for run in proof.chosen(["cal_ql"], [0])} == set(proof.SUITES)
    assert len(proof.chosen(["earl"], [0])) == len(proof.ALL_RECIPES)


def test_results_are_written_with_a_plot_of_every_suite(tmp_path, monkeypatch):
    monkeypatch.setattr(proof, "RESULTS", tmp_path)
    rows = [row("cal_ql", s, [(0, 0.5), (30, 0.5)]) for s in range(2)] + [row("bc", 0, [(0, 0.3)])]
    proof.record(rows)
    assert json.loads((tmp_path / "proof-learner.json").read_text()) == json.loads(json.dumps(rows)) == proof.recorded()
    assert (tmp_path / "proof-learner-earl.png").stat().st_size > 1000


def test_a_suite_without_its_package_is_skipped_with_a_sentence(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(proof, "RESULTS", tmp_path)
    monkeypatch.setattr(proof, "BENCH_PYTHON", Path("no/such/python"))
    assert proof.main(["--only", "drawer_close"]) == 0
    assert "Meta-World is not installed" in capsys.readouterr().out


def test_a_failed_worker_is_reported_and_the_others_go_on(monkeypatch, tmp_path, capsys):
    def start(run, out, core, device):
        text = json.dumps(row(run.entry.name, run.seed, [(0, 0.4), (30, 0.8)]))
        program = f"open({str(out)!r}, 'w').write({text!r})" if run.seed else "raise SystemExit(3)"
        return subprocess.Popen([sys.executable, "-c", program])

    monkeypatch.setattr(proof, "RESULTS", tmp_path)
    monkeypatch.setattr(proof, "_start", start)
    assert proof.main(["--only", "earl", "rlpd", "--seeds", "0", "1", "--jobs", "2"]) == 1
    printed = capsys.readouterr().out
    assert "earl rlpd seed 0 failed" in printed and "not run: earl: rlpd improves" in printed
    assert [r["seed"] for r in proof.recorded()] == [1]
    monkeypatch.setattr(proof, "_start", lambda *_: pytest.fail("a recorded run was repeated"))
    assert proof.main(["--only", "earl", "rlpd", "--seeds", "1", "--resume"]) == 0
    assert "pass: earl: rlpd improves" in capsys.readouterr().out


@pytest.mark.parametrize("change", [{"settings": ["recipe.data.utd=9"]}, {"budget": {"online_steps": 1}}])
def test_a_row_of_earlier_settings_is_made_again_and_named(change, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(proof, "RESULTS", tmp_path)
    proof.record([row("rlpd", 0, [(0, 0.4), (30, 0.8)]) | change, row("rlpd", 1, [(0, 0.4), (30, 0.8)])])
    due = []
    monkeypatch.setattr(proof, "run_all", lambda runs, jobs, device: due.extend(runs) or [])
    proof.main(["--only", "earl", "rlpd", "--seeds", "0", "1", "--resume"])
    assert [run.seed for run in due] == [0]
    assert "--resume makes them again): earl rlpd seed 0\n" in capsys.readouterr().out


def test_a_tiny_run_goes_from_demonstrations_to_a_row(monkeypatch, tmp_path):
    monkeypatch.setenv("ETUDE_EARL_DEMONSTRATIONS", str(tmp_path))  # none there: the scripted expert shows it
    suite = replace(proof.SUITES["earl"], demonstrations=2, online_steps=400, evaluate_every_steps=200, evaluation_episodes=1)
    monkeypatch.setitem(proof.SUITES, "earl", suite)
    result = proof.perform(proof.Run("earl", proof.Entry("tiny", "rlpd_state", TINY), 0))
    assert result["demonstrations"].startswith("2 of the scripted expert")
    assert result["curve"][0] == (0, result["offline"]) and result["curve"][-1][0] == 400
    assert result["final"] == pytest.approx(np.mean([score for _, score in result["curve"][1:]][-3:]), abs=1e-4)
    assert result["updates"] == {"clone": 10, "online": 40} and set(result["updates_per_s"]) == {"clone", "online"}
    assert result["practice"][-1][0] == 400
    json.dumps(result)
