"""The files of a made-up run of some minutes, for curves and the strip of the last minutes: it learns and waits for help."""

from __future__ import annotations

import json
import math
import time

import numpy as np

from etude.episodes.segment import SegmentInfo
from etude.run_folder import RunFolder

ATTEMPT_S = 5.0
WAIT_S = 25.0


def make_history(folder: RunFolder, minutes: float = 12.0, end_s: float | None = None) -> list[SegmentInfo]:
    """Writes metrics and help log into `folder`, ending at `end_s` (now, if None); returns its attempts."""
    rng = np.random.default_rng(4)
    end_s = end_s or time.time()
    began, segments, sequence, interventions = end_s - 60 * minutes, [], 1, 0
    folder.create()
    with (
        folder.metrics("actor").open("w") as actor,
        folder.metrics("learner").open("w") as learner,
        folder.help_log.open("w") as help_log,
    ):
        for second in range(int(60 * minutes)):
            interventions += second % 211 == 150
            numbers = {
                "run_time_s": float(second),
                "interventions": interventions,
                "loop_period_p99_ms": 101.5 + 3 * rng.random() + 14 * (second % 97 == 0),
                "weight_age_s": float(second % 4) + rng.random(),
            }
            actor.write(json.dumps({"time_s": began + second, "step": 10 * second, **numbers}) + "\n")
            if second % 5 == 0:
                losses = {
                    f"{name}/{phase}": scale * math.exp(-second / fall) + 0.02 + 0.01 * rng.random()
                    for phase, fall in (("forward", 200), ("backward", 260))
                    for name, scale in (("critic/td_loss", 0.8), ("policy/bc_loss", 0.5))
                }
                learner.write(json.dumps({"time_s": began + second, "step": 10 * second, **losses}) + "\n")
        at, number = 0.0, 0
        while at + ATTEMPT_S < 60 * minutes:
            number += 1
            if number % 37 == 30:
                stamp = int((began + at) * 1e9)
                asked = {"event": "asked", "id": number, "reason": "The block has left the table.", "stamp_ns": stamp}
                answered = {**asked, "event": "answered", "logged_ns": stamp + int(WAIT_S * 1e9)}
                help_log.write(json.dumps(asked) + "\n" + json.dumps(answered) + "\n")
                at += WAIT_S
            length = rng.uniform(0.5, 1.0) * ATTEMPT_S
            success = int(rng.random() < 0.9 - 0.7 * math.exp(-at / 240))
            steps = max(1, int(10 * length))
            human = steps // 3 if number % 19 == 7 else 0
            segments.append(
                SegmentInfo(
                    actor_id="robot-1",
                    segment=number,
                    phase="forward" if number % 2 else "backward",
                    task="slide",
                    instruction="",
                    first_sequence=sequence,
                    length=steps + 1,
                    first_index=0,
                    success=success,
                    success_truth=success,
                    is_terminal=bool(success),
                    cut=False,
                    reward_sum=float(success),
                    first_stamp_ns=int((began + at) * 1e9),
                    last_stamp_ns=int((began + at + length) * 1e9),
                    policy_version=number,
                    sources={"policy": steps - human, **({"human": human} if human else {})},
                )
            )
            sequence += steps + 1
            at += length + 0.3
    return segments
