"""Practice in simulation under a system ROS 2: learner, actor and page, watched by the launch system.

    source /opt/ros/jazzy/setup.bash && make build && . tools/ros_env.sh
    ros2 launch etude_bringup sim.launch.py run:=runs/launched
    ros2 launch etude_bringup sim.launch.py run:=runs/launched config:=my_run.yaml set:="seed=1 recipe.data.utd=2"

The run folder is kept; the same command continues it. Other machines start only their part: `dashboard:=false`, or one node with
`ros2 run etude_nodes learner --run <folder>`.
"""

from launch import LaunchContext, LaunchDescription
from launch.actions import DeclareLaunchArgument, EmitEvent, ExecuteProcess, LogInfo, OpaqueFunction, RegisterEventHandler
from launch.conditions import IfCondition
from launch.event_handlers import OnProcessExit
from launch.events import Shutdown
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.substitutions import FindPackagePrefix, FindPackageShare


def program(package: str, name: str) -> PathJoinSubstitution:
    """The installed script: its first line names the interpreter of the virtual environment, which has JAX and MuJoCo."""
    return PathJoinSubstitution([FindPackagePrefix(package), "lib", package, name])


def node(name: str, condition: IfCondition | None = None) -> list:
    """One node of the run, started again when it crashes: it continues from its outbox or checkpoint.

    Status 0 (the run came to its end) and 2 (a restart would not help, the reason is on the screen) end the launch.
    """
    process = ExecuteProcess(
        cmd=[program("etude_nodes", name), "--run", LaunchConfiguration("run")],
        name=name,
        output="screen",
        respawn=True,
        respawn_delay=3.0,
        sigterm_timeout="30",  # the learner writes a checkpoint before it ends
        condition=condition,
    )

    def after_exit(event, context: LaunchContext) -> list:
        reason = f"{name} has ended (status {event.returncode})"
        return [EmitEvent(event=Shutdown(reason=reason))] if event.returncode in (0, 2) else []

    return [RegisterEventHandler(OnProcessExit(target_action=process, on_exit=after_exit)), process]


def start(context: LaunchContext) -> list:
    """Prepare the run folder; when that has succeeded start the nodes, otherwise end."""
    overrides = LaunchConfiguration("set").perform(context).split()
    preparation = ExecuteProcess(
        cmd=[
            program("etude_bringup", "prepare_run"),
            "--run",
            LaunchConfiguration("run"),
            "--config",
            LaunchConfiguration("config"),
            *overrides,
        ],
        name="prepare_run",
        output="screen",
    )

    def next_actions(event, context: LaunchContext) -> list:
        if event.returncode != 0:
            reason = f"preparing the run failed (status {event.returncode})"
            return [LogInfo(msg=reason), EmitEvent(event=Shutdown(reason=reason))]
        return [*node("learner"), *node("actor"), *node("dashboard", IfCondition(LaunchConfiguration("dashboard")))]

    return [RegisterEventHandler(OnProcessExit(target_action=preparation, on_exit=next_actions)), preparation]


def generate_launch_description() -> LaunchDescription:
    default_config = PathJoinSubstitution([FindPackageShare("etude_bringup"), "config", "sim.yaml"])
    return LaunchDescription(
        [
            DeclareLaunchArgument("run", description="Run folder; made when it is not there, continued when it is."),
            DeclareLaunchArgument("config", default_value=default_config, description="Run YAML of a new run."),
            DeclareLaunchArgument("set", default_value="", description="Overrides of a new run: 'key=value key=value'."),
            DeclareLaunchArgument("dashboard", default_value="true", description="Whether to serve the page."),
            OpaqueFunction(function=start),
        ]
    )
