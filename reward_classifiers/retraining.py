"""`etude classifier retrain`: while a run goes on, train its classifier again whenever people have labelled enough frames.

A process of its own, because training would steal the control loop's time; the actor follows the run's folder and takes the new
version from the next attempt on (`reloading.py`).
"""

from __future__ import annotations

import argparse
import contextlib
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from etude.config import RunConfig, build, read_yaml
from etude.run_folder import RunFolder, classifier_frames_store, demonstrations_store
from reward_classifiers.cnn_training import TrainingSettings
from reward_classifiers.commands import open_store
from reward_classifiers.files import ClassifierError
from reward_classifiers.labels import STORE_NAME

LOOK_EVERY_S = 5.0


def retrain_command(argv: Sequence[str]) -> int:
    """`etude classifier retrain`."""
    parser = argparse.ArgumentParser(
        prog="etude classifier retrain",
        description="Train a run's classifier again, from its demonstrations, labelled play and the labels of the run, each time "
        "that people have labelled enough new frames. The run takes the new version up by itself. Ctrl-C ends it.",
        epilog="examples:\n  etude classifier retrain --run runs/latest\n"
        "  etude classifier retrain --run runs/latest --after 8 --once",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--run", type=Path, required=True, help="run folder")
    parser.add_argument("--after", type=int, default=20, metavar="N", help="new labels that are enough (default: %(default)s)")
    parser.add_argument("--once", action="store_true", help="train now if there are enough labels, and end")
    arguments = parser.parse_args(argv)
    folder = RunFolder(arguments.run.resolve())
    if not folder.config.is_file():
        raise ClassifierError(f"{folder.root} is no run folder: it has no {folder.config.name}")
    config = build(RunConfig, read_yaml(folder.config), str(folder.config))
    trained_on = 0
    print(f"waiting for {arguments.after} labels in {folder.root / STORE_NAME}", flush=True)
    while True:
        count = labels_of(folder)
        if count - trained_on >= arguments.after:
            try:
                report = retrain(folder, config, count)
            except ClassifierError as error:
                if arguments.once:
                    raise
                print(f"not trained: {error}", flush=True)  # the last good version goes on; more labels may help
            else:
                name = f"{report['backend']}:{report['digest'][:8]}"
                print(
                    f"classifier {name} from {count} labels in {report['seconds']:.0f} s; it judges from the next attempt on",
                    flush=True,
                )
            trained_on = count
        if arguments.once:
            return 0
        time.sleep(LOOK_EVERY_S)


def labels_of(folder: RunFolder) -> int:
    path = folder.root / STORE_NAME
    if not path.is_dir():
        return 0
    with open_store(path, "etude classifier label") as labels:
        return len(labels.segments())


def retrain(folder: RunFolder, config: RunConfig, seed: int, settings: TrainingSettings | None = None) -> dict[str, Any]:
    """The run's classifier anew, with the run's own labels; returns the report. Raises ClassifierError, nothing changed."""
    from reward_classifiers.train import train_classifier

    demonstrations = Path(config.demonstrations or demonstrations_store(config.task.name, "pixels"))
    sources = [classifier_frames_store(config.task.name), folder.root / STORE_NAME]
    if config.recipe.reward.classifier.backend == "vice":
        sources.append(folder.episodes)  # what the policy visited, labelled or not
    play_paths = [path for path in sources if path.is_dir()]
    with contextlib.ExitStack() as opened:
        store = opened.enter_context(
            open_store(demonstrations, f"etude demo record --task {config.task.name} --observation pixels")
        )
        play = [opened.enter_context(open_store(path, "etude classifier label")) for path in play_paths]
        return train_classifier(store, config, folder.classifier, seed, None, play, settings)
