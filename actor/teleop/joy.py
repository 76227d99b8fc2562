"""`sensor_msgs/Joy` of any ROS joy node as a device: axis and button numbers are the driver's, the mapping file names them."""

from __future__ import annotations

from collections.abc import Sequence

from actor.teleop.mapping import Sample


def sample(axes: Sequence[float], buttons: Sequence[int]) -> Sample:
    """Axes ``axis0``, ``axis1``, … and buttons ``button0``, … of a Joy message."""
    return Sample(
        {f"axis{index}": float(value) for index, value in enumerate(axes)},
        frozenset(f"button{index}" for index, value in enumerate(buttons) if value),
    )
