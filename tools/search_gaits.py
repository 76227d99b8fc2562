"""Finds the numbers of the Go1's gaits (simulation/go1_library.py): cross-entropy search over a gait's parameters.

``python tools/search_gaits.py payload`` prints every improvement and at last the gait. The situations that it searches in are the
ones that behaviours are made for; perturbations of a proof should be others.
"""

from __future__ import annotations

import argparse
from dataclasses import asdict, fields

import numpy as np

from simulation.go1 import CONTROL_RATE_HZ, Go1, Perturbation
from simulation.go1_gaits import Gait, action
from simulation.go1_library import LIBRARY

SECONDS = 7.0
BEGIN_S, LATER_S = 1.5, 0.15
"""The perturbation begins so long after the start, and so much later in every further variant: a joint sticks at other angles."""

SITUATIONS: dict[str, tuple[Perturbation, ...]] = {
    "normal": (Perturbation(),),
    "payload": (Perturbation(payload_kg=7.0), Perturbation(payload_kg=10.0)),
    "pull_back": (Perturbation(pull_n=(-20.0, 0.0, 0.0)), Perturbation(pull_n=(-32.0, 0.0, 0.0))),
    "pull_left": (Perturbation(pull_n=(0.0, 15.0, 0.0)), Perturbation(pull_n=(0.0, 25.0, 0.0))),
    "slippery": (Perturbation(floor_friction=0.1), Perturbation(floor_friction=0.15)),
    "front_thigh": (Perturbation(stuck_joint="FR_thigh"),) * 3,
    "rear_thigh": (Perturbation(stuck_joint="RR_thigh"),) * 3,
}

SINGLE = {
    "frequency_hz": (1.2, 4.0),
    "stride_m": (0.05, 0.36),
    "clearance_m": (0.02, 0.12),
    "height_m": (0.2, 0.32),
    "width_m": (-0.03, 0.1),
    "ahead_m": (-0.1, 0.1),
    "pitch_m": (-0.05, 0.05),
    "roll_m": (-0.05, 0.05),
    "sway_m": (-0.08, 0.08),
    "duty": (0.4, 0.75),
}
"""Bounds of the parameters that are one number."""
PER_LEG = {"effort": (0.0, 1.4), "lift_m": (-0.02, 0.06), "phase": (-0.5, 1.0)}
BOUNDS = np.array([*SINGLE.values(), *(bound for bound in PER_LEG.values() for _ in range(4))])


def gait_of(vector: np.ndarray) -> Gait:
    values = dict(zip(SINGLE, (round(float(v), 3) for v in vector), strict=False))
    legs = vector[len(SINGLE) :].reshape(len(PER_LEG), 4)
    tuples = {name: tuple(round(float(v), 3) for v in row) for name, row in zip(PER_LEG, legs, strict=True)}
    return Gait(**values, **tuples)  # type: ignore[arg-type]


def vector_of(gait: Gait) -> np.ndarray:
    values = asdict(gait)
    return np.array([values[name] for name in SINGLE] + [v for name in PER_LEG for v in values[name]])


def score(gait: Gait, robots: list[Go1], situations: tuple[Perturbation, ...]) -> float:
    """Mean over the situations of reward and a little speed beyond it; a fall ends an attempt and drifting aside costs."""
    total = 0.0
    for variant, (robot, situation) in enumerate(zip(robots, situations, strict=True)):
        begin = round((BEGIN_S + variant * LATER_S) * CONTROL_RATE_HZ)
        robot.rng = np.random.default_rng(0)
        robot.place(robot.rng)
        before, counted, reward = 0.0, 0, 0.0
        for step in range(round(SECONDS * CONTROL_RATE_HZ)):
            time_s = step / CONTROL_RATE_HZ
            if step == begin:
                robot.perturb(situation)
                before = robot.position_m[0]
            robot.step(action(gait, time_s, robot.heading_rad, robot.data.qvel[5]))
            if step >= begin:
                counted += 1
                reward += robot.reward()
            if robot.fallen():
                break
        planned = (SECONDS - BEGIN_S) * CONTROL_RATE_HZ
        progress = (robot.position_m[0] - before) / (SECONDS - BEGIN_S) if counted else 0.0
        total += reward / planned + 0.5 * progress - 0.1 * abs(robot.position_m[1])
    return total / len(situations)


def search(name: str, start: Gait, generations: int, population: int, seed: int) -> tuple[Gait, float]:
    rng, situations = np.random.default_rng(seed), SITUATIONS[name]
    robots = [Go1(0) for _ in situations]
    low, high = BOUNDS.T
    mean, spread = vector_of(start), 0.15 * (high - low)
    best, best_score = start, score(start, robots, situations)
    for generation in range(generations):
        candidates = np.clip(mean + spread * rng.normal(size=(population, mean.size)), low, high)
        candidates[0] = vector_of(best)
        scores = np.array([score(gait_of(candidate), robots, situations) for candidate in candidates])
        elite = candidates[np.argsort(-scores)[: population // 4]]
        mean, spread = elite.mean(0), 0.8 * elite.std(0) + 0.2 * 0.6 * spread
        if scores.max() > best_score:
            best, best_score = gait_of(candidates[scores.argmax()]), float(scores.max())
        print(f"{name} generation {generation} best {best_score:.3f} mean {scores.mean():.3f}", flush=True)
    return best, best_score


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("situation", choices=SITUATIONS, nargs="+")
    parser.add_argument("--start", choices=LIBRARY, default="trot")
    parser.add_argument("--generations", type=int, default=12)
    parser.add_argument("--population", type=int, default=24)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    for name in arguments.situation:
        start = LIBRARY[arguments.start]
        found, value = search(name, start, arguments.generations, arguments.population, arguments.seed)
        changed = {f.name: getattr(found, f.name) for f in fields(Gait) if getattr(found, f.name) != f.default}
        print(f"{name} ({value:.3f}): Gait({', '.join(f'{k}={v}' for k, v in changed.items())})", flush=True)


if __name__ == "__main__":
    main()
