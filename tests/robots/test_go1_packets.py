"""The Go1's low-level packets: places, units and checksums of every field."""

from __future__ import annotations

import struct

import numpy as np
import pytest

from actor.robots.go1_packets import (
    LegState,
    MotorCommand,
    PacketError,
    checksum,
    crc32_mpeg2,
    decode_command,
    decode_state,
    encode_command,
    encode_state,
)

COMMAND = MotorCommand(np.linspace(-1.0, 1.2, 12), np.full(12, 60.0), np.linspace(0.25, 3.0, 12))
STATE = LegState(
    np.linspace(-1.0, 1.2, 12),
    np.linspace(-9.0, 9.0, 12),
    np.linspace(-20.0, 20.0, 12),
    np.linspace(20.0, 75.0, 12).round(),
    np.array([1.0, 0.0, 0.0, 0.0]),
    np.array([0.1, -0.2, 0.3]),
    np.array([0.01, -0.02, 3.0]),
    123456,
)


def by_the_book(words: list[int]) -> int:
    """The checksum bit by bit, as its polynomial says."""
    crc = 0xFFFFFFFF
    for word in words:
        for place in range(31, -1, -1):
            top = (crc >> 31) ^ ((word >> place) & 1)
            crc = ((crc << 1) & 0xFFFFFFFF) ^ (0x04C11DB7 if top else 0)
    return crc


def test_the_checksum_is_that_of_its_polynomial():
    assert crc32_mpeg2(b"123456789") == 0x0376E6E7  # the check value of CRC-32/MPEG-2 in the catalogue of CRCs
    data = bytes(np.random.default_rng(0).integers(0, 256, 802, np.uint8))
    assert checksum(data) == by_the_book(list(struct.unpack("<200I", data[:800])))


def test_a_command_has_its_fields_where_the_robot_expects_them():
    packet = encode_command(COMMAND)
    assert len(packet) == 614 and packet[:3] == b"\xfe\xef\xff" and packet[20:22] == b"\x3a\xc0"
    mode, q, dq, torque, stiffness, damping = struct.unpack_from("<BffhHH", packet, 22 + 27 * 5)
    assert (mode, dq, torque, stiffness) == (0x0A, 0.0, 0, 60 * 32)
    assert q == pytest.approx(COMMAND.target_rad[5]) and damping / 16 == pytest.approx(COMMAND.damping_nm_s_rad[5], abs=1 / 32)
    crc = by_the_book(list(struct.unpack("<152I", packet[:608]))) ^ 0xEDCAB9DE
    assert packet[610:] == bytes(struct.pack("<I", crc)[i] for i in (1, 2, 3, 0))


def test_what_is_encoded_is_decoded():
    command = decode_command(encode_command(COMMAND))
    np.testing.assert_allclose(command.target_rad, COMMAND.target_rad, atol=1e-6)
    np.testing.assert_allclose(command.damping_nm_s_rad, COMMAND.damping_nm_s_rad, atol=1 / 32)
    state = decode_state(encode_state(STATE))
    for name in ("joints_rad", "speeds_rad_s", "temperatures_c", "quaternion", "gyroscope_rad_s", "roll_pitch_yaw_rad"):
        np.testing.assert_allclose(getattr(state, name), getattr(STATE, name), atol=1e-5)
    np.testing.assert_allclose(state.torques_nm, STATE.torques_nm, atol=1 / 512)
    assert state.tick_ms == 123456


def test_every_damaged_bit_of_a_state_is_noticed():
    packet = encode_state(STATE)
    for place in range(0, 800, 7):
        broken = bytearray(packet)
        broken[place] ^= 1 << (place % 8)
        with pytest.raises(PacketError):
            decode_state(bytes(broken))


def test_a_packet_of_another_robot_or_mode_is_refused_with_a_reason():
    with pytest.raises(PacketError, match="820 bytes, and 12 came"):
        decode_state(b"\xfe\xef" * 6)
    high = bytearray(encode_state(STATE))
    high[2] = 0xEE
    with pytest.raises(PacketError, match="low-level mode"):
        decode_state(bytes(high))


@pytest.mark.parametrize("bad", [np.full(12, np.nan), np.full(12, np.inf), np.zeros(11)])
def test_numbers_that_are_none_never_reach_a_packet(bad):
    with pytest.raises(PacketError):
        encode_command(MotorCommand(bad, COMMAND.stiffness_nm_rad, COMMAND.damping_nm_s_rad))


def test_a_gain_beyond_its_field_is_refused():
    with pytest.raises(PacketError, match="fit"):
        encode_command(MotorCommand(COMMAND.target_rad, np.full(12, 3000.0), COMMAND.damping_nm_s_rad))
