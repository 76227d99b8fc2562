"""A Franka Panda of capsules and boxes as MJCF text: true joint frames, inertias and limits, and no mesh file.

Kinematics and limits are those of Franka's documentation (robot and interface specifications); masses, centres of mass and
inertias are the identified values of Gaz et al. 2019 that Franka's own robot description publishes.
"""

from __future__ import annotations

import numpy as np

HOME_RAD = np.array([0.0, -0.785398, 0.0, -2.356194, 0.0, 1.570796, 0.785398])
LOWER_RAD = np.array([-2.8973, -1.7628, -2.8973, -3.0718, -2.8973, -0.0175, -2.8973])
UPPER_RAD = np.array([2.8973, 1.7628, 2.8973, -0.0698, 2.8973, 3.7525, 2.8973])
MAX_VELOCITY_RAD_S = np.array([2.175, 2.175, 2.175, 2.175, 2.61, 2.61, 2.61])
MAX_TORQUE_NM = np.array([87.0, 87.0, 87.0, 87.0, 12.0, 12.0, 12.0])
MAX_FINGER_M = 0.04
"""Travel of one finger; the opening between the fingers is twice that."""

STIFFNESS = np.array([4500.0, 4500.0, 3500.0, 3500.0, 2000.0, 2000.0, 2000.0])
"""Joint position gains, N m / rad."""
DAMPING = np.array([180.0, 180.0, 140.0, 140.0, 60.0, 60.0, 60.0])
"""Joint velocity gains, N m s / rad."""
FINGER_STIFFNESS, FINGER_DAMPING, FINGER_FORCE_N = 1200.0, 30.0, 35.0

# name, pos, rotation about x (degrees), mass, centre of mass, inertia (xx yy zz xy xz yz)
_LINKS = (
    ("link1", "0 0 0.333", 0, 4.970684, "0.003875 0.002081 -0.04762", "0.70337 0.70661 0.009117 -0.000139 0.006772 0.019169"),
    ("link2", "0 0 0", -90, 0.646926, "-0.003141 -0.02872 0.003495", "0.007962 0.02811 0.025995 -0.003925 0.010254 0.000704"),
    (
        "link3",
        "0 -0.316 0",
        90,
        3.228604,
        "0.027518 0.039252 -0.066502",
        "0.037242 0.036155 0.01083 -0.004761 -0.011396 -0.012805",
    ),
    ("link4", "0.0825 0 0", 90, 3.587895, "-0.05317 0.104419 0.027454", "0.025853 0.019552 0.028323 0.007796 -0.001332 0.008641"),
    (
        "link5",
        "-0.0825 0.384 0",
        -90,
        1.225946,
        "-0.011953 0.041065 -0.038437",
        "0.035549 0.029474 0.008627 -0.002117 -0.004037 0.000229",
    ),
    ("link6", "0 0 0", 90, 1.666555, "0.060149 -0.014117 -0.010517", "0.001964 0.004354 0.005433 0.000109 -0.001158 0.000341"),
    (
        "link7",
        "0.088 0 0",
        90,
        0.735522,
        "0.010517 -0.004252 0.061597",
        "0.012516 0.010027 0.004815 -0.000428 -0.001196 -0.000741",
    ),
)

_SHAPES = {
    "link1": """
      <geom class="shell" type="capsule" fromto="0 0 -0.19 0 0 -0.06" size="0.062"/>
      <geom class="shell" type="cylinder" fromto="0 -0.075 0 0 0.075 0" size="0.062"/>
      <geom class="joint" type="cylinder" fromto="0 0 -0.195 0 0 -0.183" size="0.0645"/>""",
    "link2": """
      <geom class="shell" type="capsule" fromto="0 0 0 0 -0.13 0" size="0.058"/>
      <geom class="joint" type="cylinder" fromto="0 0 -0.078 0 0 0.078" size="0.052"/>""",
    "link3": """
      <geom class="shell" type="capsule" fromto="0 0 -0.14 0 0 -0.07" size="0.058"/>
      <geom class="shell" type="capsule" fromto="0 0 -0.07 0.0825 0 0" size="0.052"/>
      <geom class="joint" type="cylinder" fromto="0 0 -0.15 0 0 -0.138" size="0.0605"/>""",
    "link4": """
      <geom class="shell" type="capsule" fromto="0 0 0 -0.0825 0.09 0" size="0.052"/>
      <geom class="joint" type="cylinder" fromto="0 0 -0.059 0 0 0.059" size="0.05"/>""",
    "link5": """
      <geom class="shell" type="capsule" fromto="0 0 -0.26 0 0.02 -0.13" size="0.055"/>
      <geom class="shell" type="capsule" fromto="0 0.04 -0.15 0 0.02 -0.01" size="0.043"/>
      <geom class="joint" type="cylinder" fromto="0 0 -0.275 0 0 -0.262" size="0.0575"/>""",
    "link6": """
      <geom class="shell" type="capsule" fromto="0 0 -0.02 0 0 0.04" size="0.05"/>
      <geom class="shell" type="capsule" fromto="0.02 0 0 0.088 0 0" size="0.047"/>
      <geom class="joint" type="cylinder" fromto="0 0 -0.068 0 0 0.068" size="0.04"/>""",
    "link7": """
      <geom class="shell" type="capsule" fromto="0 0 -0.01 0 0 0.05" size="0.046"/>
      <geom class="joint" type="cylinder" fromto="0 0 0.072 0 0 0.107" size="0.036"/>""",
}

_HAND = """
      <body name="hand" pos="0 0 0.107" quat="0.9238795 0 0 -0.3826834" gravcomp="1">
        <inertial mass="0.73" pos="-0.01 0 0.03" diaginertia="0.001 0.0025 0.0017"/>
        <geom class="shell" name="hand" type="box" size="0.026 0.1 0.024" pos="0 0 0.036" contype="1" conaffinity="2"/>
        <geom class="joint" type="box" size="0.021 0.094 0.004" pos="0 0 0.0605"/>
        <geom class="joint" type="box" size="0.012 0.016 0.01" pos="0.042 0 0.03"/>
        <camera name="wrist" pos="0.072 0 0.045" xyaxes="0 -1 0 -0.906 0 -0.423" fovy="78"/>
        <site name="tcp" pos="0 0 0.1034" size="0.004"/>
        {fingers}
      </body>"""

_FINGER = """
        <body name="{name}" pos="0 0 0.0584" quat="{quat}" gravcomp="1">
          <inertial mass="0.015" pos="0 0.01 0.025" diaginertia="4e-6 4e-6 2e-6"/>
          <joint name="{name}" class="finger"/>
          <geom class="metal" type="box" size="0.0105 0.0095 0.012" pos="0 0.0115 0.012" contype="0" conaffinity="0"/>
          <geom class="pad" name="{name}_pad" type="box" size="0.0105 0.006 0.0155" pos="0 0.006 0.0385"/>
        </body>"""

DEFAULTS = """
    <default class="panda">
      <geom contype="0" conaffinity="0" group="1"/>
      <joint armature="0.1" damping="1"/>
      <default class="shell"><geom material="shell"/></default>
      <default class="joint"><geom material="joint"/></default>
      <default class="metal"><geom material="metal"/></default>
      <default class="pad">
        <geom material="pad" contype="1" conaffinity="2" friction="1.2 0.02 0.0005" condim="4" solref="0.01 1"/>
      </default>
      <default class="finger"><joint type="slide" axis="0 1 0" range="0 0.04" armature="0.1" damping="2"/></default>
    </default>"""

ASSETS = """
    <material name="shell" rgba="0.93 0.93 0.94 1" specular="0.4" shininess="0.5"/>
    <material name="joint" rgba="0.22 0.23 0.26 1" specular="0.3" shininess="0.4"/>
    <material name="metal" rgba="0.62 0.64 0.67 1" specular="0.6" shininess="0.6"/>
    <material name="pad" rgba="0.10 0.10 0.12 1" specular="0.1" shininess="0.2"/>"""


def body() -> str:
    """MJCF of the arm, base frame at the origin of its parent, flange, hand and fingers included; class ``panda``."""
    fingers = _FINGER.format(name="finger_left", quat="1 0 0 0") + _FINGER.format(name="finger_right", quat="0 0 0 1")
    inner = _HAND.format(fingers=fingers)
    for index, (name, position, about_x, mass, centre, inertia) in reversed(list(enumerate(_LINKS))):
        half = np.deg2rad(about_x) / 2
        inner = f"""
    <body name="{name}" pos="{position}" quat="{np.cos(half):.9f} {np.sin(half):.9f} 0 0" gravcomp="1">
      <inertial mass="{mass}" pos="{centre}" fullinertia="{inertia}"/>
      <joint name="joint{index + 1}" axis="0 0 1" range="{LOWER_RAD[index]} {UPPER_RAD[index]}"/>{_SHAPES[name]}{inner}
    </body>"""
    return f"""
    <body name="panda" childclass="panda">
      <geom class="shell" type="cylinder" fromto="0 0 0.012 0 0 0.135" size="0.068"/>
      <geom class="shell" type="capsule" fromto="-0.09 0 0.055 0 0 0.055" size="0.05"/>
      <geom class="joint" type="box" size="0.115 0.095 0.007" pos="-0.035 0 0.007"/>{inner}
    </body>"""


def actuators() -> str:
    """Position actuators: seven joints, then the two fingers."""
    arm = zip(STIFFNESS, DAMPING, MAX_TORQUE_NM, strict=True)
    rows = [
        f'<position name="joint{i}" joint="joint{i}" kp="{kp}" kv="{kv}" forcerange="{-torque} {torque}"/>'
        for i, (kp, kv, torque) in enumerate(arm, start=1)
    ]
    rows += [
        f'<position name="{name}" joint="{name}" kp="{FINGER_STIFFNESS}" kv="{FINGER_DAMPING}" ctrlrange="0 {MAX_FINGER_M}" '
        f'forcerange="{-FINGER_FORCE_N} {FINGER_FORCE_N}"/>'
        for name in ("finger_left", "finger_right")
    ]
    return "\n    ".join(rows)
