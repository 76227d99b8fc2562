"""Stores of the dot world and a classifier trained on them, made once for all tests."""

from __future__ import annotations

from pathlib import Path

import pytest
from dot_world import QUICK, Writer, dot_config

from etude.config import RunConfig
from etude.episodes.store import EpisodeStore


@pytest.fixture
def config() -> RunConfig:
    return dot_config()


@pytest.fixture(scope="session")
def dot_stores(tmp_path_factory: pytest.TempPathFactory) -> tuple[EpisodeStore, EpisodeStore]:
    """(demonstrations, play)."""
    folder = tmp_path_factory.mktemp("dot")
    demonstrations, play = Writer(folder / "demos"), Writer(folder / "play")
    demonstrations.demonstrations(8)
    play.play(8)
    return demonstrations.done(), play.done()


@pytest.fixture(scope="session")
def dot_classifier(tmp_path_factory: pytest.TempPathFactory, dot_stores: tuple[EpisodeStore, EpisodeStore]) -> tuple[Path, dict]:
    """A folder with a trained classifier, and its report."""
    from reward_classifiers.train import train_classifier

    out = tmp_path_factory.mktemp("classifier") / "dot"
    report = train_classifier(dot_stores[0], dot_config(), out, 0, None, dot_stores[1], QUICK)
    return out, report
