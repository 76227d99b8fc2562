"""A newer version in the run's folder judges from the next attempt on; a bad one is refused and the last good one goes on."""

from __future__ import annotations

import shutil
import time

import pytest
from dot_world import dot

from reward_classifiers.endpoint import EndpointError
from reward_classifiers.files import DESCRIPTION_FILE, WEIGHTS_FILE, read_classifier, save_classifier
from reward_classifiers.judge import load_judge
from reward_classifiers.reloading import ReloadingJudge
from reward_classifiers.worker import DeadlineJudge


@pytest.fixture
def folder(dot_classifier, tmp_path):
    return shutil.copytree(dot_classifier[0], tmp_path / "classifier")


@pytest.fixture
def judge(folder):
    made = ReloadingJudge(folder, look_every_s=0.02)
    yield made
    made.close()


def newer_version(folder):
    """The same networks with another threshold."""
    description, tensors, calibration = read_classifier(folder)
    calibration.thresholds["forward"] = 0.876
    save_classifier(folder, description["backend"], description["architecture"], tensors, calibration, {}, {})
    return load_judge(folder).name


def wait_for(condition, seconds=20.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it never happened"
        time.sleep(0.01)


def test_a_newer_version_waits_for_the_next_attempt(judge, folder):
    old = judge.name
    new = newer_version(folder)
    assert new != old
    wait_for(lambda: judge._next is not None)
    assert judge.name == old and judge.threshold("forward") != 0.876, "this attempt is judged by one version"
    judge.forget()
    assert judge.name == new and judge.threshold("forward") == 0.876
    assert 0.0 <= judge.probability(dot(0.5), "forward") <= 1.0


def test_a_torn_version_is_refused_and_the_last_good_one_goes_on(judge, folder):
    old = judge.name
    (folder / WEIGHTS_FILE).write_bytes(b"torn")
    text = (folder / DESCRIPTION_FILE).read_text()
    (folder / DESCRIPTION_FILE).write_text(text)
    wait_for(lambda: judge.problem)
    judge.forget()
    assert judge.name == old and "checksum" in judge.problem
    assert judge.probability(dot(0.95), "forward") > judge.probability(dot(0.1), "forward")


def test_a_folder_that_goes_away_changes_nothing(judge, folder):
    shutil.rmtree(folder)
    time.sleep(0.1)
    judge.forget()
    assert judge.probability(dot(0.95), "forward") > 0.5 and judge.problem == ""


def test_every_version_gets_the_same_deadline(folder):
    judge = ReloadingJudge(folder, lambda image: DeadlineJudge(image, 1.0), look_every_s=0.02)
    try:
        first = judge._judge
        newer_version(folder)
        wait_for(lambda: judge._next is not None)
        judge.forget()
        assert judge._judge is not first and isinstance(judge._judge, DeadlineJudge)
        wait_for(lambda: not first._thread.is_alive())
    finally:
        judge.close()


def test_a_version_whose_endpoint_is_down_is_tried_again(folder):
    down = ["refused"]

    def load(path):
        if down and path.name == folder.name and len(loaded) > 0:
            loaded.append("failed")
            raise EndpointError("endpoint http://gpu:8000 does not answer")
        loaded.append("read")
        return load_judge(path)

    loaded: list[str] = []
    judge = ReloadingJudge(folder, load=load, look_every_s=0.02)
    try:
        old, new = judge.name, newer_version(folder)
        wait_for(lambda: loaded.count("failed") >= 2)
        judge.forget()
        assert judge.name == old and "does not answer" in judge.problem, "the last good version goes on"
        down.clear()
        wait_for(lambda: judge._next is not None)
        judge.forget()
        assert judge.name == new and judge.problem == ""
    finally:
        judge.close()
