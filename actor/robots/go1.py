"""A real Go1 as a `Robot`. With the low level its actions are those of the simulated Go1, so policies fit both; with the high
level they are displacements of the trunk, and Unitree's own controller walks.

What is decided is here and needs no ROS; `actor/robots/go1_ros.py` is the ROS side. Every action has passed `actor/safety.py`,
and passes `actor/go1_gate.py` in the safety node before it reaches the robot.
"""

from __future__ import annotations

import logging
import threading
import time
from typing import Any, Literal, Protocol

import numpy as np

from actor.cameras import Picture, as_seen, fits, problems_of
from actor.go1_gate import LET_GO, STANCE_RAD, limits_digest
from actor.recovery import RecoveryLimit
from actor.robots.franka import SAFETY_SILENT_S, open_cameras
from actor.robots.go1_ros import SAFETY, Go1State, lie_down_service, stand_up_service
from etude.config import ConfigError, RobotConfig, TaskConfig
from etude.config.go1 import Go1Config
from etude.config.hardware import RosCall
from etude.robot import Reading
from etude.specs import IMAGE_PREFIX, PHASES, ActionSpec, Observation, ObservationSpec

log = logging.getLogger("etude.go1")

JOINTS = tuple(f"{leg}_{part}" for leg in ("FR", "FL", "RR", "RL") for part in ("abduction", "thigh", "knee"))
ACTION_SCALE_RAD = np.tile([0.6, 1.2, 0.9], 4)
"""Of an action of 1 around the stance, as in simulation."""
SUMMARY_S = 0.5
"""Time constant of the slow averages in the observation, as in simulation."""
SHARE_OF_PERIOD = 0.8
GET_UP_S = 15.0
DEFAULT_DISTANCE_M = 2.0


class Legged(Protocol):
    """What the driver asks of the ROS side (`actor.robots.go1_ros.RosGo1`)."""

    calls: Any
    on_recover: Any

    def state(self) -> Go1State: ...

    def walk(self, velocity: np.ndarray) -> None: ...

    def move(self, target_rad: np.ndarray) -> None: ...

    def close(self) -> None: ...


def specs_of(
    task: TaskConfig, config: Go1Config, control_rate_hz: float, observation: Literal["pixels", "state"]
) -> tuple[ObservationSpec, ActionSpec]:
    """Observations and actions of `task` on this robot. Raises ConfigError for what it does not have."""
    unknown = sorted(set(task.options) - {"distance_m"})
    if unknown:
        raise ConfigError(f"task {task.name!r} has options {unknown} that a Go1 does not know; it knows distance_m")
    wanted = task.cameras if observation == "pixels" else ()
    absent = [camera for camera in wanted if camera not in config.cameras]
    if absent:
        raise ConfigError(
            f"task {task.name!r} looks through cameras {', '.join(absent)}, which the robot does not have; it has "
            f"{', '.join(sorted(config.cameras)) or 'none'}: add them under go1.cameras in the robot's YAML"
        )
    attitude = ["gravity_x", "gravity_y", "gravity_z", "gyro_x_rad_s", "gyro_y_rad_s", "gyro_z_rad_s"]
    motion = ["speed_x_m_s", "speed_y_m_s", "speed_z_m_s", "heading_sin", "heading_cos"]
    if config.level == "low":
        names = [f"{joint}_rad" for joint in JOINTS] + [f"{joint}_rad_s" for joint in JOINTS] + attitude + motion
        names += [f"previous_{joint}" for joint in JOINTS] + [f"slow_error_{joint}_rad" for joint in JOINTS]
        names += ["slow_speed_x_m_s", "slow_speed_y_m_s", "slow_gyro_z_rad_s", "way_m"]
        actions = ActionSpec(tuple(f"{joint}_joint" for joint in JOINTS), tuple(ACTION_SCALE_RAD))
    else:
        names = [*attitude, *motion, "way_m", "way_left_m"]
        largest = config.velocity.largest
        step = (largest[0] / control_rate_hz, largest[0] / control_rate_hz, largest[2] / control_rate_hz)
        actions = ActionSpec(("x", "y", "yaw"), step)
    return ObservationSpec(tuple(names), dict.fromkeys(wanted, (task.image_size_px, task.image_size_px))), actions


class Go1Robot:
    """Robot protocol over `Legged`. All methods return at once; getting up waits in a thread of its own.

    `read` says what is wrong in `Reading.faults`, and then no action counts. Success of the walking task (option ``distance_m``)
    is judged by odometry, which drifts. High-level actions are displacements per control step in the frame in which the run
    began, x ahead, so the safety filter's box is the area in which it may walk.
    """

    advances_on_act = False

    def __init__(
        self,
        task: TaskConfig,
        robot: RobotConfig,
        observation: Literal["pixels", "state"],
        legged: Legged | None = None,
        *,
        namespace: str = "robot",
    ) -> None:
        config = robot.go1
        assert config is not None
        self._config, self._task, self._safety = config, task, robot.safety
        self.observation_spec, self.action_spec = specs_of(task, config, robot.control_rate_hz, observation)
        self.control_rate_hz = robot.control_rate_hz
        seen = tuple(self.observation_spec.cameras)
        if legged is None:
            from actor.robots.go1_ros import RosGo1

            legged = RosGo1(config, namespace, seen, limits_digest(config))
        self._legged = legged
        self._cameras = open_cameras({name: config.cameras[name] for name in seen})
        self._low = config.level == "low"
        self._distance_m = task.options.get("distance_m", DEFAULT_DISTANCE_M)
        self._recovery = RecoveryLimit(config.recovery)
        trigger = "std_srvs/srv/Trigger"
        self._stand_up = RosCall(service=stand_up_service(namespace), type=trigger)
        self._lie_down = RosCall(service=lie_down_service(namespace), type=trigger)
        self._busy = self._trouble = ""
        self._said: tuple[str, ...] = ()
        self._last = Go1State()
        self._lock = threading.Lock()
        self._keep = float(np.exp(-1.0 / (robot.control_rate_hz * SUMMARY_S)))
        self._action, self._error, self._slow = np.zeros(12), np.zeros(12), np.zeros(3)
        self._commanded_s = -np.inf
        legged.on_recover = self.recover

    # --- the robot protocol -----------------------------------------------------------------------------------------------

    def read(self) -> Reading:
        state = self._last = self._legged.state()
        for name, camera in self._cameras.items():
            picture = camera.newest()
            if picture is not None:
                state.pictures[name] = picture
        now_s = time.monotonic()
        faults = self._faults(state, now_s)
        observation, stamp_s, dark = self._observe(state, now_s)
        faults += dark
        if faults != self._said:
            log.log(logging.WARNING if faults else logging.INFO, "the Go1: %s", "; ".join(faults) or "all is well")
        self._said = faults
        if self._config.recovery.automatic and not self._busy and state.safety and LET_GO in state.safety:
            self.recover("the driver", automatic=True)
        place = state.position_m
        truth = None if place is None else {PHASES[0]: bool(place[0] >= self._distance_m), PHASES[1]: bool(place[0] <= 0.0)}
        where = None if place is None else np.array([place[0], place[1], 0.0])
        return Reading(observation, stamp_s, where, faults, success_truth=truth)

    def act(self, action: np.ndarray) -> None:
        self.action_spec.check(action)
        state = self._legged.state()
        if self._faults(state, time.monotonic()):
            self.hold()
        elif self._low:
            self._summarise(state)
            self._action = action.astype(float)
            self._legged.move(STANCE_RAD + ACTION_SCALE_RAD * self._action)
        else:
            x, y, yaw = action.astype(float) * np.array(self.action_spec.scale) * self.control_rate_hz
            cos, sin = np.cos(state.heading_rad), np.sin(state.heading_rad)
            self._legged.walk(np.array([cos * x + sin * y, cos * y - sin * x, yaw]))

    def hold(self) -> None:
        """Stand: velocity zero, or the joint targets as they are."""
        if not self._low:
            self._legged.walk(np.zeros(3))
            return
        now_s = time.monotonic()
        if now_s - self._commanded_s >= SHARE_OF_PERIOD / self.control_rate_hz:  # who rests may hold more often than it acts
            self._summarise(self._legged.state())
            self._legged.move(STANCE_RAD + ACTION_SCALE_RAD * self._action)

    def begin_phase(self, phase: str, rng: np.random.Generator) -> bool:
        """The observation shows no goal."""
        return False

    def expert_action(self, phase: str, rng: np.random.Generator) -> np.ndarray:
        raise NotImplementedError

    def hard_reset(self, phase: str, rng: np.random.Generator) -> None:
        raise NotImplementedError

    def render(self, camera: str, height: int, width: int) -> np.ndarray:
        """The newest picture of `camera` (of the first one for views that only a simulation has), scaled; black without one."""
        import cv2

        picture = self._last.pictures.get(camera) or next(iter(self._last.pictures.values()), None)
        if picture is None or not picture.image.size:
            return np.zeros((height, width, 3), np.uint8)
        return cv2.resize(np.ascontiguousarray(picture.image), (width, height), interpolation=cv2.INTER_AREA)

    def close(self) -> None:
        for camera in self._cameras.values():
            camera.close()
        self._legged.close()

    # --- judging ----------------------------------------------------------------------------------------------------------

    def _faults(self, state: Go1State, now_s: float) -> tuple[str, ...]:
        """Everything for which the robot must not move on."""
        faults = [text for text in (self._busy, self._trouble) if text]
        heard = state.heard_s.get(SAFETY)
        if heard is None or now_s - heard > SAFETY_SILENT_S:
            faults.append("the safety node is silent: is it running, in the robot's ROS domain?")
        elif state.safety:
            faults += [f"the safety node holds: {reason}" for reason in state.safety]
        faults += state.problems
        if self._low and (outside := self._outside(state)):
            faults.append(outside)
        return tuple(faults)

    def _outside(self, state: Go1State) -> str:
        """With joint targets nothing can steer it back into its area, so a person must."""
        low, high, place = self._safety.workspace_min_m, self._safety.workspace_max_m, state.position_m
        if place is None or low is None or high is None:
            return ""
        if all(low[i] <= place[i] <= high[i] for i in range(2)):
            return ""
        return f"it left its area: it is at x {place[0]:.1f}, y {place[1]:.1f} m by odometry (safety.workspace_*)"

    # --- observation ------------------------------------------------------------------------------------------------------

    def _observe(self, state: Go1State, now_s: float) -> tuple[Observation, float, tuple[str, ...]]:
        """The observation, the time of its oldest part, and what is wrong with its pictures."""
        observation, faults = self.observation_spec.zeros(), list[str]()
        stamps = [heard if heard is not None else -np.inf for name, heard in state.heard_s.items() if name != SAFETY]
        vector = self._proprioception(state)
        if vector is None:
            stamps.append(-np.inf)
        else:
            observation["state"] = vector
        for name in self.observation_spec.cameras:
            picture, config = state.pictures.get(name), self._config.cameras[name]
            trouble = self._cameras[name].trouble() if name in self._cameras else ""
            faults += problems_of(name, picture, config, now_s, trouble)
            if not self._seen(picture, config.crop_px):
                stamps.append(-np.inf)
                continue
            assert picture is not None
            observation[IMAGE_PREFIX + name] = as_seen(picture.image, self._task.image_size_px, config.crop_px)
            stamps.append(picture.heard_s)
        return observation, float(min(stamps, default=-np.inf)), tuple(faults)

    @staticmethod
    def _seen(picture: Picture | None, crop_px: tuple[int, int, int] | None) -> bool:
        return picture is not None and bool(picture.image.size) and fits(picture.image, crop_px)

    def _proprioception(self, state: Go1State) -> np.ndarray | None:
        """float32 as in the specification; None before all its parts were heard."""
        rotation, gyroscope, velocity, place = state.rotation, state.gyroscope_rad_s, state.velocity_m_s, state.position_m
        if rotation is None or gyroscope is None or velocity is None or place is None:
            return None
        common = [-rotation[2], gyroscope, velocity, [np.sin(state.heading_rad), np.cos(state.heading_rad)]]
        if not self._low:
            return np.concatenate([*common, place]).astype(np.float32)
        if state.joints_rad is None or state.speeds_rad_s is None:
            return None
        parts = [state.joints_rad - STANCE_RAD, state.speeds_rad_s, *common, self._action, self._error, self._slow, place[:1]]
        return np.concatenate(parts).astype(np.float32)

    def _summarise(self, state: Go1State) -> None:
        """Take a control step's end into the slow averages: the error of the targets that were, velocity and yaw rate."""
        self._commanded_s = time.monotonic()
        if state.joints_rad is None or state.velocity_m_s is None or state.gyroscope_rad_s is None:
            return
        error = STANCE_RAD + ACTION_SCALE_RAD * self._action - state.joints_rad
        self._error = self._keep * self._error + (1 - self._keep) * error
        now = np.array([*state.velocity_m_s[:2], state.gyroscope_rad_s[2]])
        self._slow = self._keep * self._slow + (1 - self._keep) * now

    # --- getting up -------------------------------------------------------------------------------------------------------

    def recover(self, who: str, automatic: bool = False) -> tuple[bool, str]:
        """Make it stand up, in a thread of its own. Returns at once whether it began, and a sentence."""
        now_s = time.monotonic()
        with self._lock:
            refusal = self._busy or self._recovery.refusal(now_s, automatic)
            if refusal:
                return False, refusal
            self._recovery.began(now_s)
            self._busy = "the robot is getting up"
        log.warning("asked to get up by %s, because: %s", who, "; ".join(self._said) or "no fault")
        threading.Thread(target=self._get_up, name="go1-get-up", daemon=True).start()
        return True, "the robot gets up; actions count when it stands"

    def lie_down(self) -> None:
        """Fold the legs and let them go. Waits for the answer. Raises RosCallError when the safety node does not answer."""
        self._legged.calls.run([self._lie_down])

    def _get_up(self) -> None:
        try:
            self._legged.calls.run([*self._config.recovery.calls, self._stand_up])
            self._action, self._error, self._slow = np.zeros(12), np.zeros(12), np.zeros(3)
            until = time.monotonic() + GET_UP_S
            while self._legged.state().safety != ():
                if time.monotonic() > until:
                    raise TimeoutError("; ".join(self._legged.state().safety or ("the safety node is silent",)))
                time.sleep(0.05)
            self._trouble = ""
        except Exception as error:  # whatever a vendor's interface raises must reach the person, and the robot must not move
            self._trouble = f"getting up failed: {error}"
            log.error("%s", self._trouble)
        finally:
            self._busy = ""
