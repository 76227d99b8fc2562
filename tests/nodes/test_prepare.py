"""What is missing before a run starts: demonstrations of one direction only are not taken for both."""

from __future__ import annotations

import pytest

from actor.commands import record_into
from etude.config import ConfigError, load_run_config
from etude.run_folder import RunFolder, classifier_frames_store
from etude_nodes.prepare import classifier_cache, demonstrations_of, missing

STATE = {"task": "slide", "robot": "sim_panda_fast", "observation": "state"}


def test_demonstrations_of_one_direction_do_not_serve_a_recipe_that_practises_two(tmp_path) -> None:
    out = tmp_path / "demos"
    one = load_run_config({**STATE, "recipe": "sirius", "demonstrations": str(out)})
    folder = RunFolder(tmp_path / "run")
    assert missing(one, folder) == ["demonstrations"]
    record_into(one, out, 1, seed=0)
    assert missing(one, folder) == []
    both = load_run_config({**STATE, "recipe": "rlpd_state", "demonstrations": str(out)})
    with pytest.raises(ConfigError, match="no backward attempts"):
        missing(both, folder)


def test_a_real_arm_is_not_asked_to_record_demonstrations(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("ETUDE_DATA", str(tmp_path))
    config = load_run_config({"task": "slide", "robot": "franka_fr3", "recipe": "rlpd"})
    with pytest.raises(ConfigError, match=r"demonstrations and play of task 'slide' are missing.*real robot.*teleoperation"):
        missing(config, RunFolder(tmp_path / "run"))


def test_another_question_makes_another_classifier(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("ETUDE_DATA", str(tmp_path))
    config = load_run_config({"task": "slide", "robot": "sim_panda_fast", "recipe": "rlpd"})
    for store in (demonstrations_of(config), classifier_frames_store("slide")):
        store.mkdir(parents=True)
        (store / "store.json").touch()
    forward = config.task.forward.model_copy(update={"question": "Is the knob in the window?"})
    asked = config.model_copy(update={"task": config.task.model_copy(update={"forward": forward})})
    assert classifier_cache(config) == classifier_cache(config) != classifier_cache(asked)
