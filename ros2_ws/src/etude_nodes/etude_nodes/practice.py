"""`etude practice run` and `etude practice resume`: make or find the run folder, prepare what is missing, supervise.

The commands of a person. What happens inside a run is in the processes; how they are watched is in supervisor.py.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.metadata
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import zlib
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

from etude.config import CONFIG_ROOT, ConfigError, RunConfig, load_run_config, save_config
from etude.doctor import check_robot
from etude.durable import write_atomic
from etude.findings import GREEN, RED
from etude.run_folder import RunFolder, data_root, runs_root
from etude.summary import read_json, write_summary
from etude_nodes import prepare
from etude_nodes.process import open_run, write_json
from etude_nodes.rehearsal import STATUS_FILE
from etude_nodes.supervisor import SUPERVISOR_FILE, PracticeError, Supervisor, summary_lines
from learner.commands import refuse_unfinished_retraining

DOMAINS = range(1, 101)
"""ROS domain ids whose ports lie below the range that the system gives to outgoing connections."""
PORTS_TO_TRY = 20
IGNORE_PREFLIGHT = "start although the preflight of a real arm is red (see `etude doctor --robot`)"
COMPILATION_CACHE = {
    "JAX_COMPILATION_CACHE_DIR": "{data}/compiled",
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "0",
}
"""What JAX compiled is kept (1.4 MB for the demo): a second start, or a restart after a kill, is much faster."""


def run_command(argv: Sequence[str]) -> int:
    """`etude practice run`."""
    parser = argparse.ArgumentParser(
        prog="etude practice run",
        description="Start a run: learner, actor and page as processes that talk over ROS 2. Ctrl-C stops and keeps it.",
        epilog="examples:\n  etude practice run --config robot_configs/runs/demo.yaml\n"
        "  etude practice run --headless --minutes 20 --seed 1\n"
        "  etude practice run --task drawer --observation state recipe.critic.ensemble=10\n"
        "  etude practice run --from runs/offline-cal_ql-relocate-s0 --minutes 20",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--config", type=Path, help="run YAML (default: that of --from, or robot_configs/runs/demo.yaml, or demo_state.yaml)"
    )
    parser.add_argument("--name", help="name of the run folder (default: from config, task, observation, seed and time)")
    parser.add_argument(
        "--from",
        dest="origin",
        type=Path,
        metavar="RUN",
        help="begin with the configuration, policy, replay and classifier of this run",
    )
    parser.add_argument("--minutes", type=float, help="practise for so long, evaluate, write the summary and end")
    parser.add_argument("--seed", type=int)
    parser.add_argument(
        "--headless", action="store_true", help="nobody watches: no page; a scripted helper answers help requests"
    )
    parser.add_argument("--observation", choices=("pixels", "state"))
    parser.add_argument("--task", help="name of a file in robot_configs/tasks")
    parser.add_argument("--port", type=int, help="port of the page on this machine")
    parser.add_argument("--ignore-preflight", action="store_true", help=IGNORE_PREFLIGHT)
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="any setting, e.g. recipe.data.utd=2")
    arguments = parser.parse_args(list(argv))
    config = configure(arguments)
    with _terminable():
        began = time.monotonic()
        config = _settle_port(config, asked=arguments.port is not None)
        folder = make_run_folder(config, arguments.name, arguments.origin)
        save_config(config, folder.config)
        print(f"run {folder.root.name} in {shown(folder.root)}")
        return _practise(folder, config, began, arguments.ignore_preflight)


def resume_command(argv: Sequence[str]) -> int:
    """`etude practice resume`."""
    parser = argparse.ArgumentParser(
        prog="etude practice resume",
        description="Continue a run where it stopped or was killed: policy, optimisers, replay, counters and clock go on.",
        epilog="examples:\n  etude practice resume\n  etude practice resume runs/demo-slide-pixels-s0-20260102-1530 --minutes 10",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("run", nargs="?", type=Path, help="run folder (default: runs/latest)")
    parser.add_argument("--minutes", type=float, help="practise for so many more minutes")
    parser.add_argument("--port", type=int, help="port of the page on this machine")
    parser.add_argument("--ignore-preflight", action="store_true", help=IGNORE_PREFLIGHT)
    arguments = parser.parse_args(list(argv))
    folder, config = open_run(arguments.run or runs_root() / "latest")
    status = read_json(folder.root / STATUS_FILE)
    done_minutes = float(status.get("run_time_s") or 0.0) / 60
    if arguments.minutes is not None:
        config = _checked(config, minutes=done_minutes + arguments.minutes)
    elif config.minutes is not None and done_minutes >= config.minutes:
        print(f"the planned {config.minutes:g} minutes were over; practice goes on until you stop it")
        config = _checked(config, minutes=None)
    _forget_final_evaluation(folder)
    with _terminable():
        began = time.monotonic()
        if arguments.port is not None:
            config = _checked(config, dashboard={**config.dashboard.model_dump(), "port": arguments.port})
        config = _settle_port(config, asked=arguments.port is not None)
        save_config(config, folder.config)
        _link_latest(folder)
        print(f"resuming run {folder.root.name} after {done_minutes:.1f} minutes of practice")
        return _practise(folder, config, began, arguments.ignore_preflight)


# --- configuration --------------------------------------------------------------------------------------------------


def configure(arguments: argparse.Namespace) -> RunConfig:
    """The run's configuration from file (with ``--from``, that of the run it begins from), conveniences and overrides.

    Raises:
        ConfigError: a file, a key or a value is wrong, or ``--from`` names no run.
    """
    demo = CONFIG_ROOT / "runs" / ("demo_state.yaml" if arguments.observation == "state" else "demo.yaml")
    path = arguments.config or (open_run(arguments.origin)[0].config if arguments.origin is not None else demo)
    overrides = []
    for key in ("task", "observation", "seed", "minutes"):
        if (value := getattr(arguments, key)) is not None:
            overrides.append(f"{key}={value}")
    if arguments.headless:
        overrides += ["headless=true", "dashboard.enabled=false"]
    if arguments.port is not None:
        overrides += [f"dashboard.port={arguments.port}", "dashboard.enabled=true"]
    return load_run_config(path, [*overrides, *arguments.overrides], truth_without_images=arguments.observation == "state")


def make_run_folder(config: RunConfig, name: str | None, origin: Path | None) -> RunFolder:
    """A new folder under ``runs/`` (a taken name gets a number), linked as ``runs/latest``."""
    if name is not None and (not name or "/" in name or name.startswith(".") or name == "latest"):
        raise ConfigError(f"--name {name!r} cannot be a folder name; use letters, digits and dashes")
    stamp = time.strftime("%Y%m%d-%H%M")
    base = name or f"{config.name}-{config.task.name}-{config.observation}-s{config.seed}-{stamp}"
    source = None if origin is None else open_run(origin)[0]
    if source is not None:
        refuse_unfinished_retraining(source)
    root = runs_root()
    root.mkdir(parents=True, exist_ok=True)
    for number in range(1, 1000):
        folder = RunFolder(root / (base if number == 1 else f"{base}-{number}"))
        try:
            folder.root.mkdir()
            break
        except FileExistsError:
            continue
    folder.create()
    if source is not None:
        _begin_from(source, folder)
    write_json(folder.root / SUPERVISOR_FILE, {"started": datetime.now(UTC).isoformat(timespec="seconds"), "version": _version()})
    _link_latest(folder)
    return folder


def _begin_from(source: RunFolder, folder: RunFolder) -> None:
    """Copy what a learner continues from. The new run has actors of its own, so sequences never mix."""
    for path in (source.checkpoints, source.episodes, source.classifier, source.policy):
        if path.is_dir():
            shutil.copytree(path, folder.root / path.name, dirs_exist_ok=True, ignore=shutil.ignore_patterns("*.lock"))


def _link_latest(folder: RunFolder) -> None:
    link = folder.root.parent / "latest"
    temporary = folder.root.parent / f".latest.{os.getpid()}"
    with contextlib.suppress(FileNotFoundError):
        temporary.unlink()
    temporary.symlink_to(folder.root.name)
    temporary.replace(link)


def _checked(config: RunConfig, **changes: object) -> RunConfig:
    return RunConfig.model_validate({**config.model_dump(), **changes})


def _forget_final_evaluation(folder: RunFolder) -> None:
    """A resumed run will be evaluated again at its new end; the old final evaluation becomes a point of the curve."""
    if folder.evaluations.is_file():
        text = folder.evaluations.read_text(encoding="utf-8")
        write_atomic(folder.evaluations, text.replace('"kind": "after"', '"kind": "interval"').encode())


def _version() -> str:
    try:
        return importlib.metadata.version("etude")
    except importlib.metadata.PackageNotFoundError:
        return "unknown"


# --- ports and domains ----------------------------------------------------------------------------------------------


def _settle_port(config: RunConfig, asked: bool) -> RunConfig:
    """The page's port, free now. Raises PracticeError when the one that was asked for is taken."""
    if not config.dashboard.enabled:
        return config
    host, port = config.dashboard.host, config.dashboard.port
    if asked and not _free(host, port):
        raise PracticeError(
            f"port {port} on {host} is taken by another program: choose another one with --port, or --port 0 for any"
        )
    if port == 0 or not _free(host, port):
        port = next((p for p in range(port + 1, port + PORTS_TO_TRY) if _free(host, p)), 0) if port else _any_port(host)
        if port == 0:
            raise PracticeError(f"no free port from {config.dashboard.port} on: choose one with --port, or use --headless")
    return _checked(config, dashboard={**config.dashboard.model_dump(), "port": port})


def _free(host: str, port: int, kind: socket.SocketKind = socket.SOCK_STREAM) -> bool:
    with socket.socket(socket.AF_INET, kind) as probe:
        if kind == socket.SOCK_STREAM:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # a port in TIME_WAIT is usable
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


def _any_port(host: str) -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


def choose_domain(name: str) -> int:
    """A ROS domain id for this run, so that runs on one machine do not hear each other: by its name, the next that is free."""
    start = zlib.crc32(name.encode()) % len(DOMAINS)
    order = [DOMAINS[(start + i) % len(DOMAINS)] for i in range(len(DOMAINS))]
    # the first participant of domain d listens on UDP port 7400 + 250 d + 10 (DDSI-RTPS, well-known ports)
    return next((domain for domain in order if _free("127.0.0.1", 7410 + 250 * domain, socket.SOCK_DGRAM)), order[0])


# --- running --------------------------------------------------------------------------------------------------------


def _practise(folder: RunFolder, config: RunConfig, began: float, ignore_preflight: bool = False) -> int:
    if "ROS_DOMAIN_ID" not in os.environ:
        os.environ["ROS_DOMAIN_ID"] = str(choose_domain(folder.root.name))
    (folder.root / "ros_domain_id").write_text(os.environ["ROS_DOMAIN_ID"] + "\n", encoding="utf-8")
    for name, value in COMPILATION_CACHE.items():
        os.environ.setdefault(name, value.format(data=data_root()))
    _prepare(folder, config)
    refuse_on_red(folder, config, ignore_preflight)
    supervisor = Supervisor(folder, config)
    if not read_json(folder.root / SUPERVISOR_FILE).get("preparation_s"):
        supervisor.remember(preparation_s=round(time.monotonic() - began, 1))
    if config.dashboard.enabled:
        print(f"page: http://{config.dashboard.host}:{config.dashboard.port}")
    resume = f"etude practice resume {shown(folder.root)}"
    print(f"ROS domain {os.environ['ROS_DOMAIN_ID']}; logs in {shown(folder.logs)}; Ctrl-C stops and keeps the run")
    stop = _stop_on_signals()
    try:
        finished = supervisor.run(stop)
    except PracticeError as error:
        raise PracticeError(f"{error}\nThe run is kept in {shown(folder.root)}; when the cause is mended: {resume}") from None
    if finished:
        summary = write_summary(folder)
        summary_lines(summary, supervisor.say)
        print(f"summary: {shown(folder.summary)}, curve: {shown(folder.learning_curve)}")
    else:
        if read_json(folder.root / STATUS_FILE):
            write_summary(folder)
        print(f"stopped. The run is kept in {shown(folder.root)}")
    print(f"resume it with: {resume}")
    return 0


def refuse_on_red(folder: RunFolder, config: RunConfig, ignore: bool) -> None:
    """The preflight of a real arm. Raises PracticeError when a finding is red, unless a person says to `ignore` it."""
    if config.robot.kind != "franka":
        return
    findings = [one for one in check_robot(config.robot.name, folder.root) if one.status != GREEN]
    for one in findings:
        print(f"preflight {one.status}: {one.check}: {one.detail} -> {one.remedy}", flush=True)
    red = [one.check for one in findings if one.status == RED]
    if red and not ignore:
        raise PracticeError(
            f"the preflight of {config.robot.name} is red ({', '.join(red)}): mend what it says above, then `etude practice "
            f"resume {shown(folder.root)}`, or start in spite of it with --ignore-preflight"
        )


def _prepare(folder: RunFolder, config: RunConfig) -> None:
    """Demonstrations, play and classifier, in a process of their own."""
    todo = prepare.missing(config, folder)
    if not todo:
        return
    if todo != ["classifier"] or not prepare.classifier_cache(config).is_dir():
        print(f"once for this task: {', '.join(todo)}")
    command = [sys.executable, "-m", "etude_nodes.prepare", "--run", str(folder.root)]
    code = subprocess.run(command, check=False).returncode
    if code in (130, -signal.SIGINT, -signal.SIGTERM):
        raise KeyboardInterrupt
    if code:
        raise PracticeError(
            f"preparing the run failed (status {code}); the reason is above. Then: etude practice resume {shown(folder.root)}"
        )


def _stop_on_signals() -> threading.Event:
    """SIGTERM, a closed terminal and the first Ctrl-C ask for a clean stop; the second Ctrl-C is a KeyboardInterrupt again."""
    stop = threading.Event()

    def ask(number: int, frame: object) -> None:
        if stop.is_set() and number == signal.SIGINT:
            raise KeyboardInterrupt
        stop.set()

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, ask)
    return stop


@contextlib.contextmanager
def _terminable() -> Iterator[None]:
    """Until the processes run, SIGTERM ends the command like Ctrl-C."""
    previous = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)


def shown(path: Path) -> str:
    """`path` as a person would type it here."""
    try:
        return str(path.resolve().relative_to(Path.cwd()))
    except ValueError:
        return str(path)
