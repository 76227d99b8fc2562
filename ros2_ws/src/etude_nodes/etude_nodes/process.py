"""What every process of a run does around its node: arguments, configuration, logging, signals, spinning, small status files.

One place, so that all of them stop the same way: SIGINT and SIGTERM set an event, the process finishes its work while the
middleware still runs, and only then shuts it down.
"""

from __future__ import annotations

import argparse
import contextlib
import getpass
import json
import logging
import math
import os
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from etude.config import ConfigError, RunConfig, build, read_yaml
from etude.durable import write_atomic
from etude.run_folder import RunFolder

if TYPE_CHECKING:
    from rclpy.node import Node

SUPERVISOR = "ETUDE_SUPERVISOR"
"""Environment variable: process id of the supervisor, in the processes that it starts."""
ORPHAN_CHECK_S = 0.5
EXIT_DONE = 0
EXIT_LATER = 1
"""The process needs another one that is not there yet: whoever started it may start it again."""
EXIT_REFUSED = 2
"""The process cannot do its work and a restart would not help: wrong configuration, missing or unreadable files."""


def parse_run(argv: list[str] | None, description: str) -> tuple[RunFolder, RunConfig]:
    """The run folder of ``--run DIR`` and its configuration. Raises ConfigError when there is none."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--run", type=Path, required=True, help="run folder, e.g. runs/latest")
    arguments = parser.parse_args(argv)
    return open_run(arguments.run)


def open_run(path: Path) -> tuple[RunFolder, RunConfig]:
    """Folder and configuration of an existing run. Raises ConfigError when `path` is not a run folder."""
    folder = RunFolder(path.resolve())
    if not folder.config.is_file():
        raise ConfigError(f"{path} is not a run folder: it has no {folder.config.name}. `etude practice run` makes one.")
    return folder, build(RunConfig, read_yaml(folder.config), str(folder.config))


def configure_logging() -> None:
    """Log lines with time and thread on stderr, which the supervisor keeps in the run's ``logs/``."""
    logging.basicConfig(
        level=os.environ.get("ETUDE_LOG_LEVEL", "INFO"),
        format="%(asctime)s %(levelname)s %(name)s (%(threadName)s): %(message)s",
        stream=sys.stderr,
    )
    for chatty in ("jax", "absl", "orbax", "OpenGL"):
        logging.getLogger(chatty).setLevel(logging.WARNING)


def stop_event_from_signals() -> threading.Event:
    """An event that SIGINT and SIGTERM set, and the death of the supervisor that started this process. Call from the main
    thread."""
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    supervisor = os.environ.get(SUPERVISOR)
    if supervisor == str(os.getppid()):
        threading.Thread(target=_stop_when_orphaned, args=(int(supervisor), stop), name="orphan-watch", daemon=True).start()
    return stop


def _stop_when_orphaned(parent: int, stop: threading.Event) -> None:
    """A killed supervisor cannot stop its processes; they must not go on unseen and keep the run's files locked."""
    while not stop.wait(ORPHAN_CHECK_S):
        if os.getppid() != parent:
            logging.getLogger(__name__).warning("the supervisor is gone; stopping")
            stop.set()


@contextlib.contextmanager
def middleware() -> Iterator[None]:
    """rclpy between init and shutdown, with signals left to `stop_event_from_signals`."""
    import rclpy
    from rclpy.signals import SignalHandlerOptions

    rclpy.init(args=[], signal_handler_options=SignalHandlerOptions.NO)
    try:
        yield
    finally:
        rclpy.try_shutdown()


@contextlib.contextmanager
def spinning(node: "Node") -> Iterator[None]:
    """The node's callbacks run in one thread of their own until the block ends; then the node is destroyed."""
    import rclpy
    from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor

    executor = SingleThreadedExecutor()
    executor.add_node(node)

    def spin() -> None:
        try:
            executor.spin()
        except ExternalShutdownException:
            logging.getLogger(__name__).info("the middleware was shut down from outside")

    thread = threading.Thread(target=spin, name="callbacks", daemon=True)
    thread.start()
    try:
        yield
    finally:
        executor.shutdown(timeout_sec=2.0)
        thread.join(timeout=2.0)
        if rclpy.ok():
            node.destroy_node()


def user_name() -> str:
    """Of who runs this process; ``operator`` where the system has no name for them, as in a container."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "operator"


def write_json(path: Path, data: dict[str, Any]) -> None:
    """Replace `path` atomically; NaN becomes null. A reader sees the old or the new object, never half of one."""
    write_atomic(path, json.dumps(_finite(data)).encode())


def append_json_line(path: Path, data: dict[str, Any]) -> None:
    """Append one JSON object as one line with a single write."""
    line = json.dumps(_finite(data)) + "\n"
    with path.open("a", encoding="utf-8") as file:
        file.write(line)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
