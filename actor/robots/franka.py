"""A Franka arm (Panda or FR3) as a `Robot`: observations and actions are those of the simulated Panda, so policies fit both.

What is decided is here and needs no ROS; `actor/robots/ros_arm.py` is the ROS side. Commands pass `actor/command_filter.py` and
then the safety node.
"""

from __future__ import annotations

import logging
import re
import threading
import time
from typing import Any, Literal, Protocol

import numpy as np

from actor.cameras import Camera, Picture, as_seen, fits, problems_of
from actor.command_filter import CommandFilter, Measured
from actor.following import Following
from actor.gripper import Gripper
from actor.recovery import RecoveryLimit
from actor.robots.ros_arm import CALM_MODES, MODES, REFLEX, ArmState
from etude import frames
from etude.config import ConfigError, RobotConfig, TaskConfig
from etude.config.hardware import CameraConfig, CommandLimits, FrankaConfig
from etude.robot import Reading
from etude.specs import IMAGE_PREFIX, ActionSpec, Observation, ObservationSpec, digest

log = logging.getLogger("etude.arm")

SAFETY_SILENT_S = 0.3
FOLLOW_LEAD_M = 0.03
"""A command that was so far ahead of a free tool that stood still all the time: no controller follows."""
AXES, TURNS, GRIPPER = ("x", "y", "z"), ("roll", "pitch", "yaw"), "gripper"
SHARE_OF_PERIOD = 0.8
STRAY_M, STRAY_RAD = 0.02, 0.1
"""An arm that nobody's target moves is left alone within this: a target that follows a soft arm lets it sink."""
TOOL_DOWN = np.diag([1.0, -1.0, -1.0])
"""Rotation of a tool that points straight down with yaw 0."""


class Arm(Protocol):
    """What the driver asks of the ROS side (`actor.robots.ros_arm.RosArm`)."""

    calls: Any
    on_recover: Any

    def state(self) -> ArmState: ...

    def command(self, pose: np.ndarray) -> None: ...

    def close(self) -> None: ...


def limits_digest(limits: CommandLimits) -> str:
    """By which driver and safety node know that they keep the same limits."""
    return digest(limits.model_dump_json())


def specs_of(
    task: TaskConfig, config: FrankaConfig, observation: Literal["pixels", "state"]
) -> tuple[ObservationSpec, ActionSpec]:
    """Observations and actions of `task` on this arm. Raises ConfigError for what the arm does not have."""
    if observation == "state":
        raise ConfigError(
            "observation is 'state', the objects' true poses, and a real arm does not know them: use observation=pixels"
        )
    absent = [camera for camera in task.cameras if camera not in config.cameras]
    if absent:
        raise ConfigError(
            f"task {task.name!r} looks through cameras {', '.join(absent)}, which the robot does not have; it has "
            f"{', '.join(sorted(config.cameras)) or 'none'}: add them under franka.cameras in the robot's YAML"
        )
    unknown = [name for name in task.actions if name not in (*AXES, *TURNS, GRIPPER)]
    if unknown:
        raise ConfigError(f"task {task.name!r} has actions {unknown}; an arm has {', '.join((*AXES, *TURNS, GRIPPER))}")
    if GRIPPER in task.actions and config.gripper is None:
        raise ConfigError(f"task {task.name!r} moves a gripper and the robot has none: add franka.gripper to the robot's YAML")
    tool = config.frame == "tool"
    state = [f"tcp_{axis}{'_from_start' if tool else ''}_m" for axis in AXES]
    state += [f"tcp_velocity_{'tool_' if tool else ''}{axis}_m_s" for axis in AXES]
    if GRIPPER in task.actions:
        state.append("finger_opening_m")
    if "yaw" in task.actions:
        state += ["yaw_sin", "yaw_cos"]
    if "roll" in task.actions or "pitch" in task.actions:
        state += ["tool_axis_x", "tool_axis_y"]
    size = dict.fromkeys(AXES, config.translation_scale_m) | dict.fromkeys(TURNS, config.rotation_scale_rad) | {GRIPPER: 1.0}
    names = tuple(f"tool_{name}" if tool and name != GRIPPER else name for name in task.actions)
    cameras = dict.fromkeys(task.cameras, (task.image_size_px, task.image_size_px))
    return ObservationSpec(tuple(state), cameras), ActionSpec(names, tuple(size[name] for name in task.actions))


def open_cameras(cameras: dict[str, CameraConfig]) -> dict[str, Camera]:
    """Open those of `cameras` that no other program drives. Raises ConfigError when librealsense is not installed."""
    own = {name: config.realsense for name, config in cameras.items() if config.realsense is not None}
    if not own:
        return {}
    from actor.cameras.realsense import RealSense

    return {name: RealSense(config) for name, config in own.items()}


def _without_numbers(text: str) -> str:
    """So that an age that grows is one event in the log and not ten in a second."""
    return re.sub(r"[\d.]+", "", text)


class FrankaRobot:
    """Robot protocol over `Arm`. All methods return at once; setting up and recovering wait in threads of their own.

    `read` says what is wrong in `Reading.faults`, and then no action moves the arm. Before the first messages the reading is
    zeros and has faults.
    """

    advances_on_act = False

    def __init__(
        self,
        task: TaskConfig,
        robot: RobotConfig,
        observation: Literal["pixels", "state"],
        arm: Arm | None = None,
        *,
        namespace: str = "robot",
    ) -> None:
        config = robot.franka
        assert config is not None
        self._config, self._task = config, task
        self.observation_spec, self.action_spec = specs_of(task, config, observation)
        self.control_rate_hz = robot.control_rate_hz
        if arm is None:
            from actor.robots.ros_arm import RosArm

            arm = RosArm(config, namespace, task.cameras, limits_digest(config.limits))
        self._arm = arm
        self._cameras = open_cameras({name: config.cameras[name] for name in task.cameras})
        self._filter = CommandFilter(config.limits, 1.0 / robot.control_rate_hz)
        self._gripper = (
            Gripper(config.gripper, config.limits.gripper_max_width_m) if config.gripper and GRIPPER in task.actions else None
        )
        self._recovery = RecoveryLimit(config.recovery)
        self._busy = "the arm is being set up"
        self._trouble = ""
        self._ready = False
        self._commanded_s = -np.inf
        self._holding = self._was_followed = False
        self._following = Following(min(FOLLOW_LEAD_M, config.limits.max_lead_m / 2))
        self._start = frames.pose(np.zeros(3), TOOL_DOWN)
        self._said: tuple[str, ...] = ()
        self._last_state = ArmState()
        self._lock = threading.Lock()
        arm.on_recover = self.recover
        calls = self._set_up_calls()
        threading.Thread(target=self._run, args=(calls, "setting up"), name="arm-set-up", daemon=True).start()

    # --- the robot protocol -----------------------------------------------------------------------------------------------

    def read(self) -> Reading:
        state = self._last_state = self._arm.state()
        state.pictures |= self._own_pictures()
        now_s = time.monotonic()
        if self._holding:  # who stands asks for it once; braking takes several commands, and forces are watched meanwhile
            self._following.forget()
            self._command(state, None)
        faults = self._faults(state, now_s)
        observation, stamp_s, dark = self._observe(state, now_s)
        faults += dark + self._filter.refused
        if [_without_numbers(fault) for fault in faults] != [_without_numbers(fault) for fault in self._said]:
            log.log(logging.WARNING if faults else logging.INFO, "the arm: %s", "; ".join(faults) or "all is well")
        self._said = faults
        if (state.mode == REFLEX or self._trouble) and self._config.recovery.automatic and not self._busy:
            self.recover("the driver", automatic=True)
        position = None if state.pose is None else state.pose[:3, 3].copy()
        as_it_is = 1.0 if self._gripper is None else self._gripper.as_it_is
        return Reading(observation, stamp_s, position, faults, gripper_as_it_is=as_it_is)

    def act(self, action: np.ndarray) -> None:
        self.action_spec.check(action)
        state = self._arm.state()
        if self._filter.pose is None and state.pose is not None:
            self._filter.restart(state.pose)
        target = self._filter.pose
        if target is None:
            return
        value = {
            name.removeprefix("tool_"): float(v) * s
            for name, v, s in zip(self.action_spec.names, action, self.action_spec.scale, strict=True)
        }
        step = np.array([value.get(name, 0.0) for name in AXES])
        turn = np.array([value.get(name, 0.0) for name in TURNS])
        moved = frames.moved_in_tool if self._config.frame == "tool" else frames.moved_in_base
        if self._command(state, moved(target, step, turn)) and self._gripper is not None:
            wish = self._gripper.decide(value[GRIPPER], time.monotonic())
            if wish is not None:
                self._arm.calls.send(self._config.gripper.open if wish == "open" else self._config.gripper.close)  # type: ignore[union-attr]

    def hold(self) -> None:
        self._command(self._arm.state(), None)

    def begin_phase(self, phase: str, rng: np.random.Generator) -> bool:
        """With ``frame: tool`` observations are relative to where the tool is now; that shows in the next reading."""
        if self._config.frame != "tool" or self._last_state.pose is None:
            return False
        self._start = self._last_state.pose
        return True

    def expert_action(self, phase: str, rng: np.random.Generator) -> np.ndarray:
        raise NotImplementedError

    def hard_reset(self, phase: str, rng: np.random.Generator) -> None:
        raise NotImplementedError

    def render(self, camera: str, height: int, width: int) -> np.ndarray:
        """The newest picture of `camera` (of the first one for views that only a simulation has), scaled."""
        import cv2

        pictures = self._last_state.pictures
        picture = pictures.get(camera) or next(iter(pictures.values()), None)
        if picture is None or not picture.image.size:
            return np.zeros((height, width, 3), np.uint8)
        return cv2.resize(np.ascontiguousarray(picture.image), (width, height), interpolation=cv2.INTER_AREA)

    def close(self) -> None:
        for camera in self._cameras.values():
            camera.close()
        self._arm.close()

    # --- commands ---------------------------------------------------------------------------------------------------------

    def _command(self, state: ArmState, wanted: np.ndarray | None) -> bool:
        """Send the next command; True when nothing forbade the wanted one."""
        now_s = time.monotonic()
        brakes = wanted is None or (self._holding and not self._filter.at_rest)
        self._holding = self._holding or wanted is None
        if state.pose is None or (brakes and now_s - self._commanded_s < SHARE_OF_PERIOD / self.control_rate_hz):
            return False  # a loop that rests holds more often than it acts, and the filter counts in control periods
        self._holding, self._commanded_s = wanted is None, now_s
        faults = self._faults(state, now_s)
        # When no controller follows our target, or the safety node has put its own in its place, the next one begins where the
        # arm is; an old target would be jumped to as soon as a controller follows again.
        followed = self._calm(state) and not self._busy and not self._trouble and state.safety == ()
        if followed != self._was_followed or self._filter.pose is None or (not followed and self._strayed(state.pose)):
            self._filter.restart(state.pose)
        self._was_followed = followed
        wrench = state.wrench if self._config.topics.wrench else None
        command, _ = self._filter.next(wanted, Measured(state.pose, wrench, state.joints_rad, faults))
        self._arm.command(command)
        if wanted is None or faults:
            self._following.forget()  # nothing to follow
        else:
            self._watch_following(state, now_s)
        return not faults

    def _strayed(self, pose: np.ndarray) -> bool:
        command = self._filter.pose
        assert command is not None
        near = np.linalg.norm(command[:3, 3] - pose[:3, 3]) <= STRAY_M
        return not (near and frames.angle_between(command[:3, :3], pose[:3, :3]) <= STRAY_RAD)

    def _watch_following(self, state: ArmState, now_s: float) -> None:
        """A controller that is lost leaves the arm's state in order; it only does not move."""
        command = self._filter.pose
        if state.pose is None or command is None:
            return
        force_n = 0.0 if state.wrench is None else float(np.linalg.norm(state.wrench[:3]))
        if self._following.watch(command[:3, 3], state.pose[:3, 3], force_n, now_s) and not self._trouble:
            self._trouble = "the arm does not follow its commands: is its controller active? Recover it"

    def _faults(self, state: ArmState, now_s: float) -> tuple[str, ...]:
        """Everything for which the arm must not move on."""
        faults = [text for text in (self._busy, self._trouble) if text]
        if not self._calm(state):
            faults.append(state.mode)
        faults += state.errors
        heard = state.heard_s.get("the safety node")
        if heard is None or now_s - heard > SAFETY_SILENT_S:
            faults.append("the safety node is silent: is it running, in the arm's ROS domain?")
        elif state.safety:
            faults += [f"the safety node holds: {reason}" for reason in state.safety]
        faults += state.problems
        if stuck := self._stuck(now_s):
            faults.append(stuck)
        return tuple(faults)

    def _stuck(self, now_s: float) -> str:
        return "" if self._gripper is None else self._gripper.problem(self._last_state.width_m, now_s)

    def _calm(self, state: ArmState) -> bool:
        return not state.mode or state.mode in [MODES[number] for number in CALM_MODES]

    # --- observation ------------------------------------------------------------------------------------------------------

    def _observe(self, state: ArmState, now_s: float) -> tuple[Observation, float, tuple[str, ...]]:
        """The observation, the time of its oldest part, and what is wrong with its pictures."""
        stamps = [state.heard_s.get("the arm's pose") or -np.inf]
        observation, faults = self.observation_spec.zeros(), list[str]()
        if state.pose is not None and state.velocity_m_s is not None:
            observation["state"] = self._proprioception(state)
        for name in self._task.cameras:
            picture, config = state.pictures.get(name), self._config.cameras[name]
            trouble = self._cameras[name].trouble() if name in self._cameras else ""
            problems = problems_of(name, picture, config, now_s, trouble)
            faults += problems
            if picture is None or not fits(picture.image, config.crop_px):
                stamps.append(-np.inf)
                continue
            observation[IMAGE_PREFIX + name] = as_seen(picture.image, self._task.image_size_px, config.crop_px)
            stamps.append(picture.heard_s)
        return observation, float(min(stamps)), tuple(faults)

    def _own_pictures(self) -> dict[str, Picture]:
        """Of the cameras that this process opened; the others come with the arm's state."""
        newest = {name: camera.newest() for name, camera in self._cameras.items()}
        return {name: picture for name, picture in newest.items() if picture is not None}

    def _proprioception(self, state: ArmState) -> np.ndarray:
        assert state.pose is not None and state.velocity_m_s is not None
        pose, velocity = state.pose, state.velocity_m_s
        if self._config.frame == "tool":
            velocity = pose[:3, :3].T @ velocity
            pose = frames.relative_to(self._start, pose)
        # seen from a tool that points down, so that no rotation is the identity in either frame
        turned = pose[:3, :3] @ TOOL_DOWN if self._config.frame == "base" else pose[:3, :3]
        parts = [pose[:3, 3], velocity]
        if self._gripper is not None:
            parts.append(np.array([state.width_m]))
        if "yaw" in self._task.actions:
            yaw = np.arctan2(turned[1, 0], turned[0, 0])
            parts.append(np.array([np.sin(yaw), np.cos(yaw)]))
        if "roll" in self._task.actions or "pitch" in self._task.actions:
            parts.append(turned[:2, 2])
        return np.concatenate(parts).astype(np.float32)

    # --- setting up and recovery ------------------------------------------------------------------------------------------

    def _set_up_calls(self) -> list[Any]:
        config = self._config
        calls = [*config.set_up, *config.stiffness_presets.get(config.stiffness, ())]
        if self._gripper is not None and config.gripper is not None:
            calls += [config.gripper.homing] if config.gripper.homing else []
        return calls

    def _run(self, calls: list[Any], what: str) -> None:
        gripper = self._config.gripper
        try:
            self._arm.calls.prepare([gripper.open, gripper.close] if gripper and self._gripper else [])
            self._arm.calls.run(calls)
            self._trouble, self._ready = "", True
            if calls:
                log.info("%s the arm: %d calls succeeded", what, len(calls))
        except Exception as error:  # whatever a vendor's interface raises must reach the person, and the arm must not move
            self._trouble = f"{what} the arm failed: {error}"
            log.error("%s", self._trouble)
        finally:
            if self._gripper is not None:
                self._gripper.forget()
            self._following.forget()
            self._busy = ""

    def recover(self, who: str, automatic: bool = False) -> tuple[bool, str]:
        """Bring the arm back from a fault, in a thread of its own. Returns at once whether it began, and a sentence."""
        now_s = time.monotonic()
        with self._lock:
            refusal = self._busy or self._recovery.refusal(now_s, automatic)
            if refusal:
                return False, refusal
            self._recovery.began(now_s)
            self._busy = "the arm is being recovered"
        well = self._calm(self._last_state) and not self._last_state.errors and not self._trouble
        calls = [] if well else list(self._config.recovery.calls)
        gripper = self._config.gripper
        if not self._ready:
            calls += self._set_up_calls()
        elif self._gripper is not None and gripper is not None and gripper.homing is not None and self._stuck(now_s):
            calls.append(gripper.homing)
        log.warning("recovery asked for by %s, because: %s", who, "; ".join(self._said) or "no fault")
        threading.Thread(target=self._run, args=(calls, "recovering"), name="arm-recovery", daemon=True).start()
        return True, f"recovery began ({len(calls)} calls); the arm holds until it is done"
