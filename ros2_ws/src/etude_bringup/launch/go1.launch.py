"""Practice with a Go1: safety node, actor, cameras, teleoperation, page and, where wanted, the learner.

    ros2 launch etude_bringup go1.launch.py run:=runs/dog computer:=robot drivers:="unitree_ros/unitree_driver.launch.py"
    ros2 launch etude_bringup go1.launch.py run:=runs/dog computer:=learner

``set:="robot=go1_low"`` drives the motors. Start with docs/hardware/go1.md.
"""

from etude_bringup.parts import description
from launch import LaunchDescription


def generate_launch_description() -> LaunchDescription:
    return description("go1.yaml", guarded=True)
