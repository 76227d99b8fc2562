"""An arm that practises for a measurement of the page: actor, control loop and simulated arm of a run, with cameras that stream.

Apart from the measurements because several look at the same arm.
"""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np

PICTURE, PICTURES_HZ = (360, 640), 15.0


class Still:
    """A policy that moves a little and never reaches anything."""

    ready, version, weight_age_s, irreversible = True, 1, 0.1, float("nan")

    def __init__(self, dim: int) -> None:
        self._action = np.zeros(dim, np.float32)
        self._action[1] = 0.2

    def begin(self) -> None:
        pass

    def prepare(self, observation: Any, phase: str) -> bool:
        return True

    def act(self, observation: Any, phase: str, explore: bool) -> np.ndarray:
        return self._action


class Arm:
    """Everything of an actor's process but its policy. `holds_s` and `acts_s` are the moments (``time.time()``) of what reached
    the arm.

    Attributes:
        config: the run's, observing poses.
        shown: the same for the page's process, which shows `cameras` beside the wide view.
    """

    def __init__(self, folder: Path, cameras: list[str], max_steps: int = 1000) -> None:
        from actor.control_loop import ControlLoop
        from actor.outbox import Outbox
        from actor.robots import make_robot
        from etude.config import load_run_config
        from etude_nodes.actor_node import ActorNode

        settings = ["robot=sim_panda", f"task.forward.max_steps={max_steps}", f"task.backward.max_steps={max_steps}"]
        config = load_run_config("robot_configs/runs/demo_state.yaml", settings)
        self.shown = config.model_copy(
            update={"observation": "pixels", "task": config.task.model_copy(update={"cameras": tuple(cameras)})}
        )
        self.robot = make_robot(config, 0)
        self.holds_s: list[float] = []
        self.acts_s: list[float] = []
        act, hold = self.robot.act, self.robot.hold

        def watched_act(action: np.ndarray) -> None:
            self.acts_s.append(time.time())
            act(action)

        def watched_hold() -> None:
            hold()
            self.holds_s.append(time.time())

        self.robot.act, self.robot.hold = watched_act, watched_hold  # type: ignore[method-assign]
        self.actor = ActorNode(config, Outbox(folder / "outbox.sqlite"), None, ())  # type: ignore[arg-type]
        policy = Still(self.robot.action_spec.dim)
        self.loop = ControlLoop(config, self.robot, policy, None, lambda step: None, first_segment=1, seed=0)  # type: ignore[arg-type]
        self.actor.serve(self.loop)
        self._stop = threading.Event()
        self._publishers = self._cameras(config.robot_namespace, ["beauty", *cameras])
        self._threads = [
            threading.Thread(target=self.loop.run, args=(self._stop,), daemon=True),
            threading.Thread(target=self._tell, daemon=True),
            threading.Thread(target=self._stream, daemon=True),
        ]
        for thread in self._threads:
            thread.start()

    def _cameras(self, namespace: str, names: list[str]) -> list[Any]:
        from sensor_msgs.msg import CompressedImage

        from etude_nodes import qos

        return [self.actor.create_publisher(CompressedImage, qos.camera_topic(namespace, name), qos.SENSOR) for name in names]

    def _tell(self) -> None:
        while not self._stop.wait(0.1):
            self.actor.publish_status(self.loop.status())

    def _stream(self) -> None:
        """Pictures with noise, which JPEG makes as large as those of a real camera."""
        from etude_nodes import convert

        rng = np.random.default_rng(0)
        pictures = []
        for shade in range(20):
            picture = rng.integers(0, 80, (*PICTURE, 3), np.uint8) + np.uint8(5 * shade)
            pictures.append(cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, 60])[1].tobytes())
        count = 0
        while not self._stop.wait(1.0 / PICTURES_HZ):
            count += 1
            for publisher in self._publishers:
                message = convert.CompressedImage(format="jpeg")
                message.header.stamp = self.actor.get_clock().now().to_msg()
                message.data = pictures[count % len(pictures)]
                publisher.publish(message)

    def end(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(timeout=5)
        self.actor.sender.stop()
        self.robot.close()
