"""What the control loop tells others: answers to commands, and its state as one `PracticeStatus`. It decides nothing."""

from __future__ import annotations

from typing import NamedTuple

from actor.authority import Authority
from actor.pacing import Pacer, RateMeter
from actor.practice import PracticeState
from actor.progress import Progress
from actor.segments import SegmentRecorder
from etude.status import Mode, PracticeStatus


class Answer(NamedTuple):
    """What a command's caller is told at once; the loop acts at its next tick."""

    accepted: bool
    message: str


def make_status(
    task: str,
    state: PracticeState,
    progress: Progress,
    recorder: SegmentRecorder,
    pacer: Pacer,
    meter: RateMeter,
    *,
    policy_version: int,
    weight_age_s: float,
    probability: float,
    message: str,
    holding: tuple[str, ...],
    authority: Authority,
) -> PracticeStatus:
    """The status now; `message` gives way to the reason of an open help request when it is empty."""
    if not message and state.mode is Mode.AWAITING_HELP:
        message = state.help_reason
    return PracticeStatus(
        mode=state.mode,
        task=task,
        env_steps=progress.env_steps,
        segment=recorder.segment,
        step_in_segment=recorder.index,
        success=progress.success(),
        success_truth=progress.success(truth=True),
        policy_version=policy_version,
        weight_age_s=weight_age_s,
        loop_rate_hz=meter.rate_hz,
        loop_period_p99_ms=meter.p99_ms,
        missed_deadlines=pacer.missed,
        outbox_pending=0,
        help_requests=progress.help_requests,
        hard_resets=progress.hard_resets,
        interventions=progress.interventions,
        judge_probability=probability,
        judge_true_positives=progress.true_positives,
        judge_false_positives=progress.false_positives,
        judge_true_negatives=progress.true_negatives,
        judge_false_negatives=progress.false_negatives,
        practice_time_s=progress.practice_time_s,
        message=message,
        holding=holding,
        authority=authority.holder.value,
        operator_name=authority.operator,
        speed_limit=progress.speed_limit,
    )
