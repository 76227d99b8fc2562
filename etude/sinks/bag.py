"""Attempts as a ROS 2 bag in MCAP, of standard messages only: Foxglove, PlotJuggler and `ros2 bag play` need none of ours.

Written with `rosbags`, which needs no ROS either. Topics begin with ``/attempt``, where no robot and no learner listens.
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any, Final

import numpy as np
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore

from etude.sinks.attempts import Selection
from etude.specs import IMAGE_PREFIX, ActionSpec, ObservationSpec
from etude.step import UNKNOWN, Step

PREFIX = "/attempt"
VERSION: Final = 9
"""Of metadata.yaml: that of ROS 2 Jazzy."""
NAMED = "sensor_msgs/msg/JointState"
"""The one standard message that pairs names with numbers, so that viewers show both."""
TOPICS = {
    "state": NAMED,
    "action": NAMED,
    "policy_action": NAMED,
    "reward": "std_msgs/msg/Float32",
    "success_probability": "std_msgs/msg/Float32",
    "success": "std_msgs/msg/Int8",
    "success_truth": "std_msgs/msg/Int8",
    "source": "std_msgs/msg/String",
    "source_number": "std_msgs/msg/UInt8",
    "number": "std_msgs/msg/Int32",
    "phase": "std_msgs/msg/String",
    "instruction": "std_msgs/msg/String",
}
TEXTS = ("source", "phase", "instruction")
"""Told when an attempt begins and when they change."""


def write_bag(selection: Selection, out: Path) -> None:
    """Make `out`: one file when its name ends in ``.mcap``, else a folder with the file and ``metadata.yaml``.

    Stamps, in the header and of the bag, are those of the steps.

    Raises:
        StoreError: an attempt's files are damaged.
    """
    folder = out.with_suffix("") if out.suffix == ".mcap" else out
    with Writer(folder, version=VERSION, storage_plugin=StoragePlugin.MCAP) as writer:
        writer.set_custom_data("etude_run", selection.name)
        writer.set_custom_data("etude_action_scale", json.dumps(selection.action_spec.scale))
        bag = _Bag(writer, selection)
        for _, segment in selection.segments():
            told: dict[str, str] = {}
            for step in segment.steps():
                told = bag.put(step, told)
    if folder != out:
        os.replace(folder / f"{folder.name}.mcap", out)


def image_topic(camera: str) -> str:
    """Where a camera's pictures are, named as image_transport does."""
    return f"{PREFIX}/image/{re.sub(r'[^A-Za-z0-9_]', '_', camera)}/compressed"


class _Bag:
    """Steps as messages on the topics of one bag."""

    def __init__(self, writer: Writer, selection: Selection) -> None:
        self._writer, self._selection = writer, selection
        self._types = get_typestore(Stores.ROS2_JAZZY)
        topics = {f"{PREFIX}/{name}": kind for name, kind in TOPICS.items()}
        cameras = {image_topic(camera): "sensor_msgs/msg/CompressedImage" for camera in selection.observation_spec.cameras}
        self._connections = {
            topic: writer.add_connection(topic, kind, typestore=self._types) for topic, kind in {**topics, **cameras}.items()
        }

    def put(self, step: Step, told: dict[str, str]) -> dict[str, str]:
        """Write one step; `told` are the texts that hold already. The texts that hold now."""
        observed, acted = self._selection.observation_spec, self._selection.action_spec
        for camera in observed.cameras:
            picture = np.frombuffer(self._selection.picture(step.observation[IMAGE_PREFIX + camera]), np.uint8)
            header = self._header(step.stamp_ns, camera)
            self._write(image_topic(camera), step.stamp_ns, header=header, format=self._selection.image_format, data=picture)
        self._named("state", step, observed, step.observation["state"])
        self._data("number", step, step.segment)
        if np.isfinite(step.success_probability):
            self._data("success_probability", step, step.success_probability)
        for name in ("success", "success_truth"):
            if getattr(step, name) != UNKNOWN:
                self._data(name, step, getattr(step, name))
        now = {"phase": step.phase, "instruction": step.instruction}
        if not step.is_last:  # nothing is done in the last step
            self._named("action", step, acted, step.action)
            self._named("policy_action", step, acted, step.policy_action)
            self._data("reward", step, step.reward)
            self._data("source_number", step, int(step.source))
            now["source"] = step.source.name.lower()
        for name in TEXTS:
            if now.get(name) not in (None, told.get(name)):
                self._data(name, step, now[name])
        return {**told, **now}

    def _named(self, name: str, step: Step, spec: ObservationSpec | ActionSpec, values: np.ndarray) -> None:
        names = spec.state_names if isinstance(spec, ObservationSpec) else spec.names
        nothing = np.zeros(0)
        self._write(
            f"{PREFIX}/{name}",
            step.stamp_ns,
            header=self._header(step.stamp_ns),
            name=list(names),
            position=values.astype(np.float64),
            velocity=nothing,
            effort=nothing,
        )

    def _data(self, name: str, step: Step, value: Any) -> None:
        self._write(f"{PREFIX}/{name}", step.stamp_ns, data=value)

    def _header(self, stamp_ns: int, frame: str = "") -> Any:
        stamp = self._types.types["builtin_interfaces/msg/Time"](*divmod(stamp_ns, 10**9))
        return self._types.types["std_msgs/msg/Header"](stamp=stamp, frame_id=frame)

    def _write(self, topic: str, stamp_ns: int, **fields: Any) -> None:
        connection = self._connections[topic]
        message = self._types.types[connection.msgtype](**fields)
        self._writer.write(connection, stamp_ns, self._types.serialize_cdr(message, connection.msgtype))
