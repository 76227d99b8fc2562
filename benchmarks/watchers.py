"""The control loop's period while nobody, one browser and fifty browsers watch two cameras of the same run.

Processes are those of a run: actor with loop and arm in this one, the page's server in its own. The browsers are stood in for by
connections that take and acknowledge everything, from one process that gives way to all others, as if they ran elsewhere.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from benchmarks.practising_arm import PICTURE, PICTURES_HZ, Arm
from benchmarks.result import Result

WATCHERS = (0, 1, 50, 0)
"""The first again at the end: the machine may have become busier meanwhile."""
SECONDS = 60.0
SETTLE_S = 5.0
PATIENCE_S = 30.0


def watchers() -> Iterator[Result]:
    """99th percentile of the loop's period, milliseconds, for each number of `WATCHERS`."""
    from etude_nodes.actor_node import LOOP_NICENESS

    with contextlib.suppress(PermissionError):
        os.setpriority(os.PRIO_PROCESS, 0, LOOP_NICENESS)  # as the actor's process does, where it may
    with _practising() as (arm, server, url):
        for count in WATCHERS:
            told, used = _watched(arm, server, url, count)
            periods = 1000 * np.diff(told)
            settings = {
                "watchers": count,
                "cameras": 2,
                "picture": f"{PICTURE[1]}x{PICTURE[0]}",
                "pictures_per_s": PICTURES_HZ,
                "control_rate_hz": arm.shown.robot.control_rate_hz,
                "periods": len(periods),
                "p50_ms": round(float(np.percentile(periods, 50)), 2),
                "longest_ms": round(float(periods.max()), 2),
                **used,
            }
            yield Result("watched_loop_period_p99_ms", float(np.percentile(periods, 99)), "ms", settings)


@contextlib.contextmanager
def _practising() -> Iterator[tuple[Arm, psutil.Process, str]]:
    from etude.config import save_config
    from etude.run_folder import RunFolder
    from etude_nodes.practice import choose_domain
    from etude_nodes.process import middleware, spinning

    os.environ["ROS_DOMAIN_ID"] = str(choose_domain(f"watchers-{os.getpid()}"))
    with tempfile.TemporaryDirectory(prefix="etude-bench-") as name, middleware():
        folder = RunFolder(Path(name))
        folder.create()
        arm = Arm(folder.root, ["front"], max_steps=10**6)
        page = arm.shown.dashboard.model_copy(update={"port": 0})
        save_config(arm.shown.model_copy(update={"dashboard": page}), folder.config)
        command = [sys.executable, "-m", "etude_nodes.dashboard_node", "--run", name]
        server = subprocess.Popen(command, stdout=sys.stderr)
        os.setpriority(os.PRIO_PROCESS, server.pid, 0)
        with spinning(arm.actor):
            try:
                arm.loop.set_mode("practise")
                yield arm, psutil.Process(server.pid), _address(server, folder.root / "dashboard_status.json")
            finally:
                server.terminate()
                server.wait(10)
                arm.end()


def _address(server: subprocess.Popen[bytes], status: Path) -> str:
    ends_s = time.monotonic() + PATIENCE_S
    while not status.is_file():
        if time.monotonic() > ends_s or server.poll() is not None:
            raise RuntimeError("the page's process has not started")
        time.sleep(0.1)
    return json.loads(status.read_text())["url"]


def _watched(arm: Arm, server: psutil.Process, url: str, count: int) -> tuple[list[float], dict[str, Any]]:
    """Moments of the arm's actions during `SECONDS`, and what the watchers saw and cost."""
    command = [sys.executable, "-m", "benchmarks.watchers", url, str(count), str(SETTLE_S + SECONDS + 1)]
    watching = subprocess.Popen(command, stdout=subprocess.PIPE, text=True) if count else None
    if watching is not None:
        os.setpriority(os.PRIO_PROCESS, watching.pid, 19)
    time.sleep(SETTLE_S)
    began, cpu = time.time(), sum(server.cpu_times()[:2])
    time.sleep(SECONDS)
    ended = time.time()
    used: dict[str, Any] = {
        "server_cpu_share": round((sum(server.cpu_times()[:2]) - cpu) / (ended - began), 3),
        "server_memory_mb": round(server.memory_info().rss / 2**20, 1),
    }
    if watching is not None:
        told, _ = watching.communicate(timeout=PATIENCE_S)
        used |= json.loads(told)
    return [moment for moment in arm.acts_s if began <= moment <= ended], used


async def _watch(url: str, ends_s: float) -> tuple[int, int]:
    """One watcher: (snapshots, pictures) until `ends_s`."""
    from websockets.asyncio.client import connect

    snapshots = pictures = 0
    async with connect(url.replace("http", "ws", 1) + "/live", max_size=None, compression=None) as live:
        while time.monotonic() < ends_s:
            message = await asyncio.wait_for(live.recv(), PATIENCE_S)
            if isinstance(message, bytes):
                pictures += 1
                await live.send("drawn")
            else:
                snapshots += 1
    return snapshots, pictures


async def _watch_all(url: str, count: int, seconds: float) -> None:
    ends_s = time.monotonic() + seconds
    seen = await asyncio.gather(*(_watch(url, ends_s) for _ in range(count)))
    print(
        json.dumps(
            {
                "snapshots_per_s_least": round(min(s for s, _ in seen) / seconds, 2),
                "pictures_per_s_least": round(min(p for _, p in seen) / seconds, 2),
                "pictures_per_s_mean": round(sum(p for _, p in seen) / seconds / count, 2),
            }
        )
    )


if __name__ == "__main__":
    asyncio.run(_watch_all(sys.argv[1], int(sys.argv[2]), float(sys.argv[3])))
