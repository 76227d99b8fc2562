"""A running learner takes a person's labels and publishes a policy that knows irreversible states."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
from helpers import ACTION, STATE_ONLY, segment, small_recipe

from etude.config import DirectionConfig, HelpConfig, PublishConfig, RobotConfig, RunConfig, TaskConfig
from etude.episodes.store import EpisodeStore
from etude.policy_file import PolicyWeights
from etude.run_folder import RunFolder
from etude.specs import PHASES
from etude.status import StuckLabels
from learner.training import Learner


def practice_steps(actor, spec, segments, length, first=0):
    rng = np.random.default_rng(first)
    for i in range(first, first + segments):
        yield from segment(rng, spec, length, PHASES[i % 2], actor, i + 1, 1 + i * length)


def test_labels_train_the_classifier_while_the_learner_goes_on(tmp_path: Path):
    direction = DirectionConfig(instruction="go", max_steps=10)
    recipe = small_recipe(critic={"pessimistic_reward": -0.1}, reset={"kind": "human"}, data={"pretrain_bc_steps": 0})
    config = RunConfig(
        task=TaskConfig(name="test", forward=direction, backward=direction),
        robot=RobotConfig(name="fake"),
        recipe=recipe.model_copy(update={"help": HelpConfig(kind="paint", classifier_updates=250)}),
        observation="state",
        publish=PublishConfig(weights_interval_s=0.05),
    )
    store = EpisodeStore.create(tmp_path / "demos", STATE_ONLY, ACTION, {})
    for step in practice_steps("demonstrator", STATE_ONLY, 2, 8):
        store.append(step)
    store.close()
    folder = RunFolder(tmp_path / "run")
    folder.create()
    learner = Learner(config, folder, tmp_path / "demos", STATE_ONLY, ACTION)
    learner.start()
    try:
        for step in practice_steps("robot", STATE_ONLY, 4, 11):
            learner.ingest(step)

        def trained(wanted: float) -> bool:
            newest = learner.newest_weights()
            return newest is not None and PolicyWeights.from_bytes(newest[1]).parameters["irreversibility/trained"] == wanted

        end_s = time.monotonic() + 60
        while not (trained(0.0) and learner.environment_steps == 40):
            assert time.monotonic() < end_s and learner.failure is None
            time.sleep(0.05)
        learner.label_stuck("robot", StuckLabels((1, 0), (4, 10), (3, 5)))
        updates = learner.updates
        for step in practice_steps("robot", STATE_ONLY, 2, 11, first=4):
            learner.ingest(step)
        while not (trained(1.0) and learner.updates > updates):
            assert time.monotonic() < end_s and learner.failure is None
            time.sleep(0.05)
    finally:
        learner.stop()
    assert learner.failure is None
