"""Practice with a Franka arm: its controllers, cameras, safety node, actor, teleoperation, page and, where wanted, the learner.

    ros2 launch etude_bringup franka.launch.py run:=runs/arm config:=my_run.yaml computer:=robot teleop:=spacemouse \
        drivers:="franka_bringup/franka.launch.py robot_ip:=172.16.0.2 realsense2_camera/rs_launch.py"
    ros2 launch etude_bringup franka.launch.py run:=runs/arm config:=my_run.yaml computer:=learner

Vendors name their launch files differently in each version: `drivers` takes any. Start with docs/hardware/franka.md.
"""

from etude_bringup.parts import description
from launch import LaunchDescription


def generate_launch_description() -> LaunchDescription:
    return description("franka.yaml", guarded=True)
