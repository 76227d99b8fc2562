"""Who may move the robot: what holds after any sequence of events, and the hand-overs people rely on."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from actor.authority import (
    STALE_AFTER_S,
    Authority,
    Clear,
    Command,
    EndWords,
    HandBack,
    Holder,
    Stop,
    Tick,
    advance,
    who_moves,
)

STEP_S = 0.1
OPERATORS = st.sampled_from(["ada", "bob", "words"])
EVENTS = st.one_of(
    st.builds(lambda who, take, dead, late: ("command", who, take, dead, late), OPERATORS, st.booleans(), st.booleans(),
              st.sampled_from([0.0, 0.0, 0.05, 1.0])),
    st.sampled_from([Stop(), Clear(), HandBack(), EndWords()]),
    st.floats(0.01, 0.5).map(lambda s: ("wait", s)),
)  # fmt: skip


def run(events, authority=None, now_s=0.0):
    """Authority after `events`, with all commands of each operator, and the time."""
    authority, heard = authority or Authority(), {}
    for event in events:
        if isinstance(event, tuple) and event[0] == "wait":
            now_s += event[1]
            event = Tick(now_s)
        elif isinstance(event, tuple):
            _, who, take, dead, late = event
            event = Command(who, now_s - late, take, dead, words=who == "words")
            heard.setdefault(who, []).append(event)
        authority = advance(authority, event)
    return authority, heard, now_s


@given(st.lists(EVENTS, max_size=40), st.booleans())
def test_there_is_never_a_second_authority_nor_motion_without_one(events, practising):
    authority, heard, now_s = run(events)
    mover = who_moves(authority, practising, now_s, STEP_S)
    if mover is Holder.HUMAN:
        assert authority.holder is Holder.HUMAN
        asked = [said for said in heard[authority.operator] if said.takeover and said.deadman]
        assert any(now_s + STEP_S - said.at_s <= STALE_AFTER_S for said in asked)
    if mover is Holder.POLICY:
        assert practising and not authority.taken_over and authority.holder is Holder.POLICY
    if authority.stopped:
        assert mover is Holder.HOLD and not authority.taken_over
    assert authority.taken_over == bool(authority.operator)
    assert authority.holder is not Holder.HUMAN or authority.taken_over


@given(st.lists(EVENTS, max_size=20), st.lists(EVENTS, max_size=20))
def test_a_stop_is_latched_and_clearing_it_moves_nothing(before, after):
    authority, _, now_s = run([*before, Stop()])
    held_on = [event for event in after if event != Clear()]
    authority, _, now_s = run(held_on, authority, now_s)
    assert who_moves(authority, True, now_s, STEP_S) is Holder.HOLD
    authority, _, _ = run([Clear()], authority, now_s)
    assert who_moves(authority, False, now_s, STEP_S) is Holder.HOLD  # practice is paused by a stop


@given(st.lists(EVENTS, max_size=30))
def test_a_lost_command_never_gives_the_robot_to_the_policy(events):
    authority, _, now_s = run(events)
    after = advance(authority, Tick(now_s + 10.0))
    if authority.taken_over:
        assert after.holder is Holder.HOLD and after.operator == authority.operator
        assert who_moves(after, True, now_s + 10.0, STEP_S) is Holder.HOLD


@given(st.lists(EVENTS, max_size=30))
def test_there_is_always_a_way_back_to_the_policy(events):
    authority, _, now_s = run(events)
    way_back = [Clear(), ("wait", 1.0), HandBack()]
    authority, _, now_s = run(way_back, authority, now_s)
    assert who_moves(authority, True, now_s, STEP_S) is Holder.POLICY


def test_who_held_the_robot_when_it_was_stopped_must_let_go_first():
    held = [("command", "ada", True, True, 0.0)]
    authority, _, now_s = run([*held, Stop(), *held, Clear(), *held])
    assert not authority.taken_over
    authority, _, _ = run([("command", "ada", False, False, 0.0), *held], authority, now_s)
    assert authority.operator == "ada" and authority.holder is Holder.HUMAN


def test_the_second_operator_waits_until_the_first_is_gone():
    authority, _, now_s = run([("command", "ada", True, True, 0.0), ("command", "bob", True, True, 0.0)])
    assert authority.operator == "ada"
    authority, _, now_s = run([("command", "bob", False, False, 0.0)], authority, now_s)
    assert authority.operator == "ada", "another's release takes nothing from the one who has it"
    authority, _, _ = run([("wait", 0.4), ("command", "bob", True, True, 0.0)], authority, now_s)
    assert authority.operator == "bob"


SAYS = ("command", "words", True, True, 0.0)


def test_hands_take_the_robot_from_words_at_once_and_words_wait_for_hands():
    authority, _, now_s = run([SAYS, ("command", "ada", True, False, 0.0), SAYS])
    assert authority.operator == "ada" and who_moves(authority, True, now_s, STEP_S) is Holder.HOLD
    authority, _, now_s = run([("command", "ada", False, False, 0.0), SAYS], authority, now_s)
    assert who_moves(authority, True, now_s, STEP_S) is Holder.POLICY, "what was left of the words moves nothing afterwards"
    authority, _, now_s = run([("command", "words", False, False, 0.0), SAYS], authority, now_s)
    assert who_moves(authority, True, now_s, STEP_S) is Holder.HUMAN, "the next ones do"
    authority, _, _ = run([("command", "ada", True, True, 0.0), SAYS], authority, now_s)
    assert authority.operator == "ada"


def test_a_pause_ends_words_and_leaves_hands_alone():
    authority, _, now_s = run([SAYS, EndWords(), SAYS])
    assert not authority.taken_over and who_moves(authority, False, now_s, STEP_S) is Holder.HOLD
    authority, _, _ = run([("command", "ada", True, True, 0.0), EndWords()])
    assert authority.operator == "ada"


def test_without_the_deadman_the_operator_keeps_the_robot_and_it_stands_still():
    authority, _, now_s = run([("command", "ada", True, False, 0.0)])
    assert authority.holder is Holder.HUMAN and who_moves(authority, True, now_s, STEP_S) is Holder.HOLD


def test_a_device_that_comes_back_after_a_loss_with_nothing_held_does_not_let_the_policy_go_on():
    authority, _, now_s = run([("command", "ada", True, True, 0.0), ("wait", 0.4), ("command", "ada", False, False, 0.0)])
    assert authority.holder is Holder.HOLD and who_moves(authority, True, now_s, STEP_S) is Holder.HOLD
    back = [("command", "ada", True, True, 0.0), ("command", "ada", False, False, 0.0)]
    authority, _, now_s = run(back, authority, now_s)
    assert who_moves(authority, True, now_s, STEP_S) is Holder.POLICY, "taken over again and given back"
