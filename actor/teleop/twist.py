"""`geometry_msgs/TwistStamped` as MoveIt Servo takes it, as a device: whoever publishes one can take over.

A twist has no switch, so its deadman is a `std_msgs/Bool` topic of its own (a pedal, a button): held while the newest is true.
"""

from __future__ import annotations

from actor.teleop.command import BASE_FRAME, TeleopError
from actor.teleop.mapping import Sample

PEDAL = "pedal"
"""Name of the button that the deadman topic is."""


def sample(frame: str, linear: tuple[float, float, float], angular: tuple[float, float, float], pedal: bool) -> Sample:
    """Axes ``linear_x`` … ``angular_z``: m/s and rad/s as shares of the mapping's speeds, which are 1 where nothing is scaled.

    Raises:
        TeleopError: the twist is in another frame than ``base``.
    """
    if frame not in ("", BASE_FRAME):
        raise TeleopError(f"the twist is in frame {frame!r}: publish it in {BASE_FRAME!r}")
    names = [f"{kind}_{axis}" for kind in ("linear", "angular") for axis in "xyz"]
    axes = dict(zip(names, (*linear, *angular), strict=True))
    return Sample(axes, frozenset({PEDAL}) if pedal else frozenset())
