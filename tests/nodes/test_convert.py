"""Messages and back: nothing changes on the way, and what is malformed is refused with the field's name."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from etude.status import HelpRequest, Mode, PracticeStatus, StuckLabels, SuccessRate
from etude.step import Source, Step
from etude_nodes import convert
from etude_nodes.weights import split

pytest.importorskip("rclpy")
from rclpy.serialization import deserialize_message, serialize_message

floats = st.floats(-1, 1, width=32)
counts = st.integers(0, 2**63 - 1)


def over_the_wire(message):
    """Through the middleware's own serialisation, as between two processes."""
    return deserialize_message(serialize_message(message), type(message))


@st.composite
def steps(draw) -> Step:
    dim = draw(st.integers(1, 7))
    size = draw(st.tuples(st.integers(1, 5), st.integers(1, 5)))
    observation = {
        "state": draw(hnp.arrays(np.float32, draw(st.integers(0, 9)), elements=st.floats(width=32, allow_nan=False))),
        "image/front": draw(hnp.arrays(np.uint8, (*size, 3))),
    }
    return Step(
        actor_id=draw(st.text("abc0123", min_size=1)),
        sequence=draw(counts),
        segment=draw(counts),
        index=draw(st.integers(0, 2**32 - 1)),
        stamp_ns=draw(counts),
        phase=draw(st.sampled_from(("forward", "backward"))),
        task="slide",
        instruction=draw(st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0"), max_size=10)),
        observation=observation,
        action=draw(hnp.arrays(np.float32, dim, elements=floats)),
        policy_action=draw(hnp.arrays(np.float32, dim, elements=floats)),
        reward=draw(floats),
        is_first=draw(st.booleans()),
        is_last=draw(st.booleans()),
        is_terminal=draw(st.booleans()),
        source=draw(st.sampled_from(Source)),
        policy_version=draw(counts),
        success=draw(st.sampled_from((-1, 0, 1))),
        success_probability=draw(st.one_of(st.just(float("nan")), st.floats(0, 1, width=32))),
        success_truth=draw(st.sampled_from((-1, 0, 1))),
        judged_by="cnn:3f2a",
    )


def assert_same(a, b) -> None:
    for name in Step.__slots__:
        x, y = getattr(a, name), getattr(b, name)
        if name == "observation":
            assert list(x) == list(y)
            for key in x:
                np.testing.assert_array_equal(x[key], y[key])
                assert x[key].dtype == y[key].dtype and x[key].shape == y[key].shape
        elif isinstance(x, np.ndarray):
            np.testing.assert_array_equal(x, y)
            assert x.dtype == y.dtype
        else:
            assert x == y or (math.isnan(x) and math.isnan(y)), name


@settings(max_examples=50)
@given(steps())
def test_a_step_survives_the_wire(step: Step) -> None:
    assert_same(step, convert.step_from_message(over_the_wire(convert.step_to_message(step))))


def test_a_received_observation_cannot_be_written_by_accident() -> None:
    value = convert.array_from_message(convert.array_to_message("state", np.ones(3, np.float32)))
    with pytest.raises(ValueError, match="read-only"):
        value[0] = 2


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda m: setattr(m, "dtype", "object"), "dtype 'object'"),
        (lambda m: setattr(m, "shape", [4, 4]), "64 bytes"),
        (lambda m: setattr(m, "shape", [2**31, 2**31, 2**31]), "arrived"),
        (lambda m: setattr(m, "data", []), "0 arrived"),
    ],
)
def test_a_malformed_array_is_refused_by_name(change, complaint: str) -> None:
    message = convert.array_to_message("state", np.ones(3, np.float32))
    change(message)
    with pytest.raises(convert.MessageError, match=complaint) as raised:
        convert.array_from_message(message)
    assert "'state'" in str(raised.value)


def test_an_unknown_phase_or_source_is_refused() -> None:
    message = convert.step_to_message(_a_step())
    message.source = 9
    with pytest.raises(convert.MessageError, match="unknown source 9"):
        convert.step_from_message(message)
    message.phase = "sideways"
    with pytest.raises(convert.MessageError, match="'sideways'"):
        convert.step_from_message(message)


rates = st.builds(SuccessRate, st.integers(0, 20), st.integers(0, 20), st.integers(0, 10**6))


@settings(max_examples=30)
@given(
    st.sampled_from(Mode),
    rates,
    rates,
    counts,
    floats,
    st.text("ab ", max_size=5),
    st.lists(st.text("ab ", max_size=5), max_size=3),
)
def test_a_status_survives_the_wire(mode, forward, backward, number, value, text, holding) -> None:
    status = PracticeStatus(
        mode=mode,
        task="drawer",
        env_steps=number,
        segment=number,
        step_in_segment=7,
        success={"forward": forward, "backward": backward},
        success_truth={"forward": backward},
        policy_version=number,
        weight_age_s=value,
        loop_rate_hz=value,
        loop_period_p99_ms=value,
        missed_deadlines=number,
        outbox_pending=number,
        help_requests=3,
        hard_resets=2,
        interventions=1,
        judge_probability=value,
        judge_true_positives=number,
        message=text,
        holding=tuple(holding),
    )
    assert convert.status_from_message(over_the_wire(convert.status_to_message(status, "robot", "actor"))) == status


def test_a_help_request_survives_the_wire() -> None:
    request = HelpRequest(4, "The block has left the table.", "forward", 123, 456, "The arm holds still.", True)
    assert convert.help_from_message(over_the_wire(convert.help_to_message(request, "robot"))) == request
    asked = dataclasses.replace(request, level=2, question="Stuck?", answers=("stuck", "reset"), image_jpeg=b"\xff\xd8\x00")
    assert convert.help_from_message(over_the_wire(convert.help_to_message(asked, "robot"))) == asked


@pytest.mark.parametrize("stuck_from", [(3, 0), None])
def test_stuck_labels_survive_the_wire(stuck_from) -> None:
    labels = StuckLabels((1, 2), (4, 5), stuck_from)
    message = over_the_wire(convert.stuck_labels_to_message(labels, "actor"))
    assert message.actor_id == "actor" and convert.stuck_labels_from_message(message) == labels


@given(st.binary(min_size=0, max_size=50))
def test_weights_chunks_survive_the_wire(blob: bytes) -> None:
    for chunk in split(blob, run_id="r", learner_id="l", version=2, program_digest="d", chunk_bytes=7):
        assert convert.chunk_from_message(over_the_wire(convert.chunk_to_message(chunk))) == chunk


def test_metrics_survive_the_wire() -> None:
    values = {"critic/q_mean": 0.25, "time/update_ms": 14.0}
    message = over_the_wire(convert.metrics_to_message("learner", 10, 40, values))
    assert convert.metrics_from_message(message) == values and (message.env_steps, message.updates) == (10, 40)


def test_a_picture_becomes_a_jpeg_of_the_same_size_and_colours() -> None:
    cv2 = pytest.importorskip("cv2")
    from builtin_interfaces.msg import Time

    picture = np.zeros((32, 48, 3), np.uint8)
    picture[..., 0] = 200  # red
    message = convert.jpeg_message(picture, "front", Time())
    decoded = cv2.imdecode(np.frombuffer(message.data, np.uint8), cv2.IMREAD_COLOR)
    assert decoded.shape == (32, 48, 3) and message.header.frame_id == "front"
    assert decoded[..., 2].mean() > 180 and decoded[..., 0].mean() < 30


def _a_step() -> Step:
    return Step(
        actor_id="a",
        sequence=1,
        segment=1,
        index=0,
        stamp_ns=0,
        phase="forward",
        task="slide",
        instruction="",
        observation={"state": np.ones(2, np.float32)},
        action=np.zeros(2, np.float32),
        policy_action=np.zeros(2, np.float32),
        reward=0.0,
        is_first=True,
        is_last=False,
        is_terminal=False,
        source=Source.POLICY,
        policy_version=0,
    )


def test_a_condition_is_read_back_as_it_was_told() -> None:
    from builtin_interfaces.msg import Time

    message = convert.diagnostics_to_message(Time(), "robot/actor", "stale", "silent", {"rate_hz": 9.98765, "mode": "forward"})
    assert convert.diagnostics_from_message(message) == [
        ("robot/actor", "stale", "silent", {"rate_hz": "9.988", "mode": "forward"})
    ]
    message.status[0].level = b"\x09"
    assert convert.diagnostics_from_message(message)[0][1] == "error"
