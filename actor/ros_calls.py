"""Vendor interfaces as data: a `RosCall` of the configuration becomes a message, a service call or an action goal.

So no vendor's message package is imported by name: what a robot's YAML names must be installed there, and nothing else.
"""

from __future__ import annotations

import importlib
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any

from etude.config.hardware import RosCall

SUCCEEDED = 4
"""``STATUS_SUCCEEDED`` of action_msgs/GoalStatus."""


class RosCallError(RuntimeError):
    """A vendor's interface is not there, does not answer, or refused; the message names it and the remedy."""


def interface_type(name: str) -> Any:
    """The class of e.g. ``std_srvs/srv/Trigger``. Raises RosCallError when its package is not installed."""
    package, kind, word = name.split("/")
    try:
        return getattr(importlib.import_module(f"{package}.{kind}"), word)
    except (ImportError, AttributeError) as error:
        raise RosCallError(
            f"the ROS interface {name} is not there ({error}): install and source the package {package}, or name "
            "another interface in the robot's YAML"
        ) from error


def fill(message: Any, fields: Mapping[str, Any], where: str) -> Any:
    """Set `fields`, nested mappings included, in `message` and return it. Raises RosCallError for a field that it lacks."""
    for key, value in fields.items():
        if not hasattr(message, key):
            raise RosCallError(f"{where} has no field {key!r}: correct the call in the robot's YAML")
        old = getattr(message, key)
        try:
            if isinstance(value, Mapping):
                fill(old, value, f"{where}.{key}")
            else:
                setattr(message, key, type(old)(value) if isinstance(old, int | float | str) else value)
        except (AssertionError, TypeError, ValueError) as error:
            raise RosCallError(f"{where}.{key} cannot be {value!r}: {error}") from error
    return message


class RosCaller:
    """Makes calls through one node, whose callbacks another thread spins. Publishers and clients are made once and kept."""

    def __init__(self, node: Any) -> None:
        self._node = node
        self._ends: dict[tuple[str, str], Any] = {}
        self._lock = threading.Lock()

    def prepare(self, calls: Sequence[RosCall]) -> None:
        """Make the ends and contents of `calls` now, so that discovery is over, and nothing can be wrong with them, when they are
        needed. Raises RosCallError."""
        for call in calls:
            self._end(call)
            self._content(call)

    def run(self, calls: Sequence[RosCall]) -> None:
        """Make `calls` in order, waiting for each answer. Not from a callback. Raises RosCallError at the first that fails."""
        for call in calls:
            self._one(call)

    def send(self, call: RosCall) -> None:
        """Make one call without waiting for its answer: for a gripper, while the arm goes on. Raises RosCallError."""
        end, content = self._end(call), self._content(call)
        way = end.publish if call.topic else end.call_async if call.service else end.send_goal_async
        way(content)

    def _one(self, call: RosCall) -> None:
        end, content, deadline = self._end(call), self._content(call), time.monotonic() + call.timeout_s
        if call.topic:
            end.publish(content)
            return
        there = end.wait_for_service if call.service else end.wait_for_server
        if not there(timeout_sec=call.timeout_s):
            raise RosCallError(
                f"nobody offers {call.name} ({call.type}): is the robot's launch file running, in the same ROS domain?"
            )
        if call.service:
            answer = _wait(end.call_async(content), deadline, call)
        else:
            goal = _wait(end.send_goal_async(content), deadline, call)
            if not goal.accepted:
                raise RosCallError(f"{call.name} did not accept the goal {call.fields}")
            ended = _wait(goal.get_result_async(), deadline, call)
            answer = ended.result
            if ended.status != SUCCEEDED:  # some results are empty, e.g. that of franka_msgs' ErrorRecovery
                raise RosCallError(f"{call.name} failed: {getattr(answer, 'error', '') or 'its goal was aborted or cancelled'}")
        # franka_msgs and std_srvs say `success`, controller_manager_msgs says `ok`
        if not getattr(answer, "success", getattr(answer, "ok", True)):
            reason = getattr(answer, "message", "") or getattr(answer, "error", "") or "no reason given"
            raise RosCallError(f"{call.name} failed: {reason}")

    @staticmethod
    def _content(call: RosCall) -> Any:
        """The message, request or goal that `call` describes."""
        interface = interface_type(call.type)
        form = interface if call.topic else interface.Request if call.service else interface.Goal
        return fill(form(), call.fields, call.type)

    def _end(self, call: RosCall) -> Any:
        with self._lock:
            key = (call.name, call.type)
            if key not in self._ends:
                interface = interface_type(call.type)
                if call.topic:
                    self._ends[key] = self._node.create_publisher(interface, call.topic, 1)
                elif call.service:
                    self._ends[key] = self._node.create_client(interface, call.service)
                else:
                    from rclpy.action import ActionClient

                    self._ends[key] = ActionClient(self._node, interface, call.action)
            return self._ends[key]


def _wait(future: Any, deadline_s: float, call: RosCall) -> Any:
    while not future.done():
        if time.monotonic() > deadline_s:
            raise RosCallError(f"{call.name} gave no answer within {call.timeout_s:g} s")
        time.sleep(0.005)
    return future.result()
