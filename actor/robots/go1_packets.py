"""The Go1's low-level packets: bytes of the motor commands and of the robot's state, both ways, without a socket.

Fields and units are those of unitree_legged_sdk's comm.h; the packed layout, in which some floats are shortened to 16 bits, and
the command's mixed checksum are as published analyses of recorded traffic describe them. All little-endian; offsets in bytes.

| command, 614 bytes | | state, 820 bytes | |
|---|---|---|---|
| 0 | head FE EF | 0 | head FE EF |
| 2 | level, FF is low | 2 | level |
| 20 | band width 3A C0 | 22 | quaternion w x y z, gyroscope rad/s, accelerometer m/s², roll pitch yaw: 13 float32 |
| 22 + 27 i | motor i: mode uint8, q, dq float32, torque int16/256, Kp uint16/32, Kd uint16/16 | 75 + 32 i | motor i: mode uint8, q, dq float32; at 11 torque int16/256; at 23 temperature int8 |
| | | 755 | tick uint32, ms |
| 610 | checksum of 0 to 607, mixed | 803 | checksum of 0 to 799 |
"""  # noqa: E501  (a table)

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass

import numpy as np

HEAD, LOW_LEVEL, BAND_WIDTH = b"\xfe\xef", 0xFF, b"\x3a\xc0"
SERVO_MODE = 0x0A
COMMAND_BYTES, COMMAND_MOTORS, COMMAND_STRIDE, COMMAND_CRC = 614, 22, 27, 610
STATE_BYTES, STATE_MOTORS, STATE_STRIDE, STATE_CRC = 820, 75, 32, 803
STATE_IMU, STATE_TICK = 22, 755
MOTORS = 12
NO_POSITION = 2.146e9
"""As a position: none is asked for (PosStopF)."""
_MIX = 0xEDCAB9DE
_MIRROR = bytes(int(f"{value:08b}"[::-1], 2) for value in range(256))


class PacketError(ValueError):
    """A packet that cannot be what it should be; the message says why."""


@dataclass(frozen=True)
class MotorCommand:
    """Of all motors, arrays ``(12,)``: torque = stiffness (target - angle) - damping speed."""

    target_rad: np.ndarray
    stiffness_nm_rad: np.ndarray
    damping_nm_s_rad: np.ndarray


@dataclass(frozen=True)
class LegState:
    """What the robot tells of itself. `quaternion` is (w, x, y, z); gyroscope in the trunk's frame."""

    joints_rad: np.ndarray
    speeds_rad_s: np.ndarray
    torques_nm: np.ndarray
    temperatures_c: np.ndarray
    quaternion: np.ndarray
    gyroscope_rad_s: np.ndarray
    roll_pitch_yaw_rad: np.ndarray
    tick_ms: int = 0


def checksum(data: bytes | bytearray) -> int:
    """Unitree's CRC-32 (polynomial 0x04C11DB7, no reflection, no final xor) over little-endian words, highest bit first.

    zlib's runs from the lowest bit, so bits are mirrored before and after; whole words only.
    """
    words = np.frombuffer(data[: len(data) // 4 * 4], "<u4").byteswap().tobytes()
    return crc32_mpeg2(words)


def crc32_mpeg2(data: bytes) -> int:
    """CRC-32/MPEG-2 of a byte stream."""
    mirrored = zlib.crc32(data.translate(_MIRROR)) ^ 0xFFFFFFFF
    return int(f"{mirrored:032b}"[::-1], 2)


def _mixed(crc: int) -> int:
    """What a command carries instead of its checksum: xor, then turned right by a byte."""
    crc ^= _MIX
    return (crc >> 8) | ((crc & 0xFF) << 24)


def encode_command(command: MotorCommand) -> bytes:
    """Raises PacketError for numbers that are not finite or do not fit their field."""
    packet = bytearray(COMMAND_BYTES)
    packet[0:2], packet[2], packet[20:22] = HEAD, LOW_LEVEL, BAND_WIDTH
    rows = (command.target_rad, command.stiffness_nm_rad, command.damping_nm_s_rad)
    if any(np.shape(row) != (MOTORS,) or not np.isfinite(row).all() for row in rows):
        raise PacketError("a motor command has 12 finite numbers of each kind")
    try:
        for i, (target, stiffness, damping) in enumerate(zip(*rows, strict=True)):
            struct.pack_into(
                "<BffhHH",
                packet,
                COMMAND_MOTORS + COMMAND_STRIDE * i,
                SERVO_MODE,
                target,
                0.0,
                0,
                round(stiffness * 32),
                round(damping * 16),
            )
    except struct.error as error:
        raise PacketError(f"a motor command does not fit its packet: {error}") from error
    struct.pack_into("<I", packet, COMMAND_CRC, _mixed(checksum(packet[:608])))
    return bytes(packet)


def decode_command(packet: bytes) -> MotorCommand:
    """The other end of `encode_command`. Raises PacketError."""
    _check(packet, COMMAND_BYTES, "command")
    if struct.unpack_from("<I", packet, COMMAND_CRC)[0] != _mixed(checksum(packet[:608])):
        raise PacketError("a command's checksum is wrong")
    rows = [struct.unpack_from("<BffhHH", packet, COMMAND_MOTORS + COMMAND_STRIDE * i) for i in range(MOTORS)]
    table = np.array(rows, float)
    return MotorCommand(table[:, 1], table[:, 4] / 32, table[:, 5] / 16)


def encode_state(state: LegState) -> bytes:
    """What a robot sends; for stand-ins."""
    packet = bytearray(STATE_BYTES)
    packet[0:2], packet[2] = HEAD, LOW_LEVEL
    imu = (*state.quaternion, *state.gyroscope_rad_s, 0.0, 0.0, 0.0, *state.roll_pitch_yaw_rad)
    struct.pack_into("<13f", packet, STATE_IMU, *imu)
    for i in range(MOTORS):
        at = STATE_MOTORS + STATE_STRIDE * i
        struct.pack_into("<Bff", packet, at, SERVO_MODE, state.joints_rad[i], state.speeds_rad_s[i])
        struct.pack_into("<h", packet, at + 11, round(float(np.clip(state.torques_nm[i], -127, 127)) * 256))
        struct.pack_into("<b", packet, at + 23, round(float(np.clip(state.temperatures_c[i], -128, 127))))
    struct.pack_into("<I", packet, STATE_TICK, state.tick_ms % 2**32)
    struct.pack_into("<I", packet, STATE_CRC, checksum(packet[:800]))
    return bytes(packet)


def decode_state(packet: bytes) -> LegState:
    """Raises PacketError for a packet of another length, head or checksum, or with a number that is not finite."""
    _check(packet, STATE_BYTES, "state")
    if struct.unpack_from("<I", packet, STATE_CRC)[0] != checksum(packet[:800]):
        raise PacketError("a state's checksum is wrong")
    imu = np.array(struct.unpack_from("<13f", packet, STATE_IMU), float)
    starts = [STATE_MOTORS + STATE_STRIDE * i for i in range(MOTORS)]
    angles = np.array([struct.unpack_from("<ff", packet, at + 1) for at in starts], float)
    torques = np.array([struct.unpack_from("<h", packet, at + 11)[0] for at in starts], float) / 256
    temperatures = np.array([struct.unpack_from("<b", packet, at + 23)[0] for at in starts], float)
    if not (np.isfinite(imu).all() and np.isfinite(angles).all()):
        raise PacketError("a state holds a number that is not finite")
    tick = struct.unpack_from("<I", packet, STATE_TICK)[0]
    return LegState(angles[:, 0], angles[:, 1], torques, temperatures, imu[:4], imu[4:7], imu[10:13], int(tick))


def _check(packet: bytes, length: int, what: str) -> None:
    if len(packet) != length:
        raise PacketError(f"a {what} has {length} bytes, and {len(packet)} came: is it a Go1 in low-level mode?")
    if packet[:2] != HEAD or packet[2] != LOW_LEVEL:
        raise PacketError(f"a {what} begins with {packet[:3].hex()}, expected feefff: is the robot in low-level mode?")
