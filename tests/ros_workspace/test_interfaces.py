"""The built interfaces agree with the project's own types, field by field, so that neither can drift alone."""

from __future__ import annotations

import re
from dataclasses import fields

import pytest

from etude.config import REPOSITORY
from etude.status import HelpRequest, Mode, PracticeStatus
from etude.step import UNKNOWN, Source, Step

INTERFACES = REPOSITORY / "ros2_ws" / "src" / "etude_msgs"
ALL = sorted([*INTERFACES.glob("msg/*.msg"), *INTERFACES.glob("srv/*.srv")])

msg = pytest.importorskip("etude_msgs.msg", reason="the ROS interfaces are not built; run `make build`")


def names(message_type: type) -> set[str]:
    return set(message_type.get_fields_and_field_types())


def test_step_on_the_wire_has_the_fields_of_a_step():
    assert names(msg.Step) == {field.name for field in fields(Step)}


def test_status_on_the_wire_has_the_fields_of_a_status_and_says_whose_it_is():
    assert names(msg.PracticeStatus) == {field.name for field in fields(PracticeStatus)} | {"robot", "actor_id", "stamp_ns"}


def test_help_request_on_the_wire_has_the_fields_of_a_help_request():
    assert names(msg.HelpRequest) == {field.name for field in fields(HelpRequest)} | {"robot"}


def test_constants_on_the_wire_are_the_enumeration():
    assert {name: getattr(msg.Step, f"SOURCE_{name}") for name in Source.__members__} == {s.name: s.value for s in Source}
    assert msg.Step.UNKNOWN == UNKNOWN


def test_status_comment_lists_every_mode():
    text = (INTERFACES / "msg" / "PracticeStatus.msg").read_text()
    line = next(line for line in text.splitlines() if line.startswith("string mode"))
    assert set(re.findall(r'"(\w+)"', line)) == {mode.value for mode in Mode}


@pytest.mark.parametrize("path", ALL, ids=lambda path: path.name)
def test_every_field_has_a_comment(path):
    for line in path.read_text().splitlines():
        if line and not line.startswith(("#", "---")):
            assert "#" in line, f"{path.name}: {line!r} says nothing about its meaning and unit"


def test_every_interface_is_built():
    listed = set(re.findall(r'"((?:msg|srv)/\w+\.\w+)"', (INTERFACES / "CMakeLists.txt").read_text()))
    assert listed == {f"{path.parent.name}/{path.name}" for path in ALL}
