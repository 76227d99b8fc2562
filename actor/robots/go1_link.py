"""The Go1's motor controller over UDP: one packet out, the newest state in. A socket and counters; nothing is decided here."""

from __future__ import annotations

import logging
import socket
import time

from actor.robots.go1_packets import LegState, MotorCommand, PacketError, decode_state, encode_command
from etude.config import ConfigError
from etude.config.go1 import UdpConfig

log = logging.getLogger("etude.go1_link")

LARGEST_BYTES = 2048
TELL_S = 5.0


class Go1Link:
    """`exchange` never waits. Packets of other senders, and those that are damaged, count and change nothing.

    Raises:
        ConfigError: the local port is taken, or the address cannot be reached from here.
    """

    def __init__(self, config: UdpConfig) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        try:
            self._socket.bind((_own_address(config), config.local_port))
            self._socket.connect((config.address, config.port))  # from now on nobody else is heard
        except OSError as error:
            self._socket.close()
            raise ConfigError(
                f"the Go1's motors at {config.address}:{config.port} cannot be reached from port {config.local_port}: "
                f"{error.strerror}. Is the cable in, this computer's address in the robot's network (192.168.123.x), and no "
                "other safety node running?"
            ) from error
        self.sent = self.lost = self.received = self.damaged = 0
        self.problem = ""
        self._told_s = -TELL_S

    def exchange(self, command: MotorCommand) -> LegState | None:
        """Send `command`; the newest state that came since the last call, or None."""
        try:
            self._socket.send(encode_command(command))
            self.sent += 1
        except OSError:  # the cable is out, or nobody listens: the state gets late, and that is told
            self.lost += 1
        newest = None
        while True:
            try:
                packet = self._socket.recv(LARGEST_BYTES)
            except BlockingIOError:
                return newest
            except OSError:
                self.lost += 1  # "nobody listens on that port", told once per packet
                return newest
            try:
                newest = decode_state(packet)
                self.received += 1
            except PacketError as error:
                self.damaged += 1
                self.problem = str(error)
                if time.monotonic() - self._told_s >= TELL_S:
                    self._told_s = time.monotonic()
                    log.warning("%d packets of the Go1 were not usable, the newest because: %s", self.damaged, error)

    def close(self) -> None:
        self._socket.close()


def _own_address(config: UdpConfig) -> str:
    """Of this computer in the robot's network: on no other one is anything heard."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect((config.address, config.port))  # sends nothing; the system chooses the way
        return str(probe.getsockname()[0])
