"""The slow proof behind `make proof-rewards`: every backend on scenes that look different every time, on episodes it never saw.

Per task and seed: demonstrations and labelled play under random light, colours, cloths, distractors and camera nudges; fresh
play in three lights for the test, at the threshold that training chose for 1% false positives. Then a shifted scene: nothing,
HyRe with eight labels per direction, and training again with those labels. There is no bar: it measures and compares.

Recordings are kept in data/proof-rewards and finished cells (task, backend, seed) in the results: a stopped proof goes on.

    python tools/prove_rewards.py --tasks slide --seeds 0 --test-segments 20 --play-segments 8 --out small.json
    python tools/prove_rewards.py --encoder open_clip:ViT-B-32:laion2b_s34b_b79k
"""

from __future__ import annotations

import argparse
import functools
import hashlib
import json
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from actor.commands import task_config
from actor.demonstrations import record_demonstrations
from actor.play import SEGMENT_FRAMES, record_play
from actor.robots.mujoco import MujocoRobot
from etude.config import REPOSITORY, ClassifierConfig, RunConfig
from etude.durable import write_atomic
from etude.episodes.store import EpisodeStore
from etude.run_folder import data_root
from etude.specs import PHASES
from etude.step import UNKNOWN
from reward_classifiers.calibration import Rate, choose_threshold, combine, interval_by_segment
from reward_classifiers.files import DESCRIPTION_FILE, read_classifier
from reward_classifiers.judge import ImageJudge, load_judge
from reward_classifiers.measure import Measurement, Scores, measure
from reward_classifiers.reweighting import adapt_classifier
from reward_classifiers.train import train_classifier
from simulation.variety import LIGHTS, Look, vary

RESULTS = REPOSITORY / "docs" / "results" / "proof-rewards.json"
SHIFT = 4.0
"""Strength of the look in the shifted scene; 1 is what training saw."""
FEW = 8
WANTED_RATES = (0.001, 0.002, 0.005, 0.01, 0.02)
UNLABELLED = "unlabelled"
"""Ending of the name of what gets the same play without the person's labels."""
ROBOFUME = "false positives 1.2–6.3%, false negatives 60–81% (Yang et al. 2023, real cloth and pot tasks)"


class VariedRobot(MujocoRobot):
    """The simulated robot in a scene that looks different after every reset. `light` None: any of `LIGHTS`."""

    def __init__(self, config: RunConfig, seed: int, light: str | None = None, strength: float = 1.0) -> None:
        super().__init__(config.task, config.robot, "pixels", seed, cluttered=True)
        scene = self.tabletop.scene
        self._look = Look.of(self.tabletop.model, np.array([scene.workspace_min_m[:2], scene.workspace_max_m[:2]]))
        self._light, self._strength = light, strength

    def hard_reset(self, phase: str, rng: np.random.Generator) -> None:
        light = self._light or str(rng.choice(list(LIGHTS)))
        vary(self.tabletop.model, self._look, light, rng, self._strength)
        super().hard_reset(phase, rng)


@functools.cache
def _simulation() -> bytes:
    """Digest of the program that draws and plays; another one makes other recordings."""
    told = hashlib.blake2b(digest_size=8)
    for path in sorted([*(REPOSITORY / "simulation").rglob("*.py"), REPOSITORY / "actor" / "play.py"]):
        told.update(path.read_bytes())
    return told.digest()


def kept(config: RunConfig, name: str, make: Callable[[Path], EpisodeStore]) -> EpisodeStore:
    """The recording `name` of this task and this simulation, made when it is not there yet."""
    program = hashlib.blake2b(_simulation() + config.task.model_dump_json().encode(), digest_size=5)
    path = data_root() / "proof-rewards" / f"{config.task.name}-{program.hexdigest()}" / name
    if not path.is_dir():
        aside = path.with_name(f".{name}.making")
        shutil.rmtree(aside, ignore_errors=True)
        make(aside).close()
        aside.rename(path)
    return EpisodeStore.open(path)


def record(
    config: RunConfig, name: str, seed: int, segments: int, light: str | None = None, strength: float = 1.0
) -> EpisodeStore:
    """Fresh labelled play: `segments` of both directions together."""

    def make(path: Path) -> EpisodeStore:
        robot = VariedRobot(config, seed, light, strength)
        store = EpisodeStore.create(path, robot.observation_spec, robot.action_spec, {"lighting": light or ""})
        record_play(config, robot, store, seed, max(2, segments * SEGMENT_FRAMES // len(PHASES)))
        robot.close()
        return store

    return kept(config, f"{name}-{seed}-{segments}", make)


def demonstrate(config: RunConfig, count: int, seed: int) -> EpisodeStore:
    def make(path: Path) -> EpisodeStore:
        robot = VariedRobot(config, seed)
        store = EpisodeStore.create(path, robot.observation_spec, robot.action_spec)
        record_demonstrations(config, robot, store, count, seed)
        store.flush()
        robot.close()
        return store

    return kept(config, f"demonstrations-{seed}-{count}", make)


def with_classifier(config: RunConfig, classifier: ClassifierConfig) -> RunConfig:
    reward = config.recipe.reward.model_copy(update={"classifier": classifier, "max_false_positive_rate": 0.01})
    return config.model_copy(update={"recipe": config.recipe.model_copy(update={"reward": reward})})


def tested(judge: ImageJudge, store: EpisodeStore) -> dict[str, Any]:
    return rates(measure(judge, store, 2), judge)


def rates(result: Measurement, judge: ImageJudge) -> dict[str, Any]:
    """Both directions together, by frame and by decision (two frames in a row), and by light."""
    told: dict[str, Any] = {}
    for kind, parts in (("frames", result.frames), ("decisions", result.outcomes)):
        for name in ("precision", "recall", "false_positive_rate"):
            several = [getattr(confusion, name) for confusion in parts.values()]
            rate = Rate(sum(r.successes for r in several), sum(r.trials for r in several))
            told.setdefault(kind, {})[name] = rate.to_json()
    told["frames_by_segment"] = by_segment(result, judge)
    told["recall_at_1_percent"] = {phase: recall_at(scores, 0.01) for phase, scores in result.scores.items()}
    return told


def by_segment(result: Measurement, judge: ImageJudge) -> dict[str, list[float]]:
    """95% intervals of the rates of both directions' frames that draw whole segments: frames of one segment fail together."""
    wrong: dict[str, list[np.ndarray]] = {"recall": [], "false_positive_rate": []}
    groups: dict[str, list[np.ndarray]] = {"recall": [], "false_positive_rate": []}
    for phase, scores in result.scores.items():
        for name, truth in (("recall", 1), ("false_positive_rate", 0)):
            rows = scores.truth == truth
            wrong[name].append(scores.probability[rows] >= judge.threshold(phase))
            groups[name].append(scores.group[rows])
    rng = np.random.default_rng(0)
    return {name: list(interval_by_segment(np.concatenate(wrong[name]), np.concatenate(groups[name]), rng)) for name in wrong}


def operating_points(folder: Path, result: Measurement) -> dict[str, Any]:
    """Frames of the test at thresholds that the held-out frames of training give for other wanted rates: what
    `reward.max_false_positive_rate` would have bought. Both directions together."""
    _, tensors, calibration = read_classifier(folder)
    logits, labels = tensors["held_out/logits"], tensors["held_out/labels"]
    told: dict[str, Any] = {}
    for wanted in WANTED_RATES:
        found = []
        for column, phase in enumerate(PHASES):
            known = labels[:, column] >= 0
            equal = (1.0 / len(logits),) * len(logits)
            probability = combine(logits[:, known, column], calibration.temperature[phase], equal)
            found.append(result.scores[phase].at(choose_threshold(probability, labels[known, column], wanted)))
        told[str(wanted)] = {
            name: Rate(*(sum(getattr(getattr(c, name), part) for c in found) for part in ("successes", "trials"))).to_json()
            for name in ("recall", "false_positive_rate")
        }
    return told


def recall_at(scores: Scores, share: float) -> float | None:
    """Of the frames that show success, at the threshold that this share of these very failures passes: what the scores could do,
    whichever threshold training chose. None without both kinds."""
    right, wrong = scores.probability[scores.truth == 1], scores.probability[scores.truth == 0]
    return round(float((right > np.quantile(wrong, 1.0 - share)).mean()), 3) if len(right) and len(wrong) else None


def backends(encoder: str | None) -> dict[str, ClassifierConfig]:
    """Name -> configuration of everything that is compared."""
    told = {
        "cnn": ClassifierConfig(),
        "cnn points": ClassifierConfig(network="points"),
        "vice": ClassifierConfig(backend="vice"),
        f"vice {UNLABELLED}": ClassifierConfig(backend="vice"),
        "probe hog mlp": ClassifierConfig(backend="probe"),
        "probe hog attention": ClassifierConfig(backend="probe", head="attention"),
    }
    if encoder:
        told[f"probe {encoder}"] = ClassifierConfig(backend="probe", encoder=encoder)
    if encoder and encoder.startswith("open_clip:"):
        told[f"zero_shot {encoder}"] = ClassifierConfig(backend="zero_shot", encoder=encoder)
    return told


def prove(config: RunConfig, name: str, seed: int, arguments: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """One cell of the table: this backend, trained on this seed's recordings."""
    demonstrations = demonstrate(config, arguments.demonstrations, seed)
    play = record(config, "play", 1000 + seed, 2 * arguments.play_segments)
    per_light = -(-arguments.test_segments // len(LIGHTS))
    tests = [record(config, f"test-{light}", 100 + i, per_light, light) for i, light in enumerate(LIGHTS)]
    shifted_labels = record(config, "shifted-labels", 2000 + seed, 2 * len(PHASES), strength=SHIFT)
    shifted = record(config, "shifted", 201, max(4, arguments.test_segments // 4), strength=SHIFT)
    classifier = backends(arguments.encoder)[name]
    if name.endswith(UNLABELLED):
        play = unlabelled(play, folder / UNLABELLED)
    out = folder / "classifier"
    if arguments.classifiers:
        out = arguments.classifiers / f"{config.task.name}-{name}-{seed}".replace(" ", "-")
    if not (out / DESCRIPTION_FILE).is_file():
        train_classifier(demonstrations, with_classifier(config, classifier), out, seed, None, play)
    judge = load_judge(out)
    report = judge.report
    result = measure(judge, tests, 2)
    told: dict[str, Any] = {"training_s": report["seconds"], "test": rates(result, judge), **speeds(judge, tests[0])}
    told["operating_points"] = operating_points(out, result)
    told["episodes"] = sum(len(decisions) for decisions in result.decisions.values())
    told["thresholds"] = {phase: judge.threshold(phase) for phase in PHASES}
    if "threshold_from" in report:
        told["threshold_from"] = report["threshold_from"]
    told["lights"] = {
        phase: {
            light: parts[0].false_positive_rate.to_json()
            for light, parts in result.by_lighting(phase, judge.threshold(phase)).items()
        }
        for phase in result.scores
    }
    told["shifted"] = {"nothing": tested(judge, shifted)}
    few = few_labels(shifted_labels, folder / "few")
    if classifier.backend == "probe":
        adapt_classifier(out, few, folder / "hyre")
        told["shifted"]["hyre"] = tested(load_judge(folder / "hyre"), shifted)
    if not arguments.train_once:
        train_classifier(demonstrations, with_classifier(config, classifier), folder / "again", seed, None, [play, few])
        told["shifted"]["trained again"] = tested(load_judge(folder / "again"), shifted)
    return told


def unlabelled(store: EpisodeStore, path: Path) -> EpisodeStore:
    """A copy of `store` in which nobody said anything about any frame."""
    copy = EpisodeStore.create(path, store.observation_spec, store.action_spec)
    for info in store.segments():
        for step in store.read(info).steps():
            copy.append(replace(step, judged_by="", success=UNKNOWN))
    copy.flush()
    return copy


def few_labels(store: EpisodeStore, path: Path) -> EpisodeStore:
    """`FEW` labelled frames of each direction as a store of their own, as `etude classifier label` writes them."""
    from reward_classifiers.labels import Question, add_label

    labels = EpisodeStore.create(path, store.observation_spec, store.action_spec)
    for phase in PHASES:
        infos = [info for info in store.segments() if info.phase == phase]
        frames = [(info, row) for info in infos for row in range(info.length)]
        for index in np.linspace(0, len(frames) - 1, FEW).astype(int):
            info, row = frames[index]
            success = bool(store.read(info).success[row])
            add_label(labels, store, Question("doubtful", info, row, 0.5, 1.0), success, 1)
    labels.flush()
    return labels


def speeds(judge: Any, store: EpisodeStore) -> dict[str, float]:
    """Milliseconds for the views of one frame, and for 256 of them, encoder included."""
    segment = store.read(store.segments()[0])
    images = {name: segment.observation[f"image/{name}"][:, None] for name in judge.backend.cameras}
    state = segment.observation["state"] if judge.backend.state_names else segment.observation["state"][:, :0]
    rng = np.random.default_rng(0)

    def took(count: int) -> float:
        rows = np.arange(count) % len(state)
        batch = {name: array[rows] ^ rng.integers(0, 4, array[rows].shape, np.uint8) for name, array in images.items()}
        started = time.perf_counter()
        judge.backend.member_logits(batch, state[rows], "forward")
        return 1000.0 * (time.perf_counter() - started)

    took(1), took(256)  # compiles
    return {"ms_of_1": round(float(np.median([took(1) for _ in range(5)])), 2), "ms_of_256": round(took(256), 1)}


def line(name: str, told: dict[str, Any]) -> str:
    frames = {key: Rate(value["successes"], value["trials"]) for key, value in told["frames"].items()}
    return f"{name}: frames recall {frames['recall']}, false positives {frames['false_positive_rate']}"


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--tasks", nargs="+", default=["slide", "drawer", "relocate"])
    parser.add_argument("--backends", nargs="+", metavar="NAME", help="beginnings of their names (default: all that can run)")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--encoder", help="also a probe on this one, and zero-shot where it is open_clip:<model>:<weights>")
    parser.add_argument("--demonstrations", type=int, default=20, help="per direction (default: %(default)s)")
    parser.add_argument("--play-segments", type=int, default=20, help="labelled, per direction (default: %(default)s)")
    parser.add_argument("--test-segments", type=int, default=500, help="unseen episodes per task (default: %(default)s)")
    parser.add_argument("--train-once", action="store_true", help="leave out training again with labels of the shifted scene")
    parser.add_argument("--classifiers", type=Path, help="keep trained classifiers here, and use those that are (a larger test)")
    parser.add_argument("--out", type=Path, default=RESULTS, help="results, added to (default: %(default)s)")
    arguments = parser.parse_args(argv)
    sizes = {key: getattr(arguments, key) for key in ("demonstrations", "play_segments", "test_segments")}
    told = json.loads(arguments.out.read_text()) if arguments.out.is_file() else {}
    if told.get("sizes") != sizes:
        if told:
            print(f"{arguments.out} holds results of other sizes ({told.get('sizes')}): choose another --out", file=sys.stderr)
            return 2
        told = {"robofume": ROBOFUME, "sizes": sizes, "tasks": {}}
    for seed in arguments.seeds:
        for task in arguments.tasks:
            config = task_config(task, "pixels")
            for name in backends(arguments.encoder):
                if arguments.backends and not any(name.startswith(wanted) for wanted in arguments.backends):
                    continue
                cells = told["tasks"].setdefault(task, {}).setdefault(name, {})
                if str(seed) in cells:
                    continue
                with tempfile.TemporaryDirectory(prefix="proof-rewards-") as folder:
                    cell = cells[str(seed)] = prove(config, name, seed, arguments, Path(folder))
                write_atomic(arguments.out, json.dumps(told, indent=1).encode())
                print(f"{task}, seed {seed}: " + line(name, cell["test"]) + f", trained in {cell['training_s']:.0f} s")
                for how, result_json in cell["shifted"].items():
                    print("  " + line(f"shifted scene, {how}", result_json), flush=True)
    print(f"results: {arguments.out}; RoboFuME: {ROBOFUME}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
