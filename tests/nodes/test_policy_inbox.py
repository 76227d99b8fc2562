"""Programs and weights in any order, refusals said and survived."""

from __future__ import annotations

from etude_nodes.policy_inbox import PolicyInbox
from etude_nodes.weights import split


class FakeRunner:
    def __init__(self) -> None:
        self.program: bytes | None = None
        self.loads: list[bytes] = []

    def load_program(self, data: bytes) -> None:
        if data == b"bad program":
            raise ValueError("the policy program is torn")
        self.program = data
        self.loads.append(data)

    def load_weights(self, data: bytes) -> None:
        if data.startswith(b"nan"):
            raise ValueError("leaf 'w' has values that are not finite")
        self.loads.append(data)


def send(inbox: PolicyInbox, version: int, blob: bytes) -> None:
    for chunk in split(blob, run_id="r", learner_id="l", version=version, program_digest="d", chunk_bytes=3):
        inbox.chunk(chunk)


def test_weights_that_come_before_their_program_wait_for_it_without_a_complaint() -> None:
    inbox = PolicyInbox(runner := FakeRunner())
    send(inbox, 1, b"weights one")
    send(inbox, 2, b"weights two")
    assert runner.loads == [] and inbox.complaint() == ""
    inbox.program(b"program")
    assert runner.loads == [b"program", b"weights two"]


def test_a_program_that_is_sent_again_is_not_compiled_again() -> None:
    inbox = PolicyInbox(runner := FakeRunner())
    inbox.program(b"program")
    inbox.program(b"program")
    assert runner.loads == [b"program"]


def test_refusals_are_said_and_counted_and_the_next_good_version_flies() -> None:
    inbox = PolicyInbox(runner := FakeRunner())
    inbox.program(b"bad program")
    assert "program that arrived was refused" in inbox.complaint()
    inbox.program(b"program")
    send(inbox, 1, b"nan weights")
    assert "not finite" in inbox.complaint() and inbox.refused == 2
    send(inbox, 2, b"good weights")
    assert runner.loads == [b"program", b"good weights"]
