"""A Unitree Go1 of boxes and capsules as MJCF text: true joint frames, masses, inertias and limits, and no mesh file.

Geometry, masses, limits and torques are those of Unitree's published robot description (rotors counted with their links).
"""

from __future__ import annotations

import numpy as np

LEGS = ("FR", "FL", "RR", "RL")
"""Order of legs everywhere: front right, front left, rear right, rear left (Unitree's own)."""
PARTS = ("abduction", "thigh", "knee")
JOINTS = tuple(f"{leg}_{part}" for leg in LEGS for part in PARTS)
"""Order of joints everywhere. Angles in rad: abduction about +x, thigh and knee about +y of the trunk (x ahead, y left, z up)."""

HIP_X_M, HIP_Y_M = 0.1881, 0.04675
ABDUCTION_M, THIGH_M, SHANK_M, FOOT_RADIUS_M = 0.08, 0.213, 0.213, 0.023
FRONT = np.array([1.0, 1.0, -1.0, -1.0])
LEFT = np.array([-1.0, 1.0, -1.0, 1.0])
"""Sign of x and of y of the hip of each leg."""

LOWER_RAD = np.tile([-0.863, -0.686, -2.818], 4)
UPPER_RAD = np.tile([0.863, 4.501, -0.888], 4)
MAX_TORQUE_NM = np.tile([23.7, 23.7, 35.55], 4)
NOMINAL_RAD = np.tile([0.0, 0.9, -1.8], 4)
"""The stance of action zero."""
NOMINAL_HEIGHT_M = 0.265 + FOOT_RADIUS_M
"""Height of the trunk's centre above the floor in the nominal stance, feet touching."""

STIFFNESS, DAMPING = 60.0, 2.0
"""Gains of the position controller: N m / rad and N m s / rad, the same for all joints."""
TRUNK_HALF_M = (0.1881, 0.04675, 0.057)

_TRUNK = (
    'mass="5.204" pos="0.0223 0.002 -0.0005" '
    'fullinertia="0.0168128557 0.063009565 0.0716547275 -0.0002296769 -0.0002945293 -0.0000418731"'
)


def _leg(leg: str, front: float, left: float) -> str:
    """One leg. Its inertias are mirrored by the signs of the hip."""
    y = left * ABDUCTION_M
    return f"""
      <body name="{leg}_hip" pos="{front * HIP_X_M} {left * HIP_Y_M} 0">
        <inertial mass="0.68" pos="{-front * 0.0049166} {-left * 0.00762615} -0.00008865"
          diaginertia="0.000399 0.000734 0.000468"/>
        <joint name="{leg}_abduction" axis="1 0 0" range="{LOWER_RAD[0]} {UPPER_RAD[0]}"/>
        <geom class="motor" type="cylinder" fromto="0 {left * 0.02} 0 0 {left * 0.055} 0" size="0.044"/>
        <body name="{leg}_thigh" pos="0 {y} 0">
          <inertial mass="1.009" pos="-0.00304722 {-left * 0.019315} -0.0305004" diaginertia="0.0046 0.0047 0.00071"/>
          <joint name="{leg}_thigh" axis="0 1 0" range="{LOWER_RAD[1]} {UPPER_RAD[1]}"/>
          <geom class="motor" type="cylinder" fromto="0 {-left * 0.025} 0 0 {left * 0.03} 0" size="0.042"/>
          <geom class="limb" name="{leg}_thigh" type="capsule" fromto="0 0 -0.02 0 0 {-THIGH_M}" size="0.02"/>
          <body name="{leg}_shank" pos="0 0 {-THIGH_M}">
            <inertial mass="0.195862" pos="0.00429862 {left * 0.000976676} -0.146197"
              diaginertia="0.0014977 0.0014847 0.0000358"/>
            <joint name="{leg}_knee" axis="0 1 0" range="{LOWER_RAD[2]} {UPPER_RAD[2]}"/>
            <geom class="limb" name="{leg}_shank" type="capsule" fromto="0 0 0 0 0 {-SHANK_M + 0.03}" size="0.013"/>
            <geom class="foot" name="{leg}_foot" type="sphere" pos="0 0 {-SHANK_M}" size="{FOOT_RADIUS_M}"/>
            <site name="{leg}_foot" pos="0 0 {-SHANK_M}"/>
          </body>
        </body>
      </body>"""


def mjcf(timestep_s: float) -> str:
    """The robot on a floor with a grid. The body ``payload`` is fixed on the trunk and weighs nothing until it is loaded."""
    legs = "".join(_leg(leg, front, left) for leg, front, left in zip(LEGS, FRONT, LEFT, strict=True))
    actuators = "\n    ".join(
        f'<position name="{joint}" joint="{joint}" kp="{STIFFNESS}" kv="{DAMPING}" forcerange="{-torque} {torque}"/>'
        for joint, torque in zip(JOINTS, MAX_TORQUE_NM, strict=True)
    )
    locks = "\n    ".join(f'<joint name="lock_{joint}" joint1="{joint}" active="false" solref="0.01 1"/>' for joint in JOINTS)
    half_x, half_y, half_z = TRUNK_HALF_M
    return f"""<mujoco model="go1">
  <compiler angle="radian"/>
  <option timestep="{timestep_s}" integrator="implicitfast" iterations="10"/>
  <visual>
    <headlight ambient="0.35 0.35 0.37" diffuse="0.35 0.35 0.35" specular="0 0 0"/>
    <rgba haze="0.86 0.89 0.93 1"/>
    <map zfar="60" shadowscale="0.5" shadowclip="2"/>
    <global offwidth="1280" offheight="960"/>
  </visual>
  <asset>
    <texture name="sky" type="skybox" builtin="gradient" rgb1="0.86 0.89 0.93" rgb2="0.45 0.58 0.74" width="256" height="256"/>
    <texture name="grid" type="2d" builtin="checker" mark="edge" rgb1="0.78 0.80 0.82" rgb2="0.72 0.745 0.77"
      markrgb="0.5 0.54 0.58" width="512" height="512"/>
    <material name="grid" texture="grid" texrepeat="1 1" texuniform="true" reflectance="0.08"/>
    <material name="body" rgba="0.90 0.91 0.92 1" specular="0.4" shininess="0.5"/>
    <material name="motor" rgba="0.20 0.21 0.24 1" specular="0.3" shininess="0.4"/>
    <material name="limb" rgba="0.33 0.35 0.39 1" specular="0.3" shininess="0.4"/>
    <material name="foot" rgba="0.08 0.08 0.09 1" specular="0.1" shininess="0.2"/>
    <material name="accent" rgba="0.10 0.48 0.72 1" specular="0.4" shininess="0.5"/>
    <material name="payload" rgba="0.86 0.45 0.12 1"/>
  </asset>
  <default>
    <joint armature="0.01" damping="0.5" frictionloss="0.2"/>
    <geom contype="1" conaffinity="2" condim="3" friction="0.6" solref="0.015 1"/>
    <default class="limb"><geom material="limb" mass="0"/></default>
    <default class="motor"><geom material="motor" mass="0"/></default>
    <default class="foot"><geom material="foot" mass="0"/></default>
    <default class="paint"><geom contype="0" conaffinity="0" mass="0"/></default>
  </default>
  <worldbody>
    <light pos="0 -1 4" dir="0.1 0.25 -1" directional="true" diffuse="0.55 0.55 0.53" specular="0.2 0.2 0.2"/>
    <geom name="floor" type="plane" size="0 0 0.05" material="grid" contype="2" conaffinity="1" priority="1" friction="0.8"/>
    <body name="trunk" pos="0 0 {NOMINAL_HEIGHT_M}">
      <freejoint name="trunk"/>
      <inertial {_TRUNK}/>
      <camera name="follow" mode="track" pos="-0.75 -1.55 0.62" xyaxes="0.9 -0.43 0 0.13 0.27 0.95" fovy="42"/>
      <camera name="side" mode="track" pos="0 -1.9 0.25" xyaxes="1 0 0 0 0.1 0.99" fovy="42"/>
      <geom name="trunk" type="box" size="{half_x} {half_y} {half_z}" material="body" mass="0"/>
      <geom class="paint" type="box" size="0.13 0.052 0.014" pos="0 0 0.012" material="accent"/>
      <geom class="paint" type="box" size="0.03 0.043 0.04" pos="{half_x + 0.03} 0 0.012" material="motor"/>
      <geom name="head" type="capsule" fromto="{half_x + 0.03} -0.03 0.02 {half_x + 0.03} 0.03 0.02" size="0.045" material="body"
        mass="0"/>
      <body name="payload" pos="0 0 0.1">
        <inertial mass="0.000001" pos="0 0 0" diaginertia="0.000000001 0.000000001 0.000000001"/>
        <geom class="paint" name="payload" type="box" size="0.09 0.06 0.04" material="payload" rgba="0 0 0 0"/>
      </body>{legs}
    </body>
  </worldbody>
  <actuator>
    {actuators}
  </actuator>
  <equality>
    {locks}
  </equality>
</mujoco>"""
