"""The learner without ROS: steps go in, weights come out, and a restart continues where it was."""

import threading
import time
from pathlib import Path

import jax
import numpy as np
import pytest
from helpers import ACTION, STATE_ONLY, segment, small_recipe

from etude.config import DirectionConfig, PublishConfig, RobotConfig, RunConfig, TaskConfig
from etude.episodes.store import EpisodeStore, StoreError
from etude.policy_file import PolicyWeights, load_policy
from etude.run_folder import RunFolder
from etude.specs import PHASES
from learner.checkpoint import to_host
from learner.replay.demonstrations import DemonstrationError
from learner.training import ONLINE_BLOCK, Learner, advance_slack


def _config() -> RunConfig:
    direction = DirectionConfig(instruction="go", max_steps=10)
    return RunConfig(
        task=TaskConfig(name="test", forward=direction, backward=direction),
        robot=RobotConfig(name="fake"),
        recipe=small_recipe(),
        observation="state",
        publish=PublishConfig(weights_interval_s=0.2, checkpoint_interval_s=60.0),
    )


def _demonstrations(path: Path, spec=STATE_ONLY) -> Path:
    store = EpisodeStore.create(path, spec, ACTION, {})
    rng, sequence = np.random.default_rng(0), 1
    for number in range(1, 7):
        for step in segment(rng, spec, 8, PHASES[number % 2], "demonstrator", number, sequence):
            store.append(step)
        sequence += 8
    store.close()
    return path


def _practice(count: int, first_number: int = 1, first_sequence: int = 1):
    rng = np.random.default_rng(first_number)
    for number in range(first_number, first_number + count):
        yield from segment(rng, STATE_ONLY, 11, PHASES[number % 2], "robot", number, first_sequence, terminal=number % 3 == 0)
        first_sequence += 11


def _wait(condition, what: str, seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"waited {seconds} s for {what}"
        time.sleep(0.02)


def test_a_learner_practises_is_killed_and_resumes_with_everything(tmp_path: Path) -> None:
    config, folder = _config(), RunFolder(tmp_path / "run")
    folder.create()
    demonstrations = _demonstrations(tmp_path / "demonstrations")
    learner = Learner(config, folder, demonstrations, STATE_ONLY, ACTION)
    learner.start()
    _wait(lambda: learner.newest_weights() is not None, "the pretrained policy")
    assert learner.updates == 0
    for step in _practice(5):
        learner.ingest(step)
    # 5 segments of 10 transitions, 10 of them before updates start, 1 update per step: 40 allowed, in blocks of 4
    _wait(lambda: learner.updates >= 40, "the updates that the ratio allows")
    _wait(lambda: learner.acknowledgements()["robot"] == (55, 55), "every step on disk")
    time.sleep(0.2)
    assert learner.updates == 40, "never more updates than the ratio allows"
    version, data = learner.newest_weights()
    weights = PolicyWeights.from_bytes(data)
    assert weights.version == version and weights.program_digest
    assert learner.checkpoint()
    before, rng_before = to_host(learner._state), learner._sampler.rng.bit_generator.state
    # no stop(): the process dies here, as far as the disk is concerned
    learner._stop.set()
    for thread in learner._threads:
        thread.join()
    learner._store.close()

    resumed = Learner(config, folder, demonstrations, STATE_ONLY, ACTION)
    assert (resumed.updates, resumed.environment_steps) == (40, 50)
    assert resumed.acknowledgements()["robot"] == (55, 55)
    assert resumed._sampler.rng.bit_generator.state == rng_before
    assert sum(resumed._online.transitions(phase) for phase in PHASES) == 50
    for old, new in zip(jax.tree.leaves(before), jax.tree.leaves(to_host(resumed._state)), strict=True):
        np.testing.assert_array_equal(old, new)
    resumed.start()
    for step in [*_practice(5), *_practice(2, 6, 56)]:  # the actor sends everything again: duplicates are dropped
        resumed.ingest(step)
    _wait(lambda: resumed.updates >= 60, "updates after resuming")
    assert resumed.environment_steps == 70
    assert resumed.newest_weights()[0] > version
    resumed.stop()
    program, saved = load_policy(folder.policy)
    assert saved.program_digest == program.digest
    assert resumed.failure is None


def test_demonstrations_of_another_robot_are_refused(tmp_path: Path) -> None:
    from etude.specs import ObservationSpec

    folder = RunFolder(tmp_path / "run")
    folder.create()
    other = _demonstrations(tmp_path / "other", ObservationSpec(("joint_1_rad", "joint_2_rad")))
    with pytest.raises(DemonstrationError, match="record them anew"):
        Learner(_config(), folder, other, STATE_ONLY, ACTION)


def test_a_store_that_refuses_does_not_end_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk: nothing is acknowledged meanwhile, training lives, and what is sent again is stored once there is room."""
    folder = RunFolder(tmp_path / "run")
    folder.create()
    learner = Learner(_config(), folder, _demonstrations(tmp_path / "demonstrations"), STATE_ONLY, ACTION)
    full = True
    append = learner._store.append

    def refusing(step):
        if full:
            raise StoreError("no space left on device: make room")
        return append(step)

    monkeypatch.setattr(learner._store, "append", refusing)
    monkeypatch.setattr("learner.training.STORE_RETRY_S", 0.01)
    ingesting = threading.Thread(target=learner._ingest_steps, daemon=True)
    ingesting.start()
    for step in _practice(1):
        learner.ingest(step)
    _wait(lambda: learner.trouble != "", "the refusal to be said")
    _wait(lambda: learner._steps.empty(), "the steps to be tried")
    assert ingesting.is_alive() and learner.environment_steps == 0
    full = False
    for step in _practice(1):
        learner.ingest(step)
    _wait(lambda: learner.acknowledgements().get("robot") == (11, 11), "every step on disk")
    assert learner.trouble == ""
    learner._stop.set()
    ingesting.join()
    learner.stop()


@pytest.mark.parametrize("utd", [0.05, 0.3, 1.0, 20.0])
def test_actor_and_learner_never_wait_for_each_other(utd: float) -> None:
    """At the last step that a waiting simulation has sent, the ratio allows one more block of updates."""
    slack = advance_slack(utd, ONLINE_BLOCK)
    for updates in range(0, 40, ONLINE_BLOCK):
        steps = next(n for n in range(10_000) if updates < utd * max(0, n - slack))  # may_advance turns False here
        assert updates + ONLINE_BLOCK <= utd * steps
