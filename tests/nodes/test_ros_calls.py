"""Calls as data reach real services, topics and actions, and every way to fail is told with the name and the remedy."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

pytest.importorskip("rclpy")

from rclpy.node import Node
from std_msgs.msg import Float64MultiArray
from std_srvs.srv import SetBool

from actor.ros_calls import RosCaller, RosCallError, fill, interface_type
from etude.config import build, read_named
from etude.config.hardware import RosCall
from etude_nodes.process import middleware, spinning


def call(**keys) -> RosCall:
    return build(RosCall, {"timeout_s": 3.0, **keys}, "test")


def test_messages_and_services_arrive_with_their_fields(domain, wait_until) -> None:
    got: list = []

    def serve(request: SetBool.Request, response: SetBool.Response) -> SetBool.Response:
        response.success, response.message = request.data, "" if request.data else "the user stop is pressed"
        return response

    with middleware():
        node = Node("vendor")
        node.create_service(SetBool, "/vendor/enable", serve)
        node.create_subscription(Float64MultiArray, "/vendor/stiffness", lambda m: got.append(list(m.data)), 1)
        with spinning(node):
            caller = RosCaller(node)
            stiffness = call(topic="/vendor/stiffness", type="std_msgs/msg/Float64MultiArray", fields={"data": [300.0, 20.0]})
            caller.prepare([stiffness])
            wait_until(lambda: node.count_subscribers("/vendor/stiffness") > 0, 5, "discovery")
            caller.run([stiffness, call(service="/vendor/enable", type="std_srvs/srv/SetBool", fields={"data": True})])
            wait_until(lambda: got == [[300.0, 20.0]], 5, "the message")
            with pytest.raises(RosCallError, match="/vendor/enable failed: the user stop is pressed"):
                caller.run([call(service="/vendor/enable", type="std_srvs/srv/SetBool")])
            with pytest.raises(RosCallError, match=r"nobody offers /vendor/no .* in the same ROS domain"):
                caller.run([call(service="/vendor/no", type="std_srvs/srv/Trigger", timeout_s=0.2)])
            with pytest.raises(RosCallError, match="has no field 'on'"):
                caller.run([call(service="/vendor/enable", type="std_srvs/srv/SetBool", fields={"on": True})])


class Done:
    """A future that is over."""

    def __init__(self, value) -> None:
        self._value = value

    def done(self) -> bool:
        return True

    def result(self):
        return self._value


@pytest.mark.parametrize(
    "accepted, status, result, word",
    [
        (True, 4, {"success": True}, ""),
        (True, 4, {}, ""),
        (False, 4, {}, "did not accept"),
        (True, 4, {"success": False, "error": "no object"}, "failed: no object"),
        (True, 6, {}, "failed: its goal was aborted"),
    ],
)
def test_an_action_is_followed_to_its_result(monkeypatch, accepted, status, result, word) -> None:
    """No action type comes with the wheels, so client and type are stand-ins with rclpy's methods."""
    sent = []

    class Client:
        def __init__(self, node, interface, name) -> None:
            self.name = name

        def wait_for_server(self, timeout_sec) -> bool:
            return True

        def send_goal_async(self, goal):
            sent.append((self.name, goal.width, goal.epsilon.outer))
            answer = SimpleNamespace(status=status, result=SimpleNamespace(**result))
            return Done(SimpleNamespace(accepted=accepted, get_result_async=lambda: Done(answer)))

    def goal() -> SimpleNamespace:
        return SimpleNamespace(width=0.0, epsilon=SimpleNamespace(inner=0.0, outer=0.0), speed=0.0, force=0.0)

    monkeypatch.setattr("rclpy.action.ActionClient", Client)
    monkeypatch.setattr("actor.ros_calls.interface_type", lambda name: SimpleNamespace(Goal=goal))
    close = RosCall.model_validate(read_named("robots", "franka_fr3")["franka"]["gripper"]["close"])
    if word:
        with pytest.raises(RosCallError, match=word):
            RosCaller(None).run([close])
    else:
        RosCaller(None).run([close])
    assert sent == [("/franka_gripper/grasp", 0.0, 0.08)]


def test_an_interface_that_is_not_installed_names_its_package() -> None:
    with pytest.raises(RosCallError, match="install and source the package franka_msgs"):
        interface_type("franka_msgs/action/Grasp")


def test_nested_fields_are_filled_and_numbers_converted() -> None:
    from geometry_msgs.msg import PoseStamped

    message = fill(PoseStamped(), {"header": {"frame_id": "base"}, "pose": {"position": {"x": 1}}}, "pose")
    assert message.header.frame_id == "base" and message.pose.position.x == 1.0
