"""Picture of `tools/prove_rewards.py`: per task the false positives and recall of every backend, beside what RoboFuME reports.

python tools/plot_rewards.py docs/results/proof-rewards-60.json docs/results/proof-rewards-60.png
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROBOFUME_FALSE_POSITIVES, ROBOFUME_FALSE_NEGATIVES = (0.012, 0.063), (0.60, 0.81)
"""Yang et al. 2023, lowest and highest of their tasks."""


def plot(told: dict[str, Any], path: Path) -> None:
    """Shares of frames; a large mark is the threshold of training, small ones those of other wanted rates."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot
    from matplotlib.patches import Rectangle

    tasks = told["tasks"]
    figure, axes = pyplot.subplots(1, len(tasks), figsize=(4.2 * len(tasks), 3.6), squeeze=False, sharey=True)
    names = sorted({name for backends in tasks.values() for name in backends})
    for axis, (task, backends) in zip(axes[0], tasks.items(), strict=True):
        low, high = ROBOFUME_FALSE_POSITIVES
        few, many = (1.0 - share for share in reversed(ROBOFUME_FALSE_NEGATIVES))
        axis.add_patch(Rectangle((low, few), high - low, many - few, color="0.85", label="RoboFuME, its tasks"))
        for name, cells in backends.items():
            colour = f"C{names.index(name)}"
            for number, cell in enumerate(cells.values()):
                frames = cell["test"]["frames"]
                low, high = (
                    cell["test"]
                    .get("frames_by_segment", {})
                    .get("false_positive_rate", frames["false_positive_rate"]["interval"])
                )
                x, y = frames["false_positive_rate"]["value"], frames["recall"]["value"]
                axis.plot([low, high], [y, y], color=colour, lw=1)
                axis.plot(x, y, "o", color=colour, label=name if not number else None)
                others = list(cell.get("operating_points", {}).values())
                axis.plot(
                    [point["false_positive_rate"]["value"] for point in others],
                    [point["recall"]["value"] for point in others],
                    ".-",
                    color=colour,
                    lw=0.6,
                    ms=4,
                )
        axis.set(title=task, xlabel="false positives, share of frames", xlim=(0, None), ylim=(0, 1))
        axis.grid(alpha=0.3)
    axes[0][0].set_ylabel("recall, share of frames")
    axes[0][0].legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(path, dpi=110)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Draw the results of tools/prove_rewards.py.")
    parser.add_argument("results", type=Path, help="what the proof wrote, e.g. docs/results/proof-rewards-60.json")
    parser.add_argument("picture", type=Path, help="the PNG to write")
    arguments = parser.parse_args(argv)
    if not arguments.results.is_file():
        parser.error(f"there is no {arguments.results}: `make proof-rewards` writes docs/results/proof-rewards.json")
    plot(json.loads(arguments.results.read_text(encoding="utf-8")), arguments.picture)
    return 0


if __name__ == "__main__":
    sys.exit(main())
