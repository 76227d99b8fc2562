"""The slow proof behind `make proof-keyboard`: demonstrations given on the page by keyboard are good enough to learn from.

A driver sits at the page of `etude demo record --by browser` in a real headless Chromium. It sees what a person sees: what the
page says is recorded, and the scene (here: what the scripted expert would do now). It acts as a person acts: keys go down and up,
a whole speed or none. What was recorded trains `bc` with three seeds, and each policy is evaluated from random starts beside
actions drawn at random. Results: docs/results/proof-keyboard.json. Exit status 1 when a policy is not better than chance.

    python tools/prove_keyboard.py                     # 20 demonstrations on drawer, 3 seeds (about 10 minutes; needs chromium)
    python tools/prove_keyboard.py --count 2 --seeds 0
"""

from __future__ import annotations

import argparse
import json
import os
import re
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import proofs
from etude.config import REPOSITORY, RunConfig, load_run_config
from etude.robot import Reading, Robot
from etude.specs import Observation

RESULT = REPOSITORY / "docs" / "results" / "proof-keyboard.json"
KEYS = (("KeyW", "KeyS"), ("KeyA", "KeyD"), ("KeyE", "KeyQ"))
"""Of +x, -x, +y, -y, +z, -z."""
TURN_S = 0.1
"""How often the driver looks and decides."""
START_S = 30.0
SAID = re.compile(r"^(\w+): (\d+) of (\d+) succeeded", re.MULTILINE)


class Eyes:
    """A robot that also tells, at every reading, what an expert would do in each direction. The rest is the robot's own."""

    def __init__(self, robot: Robot, phases: Sequence[str], seed: int) -> None:
        self._robot, self._phases, self._rng = robot, phases, np.random.default_rng(seed)
        self.wishes: dict[str, np.ndarray] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._robot, name)

    def read(self) -> Reading:
        reading = self._robot.read()
        self.wishes = {phase: self._robot.expert_action(phase, self._rng) for phase in self._phases}
        return reading


def taps(wish: np.ndarray, owed: np.ndarray, full: float) -> tuple[set[str], np.ndarray]:
    """Keys to hold in this turn, and what is still owed: motion that no whole key press was worth yet.

    Args:
        wish: normalised displacement per control period, ``(3,)``.
        owed: of the turns before, in key presses.
        full: what a held key is, normalised.
    """
    owed = np.clip(owed + wish / full, -1.5, 1.5)
    down = {KEYS[axis][int(owed[axis] < 0)] for axis in range(3) if abs(owed[axis]) >= 0.5}
    return down, np.where(np.abs(owed) >= 0.5, owed - np.sign(owed), owed)


def drive(url: str, eyes: Eyes, full: float, done: threading.Event, said: list[str]) -> None:
    """Sit at the page until `done`: take over, and hold the keys that the wish asks for while the page says that it records."""
    from playwright.sync_api import sync_playwright
    from screenshot import CHROMIUM_ARGUMENTS, find_chromium

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find_chromium(), args=CHROMIUM_ARGUMENTS)
        page = browser.new_page()
        page.goto(url)
        page.wait_for_selector('body[data-link="live"]', timeout=int(START_S * 1000))
        page.wait_for_selector("#takeover:enabled")
        held: set[str] = set()
        owed = np.zeros(3)
        while not done.is_set():
            words = page.inner_text("#instruction")
            if not said or said[-1].split(" steps")[0] != words.split(" steps")[0]:
                said.append(words)
            phase = next((phase for phase in eyes.wishes if words.startswith("Recording") and f" {phase}:" in words), None)
            down: set[str] = set()
            if phase is None:
                owed[:] = 0.0
            else:
                down, owed = taps(eyes.wishes[phase][:3], owed, full)
            for key in held - down:
                page.keyboard.up(key)
            for key in down - held:
                page.keyboard.down(key)
            held = down
            if words.startswith("The goal is reached already"):
                page.keyboard.press("r")
            if page.inner_text("#takeover") == "Take over":  # at first, and after a lost connection
                page.keyboard.press("t")
            time.sleep(TURN_S)
        browser.close()


def record(config: RunConfig, count: int, seed: int, out: Path) -> dict[str, Any]:
    """The driver's demonstrations into a store at `out`; returns how it went."""
    from actor.commands import record_into
    from actor.teleop.mapping import load_mapping
    from etude.episodes.store import EpisodeStore
    from etude.step import Source
    from etude_nodes.demonstrate import demonstrate

    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    config = config.model_copy(update={"dashboard": config.dashboard.model_copy(update={"port": port})})
    done, said = threading.Event(), list[str]()

    def by(robot: Robot, store: EpisodeStore) -> None:
        eyes = Eyes(robot, config.recipe.phases, seed)
        full = load_mapping("browser").linear_m_s / config.robot.control_rate_hz / robot.action_spec.scale[0]
        driver = threading.Thread(target=drive, args=(f"http://127.0.0.1:{port}", eyes, full, done, said), daemon=True)
        driver.start()
        try:
            demonstrate(config, eyes, store, count, "browser")  # type: ignore[arg-type]  # it is the robot that it wraps
        finally:
            done.set()
            driver.join(20.0)

    began_s = time.monotonic()
    record_into(config, out, count, seed, by=by)
    with EpisodeStore.open(out, "r") as store:
        segments = [store.read(info) for info in store.segments()]
    lengths: dict[str, list[int]] = {phase: [] for phase in config.recipe.phases}
    for segment in segments:
        lengths[segment.info.phase].append(segment.info.length - 1)
    return {
        "demonstrations": {phase: len(all_of) for phase, all_of in lengths.items()},
        "steps": lengths,
        "by_human": all(bool((segment.source[:-1] == Source.HUMAN).all()) for segment in segments),
        "seconds": round(time.monotonic() - began_s, 1),
        "not_kept": [words for words in said if words.startswith(("Not kept", "Dropped"))],
    }


class AtRandom:
    """Chance: every action uniform."""

    def __init__(self, dim: int, seed: int) -> None:
        self._dim, self._rng = dim, np.random.default_rng(seed)

    def begin(self) -> None: ...

    def prepare(self, observation: Observation, phase: str) -> bool:
        return True

    def act(self, observation: Observation, phase: str, explore: bool) -> np.ndarray:
        return self._rng.uniform(-1.0, 1.0, self._dim).astype(np.float32)


def chance(config: RunConfig, episodes: int, seed: int) -> dict[str, int]:
    """Successes per direction of actions drawn at random, from the starts that the policies are evaluated from."""
    from actor.demonstrations import max_steps
    from actor.evaluation import evaluate
    from actor.robots import make_robot

    robot = make_robot(config, seed)
    try:
        anything = AtRandom(robot.action_spec.dim, seed)
        limits = config.robot.safety
        return {
            phase: evaluate(robot, anything, phase, episodes, seed, max_steps(config)[phase], limits=limits)["successes"]
            for phase in config.recipe.phases
        }
    finally:
        robot.close()


def learn(task: str, store: Path, episodes: int, seed: int, runs: Path) -> dict[str, int]:
    """Successes per direction of `bc`, trained and evaluated by the commands that a user gives."""
    etude = [sys.executable, "-m", "etude"]
    environment = {**proofs.one_thread(os.environ), "ETUDE_RUNS": str(runs)}
    name = f"keyboard-s{seed}"
    train = ["train", "offline", "--recipe", "bc", "--task", task, "--observation", "state", "--data", str(store)]
    subprocess.run([*etude, *train, "--seed", str(seed), "--name", name], env=environment, check=True)
    judge = ["evaluate", "--policy", str(runs / name / "policy"), "--episodes", str(episodes), "--seed", str(seed)]
    told = subprocess.run([*etude, *judge], env=environment, check=True, stdout=subprocess.PIPE, text=True).stdout
    return {phase: int(successes) for phase, successes, _ in SAID.findall(told)}


def better(policy: Mapping[str, int], by_chance: Mapping[str, int]) -> bool:
    """Whether a policy succeeded more often than chance in every direction; one that was not told of did not."""
    return all(policy.get(phase, -1) > successes for phase, successes in by_chance.items())


def main(argv: Sequence[str] | None = None) -> int:
    assert __doc__
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", default="drawer", help="one whose expert needs no gripper (default: %(default)s)")
    parser.add_argument("--count", type=int, default=10, help="demonstrations per direction (default: %(default)s)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="of the training and of the starts")
    parser.add_argument("--episodes", type=int, default=50, help="of evaluation, per direction and seed")
    parser.add_argument("--out", type=Path, default=RESULT)
    arguments = parser.parse_args(argv)
    source = {"task": arguments.task, "robot": "sim_panda_fast", "recipe": "bc", "observation": "state"}
    config = load_run_config(source, ["recipe.reward.kind=environment"])
    with tempfile.TemporaryDirectory(prefix="etude-proof-") as folder:
        store = Path(folder) / "demonstrations"
        recorded = record(config, arguments.count, 0, store)
        print(json.dumps(recorded), flush=True)
        rows = []
        for seed in arguments.seeds:
            policy = learn(arguments.task, store, arguments.episodes, seed, Path(folder) / "runs")
            rows.append({"seed": seed, "policy": policy, "chance": chance(config, arguments.episodes, seed)})
            print(json.dumps(rows[-1]), flush=True)
    good = bool(recorded["by_human"] and rows and all(better(row["policy"], row["chance"]) for row in rows))
    words = ["--task", arguments.task, "--count", str(arguments.count), "--seeds", *map(str, arguments.seeds)]
    result = {
        "command": f"python tools/prove_keyboard.py {' '.join(words)}",
        "recorded": recorded,
        "evaluation_episodes_per_direction": arguments.episodes,
        "successes": rows,
        "passed": good,
    }
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print("better than chance with every seed and in both directions" if good else "NOT better than chance")
    return int(not good)


if __name__ == "__main__":
    sys.exit(main())
