"""What the runs of tools/prove_learner.py mean: dips, means over seeds, requirements, a Markdown table, plots of every seed.

A row is what one run left in docs/results/proof-learner.json: ``suite, recipe, seed, offline, final, dip, curve, …``; `final`
is the mean of the last three evaluations.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Row = dict[str, Any]
WORST_DIP = 0.20
"""Deepest unlearning after the switch that Cal-QL may show (issue 3)."""
PERFECT = 0.95
"""Where the offline score is so high, staying so high counts as improving."""
ROUNDING = 1e-9
STAGES = ("clone", "offline", "online")
SHOWN_BESIDE = ("cql",)
"""Recipes without a bar: they are there to be compared with."""


@dataclass(frozen=True)
class Check:
    """One requirement in one suite. `passed` is None when its runs are not all there."""

    suite: str
    requirement: str
    passed: bool | None
    measured: str


def dip(curve: Sequence[Sequence[float]]) -> float:
    """How far the score fell below the offline one in the first third of practice, at least 0.

    Args:
        curve: (environment steps, score); the first point is the switch, the last one the end of practice.
    """
    if len(curve) < 2:
        return 0.0
    offline, end = curve[0][1], curve[-1][0]
    return max([0.0, *(offline - score for steps, score in curve[1:] if steps <= end / 3)])


def of(rows: Sequence[Row], suite: str, recipe: str) -> list[Row]:
    """The seeds of one recipe in one suite, in order."""
    return sorted((row for row in rows if (row["suite"], row["recipe"]) == (suite, recipe)), key=lambda row: row["seed"])


def mean(rows: Sequence[Row], key: str) -> float:
    return sum(row[key] for row in rows) / len(rows)


def checks(rows: Sequence[Row], suite: str, practising: Sequence[str], seeds: int) -> list[Check]:
    """The requirements of issue 3 on one suite whose recipes `practising` have an online stage; each wants `seeds` seeds."""
    found = []
    whole = {recipe: mine for recipe in practising if len(mine := of(rows, suite, recipe)) >= seeds}

    def add(requirement: str, recipes: Sequence[str], verdict: Any) -> None:
        if any(recipe not in whole for recipe in recipes):
            missing = ", ".join(recipe for recipe in recipes if recipe not in whole)
            found.append(Check(suite, requirement, None, f"{missing}: fewer than {seeds} seeds"))
        else:
            passed, measured = verdict(*(whole[recipe] for recipe in recipes))
            found.append(Check(suite, requirement, passed, measured))

    def improves(mine: list[Row]) -> tuple[bool, str]:
        offline, final = mean(mine, "offline"), mean(mine, "final")
        return final > offline + ROUNDING or (offline >= PERFECT and final >= PERFECT), f"{offline:.2f} → {final:.2f}"

    def not_below(improved: list[Row], other: list[Row]) -> tuple[bool, str]:
        ours, theirs = mean(improved, "final"), mean(other, "final")
        digits = 2 if f"{ours:.2f}" != f"{theirs:.2f}" or ours == theirs else 3
        return ours >= theirs - ROUNDING, f"{ours:.{digits}f} and {theirs:.{digits}f}"

    def shallow(mine: list[Row]) -> tuple[bool, str]:
        depth = mean(mine, "dip")
        beside = ", ".join(f"{recipe} {mean(whole[recipe], 'dip'):.2f}" for recipe in SHOWN_BESIDE if recipe in whole)
        return depth <= WORST_DIP + ROUNDING, f"{depth:.2f}" + (f" (beside it {beside})" if beside else "")

    for recipe in practising:
        if recipe not in SHOWN_BESIDE:
            add(f"{recipe} improves from offline to online", [recipe], improves)
    if "pa_rl_diffusion" in practising and "cal_ql" in practising:
        add("pa_rl_diffusion ends at or above cal_ql", ["pa_rl_diffusion", "cal_ql"], not_below)
    if "cal_ql" in practising:
        add(f"cal_ql's dip after the switch is at most {WORST_DIP:.2f}", ["cal_ql"], shallow)
    return found


def table(rows: Sequence[Row], suites: Sequence[str]) -> str:
    """Markdown: one line per recipe of each suite, mean over seeds with every seed in brackets."""
    columns = ("suite", "recipe", "offline", "final", "dip", "seeds", f"updates/s ({', '.join(STAGES)})", "minutes")
    lines = [f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]
    for suite in suites:
        for recipe in dict.fromkeys(row["recipe"] for row in rows if row["suite"] == suite):
            mine = of(rows, suite, recipe)
            practised = len(mine[0]["curve"]) > 1
            cells = [_seeds(mine, "offline"), *(_seeds(mine, key) if practised else "–" for key in ("final", "dip"))]
            rates = [f"{mine[0]['updates_per_s'].get(stage, '–')}" for stage in STAGES]
            minutes = sum(sum(row["seconds"].values()) for row in mine) / len(mine) / 60
            seeds = " ".join(str(row["seed"]) for row in mine)
            lines.append(f"| {suite} | {recipe} | {' | '.join(cells)} | {seeds} | {', '.join(rates)} | {minutes:.1f} |")
    return "\n".join(lines)


def verdicts(found: Sequence[Check]) -> str:
    """One line per requirement, ready for a terminal and for Markdown."""
    words = {True: "pass", False: "FAIL", None: "not run"}
    return "\n".join(f"- {words[c.passed]}: {c.suite}: {c.requirement} — {c.measured}" for c in found)


def plot(rows: Sequence[Row], suite: str, path: Path) -> None:
    """One panel per recipe with the curve of every seed; 0 is the switch from offline to online, marked by a line."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    recipes = list(dict.fromkeys(row["recipe"] for row in rows if row["suite"] == suite))
    columns = min(4, len(recipes))
    lines = -(-len(recipes) // columns)
    size = (3.6 * columns, 3.0 * lines)
    figure, axes = plt.subplots(lines, columns, figsize=size, sharey=True, squeeze=False, layout="constrained")
    for axis, recipe in zip(axes.flat, recipes, strict=False):
        axis.axvline(0.0, color="grey", linestyle="--", linewidth=1)
        for row in of(rows, suite, recipe):
            steps, scores = zip(*row["curve"], strict=True)
            axis.plot([step / 1000 for step in steps], scores, marker="o", markersize=3, label=f"seed {row['seed']}")
        axis.set(title=recipe, xlabel="thousand steps of practice", ylim=(-0.03, 1.03))
        axis.grid(alpha=0.3)
    for axis in axes.flat[len(recipes) :]:
        axis.set_visible(False)
    for line in axes:
        line[0].set_ylabel("success in evaluation")
    axes.flat[0].legend(title="dashed: the switch")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def _seeds(rows: Sequence[Row], key: str) -> str:
    values = " ".join(f"{row[key]:.2f}" for row in rows)
    return f"{mean(rows, key):.2f}" + (f" ({values})" if len(rows) > 1 else "")
