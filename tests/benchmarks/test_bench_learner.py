"""`etude bench learner` prints a line for every case, whatever happens to it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from benchmarks import learner
from benchmarks.learner import CASES, Case, main
from etude.config import RecipeConfig
from etude.specs import ObservationSpec

TINY: dict[str, dict[str, Any]] = {
    "critic": {"hidden": (8,)},
    "policy": {"hidden": (8,)},
    "encoder": {"features": 8},
    "data": {"batch_size": 4},
}
CAMERA = ObservationSpec(("s0_m", "s1_m"), {"front": (16, 16)})


def lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def use(cases: dict[str, Case], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(learner, "CASES", cases)


@pytest.mark.parametrize("name", CASES)
def test_every_case_is_a_recipe_of_one_direction(name: str) -> None:
    recipe = learner._recipe(name, CASES[name])
    assert isinstance(recipe, RecipeConfig)
    assert recipe.directions == ("forward",)


def test_a_case_prints_updates_per_second_with_its_configuration(monkeypatch, capsys) -> None:
    use({"tiny": Case(TINY, updates_per_call=2, reference="another one: 5/s")}, monkeypatch)
    assert main(["--seconds", "0"]) == 0
    (line,) = lines(capsys)
    assert line["name"] == "updates_per_s" and line["unit"] == "updates/s" and line["value"] > 0
    config = line["config"]
    assert config["case"] == "tiny" and config["batch_size"] == 4 and config["updates_per_call"] == 2
    assert config["device"].startswith("cpu: ") and config["reference"] == "another one: 5/s"


def test_the_parts_of_an_update_are_timed(monkeypatch, capsys) -> None:
    use({"parts": Case(TINY, CAMERA, parts=True)}, monkeypatch)
    assert main(["--seconds", "0"]) == 0
    printed = lines(capsys)
    assert [line["config"]["part"] for line in printed] == ["encode", "critic", "policy", "optimisers", "whole"]
    assert all(line["name"] == "update_part_ms" and line["value"] > 0 for line in printed)


def test_nothing_is_given_up_silently(monkeypatch, capsys) -> None:
    broken = {**TINY, "critic": {"kind": "no_such"}}
    use({"conv": Case(TINY, CAMERA, gpu_only=True), "broken": Case(broken)}, monkeypatch)
    assert main(["--seconds", "0"]) == 1
    skipped, failed = lines(capsys)
    assert skipped["config"] == {"case": "conv"} and "--only conv" in skipped["skipped"]
    assert failed["config"] == {"case": "broken"} and "no_such" in failed["error"]
