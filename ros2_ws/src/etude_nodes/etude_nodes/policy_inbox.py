"""From messages to a policy that acts: programs and weights' chunks go in, the policy runner gets what is complete and fits.

Program and weights travel on two topics, so either may come first. Whatever is refused is said, counted and forgotten; the runner
goes on with the last good version. ROS-free.
"""

from __future__ import annotations

import logging
import threading
import time
from typing import Protocol

from etude.specs import digest
from etude_nodes.kept_policy import KeptPolicy
from etude_nodes.weights import Chunk, WeightsAssembler

log = logging.getLogger("etude.policy")

COMPLAINT_S = 20.0
"""How long a refusal stays in the robot's status message."""


class Runner(Protocol):
    """What the inbox needs of `actor.policy_runner.PolicyRunner`."""

    def load_program(self, data: bytes) -> None: ...
    def load_weights(self, data: bytes) -> None: ...
    @property
    def program(self) -> object | None: ...


class PolicyInbox:
    """Feed from one thread; ask from any."""

    def __init__(self, runner: Runner, kept: KeptPolicy | None = None) -> None:
        """What flies is also handed to `kept`."""
        self._runner, self._kept = runner, kept
        self._assembler = WeightsAssembler(self._complain)
        self._lock = threading.Lock()
        self._program_checksum, self._program = "", b""
        self._waiting: bytes | None = None
        self._complaint = ""
        self._complained_s = -float("inf")
        self.refused = 0

    def program(self, data: bytes) -> None:
        """A policy program arrived. One that is loaded already (a restarted learner sends it again) costs nothing."""
        with self._lock:
            checksum = digest(data)
            if checksum == self._program_checksum:
                return
            try:
                self._runner.load_program(data)
            except Exception as error:  # whatever arrives over the network must not end the process
                self._complain(f"the policy program that arrived was refused: {error}")
                return
            self._program_checksum, self._program = checksum, data
            log.info("policy program %s is loaded", checksum[:8])
            waiting, self._waiting = self._waiting, None
        if waiting is not None:
            self._weights(waiting)

    def chunk(self, chunk: Chunk) -> None:
        """A chunk of weights arrived; complete weights are loaded, or kept until their program is there."""
        blob = self._assembler.add(chunk)
        if blob is None:
            return
        with self._lock:
            if self._runner.program is None:
                self._waiting = blob
                return
        self._weights(blob)

    def restore(self) -> None:
        """Let the policy fly that an earlier process kept; what does not fit is passed over, for the learner sends its own."""
        found = self._kept.read() if self._kept is not None else None
        if found is None:
            return
        try:
            self._runner.load_program(found[0])
            self._program_checksum, self._program = digest(found[0]), found[0]
            self._runner.load_weights(found[1])
        except Exception as error:  # as what arrives over the network
            log.warning("the policy that was kept is not used: %s", error)
            return
        log.info("the policy that flew last flies until the learner sends a newer one")

    def complaint(self) -> str:
        """What was refused during the last seconds, as a sentence; empty when nothing was."""
        return self._complaint if time.monotonic() - self._complained_s < COMPLAINT_S else ""

    def _weights(self, blob: bytes) -> None:
        try:
            self._runner.load_weights(blob)
        except Exception as error:
            self._complain(f"policy weights that arrived were refused: {error}")
            return
        if self._kept is not None:
            self._kept.flew(self._program, blob)

    def _complain(self, text: str) -> None:
        self.refused += 1
        self._complaint, self._complained_s = text, time.monotonic()
        log.error("%s", text)
