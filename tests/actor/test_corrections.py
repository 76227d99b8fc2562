"""A person's words become a motion of the right sign and size, or an answer that says what could have been said."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from actor.corrections import command_at, duration_s, impossible, listing, load_phrases, means_stop, told, understand
from actor.teleop.command import TeleopError, action_of
from etude.config import ConfigError
from etude.specs import ActionSpec

TABLE = load_phrases()


def displacement_m(text: str, table=TABLE) -> np.ndarray:
    return sum(np.array(motion.linear_m_s) * motion.seconds for motion in understand(text, table))


@pytest.mark.parametrize(
    ("text", "expected_m"),
    [
        ("a bit to the left", (0, 0.012, 0)),
        ("To the RIGHT, please!", (0, -0.03, 0)),
        ("move up a lot", (0, 0, 0.06)),
        ("a tiny bit down", (0, 0, -0.006)),
        ("go forwards and then to the left", (0.03, 0.03, 0)),
        ("slightly back", (-0.012, 0, 0)),
        ("to the leftt", (0, 0.03, 0)),  # a slip of the keyboard
    ],
)
def test_words_move_the_tool_in_the_base_frame(text: str, expected_m: tuple[float, ...]) -> None:
    np.testing.assert_allclose(displacement_m(text), expected_m, atol=1e-9)


def test_an_operator_who_looks_the_other_way_is_understood() -> None:
    facing = TABLE.model_copy(update={"forward_yaw_deg": 180.0})
    np.testing.assert_allclose(displacement_m("to the left", facing), (0, -0.03, 0), atol=1e-9)


def test_turns_and_the_gripper() -> None:
    (release,) = understand("now let go please", TABLE)
    assert release.gripper == 1.0 and not any(release.linear_m_s)
    (turn,) = understand("turn left a little", TABLE)
    assert math.degrees(turn.yaw_rad_s * turn.seconds) == pytest.approx(6.0)
    assert not any(turn.linear_m_s) and math.isnan(turn.gripper)
    (grip,) = understand("close the gripper", TABLE)
    assert grip.gripper == -1.0 and grip.seconds >= 0.5
    assert "turn left 6 degrees" in told((turn,))


@pytest.mark.parametrize("phrase", TABLE.phrases, ids=lambda phrase: phrase.say[0])
def test_every_way_to_say_it_means_its_own_phrase(phrase) -> None:
    """Also where a word of it means nothing elsewhere: "let go" opens, and does not go to the left."""
    for way in phrase.say:
        (motion,) = understand(way, TABLE)
        assert motion.meaning.startswith(way)
        assert math.isnan(motion.gripper) if phrase.gripper is None else motion.gripper == phrase.gripper
        assert np.array(motion.linear_m_s) * motion.seconds == pytest.approx(phrase.move_m)


@pytest.mark.parametrize("text", ["stop", "STOP!", "no, stop", "please stop moving", "a bit up and halt", "freeze"])
def test_a_word_for_the_stop_is_the_stop_in_whatever_sentence(text: str) -> None:
    assert means_stop(text)


def test_no_phrase_holds_a_word_for_the_stop() -> None:
    assert not any(means_stop(way) for phrase in TABLE.phrases for way in phrase.say) and not means_stop("to the left")


def test_a_gripper_that_knows_no_half_way_does_not_open_a_bit() -> None:
    with pytest.raises(TeleopError, match="'open' is all or nothing"):
        understand("open a bit", TABLE)


@pytest.mark.parametrize(
    ("text", "actions", "reason"),
    [
        ("close the gripper", ("x", "y", "z"), "'close the gripper' takes gripper, and this task moves x, y, z alone"),
        ("up, then turn left", ("x", "y", "z"), "takes yaw, and"),
        ("to the left", ("left_x", "left_y", "right_y"), "takes y, and"),
        ("to the left", ("y",), ""),
    ],
)
def test_what_a_task_does_not_move_is_known_before_anything_moves(text: str, actions: tuple, reason: str) -> None:
    said = impossible(understand(text, TABLE), actions)
    assert reason in said and bool(said) == bool(reason)


@pytest.mark.parametrize(
    "text",
    [
        "make me a coffee",
        "a bit",
        "leave",
        "not to the left",
        "to the left to the right",
        "closer",  # is not "close"
        "tight",  # is not "right"
        "let",
    ],
)
def test_what_is_not_understood_moves_nothing_and_says_what_could_be_said(text: str) -> None:
    with pytest.raises(TeleopError, match=r"is not understood: say for example '.+', or add it to robot_configs/phrases.yaml"):
        understand(text, TABLE)


def test_nothing_said_and_too_much_said() -> None:
    with pytest.raises(TeleopError, match="nothing was said"):
        understand(" , and ", TABLE)
    with pytest.raises(TeleopError, match="letters, more than 200"):
        understand("left " * 60, TABLE)


def test_commands_begin_at_once_and_hand_back_at_the_end() -> None:
    motions = understand("down, then close the gripper", TABLE)
    first = command_at(motions, 0.0, "ada", "down, then close the gripper", 5.0)
    assert (
        first.takeover
        and first.deadman
        and first.linear_m_s[2] < 0
        and first.instruction.startswith("down")
        and first.at_s == 5.0
    )
    second = command_at(motions, motions[0].seconds + 0.01, "ada", "x", 5.0)
    assert second.gripper == -1.0 and not any(second.linear_m_s)
    last = command_at(motions, duration_s(motions), "ada", "x", 5.0)
    assert not last.takeover and not last.deadman


@given(st.text(max_size=250))
def test_any_text_is_understood_or_refused_and_a_motion_is_slow(text: str) -> None:
    try:
        motions = understand(text, TABLE)
    except TeleopError:
        return
    spec = ActionSpec(("x", "y", "z", "yaw", "gripper"), (0.05, 0.05, 0.05, 0.2, 1.0))
    for motion in motions:
        assert np.linalg.norm(motion.linear_m_s) <= TABLE.linear_m_s + 1e-9
        assert abs(math.degrees(motion.yaw_rad_s)) <= TABLE.angular_deg_s + 1e-9
        assert np.isfinite(action_of(command_at((motion,), 0.0, "ada", text, 0.0), spec, 0.1, None)).all()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("phrases: [{say: [up], move_m: [0, 0, 30]}]", r"farther than 0.3 m: metres are meant"),
        ("phrases: [{say: [up]}]", "'up' does nothing: give move_m, turn_deg or gripper"),
        ("phrases: [{say: [up], turn_deg: 5}, {say: [up], gripper: 1}]", "'up' is said for two motions"),
        ("phrases: [{say: [up], turn_deg: 5}]\nscales: {huge: 40}", "'huge' multiplies by 40"),
        ("phrases: []", "phrases"),
        (
            "phrases: [{say: [a lot higher], turn_deg: 5}]\nscales: {a lot: 2}",
            "'a lot higher' is not understood as it is written",
        ),
        ("phrases: [{say: [up and away], turn_deg: 5}]", "'up and away' is not understood as it is written"),
        ("phrases: [{say: [full stop], turn_deg: 5}]", "'full stop' is not understood as it is written"),
    ],
)
def test_a_table_that_makes_no_sense_names_file_and_key(content: str, message: str, tmp_path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(content, encoding="utf-8")
    with pytest.raises(ConfigError, match=message) as caught:
        load_phrases(str(file))
    assert "mine.yaml" in str(caught.value)


def test_the_listing_shows_every_phrase_and_what_it_does() -> None:
    lines = list(listing(TABLE))
    assert len(lines) == len(TABLE.phrases) and "30 mm" in lines[0]
