"""ROS parameters that describe themselves: every one has a meaning, its unit, and a range where it is a number.

``ros2 param describe /<node> <name>`` prints them. All are read-only: what a run is made of stands in its run.yaml, and what a
simulated device is made of is chosen when it starts.
"""

from __future__ import annotations

from typing import Any

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor
from rclpy.node import Node


def setting(node: Node, name: str, default: Any, description: str, low: float | None = None, high: float | None = None) -> Any:
    """Declare a parameter that may be given at the start (``--ros-args -p name:=value``); its value.

    Raises:
        rclpy.exceptions.InvalidParameterValueException: it was given outside `low` to `high`, both included.
    """
    return node.declare_parameter(name, default, _descriptor(default, description, low, high)).value


def fact(node: Node, name: str, value: Any, description: str, low: float | None = None, high: float | None = None) -> None:
    """Declare a parameter that only tells what the run's configuration decided; it cannot be given."""
    node.declare_parameter(name, value, _descriptor(value, description, low, high), ignore_override=True)


def _descriptor(value: Any, description: str, low: float | None, high: float | None) -> ParameterDescriptor:
    descriptor = ParameterDescriptor(description=description, read_only=True)
    if low is None or high is None:
        return descriptor
    if isinstance(value, int):
        descriptor.integer_range = [IntegerRange(from_value=int(low), to_value=int(high), step=1)]
    else:
        descriptor.floating_point_range = [FloatingPointRange(from_value=float(low), to_value=float(high))]
    return descriptor
