"""A step survives the wire bit by bit, and nothing else passes for one."""

from __future__ import annotations

import contextlib
import json
import math
from dataclasses import fields, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from etude.step import UNKNOWN, Source, Step
from etude.tensors import TensorsError, pack_tensors, unpack_tensors
from etude.wire import WireError, decode_step, encode_step

labels = st.sampled_from([1, 0, UNKNOWN])
text = st.text(max_size=20)
sequences = st.integers(1, 2**62)
floats = hnp.arrays(np.float32, hnp.array_shapes(min_dims=1, max_dims=1, max_side=8), elements=st.floats(width=32))
images = hnp.arrays(np.uint8, st.tuples(st.integers(1, 9), st.integers(1, 9), st.just(3)))
observations = st.fixed_dictionaries({"state": floats}, optional={"image/front": images, "image/wrist": images})
steps = st.builds(
    Step,
    actor_id=text,
    sequence=sequences,
    segment=sequences,
    index=st.integers(0, 10**6),
    stamp_ns=st.integers(0, 2**62),
    phase=st.sampled_from(["forward", "backward"]),
    task=text,
    instruction=text,
    observation=observations,
    action=floats,
    policy_action=floats,
    reward=st.floats(allow_nan=False, allow_infinity=False),
    is_first=st.booleans(),
    is_last=st.booleans(),
    is_terminal=st.booleans(),
    source=st.sampled_from(Source),
    policy_version=st.integers(0, 2**40),
    success=labels,
    success_probability=st.one_of(st.just(math.nan), st.floats(0, 1)),
    success_truth=labels,
    judged_by=text,
)


def example(**changes) -> Step:
    zeros = np.zeros(2, np.float32)
    step = Step("a", 1, 1, 0, 5, "forward", "t", "", {"state": zeros}, zeros, zeros, 0.5, True, False, False, Source.HUMAN, 3)
    return replace(step, **changes)


@settings(max_examples=100, deadline=None)
@given(steps)
def test_a_decoded_step_equals_the_encoded_one(step: Step) -> None:
    decoded = decode_step(encode_step(step))
    for field in fields(Step):
        before, after = getattr(step, field.name), getattr(decoded, field.name)
        if field.name == "observation":
            assert before.keys() == after.keys()
            for key in before:
                assert before[key].dtype == after[key].dtype
                np.testing.assert_array_equal(before[key], after[key])
        else:
            assert type(before) is type(after)
            np.testing.assert_array_equal(before, after)


def test_arrays_of_any_memory_layout_are_taken() -> None:
    image = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)
    for view in (image[::-1], image.transpose(1, 0, 2), image[:, ::2], np.asfortranarray(image)):
        decoded = decode_step(encode_step(example(observation={"state": np.zeros(1, np.float32), "image/front": view})))
        np.testing.assert_array_equal(decoded.observation["image/front"], view)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200))
def test_noise_is_a_wire_error(data: bytes) -> None:
    with pytest.raises(WireError, match="not a step"):
        decode_step(data)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_a_torn_or_altered_message_is_a_step_or_a_wire_error_and_nothing_worse(data: st.DataObject) -> None:
    message = bytearray(encode_step(example()))
    with pytest.raises(WireError):
        decode_step(bytes(message[: data.draw(st.integers(0, len(message) - 1))]))
    message[data.draw(st.integers(0, len(message) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(WireError):
        decode_step(bytes(message))


def altered(**changes) -> bytes:
    tensors, metadata = unpack_tensors(encode_step(example()))
    values = {**json.loads(metadata["step"]), **changes}
    return pack_tensors(tensors, {"step": json.dumps(values)})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"version": 2}, "wire version 2"),
        ({"sequence": "1"}, "field 'sequence' is '1', expected int"),
        ({"sequence": True}, "field 'sequence'"),
        ({"is_last": 0}, "field 'is_last'"),
        ({"phase": None}, "field 'phase'"),
        ({"source": 7}, "'source' is 7"),
        ({"success_probability": "high"}, "field 'success_probability'"),
        ({"reward": math.inf}, "reward inf"),
    ],
)
def test_a_wrong_field_is_named(changes: dict, message: str) -> None:
    with pytest.raises(WireError, match=message):
        decode_step(altered(**changes))


def test_a_missing_action_is_named() -> None:
    tensors, metadata = unpack_tensors(encode_step(example()))
    del tensors["policy_action"]
    with pytest.raises(WireError, match="lacks the array 'policy_action'"):
        decode_step(pack_tensors(tensors, metadata))


def test_a_reward_that_is_not_finite_is_not_sent() -> None:
    with pytest.raises(WireError, match="reward nan"):
        encode_step(example(reward=math.nan))


def test_scalars_and_empty_arrays_keep_their_shape() -> None:
    tensors = {"scalar": np.float32(3.5), "empty": np.zeros((0, 4), np.int64), "bool": np.array([True, False])}
    unpacked, metadata = unpack_tensors(pack_tensors(tensors, {"note": "ü"}))
    assert metadata == {"note": "ü"}
    for name, array in tensors.items():
        assert unpacked[name].shape == np.shape(array) and unpacked[name].dtype == array.dtype
        np.testing.assert_array_equal(unpacked[name], array)


def test_a_header_that_claims_too_much_is_refused_before_it_is_read() -> None:
    with pytest.raises(TensorsError, match="claims"):
        unpack_tensors((2**40).to_bytes(8, "little") + b"{}")
