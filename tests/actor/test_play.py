"""Labelled play: varied motion near the goal, every frame labelled for its direction, apart from demonstrations."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from point_robot import PointRobot, point_config

from actor.demonstrations import DemonstrationError
from actor.play import SEGMENT_FRAMES, record_play
from etude.episodes.store import EpisodeStore
from etude.step import Source


def play(path: Path, seed: int = 0, frames: int = 200) -> EpisodeStore:
    robot = PointRobot()
    store = EpisodeStore.create(path, robot.observation_spec, robot.action_spec)
    record_play(point_config(), robot, store, seed, frames)
    store.flush()
    return store


def test_both_directions_get_their_frames_labelled_by_the_person(tmp_path: Path) -> None:
    store = play(tmp_path / "play")
    counts = {"forward": 0, "backward": 0}
    for info in store.segments():
        segment = store.read(info)
        counts[info.phase] += len(segment)
        assert set(segment.judged_by) == {"human"}
        assert (segment.success == segment.success_truth).all()
        assert not segment.is_terminal.any()
        assert (segment.source == Source.SCRIPTED).all()
        assert len(segment) <= SEGMENT_FRAMES
    assert sum(counts.values()) >= 400
    assert min(counts.values()) >= 200 - SEGMENT_FRAMES


def test_play_shows_success_and_failure_in_both_directions(tmp_path: Path) -> None:
    store = play(tmp_path / "play")
    for phase in ("forward", "backward"):
        labels = np.concatenate([store.read(info).success for info in store.segments() if info.phase == phase])
        assert 0.05 < labels.mean() < 0.95


def test_the_same_seed_plays_the_same(tmp_path: Path) -> None:
    stores = [play(tmp_path / name, seed, 60) for name, seed in (("a", 3), ("b", 3), ("c", 4))]
    a, b, c = (np.concatenate([store.read(info).action for info in store.segments()]) for store in stores)
    assert np.array_equal(a, b)
    assert not np.array_equal(a, c)


def test_progress_reaches_what_was_wanted(tmp_path: Path) -> None:
    robot = PointRobot()
    store = EpisodeStore.create(tmp_path / "play", robot.observation_spec, robot.action_spec)
    seen: list[tuple[int, int]] = []
    record_play(point_config(), robot, store, 0, 50, lambda *note: seen.append(note))
    assert seen[-1] == (100, 100)


def test_without_ground_truth_a_person_is_needed(tmp_path: Path) -> None:
    from dataclasses import replace

    class BlindRobot(PointRobot):
        def read(self):
            return replace(super().read(), success_truth=None)

    robot = BlindRobot()
    store = EpisodeStore.create(tmp_path / "play", robot.observation_spec, robot.action_spec)
    with pytest.raises(DemonstrationError, match="a person has to label"):
        record_play(point_config(), robot, store, 0, 50)
