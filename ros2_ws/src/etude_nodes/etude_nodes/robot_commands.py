"""`etude robot home|hold|recover|monitor|teach-box`: a robot in the hands of a person, without a run or beside one.

What moves the arm goes the way of every command: driver, its filter, safety node. While a run drives the arm, `home` is refused,
and `hold` and `recover` ask the run.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from actor.robots.franka import FrankaRobot
from actor.robots.ros_arm import ArmState, RosArm, recover_service
from actor.safety import filter_action
from actor.teach_box import box_of, with_box
from etude.config import ConfigError, RobotConfig, RunConfig, build, load_run_config, named_file, read_named, save_config
from etude.config.hardware import FrankaConfig
from etude.run_folder import RunFolder
from etude_nodes import qos
from etude_nodes.process import EXIT_DONE, open_run

NAMESPACE = "robot"
DISCOVER_S, READY_S, ANSWER_S = 2.0, 20.0, 10.0
HOME_SHARE = 0.3
"""Of the largest action: `home` is slow."""
HOME_TIMEOUT_S, ARRIVED_M, COUNTDOWN_S = 60.0, 0.01, 3
TEACH_HZ, MONITOR_HZ = 50.0, 5.0
Say = Callable[[str], None]


def _parser(word: str, description: str, example: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=f"etude robot {word}",
        description=description,
        epilog=f"example:\n  {example}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--robot", required=True, help="name of a file in robot_configs/robots, or a YAML file")
    return parser


def arm_of(robot: str) -> tuple[RobotConfig, FrankaConfig]:
    """Raises ConfigError for a robot that is no arm behind ROS 2."""
    config = build(RobotConfig, read_named("robots", robot), robot)
    if config.arms:
        raise ConfigError(
            f"robot {robot!r} has two arms and these commands move one: write that arm as a robot of its own, with its topics, "
            "and name it here"
        )
    if config.franka is None:
        raise ConfigError(
            f"robot {robot!r} is of kind {config.kind}: these commands are for an arm behind ROS 2 (kind franka). A simulated "
            "robot lives inside its run, and a Go1 knows `recover` alone"
        )
    return config, config.franka


# --- listening ----------------------------------------------------------------------------------------------------------


@contextmanager
def listening(config: FrankaConfig) -> Iterator[RosArm]:
    """The arm's topics, once its first pose has come. Raises ConfigError when none comes."""
    arm = RosArm(config, NAMESPACE, (), "", listens_only=True)
    try:
        until = time.monotonic() + READY_S
        while arm.state().pose is None:
            if time.monotonic() > until:
                raise ConfigError(
                    f"no pose came on {config.topics.current_pose} in ROS domain {config.ros_domain_id} within {READY_S:g} s: is "
                    "the arm's controller running? `etude doctor --robot …` says more"
                )
            time.sleep(0.05)
        yield arm
    finally:
        arm.close()


def describe(state: ArmState, drivers: int) -> dict[str, Any]:
    """What `monitor` shows, ready for JSON: metres, newtons, radians, base frame; None for what was not heard."""

    def rounded(values: np.ndarray | None, digits: int) -> list[float] | None:
        return None if values is None else [round(float(v), digits) for v in values]

    return {
        "tool_m": rounded(None if state.pose is None else state.pose[:3, 3], 4),
        "velocity_m_s": rounded(state.velocity_m_s, 3),
        "joints_rad": rounded(state.joints_rad, 3),
        "wrench_n_nm": rounded(state.wrench, 2),
        "gripper_m": None if math.isnan(state.width_m) else round(state.width_m, 4),
        "mode": state.mode or None,
        "errors": list(state.errors),
        "problems": list(state.problems),
        "driven_by": drivers,
        "safety_node": None if state.safety is None else "holds: " + "; ".join(state.safety) if state.safety else "passes",
    }


def monitor(argv: Sequence[str]) -> int:
    """`etude robot monitor`: what the arm says of itself, until Ctrl-C; nothing is sent."""
    parser = _parser(
        "monitor", "Show an arm's state, live. Nothing is commanded.", "etude robot monitor --robot franka_fr3 --once --json"
    )
    parser.add_argument("--once", action="store_true", help="one state, then end; status 1 when something is wrong with it")
    parser.add_argument("--json", action="store_true", help="one JSON object per line")
    arguments = parser.parse_args(argv)
    _, config = arm_of(arguments.robot)
    with listening(config) as arm:
        time.sleep(0.5 if arguments.once else 0.0)
        while True:
            seen = describe(arm.state(), arm.drivers())
            print(json.dumps(seen) if arguments.json else line_of(seen), flush=True)
            if arguments.once:
                return 1 if seen["problems"] or seen["errors"] else EXIT_DONE
            time.sleep(1.0 / MONITOR_HZ)


def line_of(seen: dict[str, Any]) -> str:
    """`describe` for a person."""
    tool = " ".join(f"{axis} {value:+.3f}" for axis, value in zip("xyz", seen["tool_m"] or [math.nan] * 3, strict=True))
    force = math.hypot(*seen["wrench_n_nm"][:3]) if seen["wrench_n_nm"] else math.nan
    parts = [f"tool {tool} m", f"force {force:4.1f} N", f"gripper {seen['gripper_m']} m", seen["mode"] or "no mode"]
    if seen["safety_node"]:
        parts.append(f"safety node {seen['safety_node']}")
    return ", ".join([*parts, *seen["errors"], *seen["problems"]])


# --- teaching the box ---------------------------------------------------------------------------------------------------


def teach_box(argv: Sequence[str]) -> int:
    """`etude robot teach-box`: lead the tool around; its extents become the workspace in the robot's YAML."""
    parser = _parser(
        "teach-box",
        "Lead the tool by hand (guiding mode) or by teleoperation to the ends of where it may be, low and high; then press "
        "Enter. The extents, drawn in by a margin, are written into the robot's YAML: safety.workspace_* and "
        "franka.limits.workspace_*.",
        "etude robot teach-box --robot my_arm.yaml --margin 0.02",
    )
    parser.add_argument("--margin", type=float, default=0.01, help="metres drawn in on every side (default: %(default)s)")
    parser.add_argument("--seconds", type=float, help="record so long instead of until Enter")
    parser.add_argument("--yes", action="store_true", help="write without asking")
    arguments = parser.parse_args(argv)
    if not 0 <= arguments.margin < 0.2:
        raise ConfigError(f"--margin {arguments.margin:g} is in metres, between 0 and 0.2")
    _, config = arm_of(arguments.robot)
    file = named_file("robots", arguments.robot)
    with listening(config) as arm:
        points = recorded(arm, arguments.seconds)
    low, high = box_of(points, arguments.margin)
    text = with_box(file.read_text(encoding="utf-8"), low, high)
    old = config.limits
    print(f"\nlowest corner  {list(low)} m, was {list(old.workspace_min_m)}")
    print(f"highest corner {list(high)} m, was {list(old.workspace_max_m)}; size {[round(float(v), 3) for v in high - low]} m")
    if not arguments.yes and input(f"write this into {file}? [y/N] ").strip().lower() not in ("y", "yes"):
        print("nothing was written")
        return 1
    aside = file.with_suffix(".yaml.writing")
    aside.write_text(text, encoding="utf-8")
    try:
        build(RobotConfig, read_named("robots", str(aside.rename(aside.with_suffix(".yaml")))), file.name)
        aside.with_suffix(".yaml").replace(file)
    finally:
        aside.with_suffix(".yaml").unlink(missing_ok=True)
    print(f"written: {file}")
    return EXIT_DONE


def recorded(arm: RosArm, seconds: float | None) -> list[np.ndarray]:
    """Where the tool was, until Enter or for `seconds`."""
    done = threading.Event()
    if seconds is None:
        print("lead the tool to the ends of its space, low and high; Enter ends", flush=True)
        threading.Thread(target=lambda: (sys.stdin.readline(), done.set()), daemon=True).start()
    until = time.monotonic() + (math.inf if seconds is None else seconds)
    points: list[np.ndarray] = []
    while not done.is_set() and time.monotonic() < until:
        pose = arm.state().pose
        if pose is not None:
            points.append(pose[:3, 3].copy())
            size = np.ptp(np.array(points), axis=0) * 100
            print(f"\r{len(points):5} poses, extents {size[0]:5.1f} × {size[1]:5.1f} × {size[2]:5.1f} cm ", end="", flush=True)
        time.sleep(1.0 / TEACH_HZ)
    return points


# --- moving -------------------------------------------------------------------------------------------------------------


def home_of(config: FrankaConfig) -> np.ndarray:
    """``(3,)`` metres, base frame. Raises ConfigError for a `home_m` outside the box."""
    low, high = np.array(config.limits.workspace_min_m), np.array(config.limits.workspace_max_m)
    if config.home_m is None:
        return low + (high - low) * [0.5, 0.5, 0.75]
    if not ((low <= config.home_m) & (config.home_m <= high)).all():
        raise ConfigError(f"franka.home_m {list(config.home_m)} is outside the workspace {low.tolist()} to {high.tolist()} m")
    return np.array(config.home_m)


def run_config_of(robot: str) -> RunConfig:
    """A run that only moves the tool: what the safety node and the driver need of one."""
    task = {
        "name": "by_hand",
        "forward": {"instruction": "go home", "max_steps": 1000},
        "backward": {"instruction": "go home", "max_steps": 1000},
        "cameras": [],
        "actions": ["x", "y", "z"],
    }
    source = {"name": "by_hand", "task": task, "robot": read_named("robots", robot), "robot_namespace": NAMESPACE}
    return load_run_config({**source, "recipe": "rlpd", "observation": "pixels"})


@contextmanager
def driving(robot: str, say: Say) -> Iterator[tuple[FrankaRobot, RunConfig]]:
    """Driver and safety node for the time of one command; the arm has no faults when it begins.

    Raises:
        ConfigError: a run drives the arm already, or it does not become ready.
    """
    _, config = arm_of(robot)
    with listening(config) as arm:
        time.sleep(DISCOVER_S)
        if arm.drivers():
            raise ConfigError("a run drives this arm: stop it first (`etude robot hold` stops its motion)")
        if arm.commanders():
            raise ConfigError(
                f"another program commands {config.topics.target_pose}, the arm's controller: a run under another name or with "
                "two arms, or somebody's teleoperation. End it first: two of them would pull at the arm"
            )
    run = run_config_of(robot)
    with tempfile.TemporaryDirectory(prefix="etude-robot-") as root:
        folder = RunFolder(Path(root))
        save_config(run, folder.config)
        log = (Path(root) / "safety.log").open("w", encoding="utf-8")
        guard = subprocess.Popen([sys.executable, "-m", "etude_nodes.safety_node", "--run", root], stderr=log)
        driver = FrankaRobot(run.task, run.robot, "pixels", namespace=NAMESPACE)
        try:
            until, said = time.monotonic() + READY_S, ""
            while faults := driver.read().faults:
                if time.monotonic() > until or guard.poll() is not None:
                    raise ConfigError(f"the arm is not ready: {'; '.join(faults)}")
                said = said if said == faults[0] else faults[0]
                time.sleep(1.0 / run.robot.control_rate_hz)
            yield driver, run
        finally:
            driver.close()
            guard.terminate()
            guard.wait(timeout=10.0)
            log.close()


def home(argv: Sequence[str]) -> int:
    """`etude robot home`: lead the tool slowly to its home, through the same filters as a policy's actions."""
    parser = _parser(
        "home",
        "Move the tool slowly in a straight line to its home (franka.home_m, or the upper middle of the box). Something in the "
        "way is not known: look first. Ctrl-C holds.",
        "etude robot home --robot franka_fr3",
    )
    parser.add_argument("--yes", action="store_true", help="without the countdown")
    arguments = parser.parse_args(argv)
    _, config = arm_of(arguments.robot)
    goal = home_of(config)
    with driving(arguments.robot, print) as (driver, run):
        for left in range(0 if arguments.yes else COUNTDOWN_S, 0, -1):
            print(f"the tool moves to {[round(float(v), 3) for v in goal]} m in {left} s; Ctrl-C ends", flush=True)
            wait(driver, 1.0)
        distance_m = go(driver, run, goal)
    print(f"the tool is at home, {1000 * distance_m:.0f} mm from the goal")
    return EXIT_DONE


def wait(driver: FrankaRobot, seconds: float) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        driver.read()
        driver.hold()
        time.sleep(1.0 / driver.control_rate_hz)


def go(driver: FrankaRobot, run: RunConfig, goal_m: np.ndarray) -> float:
    """Steps towards `goal_m` until the tool is there; the distance that is left, metres.

    Raises:
        ConfigError: a fault that stays, or it does not arrive in time.
    """
    scale, previous = np.array(driver.action_spec.scale), None
    until, last_fault = time.monotonic() + HOME_TIMEOUT_S, ""
    while time.monotonic() < until:
        began = time.monotonic()
        reading = driver.read()
        place = reading.tcp_position_m
        if reading.faults or place is None:
            last_fault = "; ".join(reading.faults)
            driver.hold()
        else:
            left = goal_m - place
            if np.linalg.norm(left) < ARRIVED_M:
                wait(driver, 0.5)
                return float(np.linalg.norm(goal_m - driver.read().tcp_position_m))
            wish = left / scale
            wish *= min(1.0, HOME_SHARE / np.abs(wish).max())
            previous, _ = filter_action(
                wish.astype(np.float32),
                reading,
                run.robot.safety,
                driver.action_spec,
                began,
                observation_spec=driver.observation_spec,
                previous=previous,
            )
            driver.act(previous)
        time.sleep(max(0.0, 1.0 / driver.control_rate_hz - (time.monotonic() - began)))
    raise ConfigError(f"the tool did not arrive within {HOME_TIMEOUT_S:g} s" + (f": {last_fault}" if last_fault else ""))


# --- holding and recovering ---------------------------------------------------------------------------------------------


def hold(argv: Sequence[str]) -> int:
    """`etude robot hold`: stop the motion of the run that drives the robot; the same as the page's stop."""
    parser = argparse.ArgumentParser(
        prog="etude robot hold",
        description="Stop the motion of a run's robot by its software stop, which stays until `--release` or the page lets go. "
        "It is no emergency stop. A robot that no run drives is held by its own controller.",
        epilog="examples:\n  etude robot hold\n  etude robot hold --run runs/latest --release",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--run", type=Path, default=Path("runs/latest"), help="run folder (default: %(default)s)")
    parser.add_argument("--release", action="store_true", help="let it go on")
    arguments = parser.parse_args(argv)
    from std_srvs.srv import SetBool

    folder, config = open_run(arguments.run)
    domain = folder.root / "ros_domain_id"
    number = int(domain.read_text()) if domain.is_file() else int(os.environ.get("ROS_DOMAIN_ID", "0"))
    request = SetBool.Request(data=not arguments.release)
    answer = asked(SetBool, qos.robot_topic(config.robot_namespace, "software_stop"), request, number)
    if answer is None:
        raise ConfigError(f"no actor of {arguments.run} answers in ROS domain {number}: the run does not drive a robot now")
    print(answer.message or ("it goes on" if arguments.release else "it holds"))
    return EXIT_DONE if answer.success else 1


def recover(argv: Sequence[str]) -> int:
    """`etude robot recover`: back from a fault, by the driver of the run, or (an arm without a run) by one of our own."""
    parser = _parser(
        "recover",
        "Recover an arm from a fault (the calls of franka.recovery), or make a run's Go1 stand up; logged and counted. A person "
        "looks first.",
        "etude robot recover --robot franka_fr3",
    )
    arguments = parser.parse_args(argv)
    from std_srvs.srv import Trigger

    robot = build(RobotConfig, read_named("robots", arguments.robot), arguments.robot)
    if robot.arms:
        return _recover_both(robot)
    hardware = robot.go1 or arm_of(arguments.robot)[1]
    answer = asked(Trigger, recover_service(NAMESPACE), Trigger.Request(), hardware.ros_domain_id)
    if answer is not None:
        print(answer.message)
        return EXIT_DONE if answer.success else 1
    if robot.go1 is not None:
        raise ConfigError(f"no run's Go1 answers in ROS domain {hardware.ros_domain_id}: start the run, it gets up there")
    run = run_config_of(arguments.robot)
    driver = FrankaRobot(run.task, run.robot, "pixels", namespace=NAMESPACE)
    try:
        settle(driver, ("being set up", "never received"))
        began, sentence = driver.recover("a person")
        print(sentence)
        if not began and "being recovered" not in sentence:  # the driver may have begun by itself
            return 1
        settle(driver, ("being recovered",))
        time.sleep(1.0)
        left = [fault for fault in driver.read().faults if "safety node" not in fault]  # there is none: nothing moves
    finally:
        driver.close()
    print("still wrong: " + "; ".join(left) if left else "the arm is well again")
    return 1 if left else EXIT_DONE


def _recover_both(robot: RobotConfig) -> int:
    """Ask the drivers of a run with two arms."""
    from std_srvs.srv import Trigger

    begun = []
    for side, arm in robot.frankas.items():
        answer = asked(Trigger, recover_service(f"{NAMESPACE}/{side}"), Trigger.Request(), arm.ros_domain_id)
        print(f"{side} arm: {answer.message if answer else 'no run drives it: start one, two arms are recovered by theirs'}")
        begun.append(answer is not None and answer.success)
    return EXIT_DONE if all(begun) else 1


def settle(driver: FrankaRobot, words: tuple[str, ...]) -> None:
    """Wait while a fault has one of `words`: its own calls go on, or the arm was not heard yet."""
    until = time.monotonic() + READY_S
    while left := [fault for fault in driver.read().faults if any(word in fault for word in words)]:
        if time.monotonic() > until:
            raise ConfigError(f"after {READY_S:g} s: {'; '.join(left)}")
        time.sleep(0.1)


def asked(kind: Any, name: str, request: Any, domain: int) -> Any:
    """The answer of service `name` in ROS `domain`; None when nobody offers it or answers."""
    import rclpy
    from rclpy.executors import SingleThreadedExecutor

    context = rclpy.Context()
    rclpy.init(args=[], context=context, domain_id=domain)
    try:
        node = rclpy.create_node("etude_robot_command", context=context)
        client = node.create_client(kind, name)
        if not client.wait_for_service(timeout_sec=DISCOVER_S):
            return None
        executor = SingleThreadedExecutor(context=context)
        executor.add_node(node)
        future = client.call_async(request)
        executor.spin_until_future_complete(future, timeout_sec=ANSWER_S)
        return future.result() if future.done() else None
    finally:
        rclpy.shutdown(context=context)
