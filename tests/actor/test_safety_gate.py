"""The safety node's decisions: late, killed, hanging or disagreeing actors hold the arm; broken limits do not pass."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actor.safety_gate import BEAT_LIMIT_S, CALM_S, SafetyGate
from etude.config.hardware import CommandLimits

LIMITS = CommandLimits(workspace_min_m=(0.3, -0.3, 0.02), workspace_max_m=(0.7, 0.3, 0.4))
HERE = np.array([0.5, 0.0, 0.2])


class Rig:
    """A gate with a well-behaved actor and arm; a test breaks one thing."""

    def __init__(self) -> None:
        self.gate, self.now_s = SafetyGate(LIMITS, "same"), 100.0
        self.target: np.ndarray | None = None
        self.here = HERE
        self.run(0.5)

    def run(
        self, seconds: float, beats: bool = True, loop_age_s: float = 0.05, limits: str = "same", pose: bool = True
    ) -> tuple[str, ...]:
        until = self.now_s + seconds
        reasons = self.gate.reasons(self.now_s)
        while self.now_s < until:
            self.now_s += 0.01
            if beats:
                self.gate.beat(self.now_s, loop_age_s, limits, self.target)
            if pose:
                self.gate.pose(self.now_s, self.here, 0.0)
            reasons = self.gate.reasons(self.now_s)
        return reasons

    def command(self, position, tilt: float = 0.0) -> str:
        self.target = np.asarray(position, float)
        return self.gate.command(self.now_s, self.target, tilt)


def test_commands_of_a_living_actor_pass():
    rig = Rig()
    assert rig.command(HERE + np.array([0.03, 0, 0])) == "" and rig.gate.passed == 1


def test_nothing_passes_before_actor_and_arm_are_heard():
    gate = SafetyGate(LIMITS, "same")
    assert len(gate.reasons(0.0)) == 2 and gate.command(0.0, HERE, 0.0)


def test_a_killed_actor_is_noticed_within_70_ms_and_stays_held():
    rig = Rig()
    rig.command(HERE)
    assert rig.run(BEAT_LIMIT_S - 0.01, beats=False) == ()
    assert "heartbeat is late" in rig.run(0.02, beats=False)[0]
    assert "heartbeat is late" in rig.run(5.0, beats=False)[0]


def test_after_a_pause_commands_pass_only_when_all_was_well_for_a_moment():
    rig = Rig()
    rig.run(0.2, beats=False)
    assert rig.run(CALM_S - 0.03) and rig.run(0.06) == ()


@pytest.mark.parametrize(
    "trouble, word",
    [({"loop_age_s": 0.6}, "hangs"), ({"limits": "other"}, "other limits"), ({"pose": False}, "pose is late")],
)
def test_other_troubles_hold_too(trouble, word):
    assert word in Rig().run(0.2, **trouble)[0]


def test_an_actor_that_says_another_target_than_it_sent_disagrees():
    rig = Rig()
    rig.command(HERE)
    rig.target = HERE + np.array([0.05, 0, 0])
    assert rig.run(0.03) == (), "the command may still be on its way"
    assert "disagree" in rig.run(0.07)[0]


def test_a_second_publisher_of_commands_holds_the_arm():
    rig = Rig()
    rig.gate.publishers = 2
    assert "2 programs" in rig.run(0.02)[0]


@pytest.mark.parametrize(
    "position, tilt, word",
    [
        ((np.nan, 0, 0.2), 0.0, "not finite"),
        ((0.5, 0, 0.2), np.nan, "not finite"),
        ((0.5, 0.4, 0.2), 0.0, "workspace on y"),
        ((0.5, 0, 0.2), 0.9, "tilts"),
        ((0.5, 0.2, 0.2), 0.0, "from the tool"),
        ((0.5, 0.1, 0.2), 0.0, "jumps"),
    ],
)
def test_a_command_that_breaks_a_limit_does_not_pass_and_holds(position, tilt, word):
    rig = Rig()
    assert rig.command(HERE) == ""
    rig.run(0.1)
    assert word in rig.command(position, tilt)
    assert word in rig.gate.reasons(rig.now_s)[0]


anywhere = st.tuples(*[st.one_of(st.floats(-0.5, 1.2), st.just(float("nan")))] * 3)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(anywhere, st.floats(0, 2), anywhere, st.booleans()), max_size=20))
def test_whatever_comes_only_commands_within_the_limits_pass(sequence):
    rig = Rig()
    for position, tilt, where, beats in sequence:
        rig.here = np.array(where)
        rig.run(0.05, beats=beats)
        if rig.command(position, tilt) == "":
            here = rig.gate._pose[0]
            assert (position >= np.minimum(LIMITS.workspace_min_m, here) - 0.003).all()
            assert (position <= np.maximum(LIMITS.workspace_max_m, here) + 0.003).all()
            assert np.linalg.norm(position - here) <= LIMITS.max_lag_m + 0.003 and tilt <= LIMITS.max_tilt_rad + 0.03
