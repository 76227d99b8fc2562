"""The scripted person of the human-in-the-loop proof: when they take over, what is stored, and what the verdicts add up."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator

import jax
import numpy as np
import pytest

from actor.robots import make_robot
from benchmarks import human_report, in_process
from benchmarks.episodic import Budget, offline_to_online, taken_over
from benchmarks.human import ScriptedHuman, Temper, alone
from benchmarks.in_process import Collector
from etude.config import REPOSITORY, load_run_config
from etude.robot import Robot
from etude.step import Source
from learner.replay.relabelling import InterventionLabels
from learner.replay.ring import Ring

spec = importlib.util.spec_from_file_location("prove_hil", REPOSITORY / "tools" / "prove_hil.py")
assert spec and spec.loader
proof = importlib.util.module_from_spec(spec)
sys.modules["prove_hil"] = proof
spec.loader.exec_module(proof)

STILL = np.array([0.0, 0.0, 0.0, 1.0], np.float32)
TEMPER = Temper(patience_steps=4, stay_steps=3)
TINY = ("recipe.critic.hidden=[8]", "recipe.policy.hidden=[8]", "recipe.data.batch_size=16", "recipe.data.pretrain_bc_steps=0")


class Policy:
    """Acts as it is told to, and counts how often it had to plan anew."""

    def __init__(self, robot: Robot, action: np.ndarray | None) -> None:
        self._robot, self._action, self._rng, self.begun = robot, action, np.random.default_rng(0), 0

    def begin(self) -> None:
        self.begun += 1

    def act(self, observation, phase: str, explore: bool) -> np.ndarray:
        return self._robot.expert_action(phase, self._rng) if self._action is None else self._action


@pytest.fixture(scope="module")
def config():
    return proof.configuration(proof.Run("hil_serl", 0))


@pytest.fixture
def robot(config) -> Iterator[Robot]:
    robot = make_robot(config, 0)
    robot.hard_reset("forward", np.random.default_rng(3))
    yield robot
    robot.close()


def attempt(config, robot: Robot, action: np.ndarray | None, temper: Temper = TEMPER):
    """One attempt of a policy that always does `action`, or what the expert does; returns the collector, attempt and ring."""
    ring = Ring(200, robot.observation_spec, robot.action_spec)
    policy = Policy(robot, action)
    collector = Collector(config, robot, policy, operator=ScriptedHuman(robot, temper, 0))  # type: ignore[arg-type]
    done = collector.attempt("forward", ring, InterventionLabels(config.recipe, ring))
    return collector, done, ring, policy


def test_a_policy_that_gets_on_is_left_alone(config, robot) -> None:
    collector, done, ring, _ = attempt(config, robot, None)
    assert done.success
    assert {step.source for step in collector.steps} == {Source.POLICY}
    assert taken_over(collector.steps) == (0, 0) and ring.corrections["forward"].count == 0


def test_a_person_takes_over_where_nothing_moves_and_lets_go_again(config, robot) -> None:
    collector, _, _, policy = attempt(config, robot, STILL)
    human = [step.source is Source.HUMAN for step in collector.steps[:-1]]
    assert not any(human[: TEMPER.patience_steps]) and any(human)
    bursts = [len(burst) for burst in "".join("h" if h else " " for h in human).split()]
    assert len(bursts) > 1 and min(bursts[:-1]) >= TEMPER.stay_steps
    assert taken_over(collector.steps) == (sum(human), len(bursts))
    # a person's acts, and the first step after them, make the policy plan anew, as in practice
    assert policy.begun == 1 + sum(human) + len(bursts) - human[-1]


def test_stored_steps_say_who_acted_and_what_the_policy_proposed(config, robot) -> None:
    collector, _, ring, _ = attempt(config, robot, STILL)
    for step in collector.steps[:-1]:
        np.testing.assert_array_equal(step.policy_action, STILL)
        assert np.array_equal(step.action, STILL) == (step.source is Source.POLICY)
    assert ring.corrections["forward"].count == taken_over(collector.steps)[0]


def test_somebody_who_does_not_correct_only_watches(config, robot) -> None:
    collector, done, _, _ = attempt(config, robot, STILL, Temper(corrects=False))
    assert taken_over(collector.steps) == (0, 0) and done.steps == config.task.forward.max_steps


def test_a_toppled_peg_ends_the_attempt_and_a_corrector_has_reached_for_it(config, robot) -> None:
    for temper, human in ((TEMPER, 1), (Temper(corrects=False), 0)):
        robot.hard_reset("forward", np.random.default_rng(3))
        tabletop = robot.tabletop
        # lying on its side above the table, so that it falls and does not right itself out of the table
        tabletop.data.qpos[tabletop.scene._qpos + 2 : tabletop.scene._qpos + 7] = (0.05, 0.7071, 0.7071, 0.0, 0.0)
        robot.act(STILL)
        assert robot.read().object_lost
        collector, done, _, _ = attempt(config, robot, STILL, temper)
        assert done.steps <= 2 and taken_over(collector.steps)[0] == human


def test_the_way_to_go_gets_shorter_at_every_step_of_a_steady_expert(config, robot) -> None:
    robot.tabletop.expert_noise = 0.0
    person, ways = ScriptedHuman(robot, TEMPER, 0), []
    for _ in range(40):
        ways.append(person.way_to_go_m("forward"))
        if robot.read().success_truth["forward"]:
            break
        robot.act(robot.expert_action("forward", np.random.default_rng(0)))
    assert robot.read().success_truth["forward"]
    assert (np.diff(ways) < 0).all()


def test_a_bad_corrector_is_worse_at_the_task(config) -> None:
    assert alone(config, Temper(), 5, 0) == 1.0
    assert alone(config, Temper(noise=1.5, slip=0.5), 5, 0) == 0.0


def test_a_scene_without_carrying_is_refused() -> None:
    slide = load_run_config({"task": "slide", "robot": "sim_panda", "recipe": "rlpd_state", "observation": "state"})
    robot = make_robot(slide, 0)
    try:
        with pytest.raises(ValueError, match="use task peg or relocate"):
            ScriptedHuman(robot, TEMPER, 0)
    finally:
        robot.close()


def test_a_run_counts_who_acted(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(in_process.Actor, "act", lambda *_: STILL)
    monkeypatch.setattr(proof, "DEMONSTRATIONS", 1)
    config = load_run_config(
        {"task": "peg", "robot": "sim_panda", "recipe": "hil_serl", "observation": "state", "seed": 0},
        [*proof.METHODS["hil_serl"].overrides, *TINY, "recipe.data.utd=0.1", "task.forward.max_steps=25"],
    )
    generous = config.model_copy(update={"task": proof.configuration(proof.Run("hil_serl", 0)).task})
    proof.demonstrate(generous, tmp_path / "demonstrations")
    jax.config.update("jax_disable_most_optimizations", True)
    try:
        budget = Budget(40, 40, 1, explore=False)
        outcome = offline_to_online(
            config, tmp_path / "demonstrations", budget, lambda _: None, lambda robot: ScriptedHuman(robot, TEMPER, 0)
        )
    finally:
        jax.config.update("jax_disable_most_optimizations", False)
    assert [steps for steps, _, _ in outcome.corrections] == [steps for steps, _ in outcome.practice]
    assert all(0 < human < 25 and takeovers for _, human, takeovers in outcome.corrections)
    assert outcome.curve[-1][1] == 0.0  # nobody helps in evaluation


# --- what it adds up to -------------------------------------------------------------------------------------------------


def row(method: str, seed: int, curve, **more):
    seconds = {"act": 60.0}
    return {"method": method, "seed": seed, "curve": curve, "corrections": [], "seconds": seconds, **more} | {
        "start": curve[0][1],
        "final": curve[-1][1],
        "corrector_success": 0.4,
    }


LATE = [(0, 0.2), (500, 0.2), (1000, 0.9), (1500, 0.9), (2000, 0.9)]
SOON = [(0, 0.2), (250, 0.8), (500, 0.8)]


def test_the_target_is_reached_by_two_evaluations_together() -> None:
    assert human_report.needed(row("hil_serl", 0, LATE)) == 1500
    assert human_report.needed(row("hil_serl", 0, SOON)) == 500
    assert human_report.needed(row("hil_serl", 0, [(0, 0.2), (250, 0.9), (500, 0.6)])) is None


@pytest.mark.parametrize(
    ("corrected", "without", "passed"),
    [
        (SOON, LATE, True),
        (LATE, LATE, False),
        (SOON, [(0, 0.2), (900, 0.2)], False),  # never reached, and not practised twice as long
        (SOON, [(0, 0.2), (1000, 0.2)], True),
        ([(0, 0.2), (250, 0.3)], [(0, 0.2), (1000, 0.2)], False),
    ],
)
def test_corrections_have_to_halve_the_steps(corrected, without, passed: bool) -> None:
    rows = [row("hil_serl", 0, corrected), row("hil_serl_alone", 0, without)]
    (check,) = human_report.checks(rows, ["hil_serl", "hil_serl_alone"], [0])
    assert check.passed is passed
    (check,) = human_report.checks(rows, ["hil_serl"], [0, 1])
    assert check.passed is None and "hil_serl seed 1" in check.measured


def test_rlif_has_to_improve_in_every_seed() -> None:
    rows = [row("rlif", 0, [(0, 0.3), (500, 0.6)]), row("rlif", 1, [(0, 0.3), (500, 0.35)])]
    (check,) = human_report.checks(rows, ["rlif"], [0, 1])
    assert check.passed is False and "corrector alone 0.40" in check.measured
    (check,) = human_report.checks(rows, ["rlif"], [0])
    assert check.passed is True and human_report.verdicts([check]).startswith("- pass: rlif")


def test_rates_are_of_so_many_steps_each() -> None:
    mine = row("hil_serl", 0, SOON, corrections=[])
    mine["corrections"] = [(300, 150, 2), (600, 150, 1), (900, 0, 0), (1200, 30, 1), (1250, 0, 0)]
    assert human_report.rates(mine) == [(600, 0.5, 1.5), (1200, 0.05, 0.5), (1250, 0.0, 0.0)]


def test_results_are_merged_in_the_order_of_the_methods(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(proof, "RESULTS", tmp_path)
    rows = proof.merge([row("rlif", 0, LATE), row("hil_serl", 1, LATE)], row("hil_serl", 0, SOON))
    rows = proof.merge(rows, row("hil_serl", 1, SOON))
    assert [(r["method"], r["seed"], len(r["curve"])) for r in rows] == [("hil_serl", 0, 3), ("hil_serl", 1, 3), ("rlif", 0, 5)]
    proof.record(rows)
    assert proof.recorded() == [{**r, "curve": [list(point) for point in r["curve"]]} for r in rows]
    assert (tmp_path / "proof-hil.png").is_file()
    assert "| hil_serl | 0 | 0.20 | 0.80 | 500 |" in human_report.table(rows)
