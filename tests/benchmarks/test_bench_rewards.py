"""`etude bench rewards` prints a line for every case and batch, whatever the machine lacks."""

from __future__ import annotations

import json
from typing import Any

import pytest

from benchmarks import rewards
from benchmarks.rewards import CASES, NAME, Workplace, main
from etude.specs import ObservationSpec


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rewards, "SPEC", ObservationSpec(("velocity_x_m_s",), {"front": (16, 16), "wrist": (16, 16)}))
    monkeypatch.setattr(rewards, "BATCHES", (1, 3))


def lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


@pytest.mark.parametrize("case", ["cnn", "probe-hog", "vlm-endpoint"])
def test_a_case_prints_milliseconds_for_one_frame_and_for_many(case: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--seconds", "0", "--only", case]) == 0
    one, many = lines(capsys)
    assert (one["config"]["batch"], many["config"]["batch"]) == (1, 3)
    for line in (one, many):
        assert line["name"] == NAME and line["unit"] == "ms" and line["value"] > 0
        assert line["config"]["case"] == case and line["config"]["device"].startswith("cpu: ")
        assert line["config"]["calls"] >= 2 and line["config"]["p99_ms"] > 0


def test_no_picture_is_remembered(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    judged = CASES["probe-hog"](Workplace(tmp_path, None))[0]  # type: ignore[arg-type]
    from reward_classifiers.calibration import Calibration
    from reward_classifiers.judge import ImageJudge

    judge = ImageJudge(judged, Calibration.uniform(judged.members), "0" * 8, {})
    before = judged._cache.encoded
    calls = len(rewards._time(judge, 3, 0.0)) + 1
    assert judged._cache.encoded - before == calls * 3 * 2, "every frame of every view was embedded"


def test_what_the_machine_lacks_is_said_and_what_breaks_too(monkeypatch, capsys) -> None:
    def lacking(place: Workplace):
        raise ImportError("No module named 'eyes'")

    def broken(place: Workplace):
        raise ValueError("bent")

    monkeypatch.setattr(rewards, "CASES", {"vlm-tiny": lacking, "cnn": broken, "probe-hog": CASES["probe-hog"]})
    assert main(["--seconds", "0"]) == 1
    skipped, failed, *measured = lines(capsys)
    assert "No module named 'eyes'" in skipped["skipped"] and ".[rewards]" in skipped["skipped"]
    assert failed["error"] == "ValueError: bent" and len(measured) == 2


def test_random_models_of_real_shapes_are_loaded_as_real_ones(monkeypatch, capsys) -> None:
    pytest.importorskip("transformers", reason="needs the extra rewards")
    assert main(["--seconds", "0", "--only", "vlm-tiny"]) == 0
    assert [line["config"]["batch"] for line in lines(capsys)] == [1, 3]
