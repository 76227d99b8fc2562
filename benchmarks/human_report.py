"""What the runs of tools/prove_hil.py mean: steps to the target, rates of intervention, requirements, a Markdown table, a plot.

A row is what one run left in docs/results/proof-hil.json: ``method, seed, start, final, curve, practice, corrections, …``;
`final` is the mean of the last three evaluations.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Row = dict[str, Any]

TARGET = 0.8
"""Success in evaluation without the person, at which steps are compared."""
WINDOW = 2
"""Evaluations whose mean counts as the success at the last of them; single ones of 20 episodes are noisy."""
SHARE_OF_STEPS = 0.5
"""Of the steps without corrections, so many may be needed with them."""
IMPROVES_BY = 0.1
"""So much above its start has `rlif` to end in every seed."""
RATE_STEPS = 500
"""Environment steps over which a rate of intervention is taken."""


@dataclass(frozen=True)
class Check:
    """One requirement. `passed` is None when its runs are not all there."""

    requirement: str
    passed: bool | None
    measured: str


def needed(row: Row) -> int | None:
    """Environment steps until the mean of `WINDOW` evaluations first reached `TARGET`; None when it never did."""
    curve = row["curve"]
    for i in range(WINDOW - 1, len(curve)):
        if sum(score for _, score in curve[i + 1 - WINDOW : i + 1]) / WINDOW >= TARGET - 1e-9:
            return curve[i][0]
    return None


def rates(row: Row) -> list[tuple[int, float, float]]:
    """(environment steps, share of steps that the person acted, take-overs per attempt) of every `RATE_STEPS` of practice."""
    found: list[tuple[int, float, float]] = []
    begun, human, takeovers, attempts = 0, 0, 0, 0
    for steps, acted, taken in row["corrections"]:
        human, takeovers, attempts = human + acted, takeovers + taken, attempts + 1
        if steps - begun >= RATE_STEPS or steps == row["corrections"][-1][0]:
            found.append((steps, human / max(1, steps - begun), takeovers / attempts))
            begun, human, takeovers, attempts = steps, 0, 0, 0
    return found


def checks(rows: Sequence[Row], methods: Sequence[str], seeds: Sequence[int]) -> list[Check]:
    """The requirements of what was run: `methods`, each in all of `seeds`."""
    by_key = {(row["method"], row["seed"]): row for row in rows}
    found = []
    if {"hil_serl", "hil_serl_alone"} & set(methods):
        found.append(_half_the_steps(by_key, seeds))
    if "rlif" in methods:
        found.append(_improves(by_key, seeds))
    return found


def _missing(by_key: dict[tuple[str, int], Row], methods: Sequence[str], seeds: Sequence[int]) -> str:
    return ", ".join(f"{method} seed {seed}" for method in methods for seed in seeds if (method, seed) not in by_key)


def _half_the_steps(by_key: dict[tuple[str, int], Row], seeds: Sequence[int]) -> Check:
    """A run without corrections that never gets there counts with all of its steps, one with them fails."""
    requirement = f"{TARGET:.0%} success with corrections in at most {SHARE_OF_STEPS:g} of the steps without, in every seed"
    if missing := _missing(by_key, ("hil_serl", "hil_serl_alone"), seeds):
        return Check(requirement, None, f"not there: {missing}")
    passed, told = True, []
    for seed in seeds:
        corrected, alone = by_key["hil_serl", seed], by_key["hil_serl_alone", seed]
        ours, theirs = needed(corrected), needed(alone)
        practised = alone["curve"][-1][0]
        passed &= ours is not None and ours <= SHARE_OF_STEPS * (practised if theirs is None else theirs)
        without = f"never in {practised:,}" if theirs is None else f"{theirs:,}"
        told.append(f"seed {seed}: {'never' if ours is None else f'{ours:,}'} with, {without} without")
    return Check(requirement, passed, "; ".join(told))


def _improves(by_key: dict[tuple[str, int], Row], seeds: Sequence[int]) -> Check:
    requirement = f"rlif with a bad corrector ends at least {IMPROVES_BY:g} above its start, in every seed"
    if missing := _missing(by_key, ("rlif",), seeds):
        return Check(requirement, None, f"not there: {missing}")
    mine = [by_key["rlif", seed] for seed in seeds]
    told = "; ".join(
        f"seed {row['seed']}: {row['start']:.2f} → {row['final']:.2f}, corrector alone {row['corrector_success']:.2f}"
        for row in mine
    )
    return Check(requirement, all(row["final"] >= row["start"] + IMPROVES_BY - 1e-9 for row in mine), told)


def verdicts(found: Sequence[Check]) -> str:
    """One line per requirement, ready for a terminal and for Markdown."""
    words = {True: "pass", False: "FAIL", None: "not run"}
    return "\n".join(f"- {words[check.passed]}: {check.requirement} — {check.measured}" for check in found)


def table(rows: Sequence[Row]) -> str:
    """Markdown: one line per run. The rates are of the first and of the last `RATE_STEPS` of practice."""
    columns = (
        "method",
        "seed",
        "start",
        "final",
        f"steps to {TARGET:g}",
        "steps",
        "person acted",
        "take-overs/attempt",
        "minutes",
    )
    lines = [f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]
    for row in rows:
        first, last = (rates(row) or [(0, 0.0, 0.0)])[0], (rates(row) or [(0, 0.0, 0.0)])[-1]
        reached = needed(row)
        cells = (
            row["method"],
            row["seed"],
            f"{row['start']:.2f}",
            f"{row['final']:.2f}",
            "never" if reached is None else f"{reached:,}",
            f"{row['curve'][-1][0]:,}",
            f"{first[1]:.0%} → {last[1]:.0%}",
            f"{first[2]:.2f} → {last[2]:.2f}",
            f"{sum(row['seconds'].values()) / 60:.1f}",
        )
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines)


def plot(rows: Sequence[Row], path: Path) -> None:
    """Every seed: success in evaluation, and below it the share of steps that the person acted, against steps of practice."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    panels = (("hil_serl with corrections and without", ("hil_serl", "hil_serl_alone")), ("rlif, bad corrector", ("rlif",)))
    told = {"hil_serl": "with corrections", "hil_serl_alone": "without", "rlif": "rlif"}
    colours = {method: f"C{number}" for number, method in enumerate(told)}
    figure, axes = plt.subplots(2, 2, figsize=(9.0, 5.6), sharex="col", sharey="row", layout="constrained")
    for column, (title, methods) in enumerate(panels):
        success, rate = axes[0][column], axes[1][column]
        for row in (row for row in rows if row["method"] in methods):
            method = row["method"]
            first = row["seed"] == min(other["seed"] for other in rows if other["method"] == method)
            style: dict[str, Any] = {"color": colours[method], "marker": "o", "markersize": 3, "alpha": 0.8}
            steps, scores = zip(*row["curve"], strict=True)
            success.plot([step / 1000 for step in steps], scores, label=told[method] if first else None, **style)
            shares = rates(row)
            if any(share for _, share, _ in shares):
                rate.plot([step / 1000 for step, _, _ in shares], [share for _, share, _ in shares], **style)
        success.set(title=title, ylim=(-0.03, 1.03))
        rate.set(xlabel="thousand steps of practice", ylim=(-0.03, 1.03))
        if column == 0:
            success.axhline(TARGET, color="grey", linestyle="--", linewidth=1)
            success.legend(fontsize="small")
        for axis in (success, rate):
            axis.grid(alpha=0.3)
    axes[0][0].set_ylabel("success in evaluation")
    axes[1][0].set_ylabel("share of steps\nthat the person acted")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    plt.close(figure)
