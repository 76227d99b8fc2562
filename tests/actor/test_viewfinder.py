"""Pictures for people: only for whom asks, never in the way of the loop, and drawn beside it where the robot allows."""

from __future__ import annotations

import threading
import time

import numpy as np
from point_robot import PointRobot

from actor.viewfinder import Viewfinder


class FreezingRobot(PointRobot):
    """Its scene takes `seconds` of computing to draw, and remembers which threads drew and closed it."""

    def __init__(self, seconds=0.0):
        super().__init__()
        self.seconds = seconds
        self.drawn_by: list[int] = []
        self.closed_by: list[int] = []
        self.frozen_at: list[float] = []

    def freeze(self):
        self.frozen_at.append(self.x_m)
        return self

    def render(self, camera, height, width):
        self.drawn_by.append(threading.get_ident())
        end_s = time.thread_time() + self.seconds
        while time.thread_time() < end_s:
            pass
        return np.full((height, width, 3), len(self.drawn_by), np.uint8)

    def close(self):
        self.closed_by.append(threading.get_ident())


def serve(finder, robot, seconds, ask=True, slack_s=None):
    """Serve like a loop does; returns the longest call."""
    longest_s, end_s = 0.0, time.monotonic() + seconds
    while time.monotonic() < end_s:
        if ask:
            finder.request("beauty", 12, 16)
        started_s = time.monotonic()
        finder.serve(robot, slack_s)
        longest_s = max(longest_s, time.monotonic() - started_s)
        time.sleep(0.002)
    return longest_s


def test_nobody_asks_nothing_is_drawn():
    robot = FreezingRobot()
    serve(Viewfinder(), robot, 0.05, ask=False)
    assert not robot.frozen_at


def test_an_old_wish_expires():
    finder, robot = Viewfinder(max_rate_hz=1000), FreezingRobot()
    finder.request("beauty", 12, 16)
    finder._wanted["beauty"] = (12, 16, time.monotonic() - 1.5)
    finder.serve(robot, None)
    assert not robot.frozen_at


def test_pictures_come_at_most_at_the_rate():
    finder, robot = Viewfinder(max_rate_hz=20), FreezingRobot()
    serve(finder, robot, 0.4)
    finder.close()
    assert 3 <= len(robot.drawn_by) <= 9


def test_a_slow_scene_is_drawn_in_another_thread_and_closed_there():
    finder, robot = Viewfinder(), FreezingRobot(seconds=0.05)
    serve(finder, robot, 0.3)
    finder.close()
    assert finder.images()["beauty"].shape == (12, 16, 3)
    assert len(set(robot.drawn_by)) == 1 and robot.closed_by == robot.drawn_by[:1]
    assert threading.get_ident() not in robot.drawn_by


def test_slow_pictures_take_only_their_share_of_a_core():
    finder, robot = Viewfinder(max_rate_hz=1000), FreezingRobot(seconds=0.02)
    serve(finder, robot, 0.6)
    finder.close()
    assert 1 <= len(robot.drawn_by) <= 8, "0.02 s each at a fifth of a core: one in 0.1 s"


def test_a_robot_that_cannot_freeze_is_drawn_in_the_loop_only_when_it_fits():
    finder, robot = Viewfinder(max_rate_hz=1000), PointRobot()
    robot.render_s = 0.01
    serve(finder, robot, 0.05, slack_s=1.0)
    assert "beauty" in finder.images()
    before = finder.images()["beauty"]
    serve(finder, robot, 0.05, slack_s=1e-6)
    assert finder.images()["beauty"] is before
