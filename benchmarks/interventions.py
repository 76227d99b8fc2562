"""What help is worth: deployed success against the number of times that a person had to come, with and without `paint`.

Separate from `benchmarks.earl` and `benchmarks.relocate`, which make the rows, and which measure success against steps.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Row = dict[str, Any]

TIMES_FEWER = 3.0
WINDOW = 3
"""Evaluations whose mean counts as the success at the last of them; single ones are noisy."""


@dataclass(frozen=True)
class Suite:
    """What is compared on one task.

    Attributes:
        paint: the method that asks by what it has learned of irreversible states.
        without: what it is compared with, and a phrase for each: ways to help that need nothing that a robot has not.
        shown: runs that are shown beside and not compared: they are told by the simulation what no robot knows.
        level: success at which interventions are compared.
    """

    name: str
    paint: str
    without: Mapping[str, str]
    shown: Mapping[str, str] = field(default_factory=dict)
    level: float = 0.9

    @property
    def methods(self) -> tuple[str, ...]:
        return (self.paint, *self.without, *self.shown)


NO_WALLS = Suite(
    "paint",
    "no_walls_paint",
    {
        "no_walls_timeouts": "8 time-outs of one direction in a row",
        "no_walls_every_1000": "a reset every 1,000 steps",
        "no_walls_every_4000": "a reset every 4,000 steps",
    },
    {"no_walls": "time-outs, and the simulation reports a lost mug"},
)
RELOCATE = Suite(
    "paint-relocate",
    "relocate_paint",
    {
        "relocate_timeouts": "5 time-outs of one direction in a row",
        "relocate_every_1000": "a reset every 1,000 steps",
    },
    {"relocate_told": "time-outs, and the simulation reports a lost block"},
)
SUITES = {suite.name: suite for suite in (NO_WALLS, RELOCATE)}


def smoothed(row: Row) -> list[tuple[int, float]]:
    """(interventions so far, mean success of the last `WINDOW` evaluations of practice) at every evaluation from the third on."""
    scores = [score for _, score in row["curve"]]
    pairs = list(zip(row["interventions_at"], scores, strict=True))[1:]  # the first one is before practice
    return [
        (pairs[i][0], sum(score for _, score in pairs[i + 1 - WINDOW : i + 1]) / WINDOW) for i in range(WINDOW - 1, len(pairs))
    ]


def needed(row: Row, level: float) -> int | None:
    """Interventions until the smoothed success first reached `level`; None when it never did."""
    return next((count for count, success in smoothed(row) if success >= level - 1e-9), None)


def verdict(rows: Sequence[Row], seeds: Sequence[int], suite: Suite) -> tuple[bool | None, str]:
    """Whether `paint` needs at most a third of the interventions of every baseline, all seeds together (None: not all were run),
    and a line that says so. A run without it that never gets there counts with all of its interventions, one with it fails."""
    by_key = {(row["method"], row["seed"]): row for row in rows}
    compared = (suite.paint, *suite.without)
    missing = [f"{method} seed {seed}" for method in compared for seed in seeds if (method, seed) not in by_key]
    if missing:
        return None, f"not run: {', '.join(missing)}"
    totals, counts = {}, dict[str, list[int | None]]()
    for method in compared:
        mine = [by_key[method, seed] for seed in seeds]
        counts[method] = [needed(row, suite.level) for row in mine]
        totals[method] = sum(row["interventions"] if n is None else n for row, n in zip(mine, counts[method], strict=True))
    shown = "; ".join(
        f"{method} {', '.join('never' if n is None else str(n) for n in counts[method])} (sum {totals[method]})"
        for method in compared
    )
    if None in counts[suite.paint]:
        return False, f"FAIL: {suite.level:.0%} is not reached with paint in every seed — {shown}"
    ratios = {method: totals[method] / totals[suite.paint] for method in suite.without}
    passed = min(ratios.values()) >= TIMES_FEWER
    said = ", ".join(f"{ratio:.1f} times fewer than {method}" for method, ratio in ratios.items())
    return passed, (
        f"{'pass' if passed else 'FAIL'}: interventions with paint until {suite.level:.0%} success: {said}; at least "
        f"{TIMES_FEWER:g} required of each — {shown}"
    )


def table(rows: Sequence[Row], suite: Suite) -> str:
    """Markdown, one line per run: what somebody came for, and how far it brought the policy."""
    reached = f"until {suite.level:g}"
    columns = (
        "help",
        "seed",
        "steps",
        "before",
        "last three",
        reached,
        "interventions",
        "scene whole",
        "pictures",
        "minutes",
    )
    lines = [f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]
    for row in rows:
        count, points = needed(row, suite.level), smoothed(row)
        cells = (
            row["method"],
            row["seed"],
            f"{row['steps']:,}",
            f"{row['curve'][0][1]:.2f}" if row["curve"] else "–",
            f"{points[-1][1]:.2f}" if points else "–",
            "never" if count is None else count,
            row["interventions"],
            sum(not lost for _, _, lost in row["helped"]),
            row["questions"],
            f"{row['minutes']:.1f}",
        )
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines)


def plot(rows: Sequence[Row], path: Path, suite: Suite) -> None:
    """Smoothed success of every seed against interventions so far."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axis = plt.subplots(figsize=(5.6, 3.6), layout="constrained")
    told = {suite.paint: "paint", **suite.without, **suite.shown}
    labelled = set[str]()
    for row in rows:
        method, points = row["method"], smoothed(row)
        if not points:
            continue
        label = None if method in labelled else told[method]
        labelled.add(method)
        colour, style = f"C{list(told).index(method)}", ":" if method in suite.shown else "-"
        came, success = zip(*points, strict=True)
        axis.plot(came, success, style, color=colour, marker="o", markersize=3, alpha=0.8, label=label)
    axis.axhline(suite.level, color="grey", linestyle="--", linewidth=1)
    axis.set(xlabel="times that a person came", ylabel="success in deployed evaluation", ylim=(-0.03, 1.03))
    axis.grid(alpha=0.3)
    if labelled:
        axis.legend(fontsize="small")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    plt.close(figure)
