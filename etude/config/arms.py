"""Two arms side by side: each is a robot of robot_configs/robots whose names on the wire begin with its side.

Expanded when the configuration is read, so that a run's own run.yaml says all of it, and a later change of the file no run.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field

from etude.config.hardware import FrankaConfig
from etude.config.model import ConfigError, Model

Side = Literal["left", "right"]
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


APART_M = 0.2
"""Two tool centre points may never come nearer than this, over the table: a hand is 0.2 m wide."""


class ArmBase(Model):
    """Where one of two arms stands, in a frame of the table that both share."""

    x_m: float = 0.0
    y_m: float
    yaw_deg: float = Field(0.0, description="From the table's x axis to the base's, to the left.")


def collision(arms: Mapping[Side, FrankaConfig], bases: Mapping[Side, ArmBase]) -> str:
    """Why two arms could be told to be in one place; empty when their boxes, seen from above, are `APART_M` apart or more, and
    their commands go different ways. Elbows and forearms are not looked at."""
    left, right = arms["left"], arms["right"]
    for name in ("target_pose", "current_pose"):
        topic = getattr(left.topics, name)
        if left.ros_domain_id == right.ros_domain_id and topic == getattr(right.topics, name):
            return f"both arms have the topic {topic} ({name}), so two drivers would move one arm: give each its own prefix"
    if set(bases) != {"left", "right"}:
        return "arm_bases says where both bases stand, e.g. {left: {y_m: 0.4}, right: {y_m: -0.4}}: measure it on your table"
    (low, high), (other_low, other_high) = _extent(left, bases["left"]), _extent(right, bases["right"])
    gap_m = max(max(other_low[i] - high[i], low[i] - other_high[i]) for i in range(2))
    if gap_m < APART_M - 1e-9:
        return (
            f"the workspace boxes of the two arms are {gap_m:.2f} m apart on the table (negative: they overlap), less than "
            f"{APART_M:g} m: draw limits.workspace_min_m and workspace_max_m in, or correct arm_bases"
        )
    return ""


def _extent(arm: FrankaConfig, base: ArmBase) -> tuple[tuple[float, float], tuple[float, float]]:
    """Lowest and highest x and y of an arm's box on the table, metres."""
    (x0, y0, _), (x1, y1, _) = arm.limits.workspace_min_m, arm.limits.workspace_max_m
    cos, sin = math.cos(math.radians(base.yaw_deg)), math.sin(math.radians(base.yaw_deg))
    corners = [(base.x_m + cos * x - sin * y, base.y_m + sin * x + cos * y) for x in (x0, x1) for y in (y0, y1)]
    xs, ys = zip(*corners, strict=True)
    return (min(xs), min(ys)), (max(xs), max(ys))


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
