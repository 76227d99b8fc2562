"""Where everything of a run lives on disk. One place, so that every process and command agrees."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from etude.config import REPOSITORY


@dataclass(frozen=True)
class RunFolder:
    """Paths inside ``runs/<name>/``. Nothing is created until `create`."""

    root: Path

    @property
    def config(self) -> Path:
        return self.root / "config.yaml"

    @property
    def episodes(self) -> Path:
        """The learner's episode store: every acknowledged step of this run."""
        return self.root / "episodes"

    @property
    def outbox(self) -> Path:
        """Folder of the actors' outboxes, one SQLite file per robot namespace."""
        return self.root / "outbox"

    @property
    def checkpoints(self) -> Path:
        return self.root / "checkpoints"

    @property
    def policy(self) -> Path:
        """The newest published policy: ``policy.program`` and ``policy.safetensors``."""
        return self.root / "policy"

    @property
    def kept_policy(self) -> Path:
        """The newest policy that flew, in the same two files, written by the actor: its own copy on the robot's computer."""
        return self.root / "kept_policy"

    @property
    def classifier(self) -> Path:
        return self.root / "classifier"

    @property
    def logs(self) -> Path:
        return self.root / "logs"

    @property
    def tensorboard(self) -> Path:
        return self.root / "tensorboard"

    def metrics(self, process: str) -> Path:
        """JSON lines of `process` (learner, actor)."""
        return self.root / f"metrics-{process}.jsonl"

    @property
    def evaluations(self) -> Path:
        """JSON lines, one per evaluation: time_s, env_steps, phase, episodes, successes, kind (before, interval, after)."""
        return self.root / "evaluations.jsonl"

    @property
    def help_log(self) -> Path:
        """JSON lines: every help request, every answer, and what was labelled."""
        return self.root / "help.jsonl"

    @property
    def attempt_labels(self) -> Path:
        """JSON lines: what a person said on the page about finished attempts."""
        return self.root / "attempt_labels.jsonl"

    @property
    def help_pictures(self) -> Path:
        """What help requests showed when they were asked: ``<id>.jpg``."""
        return self.root / "help"

    @property
    def summary(self) -> Path:
        return self.root / "summary.json"

    @property
    def learning_curve(self) -> Path:
        return self.root / "learning_curve.png"

    def create(self) -> None:
        for folder in (self.root, self.outbox, self.checkpoints, self.policy, self.logs):
            folder.mkdir(parents=True, exist_ok=True)


def runs_root() -> Path:
    """``$ETUDE_RUNS`` or ``runs/`` in the repository."""
    return Path(os.environ.get("ETUDE_RUNS", REPOSITORY / "runs"))


def data_root() -> Path:
    """``$ETUDE_DATA`` or ``data/`` in the repository: demonstrations shared by runs."""
    return Path(os.environ.get("ETUDE_DATA", REPOSITORY / "data"))


def demonstrations_store(task: str, observation: str) -> Path:
    """Episode store of a task's demonstrations, e.g. ``data/demonstrations/slide-pixels/demos``."""
    return data_root() / "demonstrations" / f"{task}-{observation}" / "demos"


def classifier_frames_store(task: str) -> Path:
    """Episode store of the labelled extra frames that the success classifier learns from; never used as demonstrations."""
    return data_root() / "demonstrations" / f"{task}-pixels" / "classifier"
