"""The newest policy that flew, kept on the robot's disk: an actor that starts again while the learner is away goes on with it.

ROS-free. The two files are written one after the other, so they may not fit each other after a crash; whoever loads them checks.
"""

from __future__ import annotations

import logging
from pathlib import Path

from etude.durable import write_atomic

log = logging.getLogger("etude.policy")

EVERY_S = 10.0
"""Weights come several times a second; so often the newest are written."""


class KeptPolicy:
    """`flew` from the thread that loads policies, `write` from another."""

    def __init__(self, folder: Path) -> None:
        self._program, self._weights = folder / "policy.program", folder / "policy.safetensors"
        self._written_program: bytes | None = None
        self._newest: tuple[bytes, bytes] | None = None
        self._due_s = -float("inf")

    def read(self) -> tuple[bytes, bytes] | None:
        """Program and weights of an earlier process; None when there are none."""
        try:
            return self._program.read_bytes(), self._weights.read_bytes()
        except OSError:
            return None

    def flew(self, program: bytes, weights: bytes) -> None:
        self._newest = program, weights

    def write(self, now_s: float) -> None:
        """Write what flew last, at most every `EVERY_S`. A full disk is said and changes nothing else."""
        if self._newest is None or now_s < self._due_s:
            return
        self._due_s = now_s + EVERY_S
        (program, weights), self._newest = self._newest, None
        try:
            self._program.parent.mkdir(parents=True, exist_ok=True)
            if program is not self._written_program:
                write_atomic(self._program, program)
                self._written_program = program
            write_atomic(self._weights, weights)
        except OSError as error:
            log.warning("the policy could not be kept in %s: %s", self._weights.parent, error)
