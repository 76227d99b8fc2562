"""Commands about success classifiers: `etude classifier train`, `etude classifier test`. Parsing and printing only."""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from etude.config import RunConfig, load_run_config
from etude.run_folder import classifier_frames_store, data_root, demonstrations_store
from reward_classifiers.calibration import Confusion, Rate

if TYPE_CHECKING:
    from etude.episodes.store import EpisodeStore


def train_command(argv: Sequence[str]) -> int:
    """`etude classifier train`: from recorded demonstrations and labelled play to a classifier folder."""
    parser = argparse.ArgumentParser(
        prog="etude classifier train",
        description="Train the success classifier of a task from its demonstrations and, where recorded, labelled play.\n"
        "Backend vice needs no labels: it tells the ends of demonstrations from what a policy visited (--play), and is wrong\n"
        "where the policy often succeeded, because those frames count as failures.",
        epilog="examples:\n  etude classifier train --task slide\n"
        "  etude classifier train --task slide --max-false-positive-rate 0.005 --out my-classifier\n"
        "  etude classifier train --task slide recipe.reward.classifier.backend=probe\n"
        "  etude classifier train --task slide --play runs/latest recipe.reward.classifier.backend=vice",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--task", required=True, help="name of a file in robot_configs/tasks")
    parser.add_argument("--recipe", default="rlpd", help="recipe whose reward settings are used (default: %(default)s)")
    parser.add_argument("--demonstrations", type=Path, help="episode store (default: the task's in data/demonstrations)")
    parser.add_argument(
        "--play",
        type=Path,
        action="append",
        help="episode store of labelled play or of labels, with backend vice also a run folder: what was visited; may be given "
        "again (default: the task's play, when there is one)",
    )
    parser.add_argument("--out", type=Path, help="folder of the classifier (default: data/classifiers/<task>)")
    parser.add_argument("--max-false-positive-rate", type=float, help="per frame, on held-out data (default: the recipe's)")
    parser.add_argument(
        "overrides", nargs="*", metavar="key=value", help="changes, e.g. recipe.reward.classifier.backend=probe (docs/rewards.md)"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true", help="print the report as one JSON object")
    arguments = parser.parse_args(argv)
    from reward_classifiers.train import train_classifier
    from reward_classifiers.vice import VISITED

    config = _config(arguments)
    out = arguments.out or data_root() / "classifiers" / config.task.name
    demonstrations = arguments.demonstrations or demonstrations_store(config.task.name, "pixels")
    its_own = classifier_frames_store(config.task.name)
    play_paths = arguments.play or ([its_own] if its_own.is_dir() else [])
    if config.recipe.reward.classifier.backend == "vice":  # the others would take a run's judge for a person
        play_paths = [episodes_in(path) for path in play_paths]
    with contextlib.ExitStack() as opened:
        record = f"etude demo record --task {config.task.name} --observation pixels"
        store = opened.enter_context(open_store(demonstrations, record))
        play = [opened.enter_context(open_store(path, "etude classifier collect")) for path in play_paths]
        report = train_classifier(store, config, out, arguments.seed, None if arguments.json else _progress, play)
    if arguments.json:
        print(json.dumps({"out": str(out), **report}))
        return 0
    print(f"classifier {report['backend']}:{report['digest'][:8]} of {config.task.name} in {out} ({report['seconds']:.0f} s)")
    visited = "that were visited" if report["backend"] == "vice" else "of labelled play"
    print(f"from {report['demonstration_segments']} demonstrations and {report['play_segments']} segments {visited}")
    if not play_paths:
        print(f"no labelled play in {its_own}: expect false positives in states that demonstrations never show")
    for phase, part in report["phases"].items():
        counts = f"{part['positive_frames']} positive and {part['negative_frames']} negative frames"
        print(f"{phase}: threshold {part['threshold']:.3f}, {counts}")
        for name, label in _MEASURES.items():
            print(f"  held-out {label:20} {_from_json(part['held_out'][name])}")
        if report.get("threshold_from", {}).get(phase) == VISITED:
            print(f"  {_NO_LABELS}")
    return 0


def test_command(argv: Sequence[str]) -> int:
    """`etude classifier test`: a classifier against episodes whose truth is known."""
    parser = argparse.ArgumentParser(
        prog="etude classifier test",
        description="Compare a classifier with episodes whose outcome is known (ground truth or a person's labels), "
        "by frame and by the decision that the control loop would have made.",
        epilog="examples:\n  etude classifier test --classifier runs/latest/classifier --episodes runs/latest/episodes\n"
        "  etude classifier test --classifier data/classifiers/slide --episodes runs/demo --frames 2 --of 3 --report report",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--classifier", type=Path, required=True, help="folder with classifier.json")
    parser.add_argument(
        "--episodes", type=Path, required=True, action="append", help="episode store, or a run folder; may be given again"
    )
    parser.add_argument("--frames", type=int, default=2, metavar="K", help="frames above the threshold (default: %(default)s)")
    parser.add_argument("--of", type=int, metavar="N", help="among the last N frames (default: K, so all in a row)")
    parser.add_argument(
        "--report", type=Path, metavar="DIR", help="write numbers, reliability diagram and the worst mistakes into this folder"
    )
    parser.add_argument("--json", action="store_true", help="print the result as one JSON object")
    arguments = parser.parse_args(argv)
    from reward_classifiers.judge import load_judge
    from reward_classifiers.measure import measure
    from reward_classifiers.report import write_report

    if arguments.of is not None and arguments.of < arguments.frames:
        parser.error(f"--of {arguments.of} is less than --frames {arguments.frames}")
    judge = load_judge(arguments.classifier)
    with contextlib.ExitStack() as opened:
        stores = [opened.enter_context(open_store(episodes_in(path), _RECORD)) for path in arguments.episodes]
        result = measure(judge, stores, arguments.frames, arguments.of)
    if arguments.report is not None:
        write_report(judge, result, arguments.report)
    if arguments.json:
        print(json.dumps({"classifier": judge.name, "mistakes": len(result.mistakes), "phases": result.to_json()}))
        return 0
    print(f"classifier {judge.name} on {', '.join(str(path) for path in arguments.episodes)}")
    for phase in result.frames:
        print(f"{phase}: threshold {judge.threshold(phase):.3f}")
        _print_confusion("frames", result.frames[phase])
        _print_confusion("decisions", result.outcomes[phase])
    if arguments.report is not None:
        print(f"report with pictures: {arguments.report / 'report.md'}")
    return 0


def episodes_in(path: Path) -> Path:
    """The episode store that `path` means: itself, or the one of a run folder."""
    return path / "episodes" if (path / "episodes").is_dir() else path


_RECORD = "etude demo record or etude practice run"
_NO_LABELS = (
    "these rates take every visited frame for a failure, the successes among them too, and so does the threshold: too high where "
    "the policy succeeded. A person's labels set it right: etude classifier label"
)
_MEASURES = {"precision": "precision", "recall": "recall", "false_positive_rate": "false-positive rate"}


def _print_confusion(kind: str, confusion: Confusion) -> None:
    for name, label in _MEASURES.items():
        print(f"  {kind:9} {label:20} {getattr(confusion, name)}")


def _from_json(data: dict[str, Any]) -> Rate:
    return Rate(data["successes"], data["trials"])


def _progress(done: int, total: int, text: str) -> None:
    end = "\r" if sys.stderr.isatty() else "\n"
    print(f"training: {done:4d}/{total} updates, {text} ", end=end, file=sys.stderr, flush=True)


def _config(arguments: argparse.Namespace) -> RunConfig:
    overrides = list(arguments.overrides)
    if arguments.max_false_positive_rate is not None:
        overrides.append(f"recipe.reward.max_false_positive_rate={arguments.max_false_positive_rate}")
    return load_run_config({"task": arguments.task, "robot": {"name": "none"}, "recipe": arguments.recipe}, overrides)


def open_store(path: Path, remedy: str) -> EpisodeStore:
    from etude.episodes.store import EpisodeStore
    from reward_classifiers.files import ClassifierError

    if not path.is_dir():
        raise ClassifierError(f"there is no episode store {path}. Make one: {remedy}")
    return EpisodeStore.open(path)
