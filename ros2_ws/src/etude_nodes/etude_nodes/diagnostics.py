"""What every lasting node says of itself on ``/diagnostics``, once a second: how it is, and the remedy when it is not well."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from rclpy.node import Node

from etude_nodes import convert, qos

PERIOD_S = 1.0


@dataclass(frozen=True)
class Condition:
    """How a node is; `message` names the remedy when `level` is not ``ok``, `values` are numbers and words for a table."""

    level: Literal["ok", "warn", "error", "stale"]
    message: str
    values: Mapping[str, Any] = field(default_factory=dict)


def teller(node: Node, name: str) -> Callable[[Condition], None]:
    """A function that publishes a condition of `node` under `name`, from any thread."""
    publisher = node.create_publisher(convert.DiagnosticArray, qos.DIAGNOSTICS_TOPIC, qos.DIAGNOSTICS)

    def tell(condition: Condition) -> None:
        stamp = node.get_clock().now().to_msg()
        publisher.publish(convert.diagnostics_to_message(stamp, name, condition.level, condition.message, dict(condition.values)))

    return tell


def tell_every_second(node: Node, name: str, look: Callable[[], Condition]) -> None:
    """Publish what `look` returns, once a second, in the node's own executor."""
    tell = teller(node, name)
    node.create_timer(PERIOD_S, lambda: tell(look()))


class Pace:
    """Of a node that turns at `rate_hz`; whoever turns sets `late`, the count of late turns since the start."""

    def __init__(self, rate_hz: float) -> None:
        self._rate_hz, self.late, self._told = rate_hz, 0, 0

    def condition(self, **values: Any) -> Condition:
        """Warns when turns were late since the last call; `values` are told beside."""
        new, self._told = self.late - self._told, self.late
        values = {"rate_hz": self._rate_hz, "late_turns": self.late, **values}
        if new > 0:
            return Condition("warn", f"{new} turns were late in the last second: this computer is too busy", values)
        return Condition("ok", "in real time", values)
