"""The proof of single-life learning: something breaks while a Go1 walks, and it must get its speed back without a reset.

Every life is recorded in docs/results/proof-go1.json as soon as it ends; lives that are there are not repeated.

    python tools/prove_go1.py lives --seeds 0 1 2
    python tools/prove_go1.py verdict
    python tools/prove_go1.py plot
    python tools/prove_go1.py video
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.single_life import Fixed, Guess, Life, OwnSteps, Roam, collect, live, pretrain
from etude.config import REPOSITORY, build, read_named
from etude.config.behaviours import BehavioursConfig
from learner.behaviours import BehaviourValues
from simulation.go1 import CONTROL_RATE_HZ, Go1, Perturbation
from simulation.go1_library import LIBRARY

RESULTS = REPOSITORY / "docs" / "results"
NORMAL_S, PERTURBED_S, FIRST_S, LAST_S = 20.0, 60.0, 5.0, 20.0
"""A healthy part, of which the first seconds do not count, and a part with the perturbation, of which the last ones count."""
REQUIRED = 0.7
PRIOR_STEPS, PRIOR_SEED = 30_000, 0
"""All seeds share the prior experience; they differ in the networks, the start and every random choice of the life."""
NAMES = tuple(LIBRARY)

CONDITIONS: dict[str, Perturbation] = {
    "payload": Perturbation(payload_kg=9.0),
    "pull left": Perturbation(pull_n=(0.0, 22.0, 0.0)),
    "front left thigh": Perturbation(stuck_joint="FL_thigh"),
    "front right thigh": Perturbation(stuck_joint="FR_thigh"),
    "pull right": Perturbation(pull_n=(0.0, -22.0, 0.0)),
    "pull back": Perturbation(pull_n=(-30.0, 0.0, 0.0)),
    "rear right thigh": Perturbation(stuck_joint="RR_thigh"),
    "slippery": Perturbation(floor_friction=0.07),
    "front right knee": Perturbation(stuck_joint="FR_knee"),
    "payload and pull": Perturbation(payload_kg=6.0, pull_n=(-12.0, 12.0, 0.0)),
}
"""Loads, pulls and friction are outside the range of the prior experience, and knees and combinations never occur in it."""
METHODS = ("roam", "single best", "values without adaptation", "random choice")


def prior_experience() -> tuple[list[OwnSteps], dict[str, Any]]:
    """Own steps of every behaviour, and its mean reward on a healthy and on a perturbed robot."""
    prior, table = collect(LIBRARY, PRIOR_STEPS, PRIOR_SEED)
    means = {}
    for index, name in enumerate(NAMES):
        healthy, perturbed = (table[(table[:, 0] == index) & (table[:, 1] == flag), 2].mean() for flag in (0, 1))
        means[name] = {"healthy": round(float(healthy), 3), "perturbed": round(float(perturbed), 3)}
    return prior, means


def mind_of(
    method: str, config: BehavioursConfig, learned: BehaviourValues, prior: list[OwnSteps], best: int, seed: int
) -> Roam | Fixed | Guess:
    if method == "single best":
        return Fixed(best)
    if method == "random choice":
        return Guess(len(NAMES), seed)
    updates = config.updates_per_step if method == "roam" else 0
    return Roam(config.model_copy(update={"updates_per_step": updates}), learned, prior, seed)


def account(life: Life) -> dict[str, Any]:
    """The numbers of one life. `recovered` is speed at the end over speed when healthy."""
    healthy = life.speed_m_s(FIRST_S, NORMAL_S)
    end = NORMAL_S + PERTURBED_S
    last = life.speed_m_s(end - LAST_S, end)
    windows = [life.speed_m_s(begin, begin + 2.5) for begin in np.arange(0.0, end, 2.5)]
    five_seconds = [(t, life.speed_m_s(NORMAL_S + t - 5.0, NORMAL_S + t)) for t in np.arange(5.0, PERTURBED_S + 1.0)]
    since = [t for t, speed in five_seconds if speed >= REQUIRED * healthy]
    late = np.array(life.behaviour[-round(LAST_S * CONTROL_RATE_HZ) :])
    used = {NAMES[i]: round(float((late == i).mean()), 2) for i in np.unique(late[late >= 0])}
    return {
        "healthy_m_s": round(healthy, 3),
        "last_m_s": round(last, 3),
        "recovered": round(last / healthy, 3),
        "seconds_to_recover": float(since[0]) if since else None,
        "falls": len([step for step in life.falls if step >= NORMAL_S * CONTROL_RATE_HZ]),
        "falls_healthy": len([step for step in life.falls if step < NORMAL_S * CONTROL_RATE_HZ]),
        "used_at_the_end": used,
        "speed_every_2_5_s": [round(float(speed), 2) for speed in windows],
    }


def run_lives(arguments: argparse.Namespace) -> None:
    path = Path(arguments.out)
    config = build(BehavioursConfig, read_named("behaviours", "roam"), "roam")
    report: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {"lives": []}
    done = {(row["condition"], row["method"], row["seed"]) for row in report["lives"]}
    prior, means = prior_experience()
    best = int(np.argmax([means[name]["healthy"] for name in NAMES]))
    report |= {"config": config.model_dump(mode="json"), "behaviours": means, "single_best": NAMES[best]}
    report |= {"settings": {"normal_s": NORMAL_S, "perturbed_s": PERTURBED_S, "last_s": LAST_S, "prior_steps": PRIOR_STEPS}}
    print("single best on a healthy robot:", NAMES[best], flush=True)
    for seed in arguments.seeds:
        todo = [(c, m) for c in arguments.conditions for m in arguments.methods if (c, m, seed) not in done]
        if not todo:
            continue
        learned, metrics = pretrain(config, prior, seed)
        print("seed", seed, {name: round(value, 3) for name, value in metrics.items()}, flush=True)
        for condition, method in todo:
            began = time.process_time()
            mind = mind_of(method, config, learned, prior, best, seed)
            life = live(
                LIBRARY,
                mind,
                CONDITIONS[condition],
                seed,
                normal_s=NORMAL_S,
                perturbed_s=PERTURBED_S,
                dwell_steps=config.dwell_steps,
            )
            row = {"condition": condition, "method": method, "seed": seed, **account(life)}
            row["cpu_s"] = round(time.process_time() - began, 1)
            report["lives"].append(row)
            path.write_text(json.dumps(report, indent=1) + "\n")
            print({k: v for k, v in row.items() if k != "speed_every_2_5_s"}, flush=True)
    plot(arguments)
    verdict(arguments)


def verdict(arguments: argparse.Namespace) -> None:
    """One line per condition. It passes where `roam` recovers in every seed and the single best behaviour in none.

    Exit status 1 when none of the conditions passes.
    """
    lives = json.loads(Path(arguments.out).read_text())["lives"]
    passed = []
    for condition in arguments.conditions:
        mine: dict[str, dict[int, float]] = {}
        for life in lives:
            if life["condition"] == condition and life["seed"] in arguments.seeds:
                mine.setdefault(life["method"], {})[life["seed"]] = life["recovered"]
        roam, best = mine.get("roam", {}), mine.get("single best", {})
        if len(roam) < len(arguments.seeds) or len(best) < len(arguments.seeds):
            print(f"not run  {condition}")
            continue
        good = min(roam.values()) >= REQUIRED and max(best.values()) < REQUIRED
        passed += [condition] if good else []
        numbers = ", ".join(f"{method} {' '.join(f'{r:.2f}' for _, r in sorted(by.items()))}" for method, by in mine.items())
        print(f"{'pass' if good else 'no':8} {condition}: {numbers}")
    if not passed:
        sys.exit(1)


def plot(arguments: argparse.Namespace) -> None:
    """One panel per condition, speed over time, every seed a line."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    path = Path(arguments.out)
    lives = json.loads(path.read_text())["lives"]
    conditions = [name for name in CONDITIONS if any(row["condition"] == name for row in lives)]
    columns = min(3, len(conditions))
    lines = -(-len(conditions) // columns)
    figure, axes = plt.subplots(lines, columns, figsize=(4.4 * columns, 2.9 * lines), sharex=True, sharey=True, squeeze=False)
    colours = {"roam": "tab:blue", "single best": "tab:red", "values without adaptation": "tab:green", "random choice": "0.6"}
    for axis, condition in zip(axes.flat, conditions, strict=False):
        for row in sorted((r for r in lives if r["condition"] == condition), key=lambda r: -METHODS.index(r["method"])):
            times = np.arange(len(row["speed_every_2_5_s"])) * 2.5 + 1.25
            label = row["method"] if row["seed"] == 0 else None
            width = 1.6 if row["method"] in ("roam", "single best") else 0.8
            axis.plot(times, row["speed_every_2_5_s"], color=colours[row["method"]], lw=width, alpha=0.8, label=label)
        axis.axvline(NORMAL_S, color="black", lw=0.8, ls=":")
        axis.set_title(condition, fontsize=10)
    for axis in axes.flat[len(conditions) :]:
        axis.set_visible(False)
    for axis in axes.flat[max(0, len(conditions) - columns) : len(conditions)]:
        axis.set_xlabel("simulated time, s")
        axis.tick_params(labelbottom=True)
    for axis in axes[:, 0]:
        axis.set_ylabel("speed, m/s")
    axes.flat[0].legend(fontsize=7, loc="lower left")
    figure.tight_layout()
    figure.savefig(path.with_suffix(".png"), dpi=90)


def video(arguments: argparse.Namespace) -> None:
    """The same life twice, above with the single best behaviour, below with `roam`, from 4 s before the perturbation on."""
    import cv2

    path, begin, seconds, every = Path(arguments.out), round((NORMAL_S - 4.0) * CONTROL_RATE_HZ), arguments.video_seconds, 2
    config = build(BehavioursConfig, read_named("behaviours", "roam"), "roam")
    prior, means = prior_experience()
    best = int(np.argmax([means[name]["healthy"] for name in NAMES]))
    learned, _ = pretrain(config, prior, arguments.seeds[0])
    films = []
    for method in ("single best", "roam"):
        frames: list[np.ndarray] = []

        def watch(robot: Go1, step: int, acting: int, method: str = method, frames: list[np.ndarray] = frames) -> None:
            if step < begin or (step - begin) % every:
                return
            frame = np.ascontiguousarray(robot.render(240, 400)[..., ::-1])
            what = "stands up" if acting < 0 else NAMES[acting]
            trouble = arguments.conditions[0] if step >= NORMAL_S * CONTROL_RATE_HZ else "healthy"
            text = f"{method}: {what}   {trouble}   {step / CONTROL_RATE_HZ:5.1f} s   x {robot.position_m[0]:.1f} m"
            cv2.putText(frame, text, (8, 18), cv2.FONT_HERSHEY_SIMPLEX, 0.42, (30, 30, 30), 1, cv2.LINE_AA)
            frames.append(frame)

        mind = mind_of(method, config, learned, prior, best, arguments.seeds[0])
        live(
            LIBRARY,
            mind,
            CONDITIONS[arguments.conditions[0]],
            arguments.seeds[0],
            normal_s=NORMAL_S,
            perturbed_s=seconds,
            dwell_steps=config.dwell_steps,
            watch=watch,
        )
        films.append(frames)
    writer = cv2.VideoWriter(str(path.with_suffix(".mp4")), cv2.VideoWriter.fourcc(*"mp4v"), CONTROL_RATE_HZ / every, (400, 480))
    for above, below in zip(*films, strict=True):
        writer.write(np.vstack([above, below]))
    writer.release()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("lives", "verdict", "plot", "video"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--conditions", nargs="+", choices=CONDITIONS, default=list(CONDITIONS))
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--video-seconds", type=float, default=16.0, help="how long the video shows the perturbed robot")
    parser.add_argument("--out", default=str(RESULTS / "proof-go1.json"))
    arguments = parser.parse_args()
    {"lives": run_lives, "verdict": verdict, "plot": plot, "video": video}[arguments.what](arguments)


if __name__ == "__main__":
    main()
