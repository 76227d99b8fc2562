"""What the launch files share: the parts of a run as processes, started in order once the run folder is ready.

`computer` says which parts this computer starts, so that one command on each of two computers makes one run.
"""

from __future__ import annotations

from launch import LaunchContext, LaunchDescription
from launch.actions import (
    DeclareLaunchArgument,
    EmitEvent,
    ExecuteProcess,
    IncludeLaunchDescription,
    LogInfo,
    OpaqueFunction,
    RegisterEventHandler,
)
from launch.event_handlers import OnProcessExit
from launch.events import Shutdown
from launch.launch_description_sources import AnyLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.substitutions import FindPackagePrefix, FindPackageShare

ROBOT, LEARNER = ("robot", "both"), ("learner", "both")


def program(package: str, name: str) -> PathJoinSubstitution:
    """The installed script: its first line names the interpreter of the virtual environment, which has JAX and MuJoCo."""
    return PathJoinSubstitution([FindPackagePrefix(package), "lib", package, name])


def node(name: str, *words: str, ends_run: bool = True) -> list:
    """One node of the run, started again when it crashes: it continues from its outbox or checkpoint.

    Status 0 (the run came to its end) and 2 (a restart would not help, the reason is on the screen) end the launch when
    `ends_run`; other nodes stay ended.
    """
    process = ExecuteProcess(
        cmd=[program("etude_nodes", name), *words, "--run", LaunchConfiguration("run")],
        name=name,
        output="screen",
        respawn=ends_run,
        respawn_delay=3.0,
        sigterm_timeout="30",  # the learner writes a checkpoint before it ends
    )

    def after_exit(event, context: LaunchContext) -> list:
        reason = f"{name} has ended (status {event.returncode})"
        if not ends_run:
            return [LogInfo(msg=reason)]
        return [EmitEvent(event=Shutdown(reason=reason))] if event.returncode in (0, 2) else []

    return [RegisterEventHandler(OnProcessExit(target_action=process, on_exit=after_exit)), process]


def drivers(words: list[str]) -> list:
    """Launch files of the vendor: ``package/file.launch.py``, with arguments after it as ``key:=value``."""
    files: list[tuple[str, dict[str, str]]] = []
    for word in words:
        key, separator, value = word.partition(":=")
        if separator and files:
            files[-1][1][key] = value
            continue
        package, slash, _ = word.partition("/")
        if separator or not slash or not package:
            raise RuntimeError(f"drivers: {word!r} is not package/file.launch.py, or key:=value after one")
        files.append((word, {}))
    return [
        IncludeLaunchDescription(
            AnyLaunchDescriptionSource(PathJoinSubstitution([FindPackageShare(package), "launch", file])),
            launch_arguments=arguments.items(),
        )
        for (package, _, file), arguments in ((word.partition("/"), arguments) for word, arguments in files)
    ]


def start(context: LaunchContext, *, guarded: bool) -> list:
    """Prepare the run folder; when that has succeeded start the nodes of this computer, otherwise end."""

    def value(name: str) -> str:
        return LaunchConfiguration(name).perform(context)

    preparation = ExecuteProcess(
        cmd=[program("etude_bringup", "prepare_run"), "--run", value("run"), "--config", value("config"), *value("set").split()],
        name="prepare_run",
        output="screen",
    )

    def next_actions(event, context: LaunchContext) -> list:
        if event.returncode != 0:
            reason = f"preparing the run failed (status {event.returncode})"
            return [LogInfo(msg=reason), EmitEvent(event=Shutdown(reason=reason))]
        computer, actions = value("computer"), []
        if guarded and computer in ROBOT:
            actions += node("safety")
        if computer in LEARNER:
            actions += node("learner")
        if computer in ROBOT:
            actions += node("actor")
            if value("teleop"):
                actions += node("teleop", value("teleop"), ends_run=False)
        if value("dashboard") == "true":
            actions += node("dashboard", ends_run=False)
        return actions

    begin = drivers(value("drivers").split()) if value("computer") in ROBOT else []
    return [*begin, RegisterEventHandler(OnProcessExit(target_action=preparation, on_exit=next_actions)), preparation]


def description(config: str, *, guarded: bool) -> LaunchDescription:
    """The launch description of a run whose configuration is `config` of this package.

    Args:
        guarded: a real robot, whose safety node is a process of its own.
    """
    default_config = PathJoinSubstitution([FindPackageShare("etude_bringup"), "config", config])
    return LaunchDescription(
        [
            DeclareLaunchArgument("run", description="Run folder; made when it is not there, continued when it is."),
            DeclareLaunchArgument("config", default_value=default_config, description="Run YAML of a new run."),
            DeclareLaunchArgument("set", default_value="", description="Overrides of a new run: 'key=value key=value'."),
            DeclareLaunchArgument(
                "computer",
                default_value="both",
                choices=["both", "robot", "learner"],
                description="Which parts this computer starts: robot has safety node, actor, teleoperation and drivers.",
            ),
            DeclareLaunchArgument(
                "dashboard", default_value="true", choices=["true", "false"], description="Whether this computer serves the page."
            ),
            DeclareLaunchArgument("teleop", default_value="", description="Device that takes over, e.g. spacemouse; '': none."),
            DeclareLaunchArgument(
                "drivers",
                default_value="",
                description="Launch files of controllers and cameras: 'package/file.launch.py key:=value package/…'.",
            ),
            OpaqueFunction(function=start, kwargs={"guarded": guarded}),
        ]
    )
