"""The whole learner with an external policy: it trains, the server learns, and the server's death stops nothing."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest
from helpers import ACTION, STATE_ONLY
from test_external import TwoModes, recipe_of
from test_training import _config, _demonstrations, _practice, _wait

from etude.policy_file import PolicyProgram, PolicyWeights
from etude.policy_server import PolicyServerError
from etude.run_folder import RunFolder
from learner.training import Learner
from policy_servers.http_server import PolicyServer


def test_a_run_trains_its_server_and_outlives_it(tmp_path: Path) -> None:
    model = TwoModes()
    server = PolicyServer(model, port=0)
    server.start()
    recipe = recipe_of(
        policy={"server": server.address, "distil_every_updates": 8}, reset={"kind": "backward_policy"}, data={"utd": 1.0}
    )
    config, folder = _config().model_copy(update={"recipe": recipe}), RunFolder(tmp_path / "run")
    folder.create()
    learner = Learner(config, folder, _demonstrations(tmp_path / "demonstrations"), STATE_ONLY, ACTION)
    learner.start()
    _wait(lambda: learner.newest_weights() is not None, "the pretrained critic")
    assert model.version == 100, "before practice the server is left alone"
    assert model.texts == {"go"}
    for step in _practice(5):
        learner.ingest(step)
    _wait(lambda: learner.updates >= 40, "the updates that the ratio allows")
    _wait(lambda: model.version >= 103, "distillation")
    metrics = learner.metrics()
    assert metrics["policy/server_version"] > 100 and np.isfinite(metrics["policy/server_distillation_loss"])
    program = PolicyProgram.from_bytes(learner.program_bytes)
    weights = PolicyWeights.from_bytes(learner.newest_weights()[1])
    assert program.candidates == recipe.improvement.candidates
    assert weights.parameters and not any(name.startswith("policy") for name in weights.parameters)

    server.close()
    for step in _practice(3, 6, 56):
        learner.ingest(step)
    _wait(lambda: learner.updates >= 68, "updates without a server")
    assert learner.failure is None
    began_s = time.monotonic()
    learner.stop()
    assert time.monotonic() - began_s < 15.0
    with pytest.raises(PolicyServerError, match="does not answer"):
        Learner(config, folder, tmp_path / "demonstrations", STATE_ONLY, ACTION)
