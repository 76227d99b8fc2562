"""Two arms side by side: each is a robot of robot_configs/robots whose names on the wire begin with its side.

Expanded when the configuration is read, so that a run's own run.yaml says all of it, and a later change of the file no run.
"""

from __future__ import annotations

from typing import Any

from pydantic import Field

from etude.config.hardware import FrankaConfig
from etude.config.model import ConfigError, Model

NAMES = ("service", "action", "topic")
"""Keys of calls whose values are names on the wire."""


class ArmOf(Model):
    """One of two arms, by the file of a robot with one."""

    robot: str = Field(description="A file in robot_configs/robots with the key franka, e.g. franka_fr3.")
    prefix: str = Field(
        pattern=r"^(/[a-z0-9_]+)+$",
        description="Before every topic, service and action of the arm, e.g. /left. Not of its cameras.",
    )
    joint_prefix: str = Field("", description="Before every joint and finger name, e.g. left_.")
    changes: dict[str, Any] = Field(
        default_factory=dict, description="What is different on this arm, e.g. its box and its cameras."
    )


def expanded(side: str, data: Any) -> Any:
    """`data` as a `FrankaConfig`'s content, where it is an `ArmOf`; anything else as it is.

    Raises:
        ConfigError: the file has no arm.
    """
    if not isinstance(data, dict) or "robot" not in data:
        return data
    from etude.config.loading import merged, read_named  # it reads whole runs, which have robots

    one = ArmOf.model_validate(data)
    franka = read_named("robots", one.robot).get("franka")
    if not isinstance(franka, dict):
        raise ConfigError(
            f"arms.{side}.robot is {one.robot!r}, which has no key franka: name a robot with one arm, e.g. franka_fr3"
        )
    changes = dict(one.changes)
    cameras = changes.pop("cameras", franka.get("cameras", {}))
    whole = FrankaConfig.model_validate({**merged(franka, changes), "cameras": {}}).model_dump(mode="json")
    whole = _prefixed(whole, one.prefix)
    whole["joint_names"] = [one.joint_prefix + name for name in whole["joint_names"]]
    if whole.get("gripper"):
        whole["gripper"]["finger_joints"] = [one.joint_prefix + name for name in whole["gripper"]["finger_joints"]]
    return {**whole, "cameras": cameras}


def _prefixed(content: Any, prefix: str) -> Any:
    """With `prefix` before all names on the wire: values of `topics`, and of the keys of calls."""
    if isinstance(content, list):
        return [_prefixed(one, prefix) for one in content]
    if not isinstance(content, dict):
        return content
    result = {}
    for key, value in content.items():
        if key == "topics":
            result[key] = {name: _with(prefix, text) for name, text in value.items()}
        else:
            result[key] = _with(prefix, value) if key in NAMES else _prefixed(value, prefix)
    return result


def _with(prefix: str, name: Any) -> Any:
    return prefix + name if isinstance(name, str) and name.startswith("/") else name
