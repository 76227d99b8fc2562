"""A folder that says how far a classifier can be trusted: numbers, a reliability diagram and the worst mistakes.

`etude classifier test --report` writes it; a person reads ``report.md``, programs read ``report.json``.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from etude.durable import write_atomic
from reward_classifiers.calibration import Confusion, expected_calibration_error, interval_by_segment, reliability
from reward_classifiers.judge import ImageJudge
from reward_classifiers.measure import Measurement, draw_mistakes

MISTAKES, RELIABILITY = "mistakes.png", "reliability.png"


def write_report(judge: ImageJudge, result: Measurement, folder: Path) -> dict[str, Any]:
    """Write ``report.md``, ``report.json``, ``reliability.png`` and, where there are any, ``mistakes.png``; returns the JSON."""
    folder.mkdir(parents=True, exist_ok=True)
    report = {"classifier": judge.name, "phases": {phase: _phase(judge, result, phase) for phase in result.scores}}
    write_atomic(folder / "report.json", json.dumps(report, indent=1).encode())
    write_atomic(folder / "report.md", _text(judge, result).encode())
    draw_reliability(result, folder / RELIABILITY)
    draw_mistakes(result.mistakes, folder / MISTAKES)
    return report


def _phase(judge: ImageJudge, result: Measurement, phase: str) -> dict[str, Any]:
    scores, threshold = result.scores[phase], judge.threshold(phase)
    return {
        "threshold": threshold,
        "frames": result.frames[phase].to_json(),
        "decisions": result.outcomes[phase].to_json(),
        "false_positive_rate_by_segment": list(_by_segment(result, phase, threshold)),
        "expected_calibration_error": expected_calibration_error(scores.probability, scores.truth),
        "reliability": reliability(scores.probability, scores.truth),
        "lighting": {
            name: {"frames": frames.to_json(), "decisions": decisions.to_json()}
            for name, (frames, decisions) in result.by_lighting(phase, threshold).items()
        },
    }


def _by_segment(result: Measurement, phase: str, threshold: float) -> tuple[float, float]:
    scores = result.scores[phase]
    failures = scores.truth == 0
    wrong = scores.probability[failures] >= threshold
    return interval_by_segment(wrong, scores.group[failures], np.random.default_rng(0))


def _text(judge: ImageJudge, result: Measurement) -> str:
    lines = [f"# Classifier {judge.name}", "", "Rates with 95% Wilson intervals and counts.", ""]
    for phase, scores in result.scores.items():
        threshold = judge.threshold(phase)
        low, high = _by_segment(result, phase, threshold)
        lines += [
            f"## {phase}, threshold {threshold:.3f}",
            "",
            "| | precision | recall | false-positive rate |",
            "|---|---|---|---|",
        ]
        lines += [_row("frames", result.frames[phase]), _row("decisions", result.outcomes[phase])]
        for name, (frames, decisions) in result.by_lighting(phase, threshold).items():
            lines += [_row(f"frames, {name} light", frames), _row(f"decisions, {name} light", decisions)]
        error = expected_calibration_error(scores.probability, scores.truth)
        lines += [
            "",
            f"False-positive rate per frame when whole segments are drawn (bootstrap): {low:.3f} to {high:.3f}. "
            f"Expected calibration error: {error:.3f}.",
            "",
        ]
    lines.append(f"![reliability]({RELIABILITY})")
    if result.mistakes:
        lines.append(f"![the worst mistakes]({MISTAKES})")
    return "\n".join(lines) + "\n"


def _row(name: str, confusion: Confusion) -> str:
    return f"| {name} | {confusion.precision} | {confusion.recall} | {confusion.false_positive_rate} |"


def draw_reliability(result: Measurement, path: Path) -> None:
    """Write a PNG: how often frames of a stated probability were successes, and how many there are, per direction."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.2 * len(result.scores), 4.0), layout="constrained")
    for column, (phase, scores) in enumerate(result.scores.items(), 1):
        axes = figure.add_subplot(1, len(result.scores), column)
        said, was, count = (np.array(values) for values in zip(*reliability(scores.probability, scores.truth), strict=True))
        axes.plot([0, 1], [0, 1], color="0.7", linewidth=1)
        axes.plot(said, was, marker="o", color="tab:blue")
        for x, y, n in zip(said, was, count, strict=True):
            axes.annotate(str(int(n)), (x, y), textcoords="offset points", xytext=(4, -10), fontsize=7, color="0.35")
        axes.set(title=phase, xlabel="stated probability", ylabel="share of successes", xlim=(-0.03, 1.03), ylim=(-0.03, 1.03))
    figure.savefig(path, dpi=110)
