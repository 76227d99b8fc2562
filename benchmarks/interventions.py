"""What help is worth: deployed success against the number of times that a person had to come, with and without `paint`.

Separate from `benchmarks.earl`, which measures success against steps. Rows are those of its results.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

Row = dict[str, Any]

WITH = "no_walls_paint"
WITHOUT = {
    "no_walls": "time-outs, and a lost mug is reported",
    "no_walls_every_1000": "a reset every 1,000 steps",
    "no_walls_every_4000": "a reset every 4,000 steps",
}
"""What `paint` is compared with. The first is told by the simulation what no robot knows; PAINT's episodic baseline is reset on a
schedule."""
LEVEL = 0.9
"""Success at which interventions are compared."""
TIMES_FEWER = 3.0
WINDOW = 3
"""Evaluations of 10 episodes whose mean counts as the success at the last of them; single ones are noisy."""


def smoothed(row: Row) -> list[tuple[int, float]]:
    """(interventions so far, mean success of the last `WINDOW` evaluations of practice) at every evaluation from the third on."""
    scores = [score for _, score in row["curve"]]
    pairs = list(zip(row["interventions_at"], scores, strict=True))[1:]  # the first one is before practice
    return [
        (pairs[i][0], sum(score for _, score in pairs[i + 1 - WINDOW : i + 1]) / WINDOW) for i in range(WINDOW - 1, len(pairs))
    ]


def needed(row: Row, level: float = LEVEL) -> int | None:
    """Interventions until the smoothed success first reached `level`; None when it never did."""
    return next((count for count, success in smoothed(row) if success >= level), None)


def verdict(rows: Sequence[Row], seeds: Sequence[int]) -> tuple[bool | None, str]:
    """Whether `paint` needs at most a third of the interventions of every baseline, all seeds together (None: not all were run),
    and a line that says so. A run without it that never gets there counts with all of its interventions, one with it fails."""
    by_key = {(row["method"], row["seed"]): row for row in rows}
    methods = (*WITHOUT, WITH)
    missing = [f"{method} seed {seed}" for method in methods for seed in seeds if (method, seed) not in by_key]
    if missing:
        return None, f"not run: {', '.join(missing)}"
    totals, shown, counts = {}, [], dict[str, list[int | None]]()
    for method in methods:
        mine = [by_key[method, seed] for seed in seeds]
        counts[method] = [needed(row) for row in mine]
        totals[method] = sum(row["interventions"] if n is None else n for row, n in zip(mine, counts[method], strict=True))
        told = ", ".join(
            f"seed {row['seed']}: {'never' if n is None else n} ({row['interventions']} in all, {row['last_10']:.2f} at the end)"
            for row, n in zip(mine, counts[method], strict=True)
        )
        shown.append(f"{method} {told}")
    if None in counts[WITH]:
        return False, f"FAIL: {LEVEL:.0%} is not reached with paint in every seed — {'; '.join(shown)}"
    ratios = {method: totals[method] / totals[WITH] for method in WITHOUT}
    passed = min(ratios.values()) >= TIMES_FEWER
    compared = ", ".join(f"{ratio:.1f} times fewer than {method}" for method, ratio in ratios.items())
    return passed, (
        f"{'pass' if passed else 'FAIL'}: interventions with paint until {LEVEL:.0%} success: {compared}; at least "
        f"{TIMES_FEWER:g} required of each — {'; '.join(shown)}"
    )


def plot(rows: Sequence[Row], path: Path) -> None:
    """Smoothed success of every seed against interventions so far."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axis = plt.subplots(figsize=(5.6, 3.6), layout="constrained")
    told = {WITH: "paint", **WITHOUT}
    colours = {method: f"C{number}" for number, method in enumerate(told)}
    for row in rows:
        points = smoothed(row)
        if not points:
            continue
        label = told[row["method"]] if row["seed"] == min(r["seed"] for r in rows if r["method"] == row["method"]) else None
        axis.plot(*zip(*points, strict=True), color=colours[row["method"]], marker="o", markersize=3, alpha=0.8, label=label)
    axis.axhline(LEVEL, color="grey", linestyle="--", linewidth=1)
    axis.set(xlabel="times that a person came", ylabel="success in deployed evaluation", ylim=(-0.03, 1.03))
    axis.grid(alpha=0.3)
    axis.legend(fontsize="small")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    plt.close(figure)
