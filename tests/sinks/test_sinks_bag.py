"""The bag says what the steps say, in standard messages, read back with the library that reads any bag."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from exported_run import PERIOD_NS, START_NS

from etude.episodes.store import EpisodeStore
from etude.sinks.commands import runs_export

pytest.importorskip("rosbags", reason="the extra mcap is not installed")
from rosbags.highlevel import AnyReader
from rosbags.typesys import Stores, get_typestore

from etude.sinks.bag import TOPICS, image_topic

STANDARD = ("std_msgs/", "sensor_msgs/")


def read(path: Path) -> dict[str, list[tuple[int, Any]]]:
    """Topic -> (stamp, message) in the bag's order."""
    messages = defaultdict(list)
    with AnyReader([path], default_typestore=get_typestore(Stores.ROS2_JAZZY)) as reader:
        assert all(connection.msgtype.startswith(STANDARD) for connection in reader.connections)
        for connection, stamp_ns, raw in reader.messages():
            messages[connection.topic].append((stamp_ns, reader.deserialize(raw, connection.msgtype)))
    return messages


@pytest.fixture
def bag(run, tmp_path: Path) -> Path:
    out = tmp_path / "bag"
    assert runs_export([str(run.root), "--mcap", str(out)]) == 0
    return out


def test_every_step_is_there_with_its_own_stamp(bag, run):
    messages = read(bag)
    store = EpisodeStore.open(run.episodes)
    steps = [step for info in store.segments() for step in store.read(info).steps()]
    states = messages["/attempt/state"]
    assert [stamp for stamp, _ in states] == [step.stamp_ns for step in steps]
    for (stamp, message), step in zip(states, steps, strict=True):
        assert message.header.stamp.sec * 10**9 + message.header.stamp.nanosec == stamp
        assert message.name == ["tcp_x_m", "tcp_z_m"]
        np.testing.assert_array_equal(message.position, step.observation["state"])
    acting = [step for step in steps if not step.is_last]
    for topic in ("action", "policy_action"):
        assert [message.name for _, message in messages[f"/attempt/{topic}"]] == [["x", "gripper"]] * len(acting)
        for (_, message), step in zip(messages[f"/attempt/{topic}"], acting, strict=True):
            np.testing.assert_allclose(message.position, getattr(step, topic))
    assert [message.data for _, message in messages["/attempt/reward"]] == [step.reward for step in acting]
    assert [message.data for _, message in messages["/attempt/number"]] == [step.segment for step in steps]


def test_what_nobody_judged_is_left_out(bag):
    messages = read(bag)
    assert [message.data for _, message in messages["/attempt/success_probability"]] == [0.25] * (3 + 4 + 2)
    assert [message.data for _, message in messages["/attempt/success"]] == [1, 0, 0]
    assert len(messages["/attempt/success_truth"]) == 12


def test_who_acted_and_what_was_wanted_is_told_when_it_changes(bag):
    messages = read(bag)

    def told(name: str) -> list[tuple[int, str]]:
        return [((stamp - START_NS) // PERIOD_NS, message.data) for stamp, message in messages[f"/attempt/{name}"]]

    assert told("phase") == [(1, "forward"), (5, "backward"), (10, "forward")]
    assert told("source") == [(1, "policy"), (5, "policy"), (6, "human"), (7, "policy"), (10, "policy")]
    assert told("instruction") == [
        (1, "slide it forward"),
        (5, "slide it backward"),
        (6, "a bit to the left"),
        (7, "slide it backward"),
        (10, "slide it forward"),
    ]
    assert [message.data for _, message in messages["/attempt/source_number"]] == [0, 0, 0, 0, 1, 0, 0, 0, 0]


@pytest.mark.parametrize("png", [False, True])
def test_pictures_are_those_of_the_cameras(run, tmp_path, png):
    runs_export([str(run.root), "--mcap", str(tmp_path / "bag"), *(["--png"] if png else [])])
    messages = read(tmp_path / "bag")
    store = EpisodeStore.open(run.episodes)
    front = np.concatenate([store.read(info).observation["image/front"] for info in store.segments()])
    assert image_topic("wrist.left") == "/attempt/image/wrist_left/compressed" and len(messages[image_topic("wrist.left")]) == 12
    for (_, message), image in zip(messages[image_topic("front")], front, strict=True):
        assert message.format == ("png" if png else "jpeg") and message.header.frame_id == "front"
        decoded = cv2.imdecode(message.data, cv2.IMREAD_COLOR)[:, :, ::-1].astype(int)
        assert decoded.shape == image.shape and np.abs(decoded - image).max() <= (0 if png else 12)


def test_a_folder_is_a_bag_and_a_file_is_its_recording_alone(run, tmp_path, bag):
    assert sorted(path.name for path in bag.iterdir()) == ["bag.mcap", "metadata.yaml"]
    assert "ros_distro" in (bag / "metadata.yaml").read_text() and "etude_run: one" in (bag / "metadata.yaml").read_text()
    alone = tmp_path / "alone.mcap"
    runs_export([str(run.root), "--mcap", str(alone), "--attempts", "2..3"])
    assert alone.is_file() and sorted(path.name for path in tmp_path.iterdir()) == ["alone.mcap", "bag", "runs"]
    assert {message.data for _, message in read(alone)["/attempt/number"]} == {2, 3}


def test_topics_are_none_that_a_robot_listens_to():
    assert all(kind.startswith(STANDARD) for kind in TOPICS.values())
    assert image_topic("a").startswith("/attempt/")
