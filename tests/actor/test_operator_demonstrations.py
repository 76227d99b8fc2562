"""Demonstrations by a person: what is kept, what is dropped, and that no resets are needed."""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
import pytest
from point_robot import STEP_M, PointRobot, point_config

from actor.commands import CommandError
from actor.demonstration_editing import _read, demo_delete, demo_replay, demo_trim
from actor.demonstration_quality import quality_problems
from actor.operator_demonstrations import COUNTDOWN_S, Session, Stage
from actor.teleop.command import TeleopCommand
from etude.episodes.store import EpisodeStore
from etude.episodes.validate import validate_store
from etude.step import UNKNOWN, Source

RATE_HZ = 50.0


class Recording:
    """A session on the point robot with a clock of its own: one `turn` is one control period."""

    def __init__(self, path, count=1, robot=None):
        self.robot = robot or PointRobot()
        self.robot.x_m = -0.3
        self.path, self.now_s = path, time.monotonic()
        self.store = EpisodeStore.create(path, self.robot.observation_spec, self.robot.action_spec, {})
        self.session = Session(point_config(), self.robot, self.store, count, lambda: self.now_s)

    def turn(self, speed=0.0, *buttons, takeover=True, deadman=True):
        self.now_s += 1 / RATE_HZ
        velocity = (speed * STEP_M * RATE_HZ, 0.0, 0.0)
        self.session.put(TeleopCommand("ada", takeover, deadman, velocity, buttons=buttons, at_s=self.now_s))
        self.session.turn()
        return self

    def begin(self):
        self.now_s += COUNTDOWN_S
        return self.turn(deadman=False)

    def stored(self):
        self.store.close()
        store = EpisodeStore.open(self.path, "r")
        assert not validate_store(store)
        return [store.read(info) for info in store.segments()]


def test_forward_and_backward_follow_each_other_without_a_reset(tmp_path):
    r = Recording(tmp_path / "store", count=2)
    for _ in range(4):
        r.begin()
        assert r.session.moment.stage is Stage.RECORDING
        direction = 1.0 if r.session.moment.phase == "forward" else -1.0
        while r.session.moment.stage is Stage.RECORDING:
            r.turn(0.5 * direction)
    assert r.session.moment.stage is Stage.DONE and not r.robot.resets
    segments = r.stored()
    assert [segment.info.phase for segment in segments] == ["forward", "backward"] * 2
    for segment in segments:
        assert segment.is_terminal[-1] and segment.success[-1] == 1 and segment.reward.sum() == 1.0
        assert (segment.source[:-1] == Source.HUMAN).all()
        moved = np.diff(segment.observation["state"][:, 0])
        np.testing.assert_allclose(moved, segment.action[:-1, 0] * STEP_M, atol=1e-5)


def test_what_is_moved_during_the_countdown_is_not_recorded(tmp_path):
    r = Recording(tmp_path / "store")
    for _ in range(3):
        r.turn(-0.5)
    assert r.robot.x_m < -0.5 and r.session.moment.stage is Stage.COUNTDOWN and "Recording in" in r.session.moment.message
    r.begin()
    for _ in range(12):
        r.turn(1.0)
    assert len(r.stored()[0].action) == 8, "seven steps of 0.2 m and the last observation"


@pytest.mark.parametrize("button", ["failure", "redo"])
def test_what_failed_is_dropped_and_the_same_direction_comes_again(tmp_path, button):
    r = Recording(tmp_path / "store")
    r.begin()
    for _ in range(4):
        r.turn(0.1)
    r.turn(0.0, button)
    assert r.session.moment.stage is Stage.COUNTDOWN and r.session.moment.phase == "forward"
    assert r.session.moment.kept == {"forward": 0, "backward": 0} and not r.stored()


def test_the_success_button_ends_it_where_nobody_knows_the_truth(tmp_path):
    robot = PointRobot()
    read = robot.read
    robot.read = lambda: replace(read(), success_truth=None)
    r = Recording(tmp_path / "store", robot=robot)
    r.begin()
    for _ in range(5):
        r.turn(0.2)
    r.turn(0.0, "success")
    assert r.session.moment.kept["forward"] == 1 and r.session.moment.phase == "backward"
    segment = r.stored()[0]
    assert segment.judged_by[-1] == "human" and segment.is_terminal[-1] and len(segment.action) == 6
    assert segment.success.tolist() == [UNKNOWN] * 5 + [1], "only the end was judged"


def test_who_waits_records_nothing_and_too_much_waiting_is_refused(tmp_path):
    r = Recording(tmp_path / "store")
    r.begin()
    r.turn(1.0)
    for _ in range(40):
        r.turn(deadman=False)
    while r.session.moment.stage is Stage.RECORDING:
        r.turn(1.0)
    assert "not kept: idle for" in r.session.moment.message and not r.stored()


def test_the_software_stop_drops_what_was_being_recorded(tmp_path):
    r = Recording(tmp_path / "store")
    r.begin()
    for _ in range(3):
        r.turn(0.3)
    acted = len(r.robot.actions)
    r.turn(0.3, "stop").turn(0.3).begin().turn(0.3)
    assert len(r.robot.actions) == acted and r.session.operator == ("hold", "", True)
    r.session.software_stop(False)
    r.turn(0.3)
    assert len(r.robot.actions) == acted, "who held it must let go first"
    r.turn(takeover=False, deadman=False).turn(0.3)
    assert len(r.robot.actions) == acted + 1 and not r.stored()


def test_a_goal_that_is_reached_already_is_said(tmp_path):
    r = Recording(tmp_path / "store")
    r.robot.x_m = 1.0
    r.begin().turn(0.1)
    assert "reached already" in r.session.moment.message
    r.turn(-1.0).turn(-1.0).turn(0.0, "redo")
    assert r.session.moment.stage is Stage.COUNTDOWN


def test_quality_says_what_is_wrong(tmp_path):
    r = Recording(tmp_path / "store")
    r.begin()
    while r.session.moment.stage is Stage.RECORDING:
        r.turn(0.5)
    steps = r.stored()[0].steps()
    steps = [replace(s, stamp_ns=n * 20_000_000) for n, s in enumerate(steps)]
    names = ("tcp_x_m", "goal_m")
    good = (0.0, 0.02, 12, names, STEP_M)
    assert quality_problems(steps, *good) == ()
    assert "too short" in quality_problems(steps[:2], *good)[0]
    assert "too long" in quality_problems(steps, 0.0, 0.02, 2, names, STEP_M)[0]
    late = [replace(s, stamp_ns=n * 90_000_000) for n, s in enumerate(steps)]
    assert "dropped frames" in quality_problems(late, *good)[0]
    set_back = [replace(s, stamp_ns=s.stamp_ns - (n >= 2) * 50_000_000) for n, s in enumerate(steps)]
    assert "clock skew: 1 of" in quality_problems(set_back, *good)[0]
    far = {"state": np.array([5.0, 0.8], np.float32)}
    assert "jumps" in quality_problems([*steps[:3], replace(steps[3], observation=far), *steps[4:]], *good)[0]


# --- editing --------------------------------------------------------------------------------------------------------


@pytest.fixture
def four(tmp_path):
    """A store of four demonstrations."""
    r = Recording(tmp_path / "store", count=2)
    for speed in (0.5, -0.5, 0.4, -0.4):
        r.begin()
        while r.session.moment.stage is Stage.RECORDING:
            r.turn(speed)
    r.stored()
    return tmp_path / "store"


def test_a_deleted_demonstration_leaves_a_valid_store(four, capsys):
    before = _read(four)
    assert demo_delete([str(four), "2"]) == 0 and "3 demonstrations are left" in capsys.readouterr().out
    store = EpisodeStore.open(four, "r")
    assert not validate_store(store)
    after = _read(four)
    assert [s.info.phase for s in after] == ["forward", "forward", "backward"]
    for segment, index in zip(after, (0, 2, 3), strict=True):
        np.testing.assert_array_equal(segment.action, before[index].action)
    with pytest.raises(CommandError, match="no demonstration 9"):
        demo_delete([str(four), "9"])


def test_a_trimmed_demonstration_keeps_its_success_at_its_new_end(four):
    before = _read(four)[0]
    last = len(before) - 3
    assert demo_trim([str(four), "1", "--first", "2", "--last", str(last)]) == 0
    assert not validate_store(EpisodeStore.open(four, "r"))
    after = _read(four)[0]
    assert len(after) == last - 1 and after.is_first[0] and after.is_terminal[-1] and after.success[-1] == 1
    assert after.reward.sum() == 1.0 and after.reward[-2] == 1.0
    np.testing.assert_array_equal(after.action[:-1], before.action[2:last])
    assert len(_read(four)) == 4
    with pytest.raises(CommandError, match="are no demonstration"):
        demo_trim([str(four), "1", "--first", "5", "--last", "6"])


def test_replay_lists_them_and_shows_one_step_by_step(four, capsys):
    assert demo_replay([str(four)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 4 and "forward" in lines[0] and "success" in lines[0] and "by human" in lines[0]
    assert demo_replay([str(four), "2"]) == 0
    assert "x -0.50" in capsys.readouterr().out
    with pytest.raises(CommandError, match="no pictures"):
        demo_replay([str(four), "2", "--video", str(four.with_suffix(".gif"))])
