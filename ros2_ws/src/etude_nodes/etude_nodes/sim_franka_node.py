"""The simulated Franka: `sim_robot` with what a real one has beside its pose, and with its failures, to be switched on.

Beside `sim_robot`: external wrench, robot mode (as std_msgs/UInt8, because franka_msgs comes with the vendor's packages),
recovery, sensor noise in the pictures, and the faults of `simulation.faults`, by script or on the topic ``/sim/fault``.

    ros2 run etude_nodes sim_franka --ros-args -p task:=slide -p faults:="reflex@20 camera_frozen=front@40+3"
"""

from __future__ import annotations

import sys
import time

import numpy as np
from geometry_msgs.msg import PoseStamped, WrenchStamped
from rclpy.duration import Duration
from std_msgs.msg import Float64, String, UInt8
from std_srvs.srv import Trigger

from etude.cli import clear_message
from etude.config import ConfigError
from etude_nodes import qos
from etude_nodes.parameters import setting
from etude_nodes.process import EXIT_DONE, EXIT_REFUSED, configure_logging, spinning, stop_event_from_signals
from etude_nodes.sim_robot_node import BASE_FRAME, SimRobotNode
from simulation.faults import FaultScript

WRENCH_TOPIC = "/franka_robot_state_broadcaster/external_wrench_in_base_frame"
MODE_TOPIC = "/sim/robot_mode"
RECOVERY_SERVICE = "/sim/error_recovery"
FAULT_TOPIC = "/sim/fault"
MOVE, REFLEX = 2, 4
REACH_MIN_M, REACH_MAX_M = np.array([0.25, -0.45, 0.0]), np.array([0.75, 0.45, 0.55])


class SimFrankaNode(SimRobotNode):
    """A reflex, once it came, stays until ``/sim/error_recovery``; then the arm follows only targets that come after it."""

    def __init__(self) -> None:
        super().__init__()
        self._faults = FaultScript(setting(self, "faults", "", "script of faults, see simulation/faults.py"))
        self._began_s = time.monotonic()
        # a real arm does not know the scene's box; keeping to one is the driver's work
        self._table.controller.workspace_min_m, self._table.controller.workspace_max_m = REACH_MIN_M, REACH_MAX_M
        self._noise = np.random.default_rng(0)
        self._frozen: dict[str, np.ndarray] = {}
        self._mode = MOVE
        self._wrenches = self.create_publisher(WrenchStamped, WRENCH_TOPIC, qos.SENSOR)
        self._modes = self.create_publisher(UInt8, MODE_TOPIC, qos.SENSOR)
        self.create_service(Trigger, RECOVERY_SERVICE, self._on_recovery)
        self.create_subscription(String, FAULT_TOPIC, self._on_fault, 10)

    @property
    def _now_s(self) -> float:
        return time.monotonic() - self._began_s

    # --- in ---------------------------------------------------------------------------------------------------------------

    def _on_fault(self, message: String) -> None:
        try:
            self._faults.add(message.data, self._now_s)
            self.get_logger().info(f"fault: {message.data}")
        except ConfigError as error:
            self.get_logger().warning(str(error))

    def _on_recovery(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        for name in ("reflex", "controller_lost", "gripper_stuck"):
            self._faults.mend(name, self._now_s)
        self._mode, self._target = MOVE, None
        response.success = True
        return response

    def _on_target(self, message: PoseStamped) -> None:
        if self._mode == MOVE and not self._faults.on("controller_lost", self._now_s) and not self._lost():
            super()._on_target(message)

    def _on_gripper(self, message: Float64) -> None:
        if not self._faults.on("gripper_stuck", self._now_s):
            super()._on_gripper(message)

    def _lost(self) -> bool:
        return bool(self._noise.random() < self._faults.value("packet_loss", self._now_s))

    # --- simulation -------------------------------------------------------------------------------------------------------

    def _advance(self) -> None:
        if self._mode == MOVE and self._faults.on("reflex", self._now_s):
            self._mode = REFLEX
            self.get_logger().warning("reflex")
        if self._mode == REFLEX or self._faults.on("controller_lost", self._now_s):
            self._target = None
        if self._faults.on("gripper_stuck", self._now_s):
            self._width_m = self._table.controller.opening_m
        super()._advance()

    # --- out --------------------------------------------------------------------------------------------------------------

    def _stamp(self):
        return (self.get_clock().now() - Duration(seconds=self._faults.value("clock_skew", self._now_s))).to_msg()

    def _publish_state(self) -> None:
        if self._faults.on("state_late", self._now_s) or self._lost():
            return
        super()._publish_state()
        wrench = self._table.controller.tool_wrench()
        wrench[2] += self._faults.value("pushed", self._now_s)
        message = WrenchStamped()
        message.header.stamp, message.header.frame_id = self._stamp(), BASE_FRAME
        force, torque = message.wrench.force, message.wrench.torque
        force.x, force.y, force.z, torque.x, torque.y, torque.z = (float(v) for v in wrench)
        self._wrenches.publish(message)
        self._modes.publish(UInt8(data=self._mode))

    def _picture(self, camera: str) -> np.ndarray | None:
        frozen = self._faults.on("camera_frozen", self._now_s)
        unplugged = self._faults.on("camera_unplugged", self._now_s)
        if (unplugged is not None and unplugged.value in ("", camera)) or self._lost():
            return None
        if frozen is not None and frozen.value in ("", camera) and camera in self._frozen:
            return self._frozen[camera]
        picture = super()._picture(camera)
        assert picture is not None
        # the noise of a sensor: without it a still scene and a hanging camera would look the same
        noisy = picture.astype(np.int16) + self._noise.integers(-1, 2, picture.shape, np.int16)
        self._frozen[camera] = np.clip(noisy, 0, 255).astype(np.uint8)
        return self._frozen[camera]


def main(argv: list[str] | None = None) -> int:
    import rclpy
    from rclpy.signals import SignalHandlerOptions

    configure_logging()
    stop = stop_event_from_signals()
    rclpy.init(args=sys.argv if argv is None else [sys.argv[0], *argv], signal_handler_options=SignalHandlerOptions.NO)
    try:
        node = SimFrankaNode()
        with spinning(node):
            node.get_logger().info("the simulated Franka is up")
            node.run(stop)
    except Exception as error:
        text = clear_message(error)
        if text is None:
            raise
        print(f"sim_franka: {text}", file=sys.stderr)
        return EXIT_REFUSED
    finally:
        rclpy.try_shutdown()
    return EXIT_DONE


if __name__ == "__main__":
    sys.exit(main())
