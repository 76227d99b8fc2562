"""A planned chunk is executed one action per control step, and never goes on after something came between."""

from __future__ import annotations

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest

from actor.policy_runner import PolicyRefused, PolicyRunner
from etude.policy_file import PolicyProgram, PolicyWeights
from etude.specs import ActionSpec, ObservationSpec, specs_to_json

OBSERVATION = ObservationSpec(("x_m",))
ACTION = ActionSpec(("x", "y"), (0.1, 0.1))
CHUNK = 4


def export_plan(shape: tuple[int, ...] = (CHUNK, 2)) -> PolicyProgram:
    """Plans ``x + w + 0.01 · i`` for element i, minus 0.5 in phase backward."""

    def plan(params, observation, key, explore):
        base = observation["state"][0] + params["w"] - 0.5 * observation["phase"][1]
        return base + 0.01 * jnp.arange(np.prod(shape), dtype=jnp.float32).reshape(shape)

    leaves = {"w": jax.ShapeDtypeStruct((), "float32")}
    inputs = {"state": jax.ShapeDtypeStruct((1,), "float32"), "phase": jax.ShapeDtypeStruct((2,), "float32")}
    key, explore = jax.ShapeDtypeStruct((2,), "uint32"), jax.ShapeDtypeStruct((), "float32")
    exported = jax.export.export(jax.jit(plan), platforms=["cpu", "cuda"])(leaves, inputs, key, explore)
    return PolicyProgram(exported.serialize(), specs_to_json(OBSERVATION, ACTION), {"w": ((), "float32")}, "a plan")


@pytest.fixture(scope="module")
def program() -> PolicyProgram:
    return export_plan()


def weights(program: PolicyProgram, version: int, w: float = 0.0) -> bytes:
    return PolicyWeights("run", version, program.digest, {"w": np.float32(w)}).to_bytes()


@pytest.fixture
def runner(program: PolicyProgram) -> PolicyRunner:
    runner = PolicyRunner()
    runner.load_program(program.to_bytes())
    runner.load_weights(weights(program, 1))
    return runner


def act(runner: PolicyRunner, x: float, phase: str = "forward", explore: bool = True) -> float:
    """The first element of the action: where the plan was made, and 0.02 for each action of it that went before."""
    action = runner.act({"state": np.array([x], np.float32)}, phase, explore)
    assert action.shape == (2,) and action.dtype == np.float32
    np.testing.assert_allclose(action[1] - action[0], 0.01, atol=1e-6)
    return round(float(action[0]), 4)


def test_a_plan_is_executed_to_its_end_and_then_made_anew(runner: PolicyRunner) -> None:
    acted = [act(runner, x) for x in (0.1, 0.2, 0.3, 0.4, 0.5, 0.6)]
    assert acted == [0.1, 0.12, 0.14, 0.16, 0.5, 0.52]


def test_a_new_attempt_begins_with_a_new_plan(runner: PolicyRunner) -> None:
    """A hold, a take-over, a pause and a reset of the scene all end the segment; the next one begins with `begin`."""
    assert [act(runner, 0.1), act(runner, 0.2)] == [0.1, 0.12]
    runner.begin()
    assert [act(runner, 0.3), act(runner, 0.4)] == [0.3, 0.32]


def test_another_phase_or_mode_needs_a_plan_of_its_own(runner: PolicyRunner) -> None:
    assert act(runner, 0.1) == 0.1
    assert act(runner, 0.2, "backward") == -0.3
    assert act(runner, 0.3) == 0.3  # and the old plan does not come back
    assert act(runner, 0.4, explore=False) == 0.4


def test_newer_weights_plan_anew_so_that_a_step_names_the_version_that_planned_it(
    runner: PolicyRunner, program: PolicyProgram
) -> None:
    assert act(runner, 0.1) == 0.1
    runner.load_weights(weights(program, 2, w=0.3))
    assert (act(runner, 0.2), runner.version) == (0.5, 2)


@pytest.mark.parametrize("shape", [(CHUNK, 3), (0, 2), (2, 2, 2)])
def test_a_program_whose_plan_is_not_made_of_actions_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(PolicyRefused, match=r"specification says float32\(2,\), or with action chunks float32\(h, 2\)"):
        PolicyRunner().load_program(export_plan(shape).to_bytes())
