"""Every node describes its parameters, with a range where they are numbers, and tells its condition on /diagnostics."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("rclpy")

import rclpy
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rcl_interfaces.msg import ParameterType
from rcl_interfaces.srv import DescribeParameters, GetParameters, ListParameters
from rclpy.node import Node

from actor.outbox import Outbox
from actor.policy_runner import PolicyRunner
from actor.teleop.mapping import load_mapping
from dashboard.run_view import RunView
from etude.config import RobotConfig, build, load_run_config, read_named
from etude.config.hardware import FrankaConfig
from etude.run_folder import RunFolder
from etude.status import Mode, PracticeStatus
from etude_nodes import qos
from etude_nodes.actor_node import ActorNode
from etude_nodes.dashboard_node import DashboardNode
from etude_nodes.policy_inbox import PolicyInbox
from etude_nodes.process import middleware, spinning
from etude_nodes.reward_service import RewardNode
from etude_nodes.safety_node import SafetyNode
from etude_nodes.sim_franka_node import SimFrankaNode
from etude_nodes.sim_go1_node import SimGo1Node
from etude_nodes.sim_realsense_node import SimRealSenseNode
from etude_nodes.teleop_node import TeleopNode

MIDDLEWARES_OWN = ("use_sim_time", "start_type_description_service")
NUMBERS = (ParameterType.PARAMETER_INTEGER, ParameterType.PARAMETER_DOUBLE)


class Judge:
    name = "told:1"

    def threshold(self, phase: str) -> float:
        return 0.5


def franka() -> FrankaConfig:
    config = build(RobotConfig, read_named("robots", "franka_fr3"), "franka_fr3").franka
    assert config is not None
    return config


def make_learner(config) -> Node:
    from learner_stand_in import ACTION, OBSERVATION, StandIn, export_program

    from etude_nodes.learner_node import LearnerNode

    return LearnerNode(config, StandIn(export_program()), OBSERVATION, ACTION)


@contextlib.contextmanager
def made(kind: str, folder: Path) -> Iterator[Node]:
    config = load_run_config("robot_configs/runs/demo_state.yaml")
    run = RunFolder(folder)
    run.create()
    makers: dict[str, Callable[[], Node]] = {
        "actor": lambda: ActorNode(config, Outbox(folder / "o.sqlite"), PolicyInbox(PolicyRunner()), ()),
        "learner": lambda: make_learner(config),
        "dashboard": lambda: DashboardNode(config, run, RunView(config, "runs/test")),
        "reward": lambda: RewardNode("reward", Judge()),
        "teleop": lambda: TeleopNode(load_mapping("joy"), "robot", "ada", None, "/joy", "/pedal"),
        "safety": lambda: SafetyNode(franka(), "robot", rclpy.get_default_context()),
        "sim_robot": SimFrankaNode,
        "sim_realsense": SimRealSenseNode,
        "sim_go1": SimGo1Node,
    }
    with middleware():
        node = makers[kind]()
        with spinning(node):
            yield node


def answer(node: Node, kind: type, name: str, **fields):
    client = node.create_client(kind, name)
    assert client.wait_for_service(timeout_sec=10.0), name
    future = client.call_async(kind.Request(**fields))
    end = time.monotonic() + 10.0
    while not future.done() and time.monotonic() < end:
        time.sleep(0.01)
    return future.result()


@pytest.mark.parametrize(
    "kind", ["actor", "learner", "dashboard", "reward", "teleop", "safety", "sim_robot", "sim_realsense", "sim_go1"]
)
def test_it_describes_its_parameters_and_tells_how_it_is(kind: str, domain: int, tmp_path: Path, wait_until) -> None:
    statuses: list[DiagnosticStatus] = []
    with made(kind, tmp_path / "run") as node, contextlib.ExitStack() as listening:
        reader = Node("reader")
        listening.enter_context(spinning(reader))
        reader.create_subscription(DiagnosticArray, qos.DIAGNOSTICS_TOPIC, lambda m: statuses.extend(m.status), qos.DIAGNOSTICS)

        of = node.get_fully_qualified_name()
        names = [
            name
            for name in answer(reader, ListParameters, f"{of}/list_parameters").result.names
            if name not in MIDDLEWARES_OWN and not name.startswith("qos_overrides")
        ]
        assert names, f"{of} has no parameter that says what it is"
        described = answer(reader, DescribeParameters, f"{of}/describe_parameters", names=names).descriptors
        values = answer(reader, GetParameters, f"{of}/get_parameters", names=names).values
        for descriptor, value in zip(described, values, strict=True):
            assert descriptor.description and descriptor.read_only, descriptor.name
            ranged = bool(descriptor.floating_point_range or descriptor.integer_range)
            assert descriptor.name == "seed" or ranged == (value.type in NUMBERS), f"{of}: the range of {descriptor.name}"

        if isinstance(node, ActorNode):  # a thread of the process tells, once a second, what the control loop says
            wait_until(lambda: reader.count_publishers(qos.DIAGNOSTICS_TOPIC) > 0, 10.0, "the actor and the reader have met")
            status = PracticeStatus(Mode.FORWARD, "slide", 9, 1, 2, {}, {}, 3, 0.1, 10.0, 101.0, 0, 0, 0, 0, 0, 0.5)
            node.create_timer(0.2, lambda: node.publish_diagnostics(status))
        wait_until(lambda: any(kind.split("_")[0] in s.name for s in statuses), 10.0, f"a condition of {kind}")
        status = next(s for s in statuses if kind.split("_")[0] in s.name)
        assert status.message and status.level in (DiagnosticStatus.OK, DiagnosticStatus.WARN)
        assert status.values, "numbers for a table"


def test_a_value_outside_the_range_is_refused(domain: int) -> None:
    with middleware():
        node = Node("device", parameter_overrides=[rclpy.Parameter("rate_hz", value=500.0)])
        from etude_nodes.parameters import setting

        with pytest.raises(rclpy.exceptions.InvalidParameterValueException):
            setting(node, "rate_hz", 10.0, "pictures, hertz", 0.5, 60.0)
        assert np.isclose(setting(node, "height_px", 48.0, "height, pixels", 16.0, 960.0), 48.0)
        node.destroy_node()
