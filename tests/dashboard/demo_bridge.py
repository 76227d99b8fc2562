"""A bridge without a robot: a made-up run for the tests and for working on the page.

Run it to look at the page: ``python tests/dashboard/demo_bridge.py --scenario help --port 8420``.
"""

from __future__ import annotations

import argparse
import io
import math
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from made_history import make_history

from dashboard.app import Answer, create_app
from dashboard.curves import Curves
from dashboard.run_view import RunView
from dashboard.server import make_server, open_port
from dashboard.teleop import Held
from dashboard.timeline import Timeline
from etude.config import RunConfig
from etude.run_folder import RunFolder
from etude.status import HelpRequest, Mode, PracticeStatus, SuccessRate


def example_config(**changes) -> RunConfig:
    data = {
        "name": "demo-slide-pixels-s0",
        "task": {
            "name": "slide",
            "scene": "slide",
            "forward": {"instruction": "push the puck into the right goal", "max_steps": 40},
            "backward": {"instruction": "push the puck back to the left", "max_steps": 40},
        },
        "robot": {"name": "sim_panda", "pace": "realtime"},
        "recipe": {"name": "rlpd"},
        "minutes": 20,
    }
    return RunConfig.model_validate({**data, **changes})


def example_status(**changes) -> PracticeStatus:
    values = {
        "mode": Mode.FORWARD,
        "task": "slide",
        "env_steps": 6231,
        "segment": 214,
        "step_in_segment": 17,
        "success": {"forward": SuccessRate(17, 20, 104), "backward": SuccessRate(13, 20, 103)},
        "success_truth": {"forward": SuccessRate(17, 20, 104), "backward": SuccessRate(14, 20, 103)},
        "policy_version": 318,
        "weight_age_s": 1.4,
        "loop_rate_hz": 10.0,
        "loop_period_p99_ms": 101.7,
        "missed_deadlines": 3,
        "outbox_pending": 12,
        "help_requests": 4,
        "hard_resets": 4,
        "interventions": 0,
        "judge_probability": 0.12,
        "judge_true_positives": 148,
        "judge_false_positives": 2,
        "judge_true_negatives": 51,
        "judge_false_negatives": 6,
        "practice_time_s": 754.0,
    }
    return PracticeStatus(**{**values, **changes})


def example_help(**changes) -> HelpRequest:
    values = {
        "id": 5,
        "reason": "The block has left the table.",
        "phase": "forward",
        "stamp_ns": time.time_ns() - 42 * 10**9,
        "env_steps": 6231,
        "meanwhile": "Meanwhile the arm holds still above the table.",
        "open": True,
    }
    return HelpRequest(**{**values, **changes})


def picture(width: int, height: int, phase: float) -> bytes:
    """A JPEG with something that moves, so that a page that updates can be told from one that does not."""
    image = Image.new("RGB", (width, height), (44, 52, 60))
    draw = ImageDraw.Draw(image)
    draw.rectangle((0, height * 0.62, width, height), fill=(150, 132, 112))
    x = width * (0.5 + 0.3 * math.sin(phase))
    size = width * 0.05
    draw.rectangle((x - size, height * 0.7, x + size, height * 0.7 + 1.6 * size), fill=(10, 127, 136))
    draw.line((width * 0.5, 0, x, height * 0.66), fill=(232, 236, 240), width=max(2, width // 40))
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=85)
    return buffer.getvalue()


class DemoBridge:
    """Answers like the real one and remembers every command in `commands`."""

    def __init__(self, view: RunView) -> None:
        self.view = view
        self.commands: list[tuple] = []
        self.answer = Answer(True)
        self.viewer_counts: list[int] = []
        self.held: list[tuple[float, str, Held]] = []
        self.snapshot = view.snapshot
        self.image = view.image
        self.image_sequences = view.image_sequences

    def viewers(self, count: int) -> None:
        self.viewer_counts.append(count)

    def set_mode(self, mode: str) -> Answer:
        return self._took("set_mode", mode)

    def software_stop(self, active: bool) -> Answer:
        return self._took("software_stop", active)

    def resolve_help(self, answer: str, operator: str) -> Answer:
        return self._took("resolve_help", answer, operator)

    def limit_speed(self, share: float) -> Answer:
        return self._took("limit_speed", share)

    def correct(self, text: str) -> Answer:
        return self._took("correct", text)

    def label(self, segment: int, success: bool) -> Answer:
        return self._took("label", segment, success)

    def teleop(self, operator: str, held: Held) -> None:
        self.held.append((time.monotonic(), operator, held))

    def _took(self, *command) -> Answer:
        self.commands.append(command)
        return self.answer


def fill_history(view: RunView, minutes: float = 12.5, seed: int = 3) -> None:
    """Evaluations and practice of a run that learns, up to `minutes`."""
    rng = np.random.default_rng(seed)
    window = {"forward": [], "backward": []}
    totals = {"forward": 0, "backward": 0}
    before = {p: SuccessRate() for p in window}
    for segment, second in enumerate(range(0, int(minutes * 60), 6), start=1):
        skill = {
            "forward": 0.14 + 0.78 / (1 + math.exp(-(second - 260) / 70)),
            "backward": 0.2 + 0.6 / (1 + math.exp(-(second - 340) / 90)),
        }
        if second % 90 == 0:
            for phase in ("forward", "backward"):
                episodes = 50 if second == 0 else 20
                record = {
                    "time_s": second,
                    "env_steps": int(second * 8.3),
                    "phase": phase,
                    "episodes": episodes,
                    "kind": "interval",
                }
                view.on_evaluation({**record, "successes": int(rng.binomial(episodes, skill[phase]))})
        phase = ("forward", "backward")[segment % 2]
        totals[phase] += 1
        window[phase] = [*window[phase], bool(rng.random() < skill[phase])][-20:]
        success = {p: SuccessRate(sum(w), len(w), totals[p]) for p, w in window.items()}
        done = {"practice_time_s": float(second), "env_steps": int(second * 8.3)}
        view.on_status(example_status(segment=segment, **done, success=before, success_truth=before))
        view.on_status(example_status(segment=segment + 1, **done, success=success, success_truth=success))
        before = success
        if second in (96, 222, 510):
            view.on_help(example_help(id=second))
            view.on_help(example_help(id=second, open=False))
    view.last_success = success


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=8420)
    parser.add_argument("--scenario", choices=["practising", "help", "stopped", "empty", "state"], default="practising")
    parser.add_argument("--pictures", type=Path, help="Folder with <camera>.jpg to show instead of drawn ones.")
    parser.add_argument("--token", default="")
    arguments = parser.parse_args()
    changes = (
        {"observation": "state", "recipe": {"name": "rlpd", "reward": {"kind": "environment"}}}
        if arguments.scenario == "state"
        else {}
    )
    view = RunView(example_config(**changes), "runs/demo-slide-pixels-s0")
    if arguments.scenario != "empty":
        fill_history(view)
        threading.Thread(target=_live, args=(view, arguments.scenario, arguments.pictures), daemon=True).start()
    folder = RunFolder(Path(tempfile.mkdtemp(prefix="etude-page-")) / "demo-slide-pixels-s0")
    segments = make_history(folder) if arguments.scenario != "empty" else []
    curves, timeline = Curves(folder, lambda: segments), Timeline(folder, lambda: segments)
    listener = open_port("127.0.0.1", arguments.port)
    print(f"http://127.0.0.1:{listener.getsockname()[1]}", flush=True)
    make_server(create_app(DemoBridge(view), token=arguments.token, curves=curves, timeline=timeline)).run(sockets=[listener])


def _live(view: RunView, scenario: str, pictures: Path | None) -> None:
    if scenario == "help":
        view.on_help(example_help())
    mode = {"help": Mode.AWAITING_HELP, "stopped": Mode.STOPPED}.get(scenario, Mode.FORWARD)
    start = time.monotonic()
    while True:
        t = time.monotonic() - start
        step = int(t * 10) % 40
        view.on_metrics({"disk/free_gb": 41.3}, updates=24880 + int(41 * t))
        view.on_diagnostics("robot/actor", "ok", "forward", {"loop_rate_hz": "10", "missed_deadlines": "3"})
        view.on_diagnostics("learner", "ok", "training", {"updates_per_s": "41.2"})
        view.on_diagnostics("dashboard", "ok", "the page shows the actor", {"viewers": "1"})
        probability = 1 / (1 + math.exp(-(step - 32) / 2)) if mode == Mode.FORWARD else 0.03
        view.on_status(
            example_status(
                mode=mode,
                step_in_segment=step,
                judge_probability=probability,
                success=view.last_success,
                success_truth=view.last_success,
                segment=126,
                practice_time_s=754 + t,
                env_steps=6231 + int(10 * t),
            )
        )
        for camera, (width, height) in {"beauty": (640, 400), "front": (64, 64), "wrist": (64, 64)}.items():
            file = pictures / f"{camera}.jpg" if pictures else None
            view.on_image(camera, file.read_bytes() if file and file.exists() else picture(width, height, t))
        time.sleep(0.2)


if __name__ == "__main__":
    main()
