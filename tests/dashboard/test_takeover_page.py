"""Taking over from the page in a real headless Chromium: hold-to-run keys, giving back, and everything that lets go."""

from __future__ import annotations

import time

import pytest
from demo_bridge import example_status
from test_page import Served, browser, page, playwright, served, wait_until  # noqa: F401

from dashboard.app import Answer
from etude.status import Mode

ALLOWED_S = 0.3


@pytest.fixture
def held(served: Served):  # noqa: F811
    """What the page said, without the times."""
    return served.bridge.held


def take(page, served: Served) -> None:  # noqa: F811
    served.view.on_status(example_status())
    page.click("#takeover:enabled")
    page.wait_for_selector("#teleop:visible")
    wait_until(lambda: served.bridge.held and served.bridge.held[-1][2].taken)


def newest(served: Served):  # noqa: F811
    return served.bridge.held[-1][2]


def test_keys_are_said_while_they_are_held_and_only_then(page, served: Served, held) -> None:  # noqa: F811
    served.view.on_status(example_status())
    page.wait_for_selector("#takeover:enabled")
    page.keyboard.down("w")
    page.keyboard.up("w")
    assert not held, "without taking over no key is heard"
    page.keyboard.press("t")
    wait_until(lambda: held and newest(served).taken)
    assert newest(served).keys == []
    page.keyboard.down("w")
    page.keyboard.down("q")
    wait_until(lambda: sorted(newest(served).keys) == ["KeyQ", "KeyW"])
    page.keyboard.up("w")
    wait_until(lambda: newest(served).keys == ["KeyQ"])
    page.keyboard.up("q")
    wait_until(lambda: newest(served).keys == [])
    began, count = time.monotonic(), len(held)
    wait_until(lambda: len(held) >= count + 10)
    assert time.monotonic() - began < 2.0, "20 times a second, whether or not anything is held"
    page.keyboard.press("t")
    wait_until(lambda: not newest(served).taken)
    page.wait_for_selector("#teleop", state="hidden")
    assert {operator for _, operator, _ in held} == {"page 1"} and page.problems == []


def test_the_page_says_who_has_control_and_how_long_a_command_takes(page, served: Served) -> None:  # noqa: F811
    take(page, served)
    served.view.on_status(example_status(mode=Mode.TAKEOVER, authority="human", operator_name="page 1 (browser)"))
    wait_until(lambda: page.inner_text("#teleop-state") == "You have control")
    wait_until(lambda: page.inner_text("#teleop-trip").endswith(" ms"))
    page.keyboard.press("t")
    served.view.on_status(example_status(mode=Mode.TAKEOVER, authority="human", operator_name="ada (gamepad)"))
    page.wait_for_selector("#takeover:disabled")
    assert page.get_attribute("#takeover", "title") == "ada (gamepad) has control"


def test_a_lost_connection_lets_go_at_once_and_is_said(page, served: Served) -> None:  # noqa: F811
    take(page, served)
    page.keyboard.down("w")
    wait_until(lambda: newest(served).keys == ["KeyW"])
    served.server.should_exit = True
    lost_s = time.monotonic()
    wait_until(lambda: newest(served).keys == [])
    last_motion_s = max(at for at, _, said in served.bridge.held if said.keys)
    assert last_motion_s - lost_s < ALLOWED_S and newest(served).taken, "the robot holds, it is not given to the policy"
    page.wait_for_selector("#notice-teleop:visible")


def test_a_network_that_goes_dead_without_closing_is_noticed(page, served: Served) -> None:  # noqa: F811
    take(page, served)
    page.keyboard.down("w")
    wait_until(lambda: newest(served).keys == ["KeyW"])
    deaf = served.bridge.teleop
    served.bridge.teleop = lambda operator, held: time.sleep(1.5)  # the server hangs, and answers nothing
    page.wait_for_selector("#notice-teleop:visible")
    served.bridge.teleop = deaf


def test_after_a_lost_takeover_the_button_resumes_practice(page, served: Served) -> None:  # noqa: F811
    lost = {"mode": Mode.TAKEOVER, "authority": "hold", "operator_name": "page 7 (browser)"}
    served.view.on_status(example_status(**lost))
    page.wait_for_selector("text=Resume")
    assert page.is_enabled("#takeover"), "or somebody takes over again"
    page.click("#pause")
    wait_until(lambda: served.bridge.commands == [("set_mode", "practise")])


def test_a_lost_focus_lets_go(page, served: Served) -> None:  # noqa: F811
    take(page, served)
    page.keyboard.down("w")
    wait_until(lambda: newest(served).keys == ["KeyW"])
    page.evaluate("window.dispatchEvent(new Event('blur'))")
    wait_until(lambda: newest(served).keys == [])
    assert newest(served).taken


def test_a_key_of_the_system_lets_go_and_only_a_fresh_press_moves_again(page, served: Served) -> None:  # noqa: F811
    take(page, served)
    page.keyboard.down("w")
    wait_until(lambda: newest(served).keys == ["KeyW"])
    page.keyboard.down("Meta")
    wait_until(lambda: newest(served).keys == [])
    page.keyboard.up("Meta")
    page.keyboard.down("w")  # what the keyboard repeats while a key stays down
    page.keyboard.down("d")
    wait_until(lambda: newest(served).keys == ["KeyD"])


def test_pointer_and_touch_are_hold_to_run_too(page, served: Served) -> None:  # noqa: F811
    take(page, served)
    box = page.locator("#pad").bounding_box()
    page.mouse.move(box["x"] + box["width"] * 0.75, box["y"] + box["height"] / 2)
    page.mouse.down()
    wait_until(lambda: newest(served).pad[0] == pytest.approx(0.5, abs=0.05) and abs(newest(served).pad[1]) < 0.05)
    page.mouse.up()
    wait_until(lambda: newest(served).pad == (0, 0))
    box = page.locator("[data-key=KeyC]").bounding_box()
    page.mouse.move(box["x"] + 5, box["y"] + 5)
    page.mouse.down()
    wait_until(lambda: newest(served).keys == ["KeyC"])
    page.mouse.up()
    wait_until(lambda: newest(served).keys == [])


def test_space_stops_and_a_stop_ends_the_takeover(page, served: Served) -> None:  # noqa: F811
    take(page, served)
    page.keyboard.press("Space")
    wait_until(lambda: served.bridge.commands == [("software_stop", True)])
    served.view.on_status(example_status(mode=Mode.STOPPED, authority="hold"))
    page.wait_for_selector("#notice-stop:visible")
    wait_until(lambda: page.inner_text("#stop-trip").startswith("It reached the robot in "))
    page.wait_for_selector("#teleop", state="hidden")
    assert page.is_disabled("#takeover")


def test_every_shortcut_is_listed_under_a_question_mark(page, served: Served) -> None:  # noqa: F811
    page.keyboard.press("?")
    page.wait_for_selector("#shortcuts:visible")
    listed = page.inner_text("#shortcuts")
    for key in ["Space", "T", "P", "W", "S", "A", "D", "E", "Q", "O", "C"]:
        assert key in listed
    page.click("#shortcuts-close")
    page.wait_for_selector("#shortcuts", state="hidden")
    assert page.problems == []


def test_a_refused_stop_is_still_said_loudly(page, served: Served) -> None:  # noqa: F811
    served.bridge.answer = Answer(False, "No actor answers.")
    page.keyboard.press("Space")
    page.wait_for_selector("#notice-command:visible")


def test_the_controls_lie_in_the_picture_and_on_a_phone_below_it(page, served: Served) -> None:  # noqa: F811
    take(page, served)
    inner, outer = page.locator("#teleop").bounding_box(), page.locator(".beauty").bounding_box()
    assert inner["x"] >= outer["x"] and inner["x"] + inner["width"] <= outer["x"] + outer["width"]
    assert inner["y"] >= outer["y"] and inner["y"] + inner["height"] <= outer["y"] + outer["height"]
    page.set_viewport_size({"width": 390, "height": 844})
    inner, outer = page.locator("#teleop").bounding_box(), page.locator(".beauty").bounding_box()
    assert outer["y"] + outer["height"] <= inner["y"]
    assert inner["y"] + inner["height"] <= page.locator(".actions").bounding_box()["y"]
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
