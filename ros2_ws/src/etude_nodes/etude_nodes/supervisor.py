"""Starts the processes of a run, watches them, restarts what crashes, says on one line how it goes, and stops all cleanly.

It has no ROS node: what it shows comes from small status files in the run folder, so it works whatever happens to the middleware.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TextIO

from etude.config import RunConfig
from etude.run_folder import RunFolder
from etude.status import wilson_interval
from etude.summary import read_json
from etude_nodes.process import EXIT_REFUSED, SUPERVISOR, write_json
from etude_nodes.rehearsal import STATUS_FILE

BACKOFF_S = (0.5, 2.0, 5.0, 10.0)
"""Waits before the restarts of one child; after as many crashes within `FORGIVEN_AFTER_S` the run is given up."""
FORGIVEN_AFTER_S = 300.0
LINE_S = 10.0
REFRESH_S = 0.5
STOP_ACTOR_S, STOP_LEARNER_S, STOP_DASHBOARD_S, STOP_SAFETY_S = 15.0, 90.0, 5.0, 5.0
SUPERVISOR_FILE = "supervisor.json"
START_MARK = "--- "
"""Begins the line that a log gets at every start of its process."""

ONE_THREAD = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1",
}
"""For processes whose arithmetic is small: more threads would only take the learner's core."""


class PracticeError(RuntimeError):
    """A run cannot be started or go on; the message says what to do."""


@dataclass
class Child:
    """One process of the run, in a process group of its own, with its output in ``logs/<name>.log``."""

    name: str
    module: str
    environment: dict[str, str]
    needed: bool = True
    process: subprocess.Popen[bytes] | None = None
    crashes: list[float] = field(default_factory=list)
    restarts: int = 0
    restart_at: float | None = None
    done: bool = False

    def start(self, folder: RunFolder) -> None:
        with (folder.logs / f"{self.name}.log").open("ab") as output:
            output.write(f"{START_MARK}{datetime.now(UTC).isoformat(timespec='seconds')} start\n".encode())
            self.process = subprocess.Popen(
                [sys.executable, "-m", self.module, "--run", str(folder.root)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, **self.environment, SUPERVISOR: str(os.getpid())},
                start_new_session=True,
            )
        self.restart_at = None

    @property
    def running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def stop(self, timeout_s: float) -> bool:
        """SIGTERM, wait, then SIGKILL to the whole group. True when it ended by itself."""
        process = self.process
        if process is None or process.poll() is not None:
            return True
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(timeout_s)
            return True
        except subprocess.TimeoutExpired:
            self.kill()
            return False

    def kill(self) -> None:
        if self.process is not None and self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()


class Supervisor:
    """Runs the children of one run until they are done, `stop` is set, or one cannot be kept alive."""

    def __init__(self, folder: RunFolder, config: RunConfig, out: TextIO = sys.stdout) -> None:
        self._folder, self._config, self._out = folder, config, out
        self._terminal = out.isatty()
        self._started, self._started_at = time.monotonic(), time.time()
        self._line_at = 0.0
        self.children = children_of(config)

    def run(self, stop: threading.Event) -> bool:
        """True when the run came to its planned end, False when it was stopped. Raises PracticeError when it cannot go on."""
        stop_requested = False
        try:
            for child in self.children:
                child.start(self._folder)
            while not stop.wait(REFRESH_S):
                self._watch()
                self._show()
                if self._child("actor").done:
                    break
            stop_requested = stop.is_set()
        finally:
            self._finish(stop_requested)
        return not stop_requested

    # --- watching ---------------------------------------------------------------------------------------------------

    def _child(self, name: str) -> Child:
        return next(child for child in self.children if child.name == name)

    def _watch(self) -> None:
        now = time.monotonic()
        for child in self.children:
            if child.done:
                continue
            if child.restart_at is not None:
                if now >= child.restart_at:
                    child.restarts += 1
                    child.start(self._folder)
                continue
            code = child.process.poll() if child.process else None
            if code is None:
                continue
            if code == 0 and child.name == "actor":
                child.done = True
                continue
            self._ended(child, code, now)

    def _ended(self, child: Child, code: int, now: float) -> None:
        """A child ended although nobody asked it to: start it again after a while, or give up."""
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with status {code}"
        child.crashes = [moment for moment in child.crashes if now - moment < FORGIVEN_AFTER_S] + [now]
        tail = last_words(self._folder.logs / f"{child.name}.log", lines=1 if code == EXIT_REFUSED else 3)
        if code == EXIT_REFUSED or len(child.crashes) > len(BACKOFF_S):
            if not child.needed:
                child.done = True
                self.say(f"the {child.name} {how} and stays off; practice goes on without it. Its last words: {tail}")
                return
            raise PracticeError(
                f"the {child.name} {how} and would not run again. Its last words: {tail}\n"
                f"The whole log is in {self._folder.logs / (child.name + '.log')}; nothing that was acknowledged is lost."
            )
        wait = BACKOFF_S[len(child.crashes) - 1]
        child.restart_at = now + wait
        self.say(f"the {child.name} {how}; starting it again in {wait:g} s (last words: {tail})")

    def _finish(self, stop_requested: bool) -> None:
        """Actor first, so that its last steps are still acknowledged; then the learner, which writes a checkpoint."""
        alive = [child for child in self.children if child.running]
        if alive and stop_requested:
            self.say("stopping: the actor sends its last steps, the learner writes a checkpoint (Ctrl-C again to kill them)")
        patience = {"actor": STOP_ACTOR_S, "learner": STOP_LEARNER_S, "dashboard": STOP_DASHBOARD_S, "safety": STOP_SAFETY_S}
        try:
            for name in ("actor", "learner", "dashboard", "safety"):
                for child in alive:
                    if child.name == name and not child.stop(patience[name]):
                        self.say(
                            f"the {name} did not stop within {patience[name]:g} s and was killed; nothing acknowledged is lost"
                        )
        except KeyboardInterrupt:
            for child in alive:
                child.kill()
            self.say("killed; nothing acknowledged is lost")
        self._clear_line()
        self.remember(
            wall_s=self._wall_before + time.monotonic() - self._started, restarts={c.name: c.restarts for c in self.children}
        )

    def remember(self, **values: Any) -> None:
        """Keep `values` in ``supervisor.json`` for the summary."""
        path = self._folder.root / SUPERVISOR_FILE
        write_json(path, {**read_json(path), **values})

    @property
    def _wall_before(self) -> float:
        return float(read_json(self._folder.root / SUPERVISOR_FILE).get("wall_s") or 0.0)

    # --- showing ----------------------------------------------------------------------------------------------------

    def say(self, text: str) -> None:
        """A message on a line of its own."""
        self._clear_line()
        self._print(text + "\n")

    def _show(self) -> None:
        now = time.monotonic()
        if not self._terminal and now - self._line_at < LINE_S:
            return
        self._line_at = now
        line = progress_line(self._fresh(STATUS_FILE), self._fresh("learner_status.json"), self._config)
        if self._terminal:
            width = shutil.get_terminal_size().columns
            self._print(f"\r\033[K{line[: width - 1]}")
        else:
            self._print(line + "\n")

    def _fresh(self, name: str) -> dict[str, Any]:
        """A status file of this start; what an earlier one left is not shown."""
        status = read_json(self._folder.root / name)
        return status if (status.get("stamp_s") or 0.0) >= self._started_at else {}

    def _clear_line(self) -> None:
        if self._terminal:
            self._print("\r\033[K")

    def _print(self, text: str) -> None:
        # a closed terminal or pipe must not keep the supervisor from stopping its processes in order
        with contextlib.suppress(OSError):
            print(text, end="", file=self._out, flush=True)


def children_of(config: RunConfig) -> list[Child]:
    """The processes of a run on this machine. On few cores only the learner may use several threads."""
    few_cores = (os.cpu_count() or 1) <= 4
    small = ONE_THREAD if few_cores else {}
    children = [
        Child("learner", "etude_nodes.learner_node", {}),
        Child("actor", "etude_nodes.actor_node", {**small, "JAX_PLATFORMS": "cpu"}),
    ]
    if config.robot.real:
        children.insert(0, Child("safety", "etude_nodes.safety_node", small))
    if config.dashboard.enabled:
        children.append(Child("dashboard", "etude_nodes.dashboard_node", small, needed=False))
    return children


def progress_line(status: dict[str, Any], learner: dict[str, Any], config: RunConfig) -> str:
    """One line for a person: time, steps, phase, success of the last 20 attempts with Wilson interval, learner, loop."""
    numbers = learner.get("metrics") or {}
    if not status or status.get("stage") == "waiting":
        share = numbers.get("learner/pretraining")
        if learner.get("state") == "pretraining" and share is not None:
            return f"the learner prepares the policy from demonstrations: {100 * share:.0f}%"
        if learner.get("state") == "starting":
            return "the learner reads demonstrations and compiles (longer the first time)"
        if learner.get("state") == "training":
            return "the actor gets the policy"
        return "starting the processes"
    minutes = (status.get("run_time_s") or 0.0) / 60
    planned = f" of {config.minutes:.3g}" if config.minutes else ""
    parts = [f"{minutes:.1f}{planned} min", f"{status['env_steps']} steps", str(status["mode"])]
    for phase, rate in (status.get("success") or {}).items():
        low, high = wilson_interval(rate["successes"], rate["attempts"])
        known = f"{rate['successes']}/{rate['attempts']} [{100 * low:.0f}–{100 * high:.0f}%]" if rate["attempts"] else "–"
        parts.append(f"{phase} {known}")
    parts.append(f"{numbers.get('learner/updates_per_s') or 0:.0f} updates/s")
    parts.append(f"weights v{status['policy_version']} {_seconds(status.get('weight_age_s'))} old")
    parts.append(f"{status.get('loop_rate_hz') or 0:.1f} Hz")
    if status.get("help_requests"):
        parts.append(f"help {status['help_requests']}")
    if status.get("message"):
        parts.append(status["message"])
    return " | ".join(parts)


def last_words(log: Path, lines: int = 3) -> str:
    """The last non-empty lines of a log since its process's last start, on one line."""
    try:
        text = log.read_bytes()[-4000:].decode(errors="replace")
    except OSError:
        return "(no log)"
    newest = f"\n{text}".rpartition(f"\n{START_MARK}")[2].splitlines()
    found = [line.strip() for line in newest if line.strip() and not line.endswith(" start")]
    return " / ".join(found[-lines:]) or "(nothing)"


def _seconds(value: float | None) -> str:
    return "–" if value is None else f"{value:.0f} s"


def summary_lines(summary: dict[str, Any], say: Callable[[str], None]) -> None:
    """The summary in a few lines."""

    def percent(value: float | None) -> str:
        return "–" if value is None else f"{100 * value:.0f}%"

    say(
        f"forward success {percent(summary['forward_success_before'])} before, {percent(summary['forward_success'])} after "
        f"({summary['evaluation_episodes']} episodes); backward {percent(summary['backward_success_before'])} before, "
        f"{percent(summary['backward_success'])} after"
    )
    reached = summary["minutes_to_85"]
    when = "was not reached and confirmed" if reached is None else f"after {reached:g} minutes"
    say(f"85% forward {when}; help requests: {summary['help_requests']}")
