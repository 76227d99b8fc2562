"""A simulated RealSense on realsense-ros' topics, with failures to be switched on: what camera drivers are tried against.

`SimCamera` is the publisher, which simulated robots use for their own pictures; the node alone shows a pattern that moves.

    python -m etude_nodes.sim_realsense_node --ros-args -p camera:=front -p faults:="camera_frozen=front@5+3"
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable

import numpy as np
from rclpy.duration import Duration
from rclpy.node import Node
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from std_msgs.msg import String

from actor.pacing import Pacer
from etude.cli import clear_message
from etude.config import ConfigError
from etude_nodes import convert, qos
from etude_nodes.diagnostics import Pace, tell_every_second
from etude_nodes.parameters import setting
from etude_nodes.process import EXIT_DONE, EXIT_REFUSED, configure_logging, spinning, stop_event_from_signals
from etude_nodes.sim_franka_node import FAULT_TOPIC
from etude_nodes.sim_robot_node import image_topic
from simulation.faults import FaultScript

FIELD_OF_VIEW_RAD = np.deg2rad(69.0)
"""Of a D435's colour camera, horizontally."""


class Faults:
    """A script of faults that any node can have: from its parameter and, on demand, on ``/sim/fault``."""

    def __init__(self, node: Node, script: str) -> None:
        self._script, self._node, self._began_s = FaultScript(script), node, time.monotonic()
        self._chance = np.random.default_rng(0)
        node.create_subscription(String, FAULT_TOPIC, self._on_fault, 10)

    def _on_fault(self, message: String) -> None:
        try:
            self._script.add(message.data, time.monotonic() - self._began_s)
            self._node.get_logger().info(f"fault: {message.data}")
        except ConfigError as error:
            self._node.get_logger().warning(str(error))

    def on(self, name: str, value: str = "") -> bool:
        """Whether `name` is on, for everything or for `value`."""
        fault = self._script.on(name, time.monotonic() - self._began_s)
        return fault is not None and fault.value in ("", value)

    def value(self, name: str) -> float:
        """Its number, 0 when it is off."""
        return self._script.value(name, time.monotonic() - self._began_s)

    def lost(self) -> bool:
        """Whether this message is lost on the way."""
        return bool(self._chance.random() < self.value("packet_loss"))

    def stamp(self):
        """Now, by the clock of the simulated device."""
        return (self._node.get_clock().now() - Duration(seconds=self.value("clock_skew"))).to_msg()


class SimCamera:
    """Publishes what `draw` returns, uint8 RGB, as the colour stream of a camera called `name`. `show` sends the next picture."""

    def __init__(self, node: Node, name: str, faults: Faults, draw: Callable[[], np.ndarray]) -> None:
        self._name, self._faults, self._draw = name, faults, draw
        self._noise = np.random.default_rng(0)
        self._last: np.ndarray | None = None
        topic = image_topic(name)
        self._images = node.create_publisher(Image, topic, qos.COMMAND)
        self._jpegs = node.create_publisher(CompressedImage, f"{topic}/compressed", qos.COMMAND)
        self._infos = node.create_publisher(CameraInfo, topic.replace("image_raw", "camera_info"), qos.COMMAND)

    def show(self) -> None:
        wanted = self._images.get_subscription_count(), self._jpegs.get_subscription_count()
        if not any(wanted) or self._faults.on("camera_unplugged", self._name) or self._faults.lost():
            return
        if self._last is None or not self._faults.on("camera_frozen", self._name):
            # the noise of a sensor: without it a still scene and a hanging camera would look the same
            picture = self._draw().astype(np.int16)
            self._last = np.clip(picture + self._noise.integers(-1, 2, picture.shape, np.int16), 0, 255).astype(np.uint8)
        height, width = self._last.shape[:2]
        stamp, frame = self._faults.stamp(), f"{self._name}_color_optical_frame"
        if wanted[0]:
            image = Image(height=height, width=width, encoding="rgb8", step=3 * width, data=convert.to_uint8(self._last))
            image.header.stamp, image.header.frame_id = stamp, frame
            self._images.publish(image)
        if wanted[1]:
            self._jpegs.publish(convert.jpeg_message(self._last, frame, stamp))
        focal = width / 2 / np.tan(FIELD_OF_VIEW_RAD / 2)
        info = CameraInfo(height=height, width=width, distortion_model="plumb_bob", d=[0.0] * 5)
        info.k = [focal, 0.0, width / 2, 0.0, focal, height / 2, 0.0, 0.0, 1.0]
        info.header.stamp, info.header.frame_id = stamp, frame
        self._infos.publish(info)


def pattern(height: int, width: int, time_s: float) -> np.ndarray:
    """A grey ramp with a square that moves to the right, a picture width in four seconds."""
    image = np.repeat(np.linspace(30, 200, width, dtype=np.uint8)[None, :, None], height, axis=0).repeat(3, axis=2)
    size = height // 4
    left = int(time_s / 4.0 % 1.0 * (width - size))
    image[height // 2 - size // 2 : height // 2 + size // 2, left : left + size] = (220, 60, 40)
    return image


class SimRealSenseNode(Node):
    """One camera that shows `pattern`."""

    def __init__(self) -> None:
        super().__init__("sim_realsense")
        camera = setting(self, "camera", "front", "its name, in the topics too")
        self._rate_hz = setting(self, "rate_hz", 30.0, "pictures, hertz", 0.5, 120.0)
        height = int(setting(self, "height_px", 240.0, "height of the pictures, pixels", 16.0, 1080.0))
        size = height, int(setting(self, "width_px", 320.0, "width of the pictures, pixels", 16.0, 1920.0))
        faults = Faults(self, setting(self, "faults", "", "script of faults, see simulation/faults.py"))
        self._camera = SimCamera(self, camera, faults, lambda: pattern(*size, time.monotonic()))
        self._pace = Pace(self._rate_hz)
        tell_every_second(self, f"sim_realsense/{camera}", lambda: self._pace.condition(height_px=size[0], width_px=size[1]))

    def run(self, stop: threading.Event) -> None:
        pacer = Pacer(self._rate_hz)
        while not stop.is_set():
            self._camera.show()
            self._pace.late = pacer.missed
            stop.wait(max(0.0, pacer.next_deadline(time.monotonic()) - time.monotonic()))


def serve(make: Callable[[], Node], name: str, argv: list[str] | None = None) -> int:
    """Run a simulated device until it is told to stop. The process's exit status."""
    import rclpy
    from rclpy.signals import SignalHandlerOptions

    configure_logging()
    stop = stop_event_from_signals()
    rclpy.init(args=sys.argv if argv is None else [sys.argv[0], *argv], signal_handler_options=SignalHandlerOptions.NO)
    try:
        node = make()
        with spinning(node):
            node.get_logger().info(f"{name} is up")
            node.run(stop)  # type: ignore[attr-defined]
    except Exception as error:
        text = clear_message(error)
        if text is None:
            raise
        print(f"{name}: {text}", file=sys.stderr)
        return EXIT_REFUSED
    finally:
        rclpy.try_shutdown()
    return EXIT_DONE


def main(argv: list[str] | None = None) -> int:
    return serve(SimRealSenseNode, "sim_realsense", argv)


if __name__ == "__main__":
    sys.exit(main())
