"""An actor whose policy lives at a policy server: it acts on candidates for what it sees, and holds while there are none."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator

import jax
import jax.export
import numpy as np
import pytest
from point_robot import PointPolicy

from actor.candidates import CandidateFeed
from actor.policy_runner import PolicyNotReady, PolicyRefused, PolicyRunner
from etude.policy_file import PolicyProgram, PolicyWeights
from etude.policy_server import PolicyServerClient, ServerInfo
from etude.specs import ActionSpec, ObservationSpec, specs_to_json
from policy_servers.http_server import PolicyServer

OBSERVATION, ACTION, K = ObservationSpec(("x_m",)), ActionSpec(("x", "y"), (0.1, 0.1)), 3
INSTRUCTIONS = {"forward": "go", "backward": "come back"}
PATIENT_S = 5.0


class Echo:
    """Candidate i of a state s is (s, i/10), negative for the way back."""

    def __init__(self) -> None:
        self.delay_s, self.asked = 0.0, []

    def info(self) -> ServerInfo:
        return ServerInfo("echo", 1, 2, ("state",))

    def sample(self, observation, instructions, n, seed):
        time.sleep(self.delay_s)
        self.asked.append((float(observation["state"][0, 0]), instructions[0]))
        sign = 1.0 if instructions[0] == "go" else -1.0
        return np.array([[[sign * observation["state"][0, 0], i / 10]] for i in range(n)])

    def distil(self, observation, instructions, action):
        return 0.0


@pytest.fixture
def served() -> Iterator[tuple[Echo, PolicyServer]]:
    model = Echo()
    server = PolicyServer(model, port=0)
    server.start()
    yield model, server
    server.close()


@pytest.fixture(scope="module")
def program() -> PolicyProgram:
    """Acts with the last candidate."""

    def policy(params, observation, key, explore, candidates):
        return candidates[-1] * params["scale"]

    leaves, inputs = {"scale": jax.ShapeDtypeStruct((), "float32")}, {"state": jax.ShapeDtypeStruct((1,), "float32")}
    inputs["phase"] = jax.ShapeDtypeStruct((2,), "float32")
    rest = (jax.ShapeDtypeStruct((2,), "uint32"), jax.ShapeDtypeStruct((), "float32"), jax.ShapeDtypeStruct((K, 2), "float32"))
    exported = jax.export.export(jax.jit(policy), platforms=["cpu", "cuda"])(leaves, inputs, *rest)
    return PolicyProgram(exported.serialize(), specs_to_json(OBSERVATION, ACTION), {"scale": ((), "float32")}, candidates=K)


def runner_of(program: PolicyProgram, address: str, wait_s: float = PATIENT_S) -> PolicyRunner:
    runner = PolicyRunner(0, CandidateFeed(PolicyServerClient(address, PATIENT_S), INSTRUCTIONS, wait_s))
    runner.load_program(program.to_bytes())
    runner.load_weights(PolicyWeights("run", 1, program.digest, {"scale": np.float32(0.5)}).to_bytes())
    return runner


def see(x_m: float) -> dict[str, np.ndarray]:
    return {"state": np.array([x_m], np.float32)}


def test_it_acts_on_candidates_for_what_it_sees_and_where_it_is_going(served, program: PolicyProgram) -> None:
    model, server = served
    runner = runner_of(program, server.address)
    for x_m, phase, expected in ((0.4, "forward", 0.2), (-0.6, "forward", -0.3), (0.4, "backward", -0.2)):
        assert runner.prepare(see(x_m), phase)
        np.testing.assert_allclose(runner.act(see(x_m), phase, True), [expected, 0.1], atol=1e-6)
    with pytest.raises(PolicyNotReady, match="no candidates for backward"):
        runner.act(see(0.4), "backward", True)
    # candidates that nobody took are not used for another observation
    assert runner.prepare(see(0.8), "forward") and runner.prepare(see(0.2), "forward")
    np.testing.assert_allclose(runner.act(see(0.2), "forward", True), [0.1, 0.1], atol=1e-6)
    assert model.asked[-2:] == [(pytest.approx(0.8), "go"), (pytest.approx(0.2), "go")]


def test_a_slow_server_is_waited_for_a_little_and_its_late_answer_is_used(served, program: PolicyProgram) -> None:
    model, server = served
    model.delay_s = 0.15
    runner = runner_of(program, server.address, wait_s=0.02)
    began_s = time.monotonic()
    assert not runner.prepare(see(0.4), "forward") and time.monotonic() - began_s < 0.1
    misses = 1
    while not runner.prepare(see(0.41), "forward"):  # the robot holds: it sees nearly the same
        misses += 1
        assert time.monotonic() - began_s < 5.0
    np.testing.assert_allclose(runner.act(see(0.41), "forward", True), [0.2, 0.1], atol=1e-6)
    assert runner._feed.late == misses and len(model.asked) == 1, "one question at a time"


def test_a_dead_server_makes_it_hold_and_a_live_one_go_on(served, program: PolicyProgram) -> None:
    model, server = served
    runner = runner_of(program, server.address, wait_s=0.3)
    assert runner.prepare(see(0.4), "forward")
    runner.act(see(0.4), "forward", True)
    port = int(server.address.rpartition(":")[2])
    server.close()
    assert not runner.prepare(see(0.5), "forward")
    assert "does not answer" in runner._feed.trouble
    again = PolicyServer(model, port=port)
    again.start()
    end_s = time.monotonic() + 10.0
    while not runner.prepare(see(0.5), "forward"):
        assert time.monotonic() < end_s
    assert runner._feed.trouble == ""
    again.close()


def test_a_program_that_wants_candidates_needs_a_server(program: PolicyProgram) -> None:
    assert program.candidates == K and PolicyProgram.from_bytes(program.to_bytes()) == program
    with pytest.raises(PolicyRefused, match=r"recipe\.policy\.server"):
        PolicyRunner().load_program(program.to_bytes())


def test_the_loop_holds_without_cutting_the_attempt_while_candidates_are_late(bench) -> None:
    class Late(PointPolicy):
        """Ready at every third question."""

        questions = itertools.count(1)

        def prepare(self, observation, phase):
            return next(self.questions) % 3 == 0

    b = bench(policy=Late())
    b.practise(lambda: b.loop.status().segment > 3)
    segments = b.segments()[:3]
    assert all(segment[-1].is_terminal and segment[-1].success == 1 for segment in segments), "no attempt was cut"
    assert b.robot.holds >= 2 * sum(len(segment) - 1 for segment in segments)
    for segment in segments:
        for step, following in itertools.pairwise(segment):
            moved = following.observation["state"][0] - step.observation["state"][0]
            assert moved == pytest.approx(step.action[0] * 0.2, abs=1e-5), "one action between two steps"


def test_the_loop_only_holds_while_the_server_is_dead(bench) -> None:
    class Dead(PointPolicy):
        def prepare(self, observation, phase):
            return False

    b = bench(policy=Dead())
    b.practise(lambda: b.robot.holds > 20)
    assert b.steps == [] and b.robot.actions == []
    assert b.loop.status().segment == 1
