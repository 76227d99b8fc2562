"""The picture of the rewards proof is drawn from what its results hold, older ones too."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

from etude.config import REPOSITORY

spec = importlib.util.spec_from_file_location("plot_rewards", REPOSITORY / "tools" / "plot_rewards.py")
assert spec is not None and spec.loader is not None
plot_rewards = importlib.util.module_from_spec(spec)
spec.loader.exec_module(plot_rewards)


def test_results_are_drawn(tmp_path: Path) -> None:
    rate = {"value": 0.02, "interval": [0.01, 0.03]}
    frames = {"recall": {"value": 0.8, "interval": [0.7, 0.9]}, "false_positive_rate": rate}
    old = {"test": {"frames": frames}}
    new = {
        "test": {"frames": frames, "frames_by_segment": {"false_positive_rate": [0.0, 0.05]}},
        "operating_points": {"0.01": frames},
    }
    (tmp_path / "results.json").write_text(json.dumps({"tasks": {"slide": {"cnn": {"0": old, "1": new}}}}))
    plot_rewards.main([str(tmp_path / "results.json"), str(tmp_path / "picture.png")])
    assert (tmp_path / "picture.png").read_bytes().startswith(b"\x89PNG")
