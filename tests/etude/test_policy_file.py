"""The two policy containers: what is read is what was written, or a clear error."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from etude.policy_file import PROGRAM_FILE, WEIGHTS_FILE, PolicyFileError, PolicyProgram, PolicyWeights, load_policy, save_policy

PROGRAM = PolicyProgram(b"\x00stablehlo\xff" * 50, '{"observation": {}}', {"actor/w": ((2, 3), "float32")}, "two layers")


def weights(version: int = 7, value: float = 0.5, program: PolicyProgram = PROGRAM) -> PolicyWeights:
    return PolicyWeights("run-1", version, program.digest, {"actor/w": np.full((2, 3), value, np.float32)})


def test_a_program_comes_back_equal_with_the_same_digest() -> None:
    back = PolicyProgram.from_bytes(PROGRAM.to_bytes())
    assert back == PROGRAM and back.digest == PROGRAM.digest


@pytest.mark.parametrize(
    "other",
    [
        PolicyProgram(PROGRAM.serialized + b"x", PROGRAM.specs_json, PROGRAM.parameters, PROGRAM.description),
        PolicyProgram(PROGRAM.serialized, "{}", PROGRAM.parameters, PROGRAM.description),
        PolicyProgram(PROGRAM.serialized, PROGRAM.specs_json, {"actor/w": ((3, 2), "float32")}, PROGRAM.description),
    ],
)
def test_the_digest_covers_everything(other: PolicyProgram) -> None:
    assert other.digest != PROGRAM.digest


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_one_wrong_byte_anywhere_is_refused(data: st.DataObject) -> None:
    for good, read in ((PROGRAM.to_bytes(), PolicyProgram.from_bytes), (weights().to_bytes(), PolicyWeights.from_bytes)):
        place = data.draw(st.integers(0, len(good) - 1))
        bad = bytearray(good)
        bad[place] ^= data.draw(st.integers(1, 255))
        try:
            back = read(bytes(bad))
        except PolicyFileError:
            continue
        # JSON has a little slack, such as a space for a line feed; the content must not have changed
        assert getattr(back, "digest", None) == PROGRAM.digest or np.array_equal(
            back.parameters["actor/w"], weights().parameters["actor/w"]
        )


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_a_torn_container_is_refused(data: st.DataObject) -> None:
    for good, read in ((PROGRAM.to_bytes(), PolicyProgram.from_bytes), (weights().to_bytes(), PolicyWeights.from_bytes)):
        with pytest.raises(PolicyFileError):
            read(good[: data.draw(st.integers(0, len(good) - 1))])


@given(st.binary(max_size=100))
def test_noise_is_refused(data: bytes) -> None:
    for read in (PolicyProgram.from_bytes, PolicyWeights.from_bytes):
        with pytest.raises(PolicyFileError):
            read(data)


def test_weights_come_back_equal() -> None:
    parameters = {
        "actor/w": np.random.default_rng(0).normal(size=(4, 5)).astype(np.float32),
        "scale": np.array(2.0, np.float32),
        "count": np.array([3], np.int32),
    }
    back = PolicyWeights.from_bytes(PolicyWeights("run-1", 12, "d" * 64, parameters).to_bytes())
    assert (back.run_id, back.version, back.program_digest) == ("run-1", 12, "d" * 64)
    for name, array in parameters.items():
        assert back.parameters[name].shape == array.shape and back.parameters[name].dtype == array.dtype
        np.testing.assert_array_equal(back.parameters[name], array)


def test_a_policy_folder_holds_both_files_and_nothing_else(tmp_path: Path) -> None:
    save_policy(tmp_path / "policy", PROGRAM, weights(1))
    save_policy(tmp_path / "policy", PROGRAM, weights(2, 0.25))
    assert sorted(path.name for path in (tmp_path / "policy").iterdir()) == [PROGRAM_FILE, WEIGHTS_FILE]
    program, loaded = load_policy(tmp_path / "policy")
    assert program == PROGRAM and loaded.version == 2
    np.testing.assert_array_equal(loaded.parameters["actor/w"], np.full((2, 3), 0.25, np.float32))


def test_a_policy_folder_that_cannot_be_used_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(PolicyFileError, match=r"no policy in .*policy\.program"):
        load_policy(tmp_path)
    save_policy(tmp_path, PROGRAM, weights())
    other = PolicyProgram(b"other", PROGRAM.specs_json, PROGRAM.parameters)
    with pytest.raises(PolicyFileError, match="belong to the program"):
        save_policy(tmp_path, other, weights())
    (tmp_path / PROGRAM_FILE).write_bytes(other.to_bytes())
    with pytest.raises(PolicyFileError, match="do not belong together"):
        load_policy(tmp_path)
    (tmp_path / PROGRAM_FILE).write_bytes(PROGRAM.to_bytes()[:-1])
    with pytest.raises(PolicyFileError, match="torn or damaged"):
        load_policy(tmp_path)
