"""The command ``etude``: a table from command words to ``package.module:function``, imported only when asked for.

Each function takes the remaining arguments (list of str), parses them with argparse and returns the exit status. It is separate
from the commands so that ``etude --help`` needs none of them: no JAX, no MuJoCo, no ROS.
"""

from __future__ import annotations

import difflib
import importlib
import os
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

VERSION = "0.1.0"
PACKAGES = (
    "etude",
    "actor",
    "learner",
    "reward_classifiers",
    "simulation",
    "dashboard",
    "policy_servers",
    "benchmarks",
    "etude_nodes",
)
EXPORT_EXTRAS = {"rosbags": "mcap", "rerun": "rerun", "wandb": "wandb"}
"""Packages of `etude runs export` and the extras that they come with."""
EXIT_USAGE = 2
EXIT_INTERRUPTED = 130


@dataclass(frozen=True)
class Command:
    """One line of the table.

    Attributes:
        target: ``package.module:function``.
        summary: one sentence for ``etude --help``.
        environment: start again with `etude.ros_environment` first (commands that use ROS or JAX).
        ros: also needs the built ROS interfaces.
    """

    target: str
    summary: str
    environment: bool = False
    ros: bool = False


COMMANDS: dict[str, Command] = {
    "practice run": Command("etude_nodes.practice:run_command", "Start a run: learner, actor and page.", True, True),
    "practice resume": Command("etude_nodes.practice:resume_command", "Continue a run where it stopped.", True, True),
    "demo record": Command("etude_nodes.demonstrate:record_command", "Record demonstrations of both directions.", True),
    "demo list": Command("actor.commands:demo_list", "List recorded demonstrations."),
    "demo replay": Command("actor.demonstration_editing:demo_replay", "Show what was recorded; nothing moves."),
    "demo waypoints": Command("actor.waypoints:demo_waypoints", "Find the few points that tell a demonstration's path."),
    "demo trim": Command("actor.demonstration_editing:demo_trim", "Cut a demonstration's beginning and end."),
    "demo delete": Command("actor.demonstration_editing:demo_delete", "Delete demonstrations from a store."),
    "teleop list": Command("actor.teleop.commands:teleop_list", "List teleoperation mappings and connected devices."),
    "teleop test": Command("actor.teleop.commands:teleop_test", "Show what a device's axes do; nothing moves."),
    "teleop run": Command("etude_nodes.teleop_node:run_command", "Let a device take over a run's robot.", True, True),
    "correct": Command("etude_nodes.correct:run_command", "Correct a run's robot in words, e.g. a bit to the left.", True, True),
    "camera list": Command("actor.cameras.commands:camera_list", "List the RealSense cameras that are connected."),
    "camera preview": Command(
        "actor.cameras.commands:camera_preview", "Write what a robot's camera shows, and the part that a policy sees.", True
    ),
    "robot home": Command("etude_nodes.robot_commands:home", "Lead an arm's tool slowly to its home.", True, True),
    "robot hold": Command("etude_nodes.robot_commands:hold", "Stop the motion of a run's robot, or let it go on.", True, True),
    "robot recover": Command("etude_nodes.robot_commands:recover", "Bring an arm back from a fault.", True, True),
    "robot monitor": Command("etude_nodes.robot_commands:monitor", "Show what an arm says of itself; nothing moves.", True, True),
    "robot teach-box": Command(
        "etude_nodes.robot_commands:teach_box", "Lead the tool around; where it was becomes its workspace.", True, True
    ),
    "runs list": Command("etude.runs:runs_list", "List the runs with what came of them."),
    "runs compare": Command("etude.runs:runs_compare", "Draw several runs over each other, and say how their settings differ."),
    "runs export": Command(
        "etude.sinks.commands:runs_export", "Write a run's attempts and curves for MCAP viewers, Rerun or W&B."
    ),
    "dashboard": Command("dashboard.fleet:dashboard_command", "Show several runs of this machine side by side."),
    "replay": Command("dashboard.replay:replay_command", "Open the page over a stored run; nothing can be commanded."),
    "task graph": Command("actor.commands:task_graph", "Check task files that share a scene, and show what leads to what."),
    "evaluate": Command("actor.commands:evaluate_command", "Run a policy from random starts and count successes.", True),
    "classifier collect": Command("actor.play_command:collect_command", "Record labelled play for the success classifier.", True),
    "classifier train": Command(
        "reward_classifiers.commands:train_command", "Train a success classifier from demonstrations.", True
    ),
    "classifier test": Command(
        "reward_classifiers.commands:test_command", "Measure a success classifier on stored episodes.", True
    ),
    "classifier watch": Command(
        "etude_nodes.watch:watch_command", "Print what a classifier says while a robot acts.", True, True
    ),
    "classifier label": Command(
        "reward_classifiers.label_commands:label_command", "Label the frames that a success classifier should learn from.", True
    ),
    "classifier adapt": Command(
        "reward_classifiers.label_commands:adapt_command", "Reweight an ensemble by a few labels (HyRe), without training.", True
    ),
    "classifier serve": Command(
        "etude_nodes.reward_service:serve_command", "Judge frames for a robot on another machine.", True, True
    ),
    "classifier import-labels": Command(
        "reward_classifiers.label_commands:import_labels_command", "Make labels of what people said on the page.", True
    ),
    "classifier mine": Command(
        "reward_classifiers.label_commands:mine_command", "Collect frames that a classifier wrongly calls success.", True
    ),
    "classifier retrain": Command(
        "reward_classifiers.retraining:retrain_command", "Train a run's classifier again when enough frames were labelled.", True
    ),
    "classifier relabel": Command(
        "reward_classifiers.label_commands:relabel_command", "Write stored rewards anew, by another classifier version.", True
    ),
    "train offline": Command("learner.commands:train_offline", "Train a recipe on stored data, without a robot.", True),
    "policy export": Command("learner.commands:policy_export", "Write a run's policy as program and weights.", True),
    "policy serve-openvla": Command("policy_servers.commands:serve_openvla", "Serve OpenVLA as an external policy."),
    "episodes info": Command("etude.episodes.commands:info", "Say what an episode store holds."),
    "episodes validate": Command("etude.episodes.commands:validate", "Check a store for gaps, duplicates and damage."),
    "recipe list": Command("learner.commands:recipe_list", "List the recipes, one sentence each."),
    "recipe show": Command("learner.commands:recipe_show", "Print a recipe with every value."),
    "recipe validate": Command("learner.commands:recipe_validate", "Check recipe files."),
    "doctor": Command("etude.doctor:main", "Check this machine and say how to mend what is wrong."),
    "bench": Command("benchmarks.run:main", "Measure speeds and latencies, one JSON object per line.", True, True),
    "benchmark earl": Command("benchmarks.earl:main", "Practise EARL's tabletop without resets and report as published.", True),
    "bench learner": Command("benchmarks.learner:main", "Measure gradient updates of every kind of recipe.", True),
    "bench rewards": Command("benchmarks.rewards:main", "Measure what a classifier's probability costs, per kind.", True),
}


def main(argv: Sequence[str] | None = None, commands: Mapping[str, Command] = COMMANDS) -> int:
    """Run one command; returns the exit status.

    0 success; 1 the command found something wrong; 2 wrong usage or an error with one clear message on stderr; 130 Ctrl-C.
    ``ETUDE_TRACEBACK=1`` prints the traceback of such errors too.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(help_text(commands))
        return 0 if arguments else EXIT_USAGE
    if arguments[0] in ("-V", "--version"):
        print(f"etude {VERSION}")
        return 0
    found = find_command(arguments, commands)
    if found is None:
        return _unknown(arguments, commands)
    words, rest = found
    command = commands[words]
    asks_help = any(argument in ("-h", "--help") for argument in rest)
    if not asks_help and (command.environment or command.ros):
        from etude.ros_environment import ensure_ros_environment

        ensure_ros_environment("etude", arguments)
    sys.argv = [f"etude {words}", *rest]  # what argparse shows as the program's name
    try:
        if command.ros and not asks_help:
            _require_interfaces()
        return int(_load(command.target)(rest) or 0)
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        # the reader of our output (head, less) has gone; keep the interpreter from complaining when it closes stdout
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        message = clear_message(error)
        if message is None:
            raise
        if os.environ.get("ETUDE_TRACEBACK"):
            traceback.print_exc()
        print(f"etude {words}: {message}", file=sys.stderr)
        return EXIT_USAGE


def find_command(arguments: Sequence[str], commands: Mapping[str, Command] = COMMANDS) -> tuple[str, list[str]] | None:
    """The command named by the first two words or the first one, and the arguments after it."""
    for count in (2, 1):
        words = " ".join(arguments[:count])
        if len(arguments) >= count and words in commands:
            return words, list(arguments[count:])
    return None


def help_text(commands: Mapping[str, Command] = COMMANDS, group: str = "") -> str:
    """All commands, or those that begin with the word `group`."""
    names = [name for name in commands if not group or name.split()[0] == group]
    width = max(len(name) for name in names)
    lines = [f"usage: etude {group or '<command>'} ...", ""]
    if not group:
        lines[1:1] = ["", "A robot practises one task alone, forward and backward, and learns from it."]
    lines += [f"  {name:{width}}  {commands[name].summary}" for name in names]
    lines += ["", "`etude <command> --help` explains a command and shows examples."]
    return "\n".join(lines)


def clear_message(error: BaseException) -> str | None:
    """The text for a person when `error` is one that the project or the operating system words clearly; else None (a bug).

    The project's own exception types carry full sentences with the remedy, so every one of them counts, wherever it is defined.
    """
    if isinstance(error, ModuleNotFoundError) and error.name:
        return _missing_module(error.name)
    if type(error).__module__.partition(".")[0] in PACKAGES and isinstance(error, Exception):
        return str(error)
    if isinstance(error, OSError) and error.strerror:
        where = f": {error.filename}" if error.filename else ""
        return f"{error.strerror}{where}"
    return None


def _missing_module(name: str) -> str:
    top = name.partition(".")[0]
    if top in ("torch", "torchvision", "timm", "open_clip"):
        return f"the package {top!r} is not installed; it comes with the vision extra: .venv/bin/pip install -e '.[vision]'"
    if top in ("transformers", "tokenizers", "peft"):
        extra = "the vla extra, in an environment of its own: pip install -e '.[vla]'"
        return f"the package {top!r} is not installed; it comes with {extra}"
    if top in EXPORT_EXTRAS:
        extra = EXPORT_EXTRAS[top]
        return f"the package {top!r} is not installed; it comes with the {extra} extra: .venv/bin/pip install -e '.[{extra}]'"
    if top in ("rclpy", "etude_msgs"):
        return f"the ROS package {top!r} is not there; run `make build`, or source your ROS 2 first (`etude doctor` says more)"
    return f"the Python module {name!r} is not installed; run `make build`"


def _require_interfaces() -> None:
    from etude.ros_environment import RosEnvironmentError, holds_wheels, interfaces_are_built, is_system_ros, workspace_install

    if is_system_ros() and holds_wheels():
        raise RosEnvironmentError("a system ROS 2 is sourced, but .venv holds the ROS wheels; run `make build` to make it anew")
    if not interfaces_are_built():
        raise RosEnvironmentError(f"the ROS interfaces are not built ({workspace_install()} lacks etude_msgs); run `make build`")


def _load(target: str) -> Callable[[list[str]], int]:
    module, _, function = target.partition(":")
    return getattr(importlib.import_module(module), function)


def _unknown(arguments: Sequence[str], commands: Mapping[str, Command]) -> int:
    groups = {name.split()[0] for name in commands if " " in name}
    first = arguments[0]
    if first in groups and (len(arguments) == 1 or arguments[1] in ("-h", "--help")):
        print(help_text(commands, group=first))
        return 0 if len(arguments) > 1 else EXIT_USAGE
    given = " ".join(arguments[:2]) if first in groups else first
    known = [name for name in commands if name.startswith(first + " ")] if first in groups else [*commands, *groups]
    close = difflib.get_close_matches(given, known, n=1, cutoff=0.5)
    if not close and len(arguments) > 1:
        close = difflib.get_close_matches(" ".join(arguments[:2]), list(commands), n=1, cutoff=0.5)
    suggestion = f" Did you mean `etude {close[0]}`?" if close else " `etude --help` lists the commands."
    print(f"etude: there is no command {given!r}.{suggestion}", file=sys.stderr)
    return EXIT_USAGE


if __name__ == "__main__":
    sys.exit(main())
