"""The practice machine: what holds after any sequence of events, and the transitions people rely on."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actor import practice as p
from etude.status import Mode

EVENTS = st.one_of(
    st.sampled_from(
        [
            p.Start(),
            p.StartOfRun(),
            p.Pause(),
            p.Finish(),
            p.Begun(),
            p.HelpAnswered(),
            p.HelpWithdrawn(),
            p.Skip(),
            p.Evaluate(),
            p.Evaluated(),
            p.SoftwareStop(),
            p.ClearStop(),
            p.Takeover(),
            p.Release(),
        ]
    ),
    st.builds(p.SegmentEnded, st.booleans()),
    st.builds(p.AlreadyMet, st.booleans()),
    st.builds(p.AskHelp, st.just("why"), st.sampled_from(["forward", "backward"]), st.booleans()),
)
HISTORIES = st.lists(EVENTS, max_size=40)
STARTS = st.builds(p.PracticeState, reset=st.sampled_from(["human", "backward_policy", "instruction", "medal", "none"]))


def run(events, state=None):
    state = state or p.PracticeState()
    for event in events:
        state = p.advance(state, event)
    return state


@given(STARTS, HISTORIES)
def test_any_history_leaves_a_valid_state(state, events):
    state = run(events, state)
    assert state.mode in Mode
    assert state.phase in ("forward", "backward")
    assert state.practising == (state.mode.value in ("forward", "backward"))
    assert not (state.stopped and (state.evaluating or state.takeover))
    assert not state.help_open or state.active


def test_without_resets_one_attempt_follows_another_until_only_a_person_can_help():
    state = run([p.Start(), p.SegmentEnded(True), p.SegmentEnded(False)], p.PracticeState(reset="none"))
    assert state.practising and state.phase == "forward"
    assert run([p.AlreadyMet()], state).mode is Mode.AWAITING_HELP


@given(STARTS, HISTORIES)
def test_no_state_is_without_an_exit(state, events):
    state = run(events, state)
    way_out = [p.ClearStop(), p.Evaluated(), p.Release(), p.HelpAnswered(), p.Start()]
    assert run(way_out, state).practising
    assert run([*way_out, p.Finish()], state).mode is Mode.IDLE


@given(STARTS, HISTORIES, HISTORIES)
def test_a_software_stop_always_stops_and_only_clearing_it_leaves(state, before, after):
    state = p.advance(run(before, state), p.SoftwareStop())
    assert state.mode is Mode.STOPPED
    state = run([event for event in after if event != p.ClearStop()], state)
    assert state.mode is Mode.STOPPED
    assert p.advance(state, p.ClearStop()).mode is not Mode.STOPPED


@given(STARTS, HISTORIES, HISTORIES)
def test_after_a_cleared_stop_only_a_persons_start_sets_the_robot_moving(state, before, after):
    state = run([*before, p.SoftwareStop()], state)
    for event in [*after, p.ClearStop()]:
        if event == p.Start() and not state.stopped:
            break
        state = p.advance(state, event)
        assert not state.practising, f"it moves after {event}"


@given(STARTS, HISTORIES, HISTORIES)
def test_a_pause_holds_until_a_person_starts(state, before, after):
    state = run([*before, p.Pause()], state)
    for event in after:
        state = state if event == p.Start() else p.advance(state, event)
        assert not state.practising, f"it moves after {event}"


def test_a_start_while_stopped_leaves_no_trace():
    stopped = run([p.Start(), p.SoftwareStop()])
    assert p.advance(stopped, p.Start()) == stopped
    assert run([p.Start(), p.ClearStop()], stopped).mode is Mode.PAUSED


def test_a_stop_before_practice_began_lets_the_run_begin_paused():
    state = run([p.SoftwareStop(), p.ClearStop()])
    assert state.mode is Mode.IDLE
    state = p.advance(state, p.StartOfRun())
    assert state.mode is Mode.PAUSED
    assert p.advance(state, p.Start()).mode is Mode.FORWARD


@given(STARTS, HISTORIES)
def test_clearing_a_stop_never_sets_the_robot_moving(state, events):
    state = run([*events, p.SoftwareStop(), p.ClearStop()], state)
    assert state.mode in (Mode.IDLE, Mode.PAUSED, Mode.AWAITING_HELP)


@given(STARTS, HISTORIES)
def test_help_requests_are_answered_cancelled_or_open_and_never_two_at_once(state, events):
    open_id = None
    for event in events:
        before, state = state, p.advance(state, event)
        assert state.help_id in (before.help_id, before.help_id + 1)
        if state.help_id > before.help_id:
            assert open_id is None, "a second request opened while one was open"
            assert state.help_open and state.help_reason
            open_id = state.help_id
        elif before.help_open and not state.help_open:
            assert event in (p.HelpAnswered(), p.Finish(), p.HelpWithdrawn())
            open_id = None
        assert state.help_open == (open_id is not None)


@given(STARTS, HISTORIES)
def test_an_open_request_holds_or_practice_goes_on_beside_it_and_either_way_it_can_be_closed(state, events):
    state = run([*events, p.ClearStop(), p.Evaluated(), p.Release(), p.Start(), p.AskHelp("why", "forward", False)], state)
    assert state.help_open
    assert state.practising != state.help_holds
    assert not p.advance(state, p.HelpAnswered()).help_open
    assert not p.advance(state, p.Finish()).help_open
    assert p.advance(state, p.HelpWithdrawn()).help_open == state.help_holds
    holding = p.advance(state, p.AskHelp("the object is lost"))
    assert holding.mode is Mode.AWAITING_HELP and holding.help_id == state.help_id
    assert p.advance(holding, p.HelpWithdrawn()) == holding, "what the robot cannot leave by itself is not withdrawn"


@given(STARTS, HISTORIES)
def test_nothing_but_the_end_of_an_attempt_or_a_skip_changes_the_direction(state, events):
    for event in events:
        before, state = state, p.advance(state, event)
        if state.phase != before.phase:
            assert isinstance(event, p.SegmentEnded | p.AlreadyMet | p.Skip)
            assert before.practising or before.takeover or event == p.Skip()


def test_success_and_time_out_both_switch_the_direction():
    state = run([p.Start()])
    assert state.mode is Mode.FORWARD
    state = p.advance(state, p.SegmentEnded(True))
    assert state.mode is Mode.BACKWARD
    assert p.advance(state, p.SegmentEnded(False)).mode is Mode.FORWARD


def test_without_a_backward_policy_a_person_resets_after_every_attempt():
    state = run([p.Start(), p.SegmentEnded(True)], p.PracticeState(reset="human"))
    assert state.mode is Mode.AWAITING_HELP
    assert p.advance(state, p.HelpAnswered()).mode is Mode.FORWARD


def test_a_goal_that_is_met_already_is_skipped_without_an_attempt():
    assert run([p.Start(), p.AlreadyMet()]).mode is Mode.BACKWARD


def test_two_goals_met_at_once_end_in_a_question_and_not_in_ping_pong():
    state = run([p.Start(), p.AlreadyMet(True), p.SegmentEnded(True), p.AlreadyMet(True)])
    assert state.practising
    state = run([p.SegmentEnded(True), p.AlreadyMet(True)], state)
    assert state.mode is Mode.AWAITING_HELP
    assert "both directions" in state.help_reason


def test_a_proper_start_forgets_earlier_contradictions():
    state = run([p.Start(), p.AlreadyMet(True), p.AlreadyMet(True), p.Begun(), p.AlreadyMet(True)])
    assert state.practising


def test_an_evaluation_returns_to_where_practice_was():
    state = run([p.Start(), p.SegmentEnded(True), p.Evaluate()])
    assert state.mode is Mode.EVALUATING
    assert p.advance(state, p.Evaluated()).mode is Mode.BACKWARD


def test_a_takeover_leaves_an_open_request_open():
    state = run([p.Start(), p.AskHelp("stuck"), p.Takeover()])
    assert state.mode is Mode.TAKEOVER
    assert p.advance(state, p.Release()).mode is Mode.AWAITING_HELP


@pytest.mark.parametrize(
    ("reset", "phase"), [("backward_policy", "backward"), ("medal", "backward"), ("human", "forward"), ("none", "forward")]
)
def test_skip_goes_to_the_other_direction_where_there_is_one(reset, phase):
    assert p.advance(p.PracticeState(reset=reset), p.Skip()).phase == phase
