"""What a run needs before it can start, each made once and kept: demonstrations, labelled play, the success classifier.

A process of its own (``python -m etude_nodes.prepare --run DIR``), so that the supervisor stays small and a rendering or
compilation problem shows as one clear message. A second run of the same task finds everything made and starts in seconds.
"""

from __future__ import annotations

import argparse
import json
import shutil
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

from etude.cli import clear_message
from etude.config import REPOSITORY, ConfigError, RunConfig
from etude.run_folder import RunFolder, classifier_frames_store, data_root, demonstrations_store
from etude.specs import digest
from etude_nodes.process import EXIT_DONE, EXIT_REFUSED, open_run

STEPS = ("demonstrations", "play", "classifier")
RECORDING_SEED = 0
"""Recordings are shared by runs of all seeds, as a person's would be."""
Say = Callable[[str], None]


def demonstrations_of(config: RunConfig) -> Path:
    return config.demonstrations or demonstrations_store(config.task.name, config.observation)


def missing(config: RunConfig, folder: RunFolder) -> list[str]:
    """Which of `STEPS` must still be done for this run, in order."""
    todo = []
    if not (demonstrations_of(config) / "store.json").is_file():
        todo.append("demonstrations")
    else:
        _check_directions(config)
    if config.recipe.reward.kind == "classifier" and not config.recipe.reward.classifier.service:
        if not (classifier_frames_store(config.task.name) / "store.json").is_file():
            todo.append("play")
        if not folder.classifier.is_dir():
            todo.append("classifier")
    if config.robot.real and {"demonstrations", "play"} & set(todo):
        raise ConfigError(
            f"{' and '.join(name for name in todo if name != 'classifier')} of task {config.task.name!r} are missing, and a "
            "real robot has no scripted expert to record them: record them by teleoperation, name a store "
            "with demonstrations=<folder>, or "
            f"record in simulation first (`etude demo record --task {config.task.name}`)"
        )
    return todo


def _check_directions(config: RunConfig) -> None:
    """Demonstrations may have been recorded for a recipe that practises one direction only. Raises ConfigError."""
    from etude.episodes.store import EpisodeStore

    with EpisodeStore.open(demonstrations_of(config), "r") as store:
        shown = {info.phase for info in store.segments()}
    absent = [phase for phase in config.recipe.phases if phase not in shown]
    if shown and absent:
        raise ConfigError(
            f"the demonstrations in {demonstrations_of(config)} show no {' and no '.join(absent)} attempts, which recipe "
            f"{config.recipe.name!r} practises: record them anew with `etude demo record --task {config.task.name} --observation "
            f"{config.observation} --force`"
        )


def classifier_cache(config: RunConfig) -> Path:
    """Where the classifier for these recordings, settings and program is kept. Any other of these makes another folder."""
    directions = (config.task.forward, config.task.backward)
    ingredients = {
        # when each was recorded: recording anew makes a new file
        "recordings": [
            (store / "store.json").stat().st_mtime_ns
            for store in (demonstrations_of(config), classifier_frames_store(config.task.name))
        ],
        "program": [digest(path.read_bytes()) for path in sorted((REPOSITORY / "reward_classifiers").glob("*.py"))],
        "classifier": config.recipe.reward.classifier.model_dump(mode="json"),
        "sentences": [(one.instruction, one.question, one.done_text, one.undone_text) for one in directions],
        "max_false_positive_rate": config.recipe.reward.max_false_positive_rate,
        "cameras": config.task.cameras,
        "image_size_px": config.task.image_size_px,
    }
    return data_root() / "classifiers" / f"{config.task.name}-{digest(json.dumps(ingredients))[:10]}"


def prepare_demonstrations(config: RunConfig, say: Say) -> None:
    from actor.commands import record_into

    count = config.task.demonstrations_per_direction
    record_into(
        config,
        demonstrations_of(config),
        count,
        RECORDING_SEED,
        progress=lambda done, wanted: say(f"recording demonstrations of {config.task.name}: {done} of {wanted}"),
    )


def prepare_play(config: RunConfig, say: Say) -> None:
    from actor.play import record_play
    from actor.robots import make_robot
    from etude.episodes.store import EpisodeStore

    robot = make_robot(config, RECORDING_SEED)
    with _Aside(classifier_frames_store(config.task.name)) as path:
        store = EpisodeStore.create(path, robot.observation_spec, robot.action_spec, {"task": config.task.name, "kind": "play"})
        record_play(
            config,
            robot,
            store,
            RECORDING_SEED,
            progress=lambda done, wanted: say(f"recording labelled play for the classifier: {done} of {wanted} frames"),
        )
        store.close()
    robot.close()


def prepare_classifier(config: RunConfig, folder: RunFolder, say: Say) -> None:
    """Train it, or take the one that was trained for the same recordings and settings; copy it into the run."""
    from etude.episodes.store import EpisodeStore

    cache = classifier_cache(config)
    if not cache.is_dir():
        from reward_classifiers.train import train_classifier

        store, play = EpisodeStore.open(demonstrations_of(config)), EpisodeStore.open(classifier_frames_store(config.task.name))
        with _Aside(cache) as path:
            path.mkdir()

            def progress(done: int, wanted: int, text: str) -> None:
                say(f"training the success classifier: {done} of {wanted} ({text})")

            train_classifier(store, config, path, RECORDING_SEED, progress, play)
        store.close()
        play.close()
    with _Aside(folder.classifier) as path:
        shutil.copytree(cache, path)


class _Aside:
    """Work in a folder beside the final one and rename it into place at the end: half-made results are never taken for whole."""

    def __init__(self, final: Path) -> None:
        self._final = final
        self._aside = final.with_name(f".{final.name}.unfinished")

    def __enter__(self) -> Path:
        self._final.parent.mkdir(parents=True, exist_ok=True)
        if self._aside.exists():
            shutil.rmtree(self._aside)
        return self._aside

    def __exit__(self, kind: object, error: object, traceback: object) -> None:
        if kind is not None:
            return
        if self._final.exists():
            self._final.rename(self._final.with_name(f"{self._final.name}.replaced-{time.time_ns()}"))
        self._aside.rename(self._final)


class _Speaker:
    """Progress: in a terminal one line that is rewritten, otherwise a line at most every five seconds."""

    def __init__(self) -> None:
        self._terminal = sys.stdout.isatty()
        self._said_at = 0.0

    def __call__(self, text: str) -> None:
        now = time.monotonic()
        if self._terminal:
            print(f"\r\033[K  {text}", end="", flush=True)
        elif now - self._said_at > 5.0:
            self._said_at = now
            print(f"  {text}", flush=True)

    def close(self) -> None:
        if self._terminal:
            print("\r\033[K", end="", flush=True)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run", type=Path, required=True, help="run folder, e.g. runs/latest")
    parser.add_argument("what", nargs="*", choices=[*STEPS, []], help="default: whatever is missing")
    arguments = parser.parse_args(argv)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    speaker = _Speaker()
    try:
        folder, config = open_run(arguments.run)
        for what in arguments.what or missing(config, folder):
            if what == "demonstrations":
                prepare_demonstrations(config, speaker)
            elif what == "play":
                prepare_play(config, speaker)
            else:
                prepare_classifier(config, folder, speaker)
    except KeyboardInterrupt:
        return 130
    except Exception as error:
        text = clear_message(error)
        if text is None:
            raise
        speaker.close()
        print(f"preparing the run: {text}", file=sys.stderr)
        return EXIT_REFUSED
    speaker.close()
    return EXIT_DONE


if __name__ == "__main__":
    sys.exit(main())
