"""What a control loop must not forget when its process dies: counts, stop, pause, direction, and the open help request.

Separate from the loop so that the form on disk is one pair of functions. Conditions are kept, not the mode: a mode shows only the
strongest of them (an evaluation hides a pause).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from actor.practice import PracticeState
from actor.progress import Progress
from etude.status import HelpRequest

KEY = "practice"


def remember(progress: Progress, state: PracticeState, request: HelpRequest | None) -> dict[str, Any]:
    """JSON data for `recall`: the counts of `progress`, and under ``practice`` what a person decided or is asked."""
    practice = {
        "phase": state.phase,
        "paused": state.paused or state.takeover,  # who had the robot may be beside it: practice waits for a word
        "stopped": state.stopped,
        "help_id": state.help_id,
        "help": request.to_json() if request is not None and state.help_open else None,
    }
    return {**progress.to_json(), KEY: practice}


def recall(data: dict[str, Any] | None, state: PracticeState) -> tuple[Progress, PracticeState, HelpRequest | None]:
    """Counts, state and open help request to go on with; `state` is the one of a new run.

    Practice is not active, so that nothing moves before it is started, unless a request waits for its answer. Data without
    ``practice`` number their requests from the count of those made.
    """
    if data is None:
        return Progress(), state, None
    progress = Progress.from_json({name: value for name, value in data.items() if name != KEY})
    kept = data.get(KEY) or {}
    stopped = bool(kept.get("stopped"))
    state = replace(
        state,
        phase=kept.get("phase", state.phase),
        stopped=stopped,
        paused=stopped or bool(kept.get("paused")),
        help_id=int(kept.get("help_id", progress.help_requests)),
    )
    if not kept.get("help"):
        return progress, state, None
    request = HelpRequest(**{**kept["help"], "answers": tuple(kept["help"].get("answers", ()))})
    return progress, replace(state, active=True, help_open=True, help_reason=request.reason), request
