"""Real arms: limits of every command, ROS names, gripper, recovery, cameras. Base frame, SI units; both are in the names.

What belongs to a vendor is data here (`RosCall`, topic names), so that another controller or gripper is another YAML file.
"""

from __future__ import annotations

import math
from typing import Any, Literal

from pydantic import Field, model_validator

from etude.config.model import Model

Vector3 = tuple[float, float, float]


class CommandLimits(Model):
    """Limits that every commanded tool pose keeps (actor/command_filter.py). A command is where the tool shall be one control
    period later; velocity and the like are of the sequence of commands."""

    workspace_min_m: Vector3
    workspace_max_m: Vector3
    max_step_m: float = Field(0.06, gt=0, description="Between two commands.")
    max_velocity_m_s: float = Field(0.5, gt=0)
    max_acceleration_m_s2: float = Field(4.0, gt=0)
    max_jerk_m_s3: float = Field(80.0, gt=0)
    max_angular_velocity_rad_s: float = Field(1.5, gt=0)
    max_tilt_rad: float = Field(0.5, ge=0, le=math.pi / 2, description="Cone of the tool's z axis around straight down.")
    max_lead_m: float = Field(0.05, gt=0, description="A new target is at most so far from where the tool is.")
    max_lag_m: float = Field(0.15, gt=0, description="The last command and the tool farther apart: the arm does not follow.")
    max_force_n: float = Field(20.0, gt=0, description="External force at the tool.")
    max_torque_nm: float = Field(8.0, gt=0, description="External torque at the tool.")
    joint_min_rad: tuple[float, ...] = Field((), description="Of the arm's joints in order; empty: not supervised.")
    joint_max_rad: tuple[float, ...] = ()
    joint_margin_rad: float = Field(0.1, ge=0, description="Closer to a joint's limit, only motion back is allowed.")
    min_singularity_margin_m: float = Field(
        0.0,
        ge=0,
        description="Smallest singular value of the arm's Jacobian (actor/arm_jacobian.py); closer to a singularity, only motion "
        "back is allowed. 0: not supervised. For arms with a Panda's geometry.",
    )
    gripper_max_width_m: float = Field(0.08, gt=0)
    reaction: Literal["hold", "retract", "damp"] = Field(
        "hold",
        description="When motion is refused: hold stops at once, damp brakes within the limits, retract brakes and rises as "
        "long as the arm's state is known.",
    )
    retract_velocity_m_s: float = Field(0.05, gt=0)

    @model_validator(mode="after")
    def _limits_fit(self) -> "CommandLimits":
        if not all(low < high for low, high in zip(self.workspace_min_m, self.workspace_max_m, strict=True)):
            raise ValueError("workspace_min_m must lie below workspace_max_m on every axis")
        if len(self.joint_min_rad) != len(self.joint_max_rad):
            raise ValueError("joint_min_rad and joint_max_rad must name the same number of joints")
        if self.min_singularity_margin_m and len(self.joint_min_rad) != 7:
            raise ValueError("min_singularity_margin_m is for an arm of seven joints with a Panda's geometry; name their limits")
        for low, high in zip(self.joint_min_rad, self.joint_max_rad, strict=True):
            if not low + 2 * self.joint_margin_rad < high:
                raise ValueError(f"joint_margin_rad leaves no room between {low:g} and {high:g} rad")
        if self.max_lag_m <= self.max_lead_m:
            raise ValueError("max_lag_m must be larger than max_lead_m, or every motion would count as not followed")
        return self


class RosCall(Model):
    """One message, service call or action goal: what a vendor's interface wants, as data.

    Exactly one of `topic`, `service` and `action` is its name.
    """

    topic: str = ""
    service: str = ""
    action: str = ""
    type: str = Field(description="ROS interface, e.g. franka_msgs/action/Grasp; its package must be installed.")
    fields: dict[str, Any] = Field(
        default_factory=dict, description="Values of the message, request or goal; others are default."
    )
    timeout_s: float = Field(10.0, gt=0)

    @model_validator(mode="after")
    def _has_one_name(self) -> "RosCall":
        given = [kind for kind in ("topic", "service", "action") if getattr(self, kind)]
        kind = {"msg": "topic", "srv": "service", "action": "action"}.get(self.type.partition("/")[2].partition("/")[0])
        if len(given) != 1 or kind != given[0] or self.type.count("/") != 2:
            raise ValueError("name exactly one of topic, service and action, with a type of its kind, e.g. std_srvs/srv/Trigger")
        return self

    @property
    def name(self) -> str:
        return self.topic or self.service or self.action


class ArmTopics(Model):
    """Names of the arm's topics; the defaults are those of CRISP's controllers and of franka_ros2's state broadcaster."""

    target_pose: str = Field("/target_pose", description="geometry_msgs/PoseStamped, the controller's input.")
    current_pose: str = Field("/current_pose", description="geometry_msgs/PoseStamped of the tool centre point.")
    joint_states: str = Field("/joint_states", description="sensor_msgs/JointState")
    wrench: str = Field(
        "/franka_robot_state_broadcaster/external_wrench_in_base_frame",
        description="geometry_msgs/WrenchStamped: what the world exerts on the tool, base frame; empty: the arm has none, and "
        "forces are not supervised.",
    )
    robot_state: str = Field("/franka_robot_state_broadcaster/robot_state", description="Mode and errors; empty: none.")
    robot_state_type: Literal["franka_msgs/msg/FrankaRobotState", "std_msgs/msg/UInt8"] = Field(
        "franka_msgs/msg/FrankaRobotState", description="UInt8 is the mode alone, with the numbers of FrankaRobotState."
    )


class GripperConfig(Model):
    """A gripper that opens and closes. Between the thresholds of the normalised action (-1 closed, +1 open) it stays."""

    open: RosCall
    close: RosCall
    homing: RosCall | None = Field(None, description="Once, before the first command.")
    open_above: float = Field(0.3, gt=-1, lt=1)
    close_below: float = Field(-0.3, gt=-1, lt=1)
    finger_joints: tuple[str, ...] = Field(
        min_length=1, description="In joint_states; the width, which is observed, is the sum of their positions, m."
    )
    stuck_after_s: float = Field(3.0, gt=0, description="Neither opened nor moved for so long after a command: a fault.")

    @model_validator(mode="after")
    def _thresholds_are_apart(self) -> "GripperConfig":
        if self.close_below >= self.open_above:
            raise ValueError("close_below must be smaller than open_above, or the gripper would chatter")
        return self


class RecoveryConfig(Model):
    """What brings the arm back after a reflex stop: an act of its own, logged, and never more often than this."""

    calls: tuple[RosCall, ...] = ()
    automatic: bool = Field(False, description="The driver recovers by itself; otherwise a person asks for it.")
    min_interval_s: float = Field(10.0, gt=0)
    max_per_hour: int = Field(6, ge=1)


class RealSenseConfig(Model):
    """A RealSense camera that this computer opens by itself (actor/cameras/realsense.py)."""

    serial: str = Field("", description="As printed by `etude camera list`; empty: the only one that is connected.")
    width_px: int = Field(640, ge=64)
    height_px: int = Field(480, ge=64)
    rate_hz: int = Field(30, ge=5, le=90)
    exposure_us: float | None = Field(
        None, gt=0, description="Lock the colour sensor's exposure; None: automatic, which changes what a policy sees."
    )
    white_balance_k: float | None = Field(None, gt=0, description="Lock the white balance, kelvin; None: automatic.")
    reset_at_start: bool = Field(False, description="Reset the camera's hardware first; it takes some seconds.")
    recording: str = Field("", description="Play this recording (.db3 or .bag) in a loop instead of a camera.")


class CameraConfig(Model):
    """A camera: either the topic of another program that drives it, or a RealSense that is opened here. What a policy sees is a
    square of the picture, scaled to the task's size."""

    topic: str = Field("", description="sensor_msgs/Image (rgb8 or bgr8), or CompressedImage when the name ends in /compressed.")
    realsense: RealSenseConfig | None = None
    crop_px: tuple[int, int, int] | None = Field(
        None, description="left, top and size of the square, pixels; None: the largest one in the middle (`etude camera crop`)."
    )
    max_age_s: float = Field(0.3, gt=0)
    frozen_after_s: float = Field(1.0, gt=0, description="The same picture, bit for bit, for so long: the camera hangs.")

    @model_validator(mode="after")
    def _has_one_source(self) -> "CameraConfig":
        if bool(self.topic) == (self.realsense is not None):
            raise ValueError("a camera has either a topic or realsense, and exactly one of them")
        if self.crop_px is not None and (min(self.crop_px[:2]) < 0 or self.crop_px[2] < 16):
            raise ValueError("crop_px is left, top and size, none of them negative and the size at least 16 pixels")
        return self


class FrankaConfig(Model):
    """A Franka arm behind ROS 2 (actor/robots/franka.py)."""

    ros_domain_id: int = Field(
        0, ge=0, le=232, description="Where the arm's controllers talk; the run itself has a domain of its own."
    )
    base_frame: str = Field("base", description="Expected in every pose's header; an empty header passes.")
    joint_names: tuple[str, ...] = ()
    limits: CommandLimits
    home_m: Vector3 | None = Field(
        None, description="Where `etude robot home` leads the tool; none: the middle of the box, at three quarters of its height."
    )
    topics: ArmTopics = ArmTopics()
    gripper: GripperConfig | None = None
    recovery: RecoveryConfig = RecoveryConfig()
    set_up: tuple[RosCall, ...] = Field((), description="Before the first command: collision thresholds, load, controllers.")
    stiffness: str = Field("", description="Name of the preset that is set before practice; empty: as the controller is.")
    stiffness_presets: dict[str, tuple[RosCall, ...]] = Field(default_factory=dict)
    cameras: dict[str, CameraConfig] = Field(default_factory=dict, description="By the names that tasks use.")
    frame: Literal["base", "tool"] = Field(
        "base",
        description="Of translations and turns in actions. tool: along the tool's own axes, and observed poses are relative to "
        "where the attempt began.",
    )
    translation_scale_m: float = Field(0.03, gt=0, description="An action of 1, per control step.")
    rotation_scale_rad: float = Field(0.2, gt=0)
    max_state_age_s: float = Field(0.1, gt=0, description="Of pose, joints, wrench and mode.")
    max_clock_skew_s: float = Field(0.1, gt=0, description="Stamps of the arm's computer against this computer's clock.")

    @model_validator(mode="after")
    def _parts_fit(self) -> "FrankaConfig":
        if self.stiffness and self.stiffness not in self.stiffness_presets:
            raise ValueError(f"stiffness {self.stiffness!r} is not among stiffness_presets: {sorted(self.stiffness_presets)}")
        if self.limits.joint_min_rad and len(self.joint_names) != len(self.limits.joint_min_rad):
            raise ValueError("joint_names must name the joints of limits.joint_min_rad, in the same order")
        return self
