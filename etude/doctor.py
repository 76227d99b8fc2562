"""``etude doctor``: looks at this machine and says, in green, yellow and red, what works and how to mend what does not.

Separate from the parts that it checks, and whatever might crash or hang (OpenGL, ROS, JAX) runs in a process of its own with a
time limit, so that the doctor always finishes.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

from etude.config import REPOSITORY, DashboardConfig
from etude.findings import GREEN, RED, YELLOW, Finding
from etude.ros_environment import holds_wheels, interfaces_are_built, is_system_ros, ros_environment
from etude.run_folder import runs_root

COLOURS = {GREEN: "\033[32m", YELLOW: "\033[33m", RED: "\033[31m"}
GIB = 2**30


def check_python() -> Finding:
    version = ".".join(map(str, sys.version_info[:3]))
    if sys.version_info[:2] in ((3, 11), (3, 12)):
        return Finding("Python", GREEN, f"{version} at {sys.executable}")
    return Finding("Python", RED, f"{version} is not 3.11 or 3.12", "make clean && make build PYTHON=python3.11")


def check_packages(requirements: Path = REPOSITORY / "requirements" / "base.txt") -> Finding:
    """Compares what is installed with the pins."""
    missing, different = [], []
    pins = re.findall(r"^([\w.-]+)==(\S+)", requirements.read_text(encoding="utf-8"), re.MULTILINE)
    for name, pinned in pins:
        try:
            installed = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            missing.append(name)
            continue
        if installed != pinned:
            different.append(f"{name} {installed} instead of {pinned}")
    if missing:
        return Finding("packages", RED, f"not installed: {', '.join(missing)}", "make build")
    if different:
        return Finding("packages", YELLOW, "; ".join(different), "make build (after rm .make/venv-*)")
    return Finding("packages", GREEN, f"all {len(pins)} at their pinned versions")


RENDER = """
import mujoco
scene = '<mujoco><worldbody><light pos="0 0 1"/><geom size=".1" rgba="1 1 1 1"/></worldbody></mujoco>'
model = mujoco.MjModel.from_xml_string(scene)
data = mujoco.MjData(model)
mujoco.mj_forward(model, data)
with mujoco.Renderer(model, 16, 16) as renderer:
    renderer.update_scene(data)
    assert renderer.render().max() > 0
"""


def check_rendering() -> Finding:
    """Renders one small picture with each backend; one that works is enough."""
    chosen = os.environ.get("MUJOCO_GL")
    problems = []
    for backend in [chosen] if chosen else ["egl", "osmesa"]:
        ok, output = run_python(RENDER, {**os.environ, "MUJOCO_GL": backend, "PYOPENGL_PLATFORM": backend})
        if ok:
            return Finding("rendering", GREEN, f"MuJoCo renders with {backend}")
        problems.append(f"{backend}: {last_line(output)}")
    remedy = "sudo apt-get install -y libegl1 libgl1 libopengl0 libgl1-mesa-dri libosmesa6"
    return Finding("rendering", RED, "; ".join(problems), f"unset MUJOCO_GL, or {remedy}" if chosen else remedy)


def check_ros() -> Finding:
    if is_system_ros():
        if holds_wheels():
            return Finding("ROS 2", RED, "a system ROS 2 is sourced but .venv holds the ROS wheels", "make build")
        source = f"system {os.environ['ROS_DISTRO']}"
    else:
        source = "wheels in .venv"
    ok, output = run_python("import rclpy; rclpy.init(); rclpy.shutdown()", ros_environment(os.environ))
    if ok:
        return Finding("ROS 2", GREEN, f"rclpy starts ({source})")
    return Finding(
        "ROS 2", RED, f"rclpy does not start ({source}): {last_line(output)}", "make build, or source your ROS 2 first"
    )


def check_interfaces() -> Finding:
    if not interfaces_are_built():
        return Finding("interfaces", RED, "etude_msgs is not built", "make build")
    ok, output = run_python("import etude_msgs.msg, etude_msgs.srv; etude_msgs.msg.Step()", ros_environment(os.environ))
    if ok:
        return Finding("interfaces", GREEN, "etude_msgs is built and loads")
    return Finding("interfaces", RED, f"etude_msgs does not load: {last_line(output)}", "rm -rf ros2_ws/install && make build")


LISTENER = """
import sys, rclpy
from std_msgs.msg import String
rclpy.init()
node = rclpy.create_node("doctor_listener")
heard = []
node.create_subscription(String, "doctor", heard.append, 1)
print("listening", flush=True)
while not heard:
    rclpy.spin_once(node, timeout_sec=0.1)
print("heard", flush=True)
"""
TALKER = """
import time, rclpy
from std_msgs.msg import String
rclpy.init()
node = rclpy.create_node("doctor_talker")
publisher = node.create_publisher(String, "doctor", 1)
while True:
    publisher.publish(String(data="hello"))
    time.sleep(0.05)
"""


def check_messages(timeout_s: float = 15.0) -> Finding:
    """Sends a message from one process to another, as practice will."""
    environment = ros_environment(os.environ)
    domain = environment.setdefault("ROS_DOMAIN_ID", str(1 + os.getpid() % 100))
    talker = subprocess.Popen(
        [sys.executable, "-c", TALKER], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        ok, output = run_python(LISTENER, environment, timeout_s)
    finally:
        talker.kill()
        talker.wait()
    if ok:
        return Finding("messages", GREEN, f"a topic crosses between two processes (domain {domain})")
    return Finding(
        "messages",
        RED,
        f"no message crossed between two processes in {timeout_s:.0f} s: {last_line(output)}",
        "let the loopback interface carry UDP multicast and /dev/shm be writable (in a container: a larger --shm-size)",
    )


def check_shared_memory(folder: Path = Path("/dev/shm")) -> Finding:
    """Killed processes leave their 64 MB segments behind; too many of them fill /dev/shm."""
    if not folder.is_dir():
        return Finding("shared memory", YELLOW, f"{folder} is not there; images will travel over UDP", "mount a tmpfs there")
    free = shutil.disk_usage(folder).free
    files = {path for path in folder.glob("fastrtps_*") if not path.name.endswith("_el")}
    stale = files - mapped_files(folder)
    size = sum(path.stat().st_size for path in stale if path.exists())
    own = Path(sys.executable).parent / "fastdds"
    clean = f"{own if own.exists() else 'fastdds'} shm clean"
    if free < 256 * 2**20:
        return Finding("shared memory", RED, f"{free / 2**20:.0f} MB free in {folder}; each process needs 64 MB", clean)
    if size > 512 * 2**20:
        return Finding("shared memory", YELLOW, f"{len(stale)} segments left by killed processes ({size / GIB:.1f} GB)", clean)
    return Finding("shared memory", GREEN, f"{free / GIB:.1f} GB free in {folder}, {len(stale)} stale segments")


def mapped_files(folder: Path) -> set[Path]:
    """Files of `folder` that some process (that we may look into) has mapped or open."""
    found: set[Path] = set()
    for maps in Path("/proc").glob("[0-9]*/maps"):
        try:
            text = maps.read_text(encoding="utf-8", errors="replace")
        except OSError:  # the process has ended, or is another user's
            continue
        found.update(Path(word) for word in re.findall(rf"{re.escape(str(folder))}/\S+", text))
    return found


def check_disk() -> Finding:
    root = runs_root()
    existing = next(path for path in (root, *root.parents) if path.exists())
    free = shutil.disk_usage(existing).free / GIB
    detail = f"{free:.1f} GB free for {root}"
    if not os.access(existing, os.W_OK):
        return Finding("disk", RED, f"{existing} is not writable", "set ETUDE_RUNS to a folder that is")
    if free < 1:
        return Finding("disk", RED, detail, "free at least 1 GB, or set ETUDE_RUNS to a folder on another disk")
    if free < 5:
        return Finding("disk", YELLOW, detail, "an hour of practice takes 1-3 GB; ETUDE_RUNS moves the runs to another disk")
    return Finding("disk", GREEN, detail)


def check_port(port: int | None = None) -> Finding:
    port = DashboardConfig().port if port is None else port
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return Finding(
                "page", YELLOW, f"port {port} is taken, perhaps by another run", "make demo PORT=<another>, or end that run"
            )
    return Finding("page", GREEN, f"port {port} is free")


def check_jax() -> Finding:
    code = "import jax; print(jax.default_backend(), *[d.device_kind for d in jax.devices()], sep=', ')"
    ok, output = run_python(code, dict(os.environ), timeout_s=60)
    if ok:
        return Finding("JAX", GREEN, f"computes on {last_line(output)}")
    return Finding(
        "JAX", RED, last_line(output), "make build; with a GPU: .venv/bin/pip install 'jax[cuda12]' of the same version"
    )


def check_machine() -> Finding:
    cores = len(os.sched_getaffinity(0))
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / GIB
    detail = f"{cores} cores, {memory:.0f} GB of memory, load {os.getloadavg()[0]:.1f}"
    if cores < 2 or memory < 4:
        return Finding("machine", YELLOW, detail, "practice wants 2 cores and 4 GB: one core learns while the other acts")
    if os.getloadavg()[0] > cores:
        return Finding("machine", YELLOW, detail, "other programs are busy: learning will take longer")
    return Finding("machine", GREEN, detail)


PREFLIGHT_S = 60.0


def check_robot(robot: str, run: Path | None = None) -> list[Finding]:
    """The preflight of `robot` (a name or YAML file), or of an existing run's: see etude_nodes/preflight.py."""
    words = ["--run", str(run)] if run is not None else ["--robot", robot]
    try:
        done = subprocess.run(
            [sys.executable, "-m", "etude_nodes.preflight", *words],
            env=ros_environment(os.environ),
            timeout=PREFLIGHT_S,
            capture_output=True,
            text=True,
            check=False,
        )
        return [Finding(**finding) for finding in json.loads(done.stdout)]
    except subprocess.TimeoutExpired:
        return [Finding("preflight", RED, f"no answer within {PREFLIGHT_S:.0f} s", "look at the ROS network: ros2 topic list")]
    except ValueError:
        return [Finding("preflight", RED, f"it failed: {last_line(done.stderr)}", "mend what it names")]


CHECKS: tuple[Callable[[], Finding], ...] = (
    check_python,
    check_packages,
    check_machine,
    check_disk,
    check_port,
    check_rendering,
    check_jax,
    check_ros,
    check_interfaces,
    check_messages,
    check_shared_memory,
)


def run_python(code: str, environment: dict[str, str], timeout_s: float = 30.0) -> tuple[bool, str]:
    """Run `code` in a process of its own; returns (succeeded, what it printed)."""
    try:
        done = subprocess.run(
            [sys.executable, "-c", code],
            env=environment,
            timeout=timeout_s,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            check=False,
        )
    except subprocess.TimeoutExpired:
        return False, f"no answer within {timeout_s:.0f} s"
    return done.returncode == 0, done.stdout or f"exit status {done.returncode}"


def last_line(text: str) -> str:
    """The last line that is not empty: of a traceback, the error itself."""
    return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "(no output)")


def diagnose(checks: Sequence[Callable[[], Finding]] = CHECKS) -> list[Finding]:
    """Run `checks` in order; a check that fails itself is a red finding, never an exception."""
    return [_run(check) for check in checks]


def main(argv: Sequence[str] | None = None) -> int:
    """The command. Returns 1 when a finding is red."""
    parser = argparse.ArgumentParser(
        description="Check this machine and say how to mend what is wrong.",
        epilog="examples:\n  etude doctor\n  etude doctor --robot franka_fr3\n  etude doctor --json | python3 -m json.tool",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--json", action="store_true", help="print the findings as one JSON list")
    parser.add_argument("--robot", metavar="NAME", help="also look at this real arm, its cameras and clocks, before it moves")
    arguments = parser.parse_args(argv)
    findings: list[Finding] = []
    for check in CHECKS:
        findings.append(_run(check))
        if not arguments.json:
            _print(findings[-1])
    if arguments.robot:
        found = check_robot(arguments.robot)
        findings += found
        if not arguments.json:
            for finding in found:
                _print(finding)
    if arguments.json:
        print(json.dumps([asdict(finding) for finding in findings], indent=2))
    return int(any(finding.status == RED for finding in findings))


def _run(check: Callable[[], Finding]) -> Finding:
    try:
        return check()
    except Exception as error:
        name = check.__name__.removeprefix("check_")
        return Finding(name, RED, f"the check itself failed: {type(error).__name__}: {error}")


def _print(finding: Finding) -> None:
    colour, end = (COLOURS[finding.status], "\033[0m") if sys.stdout.isatty() else ("", "")
    print(f"{colour}{finding.status:6}{end}  {finding.check:13}  {finding.detail}", flush=True)
    if finding.remedy:
        print(f"{'':23}-> {finding.remedy}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
