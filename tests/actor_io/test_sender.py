"""Whatever the network, the disk and the learner do, every step ends stored exactly once and in order."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from actor.outbox import Outbox, OutboxError
from actor.sender import StepSender
from etude.episodes.store import Appended, EpisodeStore
from etude.episodes.validate import validate_outbox, validate_store
from etude.specs import ActionSpec, ObservationSpec
from etude.step import Source, Step

OBSERVATION = ObservationSpec(("x_m",))
ACTION = ActionSpec(("x",), (1.0,))


def make_step(number: int, segment_length: int) -> Step:
    """The `number`-th step (from 0) of segments that all have `segment_length` steps."""
    index, zero = number % segment_length, np.zeros(1, np.float32)
    return Step(
        actor_id="",
        sequence=0,
        segment=number // segment_length + 1,
        index=index,
        stamp_ns=number,
        phase="forward",
        task="t",
        instruction="",
        observation={"state": np.array([number], np.float32)},
        action=zero,
        policy_action=zero,
        reward=0.0,
        is_first=index == 0,
        is_last=index == segment_length - 1,
        is_terminal=False,
        source=Source.POLICY,
        policy_version=1,
    )


def wait_until(condition: Callable[[], bool], timeout_s: float = 20.0) -> None:
    end = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.002)


class Channel:
    """A network that loses, repeats and delays, with a learner that has a real store behind it and can be restarted."""

    def __init__(self, path: Path, seed: int, loss: float = 0.0, repeat: float = 0.0) -> None:
        self.path, self.loss, self.repeat = path, loss, repeat
        self.random = random.Random(seed)
        self.lock = threading.RLock()
        self.store = EpisodeStore.create(path, OBSERVATION, ACTION)
        self.learner = 1
        self.sender: StepSender | None = None
        self.published: list[int] = []
        self.gaps = 0
        self.silent = False
        self.late_acks: list[tuple[int, int, str]] = []

    def publish(self, step: Step) -> None:
        with self.lock:
            self.published.append(step.sequence)
            for _ in range(2 if self.random.random() < self.repeat else 1):
                if not self.silent and self.random.random() >= self.loss:
                    self.gaps += self.store.append(step) is Appended.GAP
            self.actor_id = step.actor_id
            if self.random.random() < 0.3:
                self.acknowledge()

    def acknowledge(self) -> None:
        with self.lock:
            if self.sender is None or self.silent:
                return
            ack = (self.store.received(self.actor_id), self.store.stored(self.actor_id), f"learner-{self.learner}")
            self.late_acks.append(ack)
            if self.random.random() >= self.loss:
                self.sender.on_ack(*ack)
            if self.random.random() < self.repeat:  # an old one comes late, perhaps of a learner that is gone
                self.sender.on_ack(*self.random.choice(self.late_acks))

    def restart_learner(self) -> None:
        """Steps of the unfinished segment are gone, as after kill -9."""
        with self.lock:
            self.store.close()
            self.store = EpisodeStore.open(self.path, "a")
            self.learner += 1


def assert_stored_once_in_order(path: Path, count: int, outbox_path: Path) -> None:
    store = EpisodeStore.open(path)
    assert validate_store(store) == [] and validate_outbox(store, outbox_path) == []
    stamps = [int(x) for info in store.segments() for x in store.read(info).stamp_ns]
    assert stamps == list(range(count))


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    seed=st.integers(0, 2**32),
    loss=st.sampled_from([0.0, 0.05, 0.3]),
    repeat=st.sampled_from([0.0, 0.3]),
    window=st.sampled_from([1, 4, 64]),
    segment_length=st.integers(1, 9),
    segments=st.integers(1, 12),
    restarts=st.lists(st.tuples(st.sampled_from(["learner", "actor"]), st.integers(0, 108)), max_size=4),
)
def test_every_step_ends_stored_exactly_once_and_in_order(
    seed: int,
    loss: float,
    repeat: float,
    window: int,
    segment_length: int,
    segments: int,
    restarts: list[tuple[str, int]],
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    folder = tmp_path_factory.mktemp("channel")
    channel = Channel(folder / "episodes", seed, loss, repeat)
    outbox = Outbox(folder / "robot.sqlite")
    channel.actor_id = outbox.actor_id
    sender = channel.sender = StepSender(outbox, channel.publish, window, stall_s=0.02)
    count = segment_length * segments
    for number in range(count):
        for who, when in restarts:
            if when == number and who == "learner":
                channel.restart_learner()
            elif when == number:
                sender.stop()
                outbox.close()
                outbox = Outbox(folder / "robot.sqlite")
                sender = StepSender(outbox, channel.publish, window, stall_s=0.02)
                channel.sender = sender
        sender.put(make_step(number, segment_length))

    def all_stored() -> bool:
        channel.acknowledge()
        return sender.pending == 0

    wait_until(all_stored)
    assert sender.error == ""
    sender.stop()
    outbox.close()
    channel.store.close()
    assert_stored_once_in_order(folder / "episodes", count, folder / "robot.sqlite")


@pytest.fixture
def channel(tmp_path: Path):
    channel = Channel(tmp_path / "episodes", seed=1)
    outbox = Outbox(tmp_path / "robot.sqlite")
    channel.actor_id = outbox.actor_id
    channel.outbox = outbox
    channel.sender = StepSender(outbox, channel.publish, window=32, stall_s=0.1)
    yield channel
    channel.sender.stop()
    outbox.close()
    channel.store.close()


def test_put_never_waits_for_the_network(channel: Channel) -> None:
    release = threading.Event()
    channel.sender._publish = lambda step: release.wait(5)
    start = time.perf_counter()
    for number in range(500):
        channel.sender.put(make_step(number, 10))
    assert time.perf_counter() - start < 0.5
    assert channel.sender.pending >= 499
    release.set()


def test_without_a_learner_steps_are_kept_and_only_a_probe_is_repeated(channel: Channel) -> None:
    channel.silent = True
    for number in range(200):
        channel.sender.put(make_step(number, 10))
    wait_until(lambda: len(channel.outbox) == 200)
    time.sleep(0.35)
    assert max(channel.published) <= 16, "no more than the probe is sent into the silence"
    assert 2 <= channel.published.count(1) <= 6
    channel.silent = False

    def all_stored() -> bool:
        channel.acknowledge()
        return channel.sender.pending == 0

    wait_until(all_stored)
    assert channel.store.stored(channel.actor_id) == 200


def test_the_window_bounds_what_is_in_flight(channel: Channel) -> None:
    channel.silent = True
    for number in range(200):
        channel.sender.put(make_step(number, 10))
    wait_until(lambda: len(channel.outbox) == 200)
    for received in (8, 16, 24, 25):
        channel.sender.on_ack(received, 0, "learner-1")
    time.sleep(0.05)
    assert max(channel.published) <= 25 + 32


def test_nothing_is_deleted_before_it_is_stored(channel: Channel) -> None:
    channel.silent = True
    for number in range(10):
        channel.sender.put(make_step(number, 10))
    wait_until(lambda: len(channel.outbox) == 10)
    channel.sender.on_ack(10, 4, "learner-1")
    wait_until(lambda: len(channel.outbox) == 6)
    assert channel.outbox.first_pending() == 5 and channel.sender.pending == 6


def test_a_restarted_learner_gets_again_what_it_lost(channel: Channel) -> None:
    channel.silent = True
    for number in range(10):
        channel.sender.put(make_step(number, 10))
    wait_until(lambda: len(channel.outbox) == 10)
    channel.sender.on_ack(10, 4, "learner-1")
    wait_until(lambda: len(channel.outbox) == 6)
    channel.published.clear()
    channel.sender.on_ack(4, 4, "learner-2")
    wait_until(lambda: channel.published[:6] == [5, 6, 7, 8, 9, 10])
    channel.published.clear()
    channel.sender.on_ack(10, 4, "learner-2")
    channel.sender.on_ack(4, 4, "learner-1")  # a late word of the one that is gone
    time.sleep(0.15)
    assert channel.published == []


def test_a_store_that_was_replaced_is_reported_instead_of_waiting_for_ever(channel: Channel) -> None:
    channel.silent = True
    for number in range(10):
        channel.sender.put(make_step(number, 10))
    wait_until(lambda: len(channel.outbox) == 10)
    channel.sender.on_ack(10, 8, "learner-1")
    wait_until(lambda: len(channel.outbox) == 2)
    channel.sender.on_ack(0, 0, "learner-2")
    wait_until(lambda: "store was replaced" in channel.sender.error)
    channel.sender.on_ack(8, 8, "learner-3")
    wait_until(lambda: channel.sender.error == "")


def test_an_old_copy_of_the_outbox_is_reported(channel: Channel) -> None:
    channel.sender.put(make_step(0, 10))
    channel.sender.on_ack(50, 50, "learner-1")
    wait_until(lambda: "old copy" in channel.sender.error)


@pytest.mark.parametrize("claim", [(10**6, 10**6), (10, 10**6), (10**6, 4), (11, 11)])
def test_no_acknowledgement_deletes_a_step_that_the_learner_cannot_have(channel: Channel, claim: tuple[int, int]) -> None:
    channel.silent = True
    for number in range(10):
        channel.sender.put(make_step(number, 10))
    wait_until(lambda: len(channel.outbox) == 10)
    channel.sender.on_ack(*claim, "learner-1")
    wait_until(lambda: "old copy" in channel.sender.error)
    for number in range(10, 20):  # the numbers grow past the claim, which makes it no truer
        channel.sender.put(make_step(number, 10))
    wait_until(lambda: len(channel.outbox) == 20)
    channel.sender.on_ack(*claim, "learner-1")
    time.sleep(0.1)
    assert channel.outbox.first_pending() == 1 and "old copy" in channel.sender.error


def test_a_withdrawn_claim_is_forgotten_and_sending_goes_on(channel: Channel) -> None:
    channel.silent = True
    for number in range(10):
        channel.sender.put(make_step(number, 10))
    wait_until(lambda: len(channel.outbox) == 10)
    channel.sender.on_ack(10**6, 10**6, "learner-1")
    wait_until(lambda: "old copy" in channel.sender.error)
    channel.silent = False
    channel.sender.on_ack(0, 0, "learner-2")
    wait_until(lambda: channel.store.stored(channel.actor_id) == 10)
    wait_until(lambda: channel.sender.error == "")


def test_a_full_disk_keeps_steps_in_memory_until_there_is_room(channel: Channel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("actor.sender._RETRY_S", 0.02)
    append = channel.outbox.append

    def full(step: Step) -> Step:
        raise OutboxError("disk full")

    monkeypatch.setattr(channel.outbox, "append", full)
    for number in range(5):
        channel.sender.put(make_step(number, 5))
    wait_until(lambda: channel.sender.error == "disk full")
    assert channel.sender.pending == 5
    monkeypatch.setattr(channel.outbox, "append", append)
    wait_until(lambda: channel.store.stored(channel.actor_id) == 5)
    assert channel.sender.error == ""


def test_a_transport_that_raises_loses_nothing(channel: Channel) -> None:
    publish, broken = channel.publish, [True]

    def shaky(step: Step) -> None:
        if broken[0]:
            raise RuntimeError("publisher is gone")
        publish(step)

    channel.sender._publish = shaky
    for number in range(5):
        channel.sender.put(make_step(number, 5))
    wait_until(lambda: "publisher is gone" in channel.sender.error)
    broken[0] = False
    wait_until(lambda: channel.store.stored(channel.actor_id) == 5)
    assert channel.sender.error == ""


def test_stop_puts_what_is_queued_on_disk(channel: Channel) -> None:
    channel.silent = True
    for number in range(300):
        channel.sender.put(make_step(number, 10))
    channel.sender.stop()
    assert len(channel.outbox) == 300
