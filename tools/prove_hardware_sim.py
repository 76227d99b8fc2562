"""The proof on simulated hardware: the Franka driver practises in real time while faults are put in, one after the other.

`etude practice run` (safety node, actor, learner) meets the simulated Franka over ROS topics as it would meet a real one. This
process injects the faults and is the independent recorder: it hears every target that reaches the arm's controller, and judges
with sums of its own (benchmarks/hardware.py).

    make proof-hardware-sim                                  # 15 minutes, docs/results/proof-hardware-sim.json and .png
    make proof-hardware-sim ARGS="--minutes 2 --out DIR"     # make sets up what ROS needs
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import hardware
from benchmarks.hardware import Moment
from etude.config import REPOSITORY, read_named
from etude.run_folder import RunFolder
from etude.summary import read_json

RESULTS = REPOSITORY / "docs" / "results"
NICENESS, LEARNER_NICENESS = -10, 0
QUIET_S = 8.0
"""Between the end of one fault and the next: practice goes on meanwhile."""
DETECT_S, RECOVER_S, START_S = 8.0, 60.0, 420.0
SAFETY_GAP_S = 0.15
"""The safety node speaks every 50 ms; this long a silence is a missed deadline."""
ARM_DOMAIN = 77


@dataclass(frozen=True)
class Case:
    """One fault: how it is put in, by which words it is known, and what must happen then.

    `by` says who tells it: the driver's log (``driver``), the safety node (``safety``), or nobody, because practice must go on
    (``none``).
    """

    name: str
    do: str
    pattern: str
    reaction: str
    by: str = "driver"


CASES: dict[str, Case] = {
    case.name: case
    for case in (
        Case("reflex stop", "sim reflex", "reflex", "held; recovered by the driver, logged, counted"),
        Case("controller lost", "sim controller_lost", "does not follow", "held; recovered by the driver"),
        Case("camera frozen", "sim camera_frozen=front+4", "frozen", "held; goes on with new pictures"),
        Case("camera unplugged", "sim camera_unplugged=wrist+4", "wrist", "held; goes on with new pictures"),
        Case("clock skew", "sim clock_skew=2+3", "stamped", "held; goes on when the clocks agree"),
        Case("late state", "sim state_late+2", "late", "held by driver and safety node; goes on"),
        Case("packet loss", "sim packet_loss=0.9+4", ".", "held while too little arrives; goes on"),
        Case("collision", "sim pushed=60+2", "force|N", "held; goes on when the force is gone"),
        Case("actor killed", "kill actor", "heartbeat", "held by the safety node; actor restarted", "safety"),
        Case("actor hangs", "freeze actor 2", "heartbeat|hangs", "held by the safety node; goes on", "safety"),
        Case("safety node killed", "kill safety", "silent", "nothing reaches the arm; node restarted"),
        Case("second program commands", "intrude 2", "programs send commands", "held by the safety node; goes on", "safety"),
        Case("learner killed", "kill learner", "", "practice goes on with the last policy; learner restarted", "none"),
        Case("learner lost", "freeze learner", "", "practice goes on with the last policy; steps wait", "none"),
    )
}
ORDER = [
    "reflex stop",
    "camera frozen",
    "actor killed",
    "late state",
    "clock skew",
    "collision",
    "safety node killed",
    "camera unplugged",
    "packet loss",
    "controller lost",
    "second program commands",
    "actor hangs",
    "reflex stop",
    "camera frozen",
    "late state",
    "actor killed",
    "clock skew",
    "collision",
    "camera unplugged",
    "learner killed",
]
"""Twenty; the learner is lost beside them, for two thirds of the time."""
SHORT = ["reflex stop", "actor killed", "camera frozen", "late state"]


class Witness:
    """Hears everything on the wire of the arm. Lists are only appended to by the callbacks' thread."""

    def __init__(self, namespace: str) -> None:
        from etude_msgs import msg
        from geometry_msgs.msg import PoseStamped
        from rclpy.node import Node
        from std_msgs.msg import String

        from etude_nodes import qos
        from etude_nodes.sim_franka_node import FAULT_TOPIC

        self.node = Node("witness")
        self.targets: list[Moment] = []
        self.commands_s: list[float] = []  # when the driver sent each, seconds since the epoch
        self.poses: list[Moment] = []
        self.safety: list[tuple[float, str]] = []
        self._pose_type, self._string, self._qos = PoseStamped, String, qos.COMMAND
        self._command_topic = f"/{namespace}/command_pose"
        self.node.create_subscription(PoseStamped, "/target_pose", lambda m: self.targets.append(moment(m)), qos.STEPS)
        self.node.create_subscription(PoseStamped, self._command_topic, lambda m: self.commands_s.append(sent_s(m)), qos.STEPS)
        self.node.create_subscription(PoseStamped, "/current_pose", lambda m: self.poses.append(moment(m)), qos.SENSOR)
        self.node.create_subscription(
            msg.SafetyState,
            f"/{namespace}/safety_state",
            lambda m: self.safety.append((time.monotonic(), "; ".join(m.reasons))),
            qos.METRICS,
        )
        self._faults = self.node.create_publisher(String, FAULT_TOPIC, 10)

    def fault(self, script: str) -> None:
        self._faults.publish(self._string(data=script))

    def intrude(self, seconds: float) -> None:
        """Be a second program that may command the arm. It says where the arm is, so that it is harmless if it passed."""
        publisher = self.node.create_publisher(self._pose_type, self._command_topic, self._qos)
        time.sleep(seconds)
        self.node.destroy_publisher(publisher)


def moment(message: Any) -> Moment:
    p, q = message.pose.position, message.pose.orientation
    return Moment(time.monotonic(), (p.x, p.y, p.z), (q.x, q.y, q.z, q.w))


def sent_s(message: Any) -> float:
    """Seconds since the epoch, of the message's own stamp."""
    return message.header.stamp.sec + 1e-9 * message.header.stamp.nanosec


class Watcher(threading.Thread):
    """Keeps what the actor says of its loop: each start counts its missed deadlines from zero."""

    def __init__(self, folder: RunFolder) -> None:
        super().__init__(daemon=True)
        self._folder, self.samples = folder, list[dict[str, Any]]()

    def run(self) -> None:
        while True:
            status = read_json(self._folder.root / "actor_status.json")
            if status and (not self.samples or status.get("stamp_s") != self.samples[-1].get("stamp_s")):
                self.samples.append(status)
            time.sleep(0.25)


class Rig:
    """The processes of the proof, and hands to break them."""

    def __init__(self, folder: RunFolder, witness: Witness) -> None:
        self.folder, self.witness = folder, witness

    def pid(self, name: str) -> int:
        """Process id of a child of this proof's run. Raises ProcessLookupError when there is none."""
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                words = path.read_bytes().decode().split("\0")
            except OSError:
                continue
            if f"etude_nodes.{name}_node" in words and str(self.folder.root) in words:
                return int(path.parent.name)
        raise ProcessLookupError(f"no {name} process of {self.folder.root.name} runs; its log is in {self.folder.logs}")

    def log(self) -> list[tuple[float, str]]:
        return hardware.told((self.folder.logs / "actor.log").read_text(encoding="utf-8", errors="replace"))

    def inject(self, case: Case) -> None:
        word, _, rest = case.do.partition(" ")
        if word == "sim":
            self.witness.fault(rest)
        elif word == "kill":
            os.kill(self.pid(rest), signal.SIGKILL)
        elif word == "freeze":
            name, _, seconds = rest.partition(" ")
            pid = self.pid(name)
            os.kill(pid, signal.SIGSTOP)
            threading.Timer(float(seconds), os.kill, (pid, signal.SIGCONT)).start()
        elif word == "intrude":
            threading.Thread(target=self.witness.intrude, args=(float(rest),), daemon=True).start()

    @property
    def steps(self) -> int:
        return int(read_json(self.folder.root / "actor_status.json").get("env_steps") or 0)

    @property
    def passing(self) -> bool:
        return bool(self.witness.safety) and not self.witness.safety[-1][1] and time.monotonic() - self.witness.safety[-1][0] < 1

    def practising(self) -> bool:
        """Commands pass, and the driver's last word is that all is well."""
        words = self.log()
        return self.passing and bool(words) and not words[-1][1]

    def try_case(self, case: Case) -> dict[str, Any]:
        """Put a fault in and follow it to its end. Times are seconds after the injection."""
        offset_s = time.time() - time.monotonic()
        steps, began_s = self.steps, time.monotonic()
        self.inject(case)
        detected_s = None
        if case.by != "none":
            detected_s = wait(lambda: self._heard(case, began_s, offset_s), DETECT_S)
        restarted = case.do.split()[0] in ("kill", "freeze")
        time.sleep(1.0 if not restarted else 3.0)
        recovered_s = None
        if wait(lambda: self.practising() or None, RECOVER_S) and (detected_s is not None or case.by == "none"):
            # what nobody noticed cannot be said to have been recovered from
            recovered_s = self._recovered(began_s if detected_s is None else detected_s, offset_s)
        if case.by == "none":
            went_on = wait(lambda: self.steps > steps + 30 or None, 20.0)
            held, recovered_s = bool(went_on), recovered_s if went_on else None
            stray = None
        else:
            stray = self._stray(detected_s, recovered_s)
            # None: it was told, but was over, or sent no poses, before standing still could be measured
            held = False if detected_s is None else None if stray is None else stray <= hardware.STANDS_M
        delay = None if detected_s is None else round(detected_s - began_s, 4)
        return {
            "fault": case.name,
            "at_s": began_s,
            "detected_s": delay,
            "held": held,
            "strayed_while_held_m": None if stray is None else round(stray, 4),
            "recovered_s": None if recovered_s is None else round(recovered_s - began_s, 2),
            "reaction": case.reaction,
        }

    def _heard(self, case: Case, since_s: float, offset_s: float) -> float | None:
        if case.by == "safety":
            return hardware.first_after(self.witness.safety[-400:], since_s, case.pattern)
        found = hardware.first_after(self.log(), since_s + offset_s, case.pattern)
        return None if found is None else found - offset_s

    def _recovered(self, since_s: float, offset_s: float) -> float:
        well = hardware.first_after(self.log(), since_s + offset_s, "")
        return time.monotonic() if well is None else well - offset_s

    def _stray(self, detected_s: float | None, recovered_s: float | None) -> float | None:
        """How far the arm went while held, once it has come to rest; None when the hold was too short to measure, or unseen."""
        if detected_s is None:
            return None
        until_s = time.monotonic() if recovered_s is None else recovered_s
        return hardware.strayed_m(self.witness.poses[-6000:], detected_s + hardware.SETTLED_S, until_s)


def wait(condition: Callable[[], Any], seconds: float) -> Any:
    """The first true value of `condition` (asked 20 times a second), or None after `seconds`."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        value = condition()
        if value is not None and value is not False:
            return value
        time.sleep(0.05)
    return None


def safety_gaps(safety: list[tuple[float, str]], cases: list[dict[str, Any]], began_s: float) -> dict[str, Any]:
    """Silences of the safety node, but for those in which it was killed on purpose."""
    killed = [(one["at_s"], one["at_s"] + (one["recovered_s"] or RECOVER_S)) for one in cases if "safety" in one["fault"]]
    times = [moment for moment, _ in safety if moment >= began_s]
    gaps = [
        later - earlier
        for earlier, later in itertools.pairwise(times)
        if not any(low - 1 <= later and earlier <= high for low, high in killed)
    ]
    missed = sum(gap > SAFETY_GAP_S for gap in gaps)
    longest = round(1000 * max(gaps, default=0.0))
    return {**hardware.percentiles(gaps), "longest_ms": longest, "missed": missed} if gaps else {"n": 0, "missed": 0}


def lost_steps(folder: RunFolder) -> dict[str, Any]:
    """What `etude episodes validate` says: every numbered step is in the store or waits in the outbox."""
    from etude.episodes.store import EpisodeStore
    from etude.episodes.validate import validate_outbox, validate_store

    with EpisodeStore.open(folder.episodes, "r") as store:
        problems = validate_store(store)
        for outbox in sorted(folder.outbox.glob("*.sqlite")):
            problems += validate_outbox(store, outbox)
        steps = sum(info.length for info in store.segments())
    return {"stored_steps": steps, "problems": [str(problem) for problem in problems]}


def periods_on_the_wire(
    commands_s: list[float], cases: list[dict[str, Any]], began_s: float, finished_s: float
) -> dict[str, float]:
    """Of the driver's commands by their own stamps, but for the times in which a fault was at work."""
    offset_s = time.time() - time.monotonic()
    faults = [(one["at_s"], one["at_s"] + (one["recovered_s"] or RECOVER_S)) for one in cases]
    faults += [(0.0, began_s), (finished_s, math.inf)]
    found = hardware.periods(np.array(commands_s) - offset_s, faults)
    return hardware.percentiles(found) if found else {"n": 0, "p50_ms": math.nan, "p99_ms": math.nan}


def prove(minutes: float, names: list[str], out: Path) -> dict[str, Any]:
    from etude_nodes.process import middleware, spinning

    name = f"hardware-{time.strftime('%H%M%S')}"
    os.environ["ROS_DOMAIN_ID"] = str(ARM_DOMAIN)
    runs = Path(os.environ.setdefault("ETUDE_RUNS", str(REPOSITORY / "runs"))).resolve()
    folder = RunFolder(runs / name)
    runs.mkdir(parents=True, exist_ok=True)
    nice = subprocess.run(["nice", "-n", str(NICENESS), "true"], check=False, capture_output=True).stderr == b""
    first = ["nice", "-n", str(NICENESS)] if nice else []
    practice_environment = {k: v for k, v in os.environ.items() if k != "ROS_DOMAIN_ID"}
    practice_environment["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
    simulated = [sys.executable, "-m", "etude_nodes.sim_franka_node", "--ros-args", "-p", "task:=slide"]
    simulated += ["-p", "image_height_px:=64.0", "-p", "camera_rate_hz:=12.0"]
    command = [str(REPOSITORY / ".venv/bin/etude"), "practice", "run", "--headless", "--task", "slide", "--name", name]
    # a machine that others use may hide the arm from the preflight for a while; it is tested by itself
    command += [
        "--ignore-preflight",
        "robot=franka_sim",
        "evaluation.episodes=0",
        "evaluation.interval_episodes=0",
        "recipe.data.utd=0.25",
    ]
    command += ["recipe.critic.ensemble=2", "recipe.data.pretrain_bc_steps=300", "recipe.data.batch_size=64"]
    command += ["recipe.help.timeouts_before_help=1000"]  # nobody is there to answer, and a waiting arm is commanded nothing
    _prepare(practice_environment)
    processes = []
    try:
        processes.append(subprocess.Popen([*first, *simulated]))
        processes.append(subprocess.Popen([*first, *command], env=practice_environment))
        with middleware():
            witness = Witness("robot")
            with spinning(witness.node):
                return _follow(Rig(folder, witness), processes[1], minutes, names, nice)
    finally:
        for process in reversed(processes):
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(120)
            except subprocess.TimeoutExpired:
                process.kill()


def _prepare(environment: dict[str, str]) -> None:
    """Demonstrations, play and classifier of the task, where they are missing: a real arm has no scripted expert to record them,
    so a few seconds of a simulated run make them."""
    print("preparing demonstrations, play and classifier by a short simulated run, where they are missing", flush=True)
    name = f"prepare-{time.strftime('%H%M%S')}"
    words = ["practice", "run", "--headless", "--task", "slide", "--minutes", "0.1", "--name", name]
    settings = ["evaluation.episodes=0", "evaluation.interval_episodes=0", "recipe.data.pretrain_bc_steps=10"]
    subprocess.run([str(REPOSITORY / ".venv/bin/etude"), *words, *settings], env=environment, check=True)


def _follow(rig: Rig, practice: subprocess.Popen[bytes], minutes: float, names: list[str], nice: bool) -> dict[str, Any]:
    for _ in range(600):  # the learner gets what the arm leaves
        try:
            os.setpriority(os.PRIO_PROCESS, rig.pid("learner"), LEARNER_NICENESS)
            break
        except ProcessLookupError:
            time.sleep(0.2)
    ready = wait(lambda: practice.poll() is not None or (rig.steps > 20 and rig.practising()) or None, START_S)
    if not ready or practice.poll() is not None:
        raise RuntimeError(f"practice did not begin within {START_S:.0f} s: look into {rig.folder.logs}")
    watcher = Watcher(rig.folder)
    watcher.start()
    first_steps, began_s, cases = rig.steps, time.monotonic(), list[dict[str, Any]]()
    load = os.getloadavg()[0]
    end_s = began_s + 60 * minutes
    lost_for_s = 40 * minutes  # two thirds: 10 of 15 minutes
    learner, steps_before = rig.pid("learner"), rig.steps
    os.kill(learner, signal.SIGSTOP)
    lost_s, pending = time.monotonic(), 0
    names = list(names)
    while time.monotonic() < end_s:
        if learner and time.monotonic() - lost_s > lost_for_s:
            pending = int(read_json(rig.folder.root / "actor_status.json").get("outbox_pending") or 0)
            made = rig.steps - steps_before
            os.kill(learner, signal.SIGCONT)
            learner = 0
        ready_for = not (names and names[0] == "learner killed" and learner)
        if names and ready_for and rig.practising():
            cases.append(rig.try_case(CASES[names.pop(0)]))
            print(json.dumps(cases[-1]), flush=True)
        time.sleep(QUIET_S if names else 1.0)
    if learner:
        pending = int(read_json(rig.folder.root / "actor_status.json").get("outbox_pending") or 0)
        made = rig.steps - steps_before
        os.kill(learner, signal.SIGCONT)
        time.sleep(15.0)
    finished_s, steps = time.monotonic(), rig.steps - first_steps
    practice.send_signal(signal.SIGTERM)
    practice.wait(150)
    limits = hardware.Limits.of(read_named("robots", "franka_sim")["franka"]["limits"])
    broken = hardware.violations(rig.witness.targets, rig.witness.poses, limits)
    periods = [s["loop_period_p99_ms"] for s in watcher.samples if s.get("loop_period_p99_ms")]
    kept = lost_steps(rig.folder)
    loop = periods_on_the_wire(rig.witness.commands_s, cases, began_s, finished_s)
    return {
        "minutes": round((finished_s - began_s) / 60, 2),
        "cores": os.cpu_count(),
        "load_before": round(load, 1),
        "load_after": round(os.getloadavg()[0], 1),
        "niceness_of_arm": NICENESS if nice else 0,
        "practice_steps": steps,
        "loop_period": loop,
        "loop_period_p99_ms_of_a_minute": {"highest": max(periods, default=None), "last": periods[-1] if periods else None},
        "loop_missed_deadlines": missed_deadlines(watcher.samples),
        "safety_node": safety_gaps(rig.witness.safety, cases, began_s),
        "targets_recorded": len(rig.witness.targets),
        "violations": broken,
        "learner_lost": {"seconds": round(min(lost_for_s, finished_s - lost_s)), "steps_made": made, "waiting_at_end": pending},
        "storage": kept,
        "not_injected": names,
        "faults": hardware.table(cases),
        "injections": [{**one, "at_s": round(one["at_s"] - began_s, 1)} for one in cases],
    }


def missed_deadlines(samples: list[dict[str, Any]]) -> int:
    """Over restarts: every start of the actor counts from zero."""
    total = last = int(samples[0].get("missed_deadlines") or 0) if samples else 0
    first = total
    for sample in samples[1:]:
        now = int(sample.get("missed_deadlines") or 0)
        total += now - last if now >= last else now
        last = now
    return total - first


def plot(result: dict[str, Any], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    names = [name for name, row in result["faults"].items() if row["detection"]]
    figure, axes = plt.subplots(figsize=(9, 0.42 * len(names) + 1.4))
    for number, name in enumerate(names):
        values = [one["detected_s"] * 1000 for one in result["injections"] if one["fault"] == name and one["detected_s"]]
        axes.plot(values, [number] * len(values), "o", color="#0a6cbc")
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    axes.set_xscale("log")
    axes.set_xlabel("from the injection until it is told, ms (each point one injection)")
    axes.grid(axis="x", alpha=0.3)
    figure.tight_layout()
    figure.savefig(path, dpi=110)


PERIOD_P99_MS = 115


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=15.0)
    parser.add_argument("--short", action="store_true", help="four faults only, for development")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the result (default: docs/results)")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    result = prove(arguments.minutes, SHORT if arguments.short else ORDER, arguments.out)
    words = [f"--minutes {arguments.minutes:g}"] if arguments.minutes != 15 else []
    words += ["--short"] if arguments.short else []
    result["command"] = "make proof-hardware-sim" + (f" ARGS='{' '.join(words)}'" if words else "")
    arguments.out.mkdir(parents=True, exist_ok=True)
    (arguments.out / "proof-hardware-sim.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    plot(result, arguments.out / "proof-hardware-sim.png")
    bad = hardware.missed(result["faults"], result["not_injected"])
    print(json.dumps({key: result[key] for key in result if key not in ("injections",)}, indent=1))
    print(f"not held or not recovered: {', '.join(bad) or 'none'}; violations: {len(result['violations'])}")
    period_ms, late = result["loop_period"]["p99_ms"], result["safety_node"]["missed"]
    in_time = period_ms < PERIOD_P99_MS and not late
    verdict = "pass" if in_time else "FAIL"
    worst_ms = result["loop_period_p99_ms_of_a_minute"]["highest"]
    periods = f"loop period p99 {period_ms:.0f} ms (bar {PERIOD_P99_MS}), of the worst minute {worst_ms:.0f} ms"
    print(f"{periods}; safety node late {late} times (bar 0): {verdict}")
    return int(bool(bad or result["violations"] or result["storage"]["problems"] or not in_time))


if __name__ == "__main__":
    sys.exit(main())
