"""Programs and weights in any order, refusals said and survived."""

from __future__ import annotations

from pathlib import Path

from etude_nodes.kept_policy import EVERY_S, KeptPolicy
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


def test_what_flew_is_kept_now_and_then_and_flies_again_without_a_learner(tmp_path: Path) -> None:
    kept = KeptPolicy(tmp_path / "kept")
    inbox = PolicyInbox(FakeRunner(), kept)
    inbox.program(b"program")
    send(inbox, 1, b"weights one")
    kept.write(100.0)
    send(inbox, 2, b"weights two")
    kept.write(100.0 + EVERY_S / 2)
    assert KeptPolicy(tmp_path / "kept").read() == (b"program", b"weights one"), "not at every version"
    kept.write(100.0 + EVERY_S)
    send(inbox, 3, b"nan weights")
    kept.write(100.0 + 2 * EVERY_S)

    again = PolicyInbox(runner := FakeRunner(), KeptPolicy(tmp_path / "kept"))
    again.restore()
    assert runner.loads == [b"program", b"weights two"], "what was refused is not kept"
    again.program(b"program")
    assert runner.loads == [b"program", b"weights two"], "the learner's same program costs nothing"
    send(again, 1, b"newer weights")
    assert runner.loads[-1] == b"newer weights"


def test_a_policy_that_was_torn_or_is_absent_is_passed_over(tmp_path: Path) -> None:
    inbox = PolicyInbox(runner := FakeRunner(), KeptPolicy(tmp_path))
    inbox.restore()
    (tmp_path / "policy.program").write_bytes(b"bad program")
    (tmp_path / "policy.safetensors").write_bytes(b"weights")
    inbox.restore()
    assert runner.loads == [] and inbox.complaint() == ""
    inbox.program(b"program")
    assert runner.loads == [b"program"]


def test_a_disk_that_takes_nothing_is_no_reason_to_stop(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    kept = KeptPolicy(tmp_path / "file" / "kept")
    kept.flew(b"program", b"weights")
    kept.write(0.0)
    assert kept.read() is None
