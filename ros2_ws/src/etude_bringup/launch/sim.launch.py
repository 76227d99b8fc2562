"""Practice in simulation under a system ROS 2: learner, actor and page, watched by the launch system.

    source /opt/ros/jazzy/setup.bash && make build && . tools/ros_env.sh
    ros2 launch etude_bringup sim.launch.py run:=runs/launched
    ros2 launch etude_bringup sim.launch.py run:=runs/launched config:=my_run.yaml set:="seed=1 recipe.data.utd=2"

The run folder is kept; the same command continues it. On two computers: the same command on both, one with ``computer:=robot``,
the other with ``computer:=learner``.
"""

from etude_bringup.parts import description
from launch import LaunchDescription


def generate_launch_description() -> LaunchDescription:
    return description("sim.yaml", guarded=False)
