"""Practice without resets and EARL's protocols: phases, goals, what counts as an intervention, and the sums over seeds."""

from __future__ import annotations

import importlib.util
import itertools
import json
import sys

import jax
import numpy as np
import pytest

from benchmarks import autonomous, earl, in_process, interventions
from benchmarks.autonomous import Budget, practise
from etude.config import REPOSITORY, ConfigError
from etude.specs import PHASES

spec = importlib.util.spec_from_file_location("prove_autonomy", REPOSITORY / "tools" / "prove_autonomy.py")
assert spec and spec.loader
proof = importlib.util.module_from_spec(spec)
sys.modules["prove_autonomy"] = proof
spec.loader.exec_module(proof)

TINY = (
    "recipe.critic.hidden=[8]",
    "recipe.policy.hidden=[8]",
    "recipe.data.batch_size=16",
    "recipe.data.utd=0.1",
    "recipe.data.pretrain_bc_steps=0",
    "recipe.data.min_online_steps=0",
    "task.forward.max_steps=20",
    "task.backward.max_steps=20",
)


@pytest.fixture(autouse=True, scope="module")
def _compile_quickly():
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


def test_a_phase_whose_goal_is_met_already_is_passed_over(tmp_path, monkeypatch):
    monkeypatch.setattr(in_process.Actor, "act", lambda *_: np.zeros(3, np.float32))  # the mug stays where backward wants it
    outcome = run(tmp_path, "etude", 60)
    assert [phase for _, phase, _ in outcome.practice] == ["forward"] * 3


@pytest.fixture(autouse=True)
def _scripted_demonstrations(monkeypatch):
    monkeypatch.setattr(earl, "official_demonstrations", lambda: None)
    monkeypatch.setattr(earl, "DEMONSTRATIONS", 2)


def run(tmp_path, method: str, steps: int, *overrides: str, episodes: int = 0, known: bool = False):
    config = earl.configuration(method, 0, overrides=[*TINY, *overrides])
    # a scripted demonstration takes longer than a tiny attempt
    generous = earl.configuration(method, 0, overrides=["task.expert_noise=0.1"])
    earl.demonstrate(generous, tmp_path / "demonstrations")
    states = earl.known_states(config) if known else (None, None)
    return practise(config, tmp_path / "demonstrations", Budget(steps, steps, episodes, 20), lambda _: None, *states)


def test_directions_alternate_and_only_the_horizon_resets(tmp_path, monkeypatch):
    monkeypatch.setattr(in_process.Actor, "act", lambda *_: np.array([0.0, 1.0, -1.0], np.float32))  # away from every goal
    outcome = run(tmp_path, "etude", 200, "robot.environment_options.max_episode_steps=100", episodes=1)
    phases = [phase for _, phase, _ in outcome.practice]
    assert phases == [*PHASES, *PHASES, "forward"] * 2
    assert outcome.steps == 200 and outcome.interventions == 2  # the first one, and after 100 steps
    assert outcome.updates["online"] == 20
    assert outcome.curve == [(0, 0.0), (200, 0.0)] and outcome.reward == 0


def test_what_is_compared_may_have_more_episodes_than_the_way_there(tmp_path, monkeypatch):
    counted = []

    def evaluate(robot, policy, phase, episodes, *rest, **named):
        counted.append(episodes)
        return {"success_rate": 0.5}

    monkeypatch.setattr(autonomous, "evaluate", evaluate)
    config = earl.configuration("etude", 0, overrides=TINY)
    earl.demonstrate(earl.configuration("etude", 0, overrides=["task.expert_noise=0.1"]), tmp_path / "demonstrations")
    outcome = practise(config, tmp_path / "demonstrations", Budget(60, 20, 2, 20, end_episodes=7), lambda _: None)
    assert counted == [7, 2, 2, 7] and [steps for steps, _ in outcome.curve] == [0, 20, 40, 60]


def test_practice_may_end_when_it_is_good_enough(tmp_path, monkeypatch):
    scores = iter([1.0, 0.5, 1.0, 0.9, 0.8, 1.0, 1.0])
    monkeypatch.setattr(autonomous, "evaluate", lambda *_, **__: {"success_rate": next(scores)})
    config = earl.configuration("etude", 0, overrides=TINY)
    earl.demonstrate(earl.configuration("etude", 0, overrides=["task.expert_noise=0.1"]), tmp_path / "demonstrations")
    outcome = practise(config, tmp_path / "demonstrations", Budget(200, 20, 2, 20, enough=0.9), lambda _: None)
    assert [score for _, score in outcome.curve] == [1.0, 0.5, 1.0, 0.9, 0.8], "0.8, then 0.9; not the one before practice"


@pytest.mark.parametrize("method", ["naive", "medal", "vaprl"])
def test_every_kind_of_reset_practises(tmp_path, method):
    outcome = run(tmp_path, method, 60, "recipe.data.replay_capacity_steps=5000")
    expected = PHASES if method == "medal" else PHASES[:1]
    assert {phase for _, phase, _ in outcome.practice} == set(expected)
    assert outcome.interventions == 1 and all(np.isfinite(value) for value in outcome.metrics.values())


@pytest.mark.parametrize(
    "overrides", [["recipe.policy.chunk=3"], ["recipe.reset.kind=instruction", "recipe.encoder.instruction=hashed"]]
)
def test_chunks_and_instructions_practise(tmp_path, overrides):
    wide = "recipe.policy.log_std_max=0.7"  # or the mug stays where the backward direction wants it
    outcome = run(tmp_path, "etude", 60, wide, *overrides, episodes=1)
    assert {phase for _, phase, _ in outcome.practice} == set(PHASES) and len(outcome.curve) == 2
    assert all(np.isfinite(value) for value in outcome.metrics.values())


def test_the_methods_are_possible_in_both_protocols():
    for method in earl.METHODS:
        deployed, continuing = (earl.configuration(method, 3, flag) for flag in (False, True))
        assert deployed.seed == 3 and deployed.robot.environment_options["max_episode_steps"] == 200_000
        assert continuing.robot.environment_options["goal_change_steps"] == 400
    with pytest.raises(ConfigError, match="no method 'medla'"):
        earl.configuration("medla", 0)


def test_the_last_ten_evaluations_of_practice_count():
    assert earl.last_mean([(0, 0.0), *((10 * i, 0.5) for i in range(1, 6)), *((10 * i, 1.0) for i in range(6, 16))]) == 1.0
    assert earl.last_mean([(0, 1.0), (10, 0.5)]) == 0.5


def test_the_error_is_that_of_the_mean():
    mean, error = earl.mean_and_error([0.2, 0.4, 0.9])
    assert mean == pytest.approx(0.5) and error == pytest.approx(np.std([0.2, 0.4, 0.9], ddof=1) / np.sqrt(3))
    assert earl.mean_and_error([0.7]) == (0.7, 0.0)


def row(method: str, seed: int, score: float, **changes) -> dict:
    return {
        "method": method,
        "protocol": "deployed",
        "seed": seed,
        "steps": 200_000,
        "interventions": 2,
        "last_10": score,
        "reward_per_step": 0.01,
        "curve": [(0, 0.0), (10_000, score)],
        "minutes": 5.0,
        "helped": [],
        "questions": 0,
        "budget": {"steps": 200_000},
    } | changes


def test_the_requirement_wants_every_seed():
    good = [row("etude", seed, 0.97) for seed in (0, 1)]
    assert proof.verdict(good, [0, 1])[0] is True
    assert proof.verdict(good, [0, 1, 2])[0] is None
    assert proof.verdict([*good, row("etude", 2, 0.94)], [0, 1, 2])[0] is False
    assert proof.verdict([*good, row("etude", 2, 0.97, interventions=4)], [0, 1, 2])[0] is False
    assert proof.verdict([*good, row("etude", 2, 0.97, steps=300_000)], [0, 1, 2])[0] is False


def test_results_are_recorded_beside_the_published_ones_and_not_repeated(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(proof, "RESULTS", tmp_path)
    started = []

    def run_all(runs, jobs):
        for run in runs:
            started.append(run.key)
            yield run, row(run.method, run.seed, 1.0)

    monkeypatch.setattr(proof, "run_all", run_all)
    assert proof.main(["--only", "fbrl", "etude", "--seeds", "0"]) == 0
    shown = capsys.readouterr().out
    assert "| fbrl | deployed | 200,000 | 1.000 (0.000) | 0: 1.000 | 0.940 |" in shown and "pass: etude" in shown
    assert (tmp_path / "proof-autonomy.png").is_file() and len(json.loads(proof.results_file().read_text())) == 2
    proof.main(["--only", "etude", "--seeds", "0", "1", "--steps", "200000", "--resume"])
    assert started == [("fbrl", 0), ("etude", 0), ("etude", 1)]


# --- help -----------------------------------------------------------------------------------------------------------

OVERBOARD = np.array([1.0, 0.0, 1.0], np.float32)


def carries_the_mug_over_the_edge(monkeypatch):
    """Every attempt: straight to the mug with an open hand, on past the edge with a closed one, and let go there."""

    def act(self, observation, phase, explore):
        x, y, mug_x, mug_y, held, *_ = observation["state"]
        if max(abs(mug_x), abs(mug_y)) > 3.3:
            return np.array([0.0, 0.0, -1.0], np.float32)
        if held == 0.0 or np.hypot(x - mug_x, y - mug_y) < 0.3:
            return OVERBOARD
        return np.array([np.clip((mug_x - x) / 0.2, -1, 1), np.clip((mug_y - y) / 0.2, -1, 1), -1.0], np.float32)

    monkeypatch.setattr(in_process.Actor, "act", act)


def test_without_labels_a_lost_mug_is_asked_about_at_once(tmp_path, monkeypatch):
    carries_the_mug_over_the_edge(monkeypatch)
    outcome = run(tmp_path, "no_walls", 100)
    assert len(outcome.helped) >= 3 and all(stuck for _, _, stuck in outcome.helped)
    assert outcome.interventions == 1 + len(outcome.helped) and outcome.questions == 0
    assert all("left the table" in reason for _, reason, _ in outcome.helped)


def test_a_robot_that_is_told_nothing_goes_on_until_it_has_timed_out_often_enough(tmp_path, monkeypatch):
    carries_the_mug_over_the_edge(monkeypatch)
    outcome = run(tmp_path, "no_walls_timeouts", 200, "recipe.help.timeouts_before_help=2")
    assert len(outcome.helped) >= 1 and all("timed out" in reason for _, reason, _ in outcome.helped)
    assert any(stuck for _, _, stuck in outcome.helped)


def test_a_schedule_resets_at_every_interval_and_nobody_is_told_what_is_lost(tmp_path, monkeypatch):
    carries_the_mug_over_the_edge(monkeypatch)
    outcome = run(tmp_path, "no_walls_every_1000", 130, "recipe.help.horizon_steps=60")
    assert [(steps, stuck) for steps, _, stuck in outcome.helped] == [(60, True), (120, True)]
    assert outcome.interventions == 3 and outcome.questions == 0 and outcome.updates.get("irreversible", 0) == 0


def test_paint_learns_from_labels_when_to_ask(tmp_path, monkeypatch):
    carries_the_mug_over_the_edge(monkeypatch)
    settings = (
        "recipe.help.alarm_states=1",
        "recipe.help.seed_steps=40",
        "recipe.help.steps_before_asking=10",
        "recipe.help.classifier_updates=250",
    )
    outcome = run(tmp_path, "no_walls_paint", 200, *settings, episodes=1)
    steps, reasons, stuck = zip(*outcome.helped, strict=True)
    assert steps[0] == 40 and "first 40 steps" in reasons[0] and all(stuck)
    assert len(steps) > 2 and all("could not undo" in reason for reason in reasons[1:])
    lost_after = 20  # steps to the mug and over the edge
    assert all(abs(b - a - 10 - lost_after) <= 5 for a, b in itertools.pairwise(steps)), steps
    assert outcome.questions <= len(steps) * 7, "at most log2 T + 1 pictures each, for T up to 41"
    assert outcome.updates["irreversible"] == 250 * len(steps)
    assert outcome.interventions_at == [0, outcome.interventions]


def test_paint_can_ask_before_anybody_came_where_stuck_states_are_known(tmp_path, monkeypatch):
    carries_the_mug_over_the_edge(monkeypatch)
    settings = (
        "recipe.help.alarm_states=1",
        "recipe.help.seed_steps=1",
        "recipe.help.steps_before_asking=10",
        "recipe.help.classifier_updates=500",
    )
    outcome = run(tmp_path, "no_walls_paint", 100, *settings, known=True)
    steps, reasons, stuck = zip(*outcome.helped, strict=True)
    assert not stuck[0] and "first 1 steps" in reasons[0], "nothing was lost when somebody looked"
    assert len(steps) > 1 and all(stuck[1:]) and all("could not undo" in reason for reason in reasons[1:])
    with pytest.raises(ConfigError, match="walls"):
        earl.known_states(earl.configuration("etude", 0))


def test_what_is_known_before_practice_is_true():
    from simulation.earl_tabletop import Scene, stuck

    stuck_states, free_states = earl.known_states(earl.configuration("no_walls_paint", 1))
    for states, expected in ((stuck_states, True), (free_states, False)):
        assert states.shape == (earl.KNOWN_STATES, 12) and states.dtype == np.float32
        for x, y, mug_x, mug_y, grip, *_ in states.tolist():
            assert stuck(Scene((x, y), (mug_x, mug_y), grip == 0.0)) is expected
    held = free_states[free_states[:, 4] == 0.0]
    assert 0 < len(held) < earl.KNOWN_STATES and np.abs(held[:, 2:4]).max() > 2.8, (
        "a mug that is held beyond the edge is not lost"
    )


def helped_row(method: str, seed: int, interventions: list[int], scores: list[float]) -> dict:
    points = [(2_000 * i, score) for i, score in enumerate([0.0, *scores])]
    changes = {"curve": points, "interventions_at": [0, *interventions], "interventions": interventions[-1]}
    return row(method, seed, sum(scores[-10:]) / len(scores[-10:]), **changes)


def test_interventions_are_compared_where_success_first_holds():
    suite, rising = interventions.NO_WALLS, [0.0, 0.9, 0.9, 1.0, 1.0]  # the mean of three reaches 0.9 at the fourth
    slow = helped_row("no_walls_timeouts", 0, [2, 5, 8, 12, 20], rising)
    quick = helped_row("no_walls_paint", 0, [1, 2, 3, 4, 4], rising)
    assert interventions.needed(slow, 0.9) == 12 and interventions.needed(quick, 0.9) == 4
    others = [helped_row(method, 0, [9, 18, 27, 36, 45], rising) for method in suite.without if method != "no_walls_timeouts"]
    assert interventions.verdict([slow, quick, *others], [0], suite)[0] is True
    assert interventions.verdict([slow, quick, *others], [0, 1], suite)[0] is None
    assert interventions.verdict([slow, quick], [0], suite)[0] is None
    close = helped_row("no_walls_paint", 0, [1, 2, 3, 5, 5], rising)
    passed, line = interventions.verdict([slow, close, *others], [0], suite)
    assert passed is False and "2.4 times fewer than no_walls_timeouts," in line, "one baseline is enough to fail"
    never = [helped_row(method, 0, [1, 2, 3], [0.5, 0.5, 0.5]) for method in suite.methods]
    assert interventions.verdict(never, [0], suite)[0] is False


def test_what_the_simulation_tells_is_shown_and_not_compared():
    for suite in interventions.SUITES.values():
        told = [helped_row(method, 0, [1, 1, 1], [1.0, 1.0, 1.0]) for method in suite.shown]
        rest = [helped_row(method, 0, [4, 8, 12], [1.0, 1.0, 1.0]) for method in suite.without]
        paint = helped_row(suite.paint, 0, [2, 3, 4], [1.0, 1.0, 1.0])
        assert interventions.verdict([paint, *rest, *told], [0], suite)[0] is True
        shown = interventions.table([paint, *rest, *told], suite).splitlines()
        assert len(shown) == 2 + len(suite.methods) and shown[2].startswith(f"| {suite.paint} | 0 |")


@pytest.mark.parametrize("name", list(interventions.SUITES))
def test_a_suite_of_paint_is_recorded_apart(tmp_path, monkeypatch, capsys, name):
    monkeypatch.setattr(proof, "RESULTS", tmp_path)
    suite = interventions.SUITES[name]
    counts = {method: [4, 8, 12] for method in suite.methods} | {suite.paint: [2, 3, 3]}

    def run_all(runs, jobs):
        for run in runs:
            assert run.steps == proof.STEPS[run.method] and run.overrides == ("recipe.data.utd=1",)
            yield run, helped_row(run.method, run.seed, counts[run.method], [1.0, 1.0, 1.0])

    monkeypatch.setattr(proof, "run_all", run_all)
    assert proof.main(["recipe.data.utd=1", "--suite", name, "--seeds", "0"]) == 0
    first = next(iter(suite.without))
    assert f"pass: interventions with paint until 90% success: 4.0 times fewer than {first}," in capsys.readouterr().out
    assert {path.name for path in tmp_path.iterdir()} == {f"proof-{name}.json", f"proof-{name}.png"}
    with pytest.raises(SystemExit):
        proof.main(["--suite", name, "--only", "medal"])
