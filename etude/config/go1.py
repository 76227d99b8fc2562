"""A real Go1: how it is reached and which limits hold. Trunk frame: x ahead, y left, z up. SI units; both are in the names.

Joints in Unitree's order: legs FR, FL, RR, RL, each hip, thigh, calf. Joint limits: unitree_legged_sdk, go1_const.h.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from etude.config.hardware import CameraConfig, RecoveryConfig
from etude.config.model import Model

SERVO = 12


class VelocityLimits(Model):
    """Of the trunk, for ``level: high``. An action of 1 asks for the largest velocity."""

    max_forward_m_s: float = Field(0.5, gt=0, le=1.1)
    max_sideways_m_s: float = Field(0.25, gt=0, le=1.0)
    max_turn_rad_s: float = Field(0.8, gt=0, le=4.0)
    max_acceleration_m_s2: float = Field(1.5, gt=0)
    max_turn_acceleration_rad_s2: float = Field(3.0, gt=0)

    @property
    def largest(self) -> tuple[float, float, float]:
        """Forward m/s, left m/s, turn to the left rad/s."""
        return (self.max_forward_m_s, self.max_sideways_m_s, self.max_turn_rad_s)


class JointLimits(Model):
    """Of the joint targets that reach the motors, for ``level: low``, and of what the legs may do before they are let go."""

    joint_min_rad: tuple[float, ...] = (-1.047, -0.663, -2.721) * 4
    joint_max_rad: tuple[float, ...] = (1.047, 2.966, -0.837) * 4
    joint_margin_rad: float = Field(0.02, ge=0, description="Targets stay so far inside.")
    max_joint_velocity_rad_s: float = Field(18.0, gt=0, description="Of a target.")
    rise_velocity_rad_s: float = Field(0.8, gt=0, description="Of a target while the robot gets up from where it lies.")
    stiffness_nm_rad: float = Field(60.0, gt=0, le=200)
    damping_nm_s_rad: float = Field(2.0, gt=0, le=20)
    max_torque_nm: float = Field(
        23.7, gt=0, le=35.5, description="Stiffness times the distance of a target from its joint keeps below this."
    )
    stop_damping_nm_s_rad: float = Field(
        3.0, gt=0, le=20, description="Of the damped stop: no stiffness, the robot sinks slowly."
    )
    fault_joint_velocity_rad_s: float = Field(28.0, gt=0, description="A joint that is faster: damped stop.")
    max_temperature_c: float = Field(75.0, gt=0, description="A motor that is hotter: damped stop.")

    @model_validator(mode="after")
    def _limits_fit(self) -> "JointLimits":
        if len(self.joint_min_rad) != SERVO or len(self.joint_max_rad) != SERVO:
            raise ValueError("joint_min_rad and joint_max_rad name the 12 joints: FR, FL, RR, RL, each hip, thigh, calf")
        for low, high in zip(self.joint_min_rad, self.joint_max_rad, strict=True):
            if not low + 2 * self.joint_margin_rad < high:
                raise ValueError(f"joint_margin_rad leaves no room between {low:g} and {high:g} rad")
        return self


class Go1Topics(Model):
    """Of a driver of the high level; the defaults are those of unitree_ros."""

    cmd_vel: str = Field("/cmd_vel", description="geometry_msgs/Twist, trunk frame.")
    stand_up: str = Field("/stand_up", description="std_msgs/Empty")
    stand_down: str = Field("/stand_down", description="std_msgs/Empty")
    odom: str = Field("/odom", description="nav_msgs/Odometry")
    imu: str = Field("/imu", description="sensor_msgs/Imu")
    joint_states: str = Field("/joint_states", description="sensor_msgs/JointState, names in joint_names.")


class UdpConfig(Model):
    """The motors' own interface, for ``level: low``."""

    address: str = Field("192.168.123.10", description="Of the motor controller; a cable, never Wi-Fi.")
    port: int = Field(8007, ge=1, le=65535)
    local_port: int = Field(8090, ge=0, le=65535, description="0 takes any.")
    rate_hz: float = Field(500.0, ge=50, le=1000, description="Packets to the robot; it answers each with its state.")


class Go1Config(Model):
    """A Go1 that is reached over the network (actor/robots/go1.py)."""

    level: Literal["high", "low"] = Field(
        "high",
        description="high: actions are velocities of the trunk, Unitree's own controller walks. low: actions are joint targets, "
        "as the simulated Go1 has them; needs the robot in its low-level mode.",
    )
    ros_domain_id: int = Field(0, ge=0, le=232, description="Where the robot's driver and our safety node talk.")
    topics: Go1Topics = Go1Topics()
    joint_names: tuple[str, ...] = Field(
        tuple(f"{leg}_{part}_joint" for leg in ("FR", "FL", "RR", "RL") for part in ("hip", "thigh", "calf")),
        min_length=SERVO,
        max_length=SERVO,
        description="In joint_states, in Unitree's order.",
    )
    udp: UdpConfig = UdpConfig()
    velocity: VelocityLimits = VelocityLimits()
    joints: JointLimits = JointLimits()
    max_tilt_rad: float = Field(0.8, gt=0, le=1.5, description="Of the trunk, roll and pitch each; more: it falls.")
    recovery: RecoveryConfig = RecoveryConfig()
    cameras: dict[str, CameraConfig] = Field(default_factory=dict, description="By the names that tasks use.")
    max_state_age_s: float = Field(0.1, gt=0)
    max_clock_skew_s: float = Field(0.1, gt=0, description="Stamps of the robot's computer against this computer's clock.")
