"""Commands about success classifiers: `etude classifier train`, `etude classifier test`. Parsing and printing only."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from etude.config import RecipeConfig, RobotConfig, RunConfig, TaskConfig, build, read_named
from etude.run_folder import classifier_frames_store, data_root, demonstrations_store
from reward_classifiers.calibration import Confusion, Rate

if TYPE_CHECKING:
    from etude.episodes.store import EpisodeStore


def train_command(argv: Sequence[str]) -> int:
    """`etude classifier train`: from recorded demonstrations and labelled play to a classifier folder."""
    parser = argparse.ArgumentParser(
        prog="etude classifier train",
        description="Train the success classifier of a task from its demonstrations and, where recorded, labelled play.",
        epilog="examples:\n  etude classifier train --task slide\n"
        "  etude classifier train --task slide --max-false-positive-rate 0.005 --out my-classifier",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--task", required=True, help="name of a file in robot_configs/tasks")
    parser.add_argument("--recipe", default="rlpd", help="recipe whose reward settings are used (default: %(default)s)")
    parser.add_argument("--demonstrations", type=Path, help="episode store (default: the task's in data/demonstrations)")
    parser.add_argument("--play", type=Path, help="episode store of labelled play (default: the task's, when there is one)")
    parser.add_argument("--out", type=Path, help="folder of the classifier (default: data/classifiers/<task>)")
    parser.add_argument("--max-false-positive-rate", type=float, help="per frame, on held-out data (default: the recipe's)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true", help="print the report as one JSON object")
    arguments = parser.parse_args(argv)
    from reward_classifiers.train import train_classifier

    config = _config(arguments.task, arguments.recipe, arguments.max_false_positive_rate)
    out = arguments.out or data_root() / "classifiers" / config.task.name
    demonstrations = arguments.demonstrations or demonstrations_store(config.task.name, "pixels")
    play_path = arguments.play or classifier_frames_store(config.task.name)
    store = _open(demonstrations, f"etude demo record --task {config.task.name} --observation pixels")
    play = _open(play_path, "etude practice run") if arguments.play or play_path.is_dir() else None
    try:
        report = train_classifier(store, config, out, arguments.seed, None if arguments.json else _progress, play)
    finally:
        store.close()
        if play is not None:
            play.close()
    if arguments.json:
        print(json.dumps({"out": str(out), **report}))
        return 0
    print(f"classifier {report['backend']}:{report['digest'][:8]} of {config.task.name} in {out} ({report['seconds']:.0f} s)")
    print(f"from {report['demonstration_segments']} demonstrations and {report['play_segments']} segments of labelled play")
    if play is None:
        print(f"no labelled play in {play_path}: expect false positives in states that demonstrations never show")
    for phase, part in report["phases"].items():
        counts = f"{part['positive_frames']} positive and {part['negative_frames']} negative frames"
        print(f"{phase}: threshold {part['threshold']:.3f}, {counts}")
        for name, label in _MEASURES.items():
            print(f"  held-out {label:20} {_from_json(part['held_out'][name])}")
    return 0


def test_command(argv: Sequence[str]) -> int:
    """`etude classifier test`: a classifier against episodes whose truth is known."""
    parser = argparse.ArgumentParser(
        prog="etude classifier test",
        description="Compare a classifier with episodes whose outcome is known (ground truth or a person's labels), "
        "by frame and by the decision that the control loop would have made.",
        epilog="examples:\n  etude classifier test --classifier runs/latest/classifier --episodes runs/latest/episodes\n"
        "  etude classifier test --classifier data/classifiers/slide --episodes runs/demo/episodes --picture worst.png",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--classifier", type=Path, required=True, help="folder with classifier.json")
    parser.add_argument("--episodes", type=Path, required=True, help="episode store, or a run folder")
    parser.add_argument("--consecutive-frames", type=int, default=2, help="hysteresis of the decision (default: %(default)s)")
    parser.add_argument(
        "--picture", type=Path, default=Path("classifier_mistakes.png"), help="the worst mistakes (default: %(default)s)"
    )
    parser.add_argument("--json", action="store_true", help="print the result as one JSON object")
    arguments = parser.parse_args(argv)
    from reward_classifiers.judge import load_judge
    from reward_classifiers.measure import draw_mistakes, measure

    judge = load_judge(arguments.classifier)
    episodes = arguments.episodes / "episodes" if (arguments.episodes / "episodes").is_dir() else arguments.episodes
    store = _open(episodes, "etude demo record or etude practice run")
    try:
        result = measure(judge, store, arguments.consecutive_frames)
    finally:
        store.close()
    draw_mistakes(result.mistakes, arguments.picture)
    if arguments.json:
        print(json.dumps({"classifier": judge.name, "mistakes": len(result.mistakes), "phases": result.to_json()}))
        return 0
    print(f"classifier {judge.name} on {episodes}")
    for phase in result.frames:
        print(f"{phase}: threshold {judge.threshold(phase):.3f}")
        _print_confusion("frames", result.frames[phase])
        _print_confusion("decisions", result.outcomes[phase])
    if result.mistakes:
        print(f"the {len(result.mistakes)} worst mistakes: {arguments.picture}")
    else:
        print("no frame is on the wrong side of the threshold")
    return 0


_MEASURES = {"precision": "precision", "recall": "recall", "false_positive_rate": "false-positive rate"}


def _print_confusion(kind: str, confusion: Confusion) -> None:
    for name, label in _MEASURES.items():
        print(f"  {kind:9} {label:20} {getattr(confusion, name)}")


def _from_json(data: dict[str, Any]) -> Rate:
    return Rate(data["successes"], data["trials"])


def _progress(done: int, total: int, text: str) -> None:
    end = "\r" if sys.stderr.isatty() else "\n"
    print(f"training: {done:4d}/{total} updates, {text} ", end=end, file=sys.stderr, flush=True)


def _config(task: str, recipe: str, max_false_positive_rate: float | None) -> RunConfig:
    recipe_data = read_named("recipes", recipe)
    if max_false_positive_rate is not None:
        recipe_data["reward"] = {**recipe_data.get("reward", {}), "max_false_positive_rate": max_false_positive_rate}
    return RunConfig(
        task=build(TaskConfig, read_named("tasks", task), f"task {task}"),
        robot=RobotConfig(name="none"),
        recipe=build(RecipeConfig, recipe_data, f"recipe {recipe}"),
    )


def _open(path: Path, remedy: str) -> EpisodeStore:
    from etude.episodes.store import EpisodeStore
    from reward_classifiers.files import ClassifierError

    if not path.is_dir():
        raise ClassifierError(f"there is no episode store {path}. Make one: {remedy}")
    return EpisodeStore.open(path)
