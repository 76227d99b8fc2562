"""Two Franka arms as one `Robot`: observations and actions side by side, each arm with its own driver, filter and safety node.

Names begin with the side: ``left_x``, ``right_tcp_x_m``. Cameras keep their names. Any fault of one arm is a fault of the robot,
so both hold; the drivers hold on their own besides.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from actor.robots.franka import FrankaRobot
from actor.safety import grippers
from etude.config import ConfigError, RobotConfig, TaskConfig
from etude.robot import Reading
from etude.specs import ActionSpec, ObservationSpec, bare, side_of


def task_of(task: TaskConfig, robot: RobotConfig, side: str) -> TaskConfig:
    """What `task` moves of one arm, and the cameras that are listed with it.

    Raises:
        ConfigError: an action names no arm, or a camera belongs to neither.
    """
    astray = [name for name in task.actions if not side_of(name)]
    if astray:
        raise ConfigError(
            f"task {task.name!r} has actions {astray}; robot {robot.name!r} has two arms: say which, e.g. left_{astray[0]}"
        )
    known = {name for arm in robot.arms.values() for name in arm.cameras}
    absent = [name for name in task.cameras if name not in known]
    if absent:
        raise ConfigError(
            f"task {task.name!r} looks through cameras {absent}, which neither arm lists; there are {sorted(known)}"
        )
    actions = tuple(bare(name) for name in task.actions if side_of(name) == side)
    if not actions:
        raise ConfigError(f"task {task.name!r} moves nothing of the {side} arm: use a robot with one arm, or name what it moves")
    mine = robot.arms["left" if side == "left" else "right"].cameras
    return task.model_copy(update={"actions": actions, "cameras": tuple(name for name in task.cameras if name in mine)})


class TwoArms:
    """Robot protocol over two `FrankaRobot`s; see them for what an arm does. No tool position is told, since there are two: the
    boxes are the drivers' and the safety nodes'."""

    advances_on_act = False

    def __init__(
        self,
        task: TaskConfig,
        robot: RobotConfig,
        observation: Literal["pixels", "state"],
        *,
        namespace: str = "robot",
    ) -> None:
        self.control_rate_hz = robot.control_rate_hz
        parts = [(side, task_of(task, robot, side), config) for side, config in robot.frankas.items()]
        self._arms: dict[str, FrankaRobot] = {}
        try:
            for side, own_task, config in parts:
                own = robot.model_copy(update={"franka": config, "arms": {}})
                self._arms[side] = FrankaRobot(own_task, own, observation, namespace=f"{namespace}/{side}")
        except BaseException:
            self.close()
            raise
        states = [f"{side}_{name}" for side, arm in self._arms.items() for name in arm.observation_spec.state_names]
        cameras = {name: size for arm in self._arms.values() for name, size in arm.observation_spec.cameras.items()}
        self.observation_spec = ObservationSpec(tuple(states), {name: cameras[name] for name in task.cameras})
        scale = {
            f"{side}_{name}": value
            for side, arm in self._arms.items()
            for name, value in zip(arm.action_spec.names, arm.action_spec.scale, strict=True)
        }
        self.action_spec = ActionSpec(tuple(scale), tuple(scale.values()))
        self._slices: dict[str, slice] = {}
        begin = 0
        for side, arm in self._arms.items():
            self._slices[side] = slice(begin, begin + arm.action_spec.dim)
            begin += arm.action_spec.dim

    def read(self) -> Reading:
        readings = {side: arm.read() for side, arm in self._arms.items()}
        observation = {key: value for one in readings.values() for key, value in one.observation.items() if key != "state"}
        observation["state"] = np.concatenate([one.observation["state"] for one in readings.values()])
        faults = tuple(f"{side} arm: {fault}" for side, one in readings.items() for fault in one.faults)
        as_it_is = next((readings[side].gripper_as_it_is for side in self._arms if grippers(self._arms[side].action_spec)), 1.0)
        return Reading(observation, min(one.stamp_s for one in readings.values()), None, faults, gripper_as_it_is=as_it_is)

    def act(self, action: np.ndarray) -> None:
        self.action_spec.check(action)
        for side, arm in self._arms.items():
            arm.act(action[self._slices[side]])

    def hold(self) -> None:
        for arm in self._arms.values():
            arm.hold()

    def begin_phase(self, phase: str, rng: np.random.Generator) -> bool:
        changed = [arm.begin_phase(phase, rng) for arm in self._arms.values()]  # of both, whatever the first one says
        return any(changed)

    def expert_action(self, phase: str, rng: np.random.Generator) -> np.ndarray:
        raise NotImplementedError

    def hard_reset(self, phase: str, rng: np.random.Generator) -> None:
        raise NotImplementedError

    def render(self, camera: str, height: int, width: int) -> np.ndarray:
        """The newest picture of `camera`, of whichever arm lists it; of the first arm's for views that only a simulation has."""
        for arm in self._arms.values():
            if camera in arm.observation_spec.cameras:
                return arm.render(camera, height, width)
        return next(iter(self._arms.values())).render(camera, height, width)

    def close(self) -> None:
        for arm in self._arms.values():
            arm.close()
