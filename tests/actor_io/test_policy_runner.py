"""An exported policy flies only when it is whole: wrong, torn or non-finite input is refused, the last good version flies."""

from __future__ import annotations

import threading
import time

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest

from actor.policy_runner import PolicyNotReady, PolicyRefused, PolicyRunner
from etude.policy_file import PolicyProgram, PolicyWeights
from etude.specs import ActionSpec, ObservationSpec, specs_to_json

OBSERVATION = ObservationSpec(("x_m", "y_m"), {"front": (8, 8)})
ACTION = ActionSpec(("x", "y", "z"), (0.1, 0.1, 0.1))
SHAPES = {"w": ((2, 3), "float32"), "b": ((3,), "float32"), "phase_w": ((2, 3), "float32")}


def export_policy(scale: float = 1.0) -> PolicyProgram:
    def policy(params, observation, key, explore):
        bright = observation["image/front"].astype(jnp.float32).mean() / 255.0
        mean = observation["state"] @ params["w"] + params["b"] + observation["phase"] @ params["phase_w"] + bright
        noise = jax.random.normal(jax.random.wrap_key_data(key), mean.shape)
        return jnp.tanh(scale * (mean + explore * noise))

    leaves = {name: jax.ShapeDtypeStruct(shape, dtype) for name, (shape, dtype) in SHAPES.items()}
    inputs = {key: jax.ShapeDtypeStruct(shape, dtype) for key, (shape, dtype) in OBSERVATION.shapes().items()}
    inputs["phase"] = jax.ShapeDtypeStruct((2,), "float32")
    key, explore = jax.ShapeDtypeStruct((2,), "uint32"), jax.ShapeDtypeStruct((), "float32")
    exported = jax.export.export(jax.jit(policy), platforms=["cpu", "cuda"])(leaves, inputs, key, explore)
    return PolicyProgram(exported.serialize(), specs_to_json(OBSERVATION, ACTION), SHAPES, "a linear policy")


@pytest.fixture(scope="module")
def program() -> PolicyProgram:
    return export_policy()


def weights(program: PolicyProgram, version: int = 1, value: float = 0.1, **changes: np.ndarray) -> bytes:
    parameters = {name: np.full(shape, value, dtype) for name, (shape, dtype) in SHAPES.items()}
    return PolicyWeights("run", version, program.digest, {**parameters, **changes}).to_bytes()


@pytest.fixture(scope="module")
def compiled_runner(program: PolicyProgram) -> PolicyRunner:
    runner = PolicyRunner()
    runner.load_program(program.to_bytes())
    return runner


@pytest.fixture
def runner(program: PolicyProgram, compiled_runner: PolicyRunner) -> PolicyRunner:
    runner = PolicyRunner(seed=3)
    runner._compiled = compiled_runner._compiled  # compiling takes a second: once for all tests
    runner.load_weights(weights(program))
    return runner


def observation(x: float = 0.5) -> dict[str, np.ndarray]:
    return {"state": np.array([x, 1.0], np.float32), "image/front": np.full((8, 8, 3), 51, np.uint8)}


def test_the_action_is_what_the_exported_function_computes(runner: PolicyRunner) -> None:
    action = runner.act(observation(), "forward", explore=False)
    assert action.shape == (3,) and action.dtype == np.float32
    np.testing.assert_allclose(action, np.tanh(0.5 * 0.1 + 0.1 + 0.1 + 0.1 + 0.2), rtol=1e-5)


def test_without_exploring_an_action_is_repeatable_and_exploring_it_is_not(runner: PolicyRunner) -> None:
    quiet = [runner.act(observation(), "forward", explore=False) for _ in range(3)]
    noisy = [runner.act(observation(), "forward", explore=True) for _ in range(3)]
    assert np.array_equal(quiet[0], quiet[1]) and np.array_equal(quiet[1], quiet[2])
    assert not np.array_equal(noisy[0], noisy[1])


def test_the_same_seed_explores_the_same_way(program: PolicyProgram, compiled_runner: PolicyRunner) -> None:
    actions = []
    for seed in (7, 7, 8):
        runner = PolicyRunner(seed)
        runner._compiled = compiled_runner._compiled
        runner.load_weights(weights(program))
        actions.append([runner.act(observation(), "backward", explore=True) for _ in range(4)])
    assert np.array_equal(actions[0], actions[1]) and not np.array_equal(actions[0], actions[2])


def test_nothing_flies_before_program_and_weights(program: PolicyProgram) -> None:
    runner = PolicyRunner()
    assert not runner.ready and runner.version == 0 and runner.weight_age_s == float("inf")
    runner.load_program(program.to_bytes())
    assert not runner.ready
    with pytest.raises(PolicyNotReady):
        runner.act(observation(), "forward", explore=False)


def test_weights_that_come_before_their_program_fly_when_it_comes(program: PolicyProgram) -> None:
    runner = PolicyRunner()
    with pytest.raises(PolicyRefused, match="kept until that program arrives"):
        runner.load_weights(weights(program, version=4))
    runner.load_program(program.to_bytes())
    assert runner.ready and runner.version == 4


def test_an_old_policy_flies_until_a_new_program_has_weights(runner: PolicyRunner, program: PolicyProgram) -> None:
    other = export_policy(scale=-1.0)
    before = runner.act(observation(), "forward", explore=False)
    runner.load_program(other.to_bytes())
    assert np.array_equal(runner.act(observation(), "forward", explore=False), before)
    runner.load_weights(weights(other, version=2))
    np.testing.assert_allclose(runner.act(observation(), "forward", explore=False), -before, rtol=1e-5)
    with pytest.raises(PolicyRefused, match="are for the program"):
        runner.load_weights(weights(program, version=3))


BAD = {
    "a NaN leaf": (lambda p: weights(p, 9, b=np.array([0, np.nan, 0], np.float32)), "leaf 'b' has values that are not finite"),
    "an infinite leaf": (lambda p: weights(p, 9, w=np.full((2, 3), np.inf, np.float32)), "leaf 'w'"),
    "a wrong shape": (lambda p: weights(p, 9, b=np.zeros(4, np.float32)), r"leaf 'b' is float32\(4,\), expected float32\(3,\)"),
    "a wrong dtype": (lambda p: weights(p, 9, b=np.zeros(3, np.float64)), "leaf 'b' is float64"),
    "an unknown leaf": (lambda p: weights(p, 9, extra=np.zeros(1, np.float32)), "unknown .'extra'"),
    "a torn message": (lambda p: weights(p, 9)[:-5], "torn or damaged"),
    "a flipped bit": (lambda p: weights(p, 9)[:-1] + b"\x01", "checksum"),
    "something else": (lambda p: b"hello", "torn or damaged"),
    "version zero": (lambda p: weights(p, 0), "versions begin at 1"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_weights_are_refused_and_the_last_good_version_flies_on(
    name: str, runner: PolicyRunner, program: PolicyProgram
) -> None:
    make, message = BAD[name]
    before = runner.act(observation(), "forward", explore=False)
    with pytest.raises(PolicyRefused, match=message):
        runner.load_weights(make(program))
    assert runner.version == 1 and np.array_equal(runner.act(observation(), "forward", explore=False), before)


def test_a_program_that_does_not_fit_its_header_is_refused(runner: PolicyRunner, program: PolicyProgram) -> None:
    for bad, message in (
        (program.to_bytes()[:-3], "torn or damaged"),
        (PolicyProgram(b"not StableHLO", program.specs_json, program.parameters).to_bytes(), "does not compile here"),
        (PolicyProgram(program.serialized, program.specs_json, {"w": ((9, 9), "float32")}).to_bytes(), "does not compile here"),
        (
            PolicyProgram(program.serialized, specs_to_json(OBSERVATION, ActionSpec(("x",), (1.0,))), SHAPES).to_bytes(),
            "specification says",
        ),
        (PolicyProgram(program.serialized, "{}", SHAPES).to_bytes(), "specifications are not readable"),
    ):
        with pytest.raises(PolicyRefused, match=message):
            runner.load_program(bad)
    assert runner.ready and runner.version == 1


def test_weights_swap_whole_while_the_loop_acts(runner: PolicyRunner, program: PolicyProgram) -> None:
    """Every action is that of one version: leaves of two versions never mix."""
    stop, seen = threading.Event(), set()

    def fly() -> None:
        while not stop.is_set():
            seen.add(float(runner.act(observation(), "forward", explore=False)[0]))

    thread = threading.Thread(target=fly)
    thread.start()
    expected = set()
    for version in range(1, 30):
        value = 0.01 * version
        runner.load_weights(weights(program, version, value))
        expected.add(round(float(np.tanh(3.5 * value + 0.2)), 4))
    stop.set()
    thread.join()
    assert {round(value, 4) for value in seen} <= expected | {round(float(np.tanh(0.55)), 4)}


def test_an_action_takes_well_under_a_control_period(runner: PolicyRunner) -> None:
    inputs, times = observation(), []
    for _ in range(300):
        start = time.perf_counter()
        runner.act(inputs, "forward", explore=True)
        times.append(time.perf_counter() - start)
    assert np.median(times) < 0.005  # measured about 0.1 ms on an idle core
