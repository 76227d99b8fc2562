"""The sender: takes steps from the control loop, puts them into the outbox, publishes them, and repeats until they are stored.

It is separate so that the control loop never waits for a disk or a network. Go-back-N: the learner takes steps in order and
acknowledges the highest one; what is not acknowledged is sent again from there.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable

from actor.outbox import Outbox, OutboxError
from etude.step import Step

_log = logging.getLogger(__name__)
_PROBE_WINDOW = 16
_READ_BATCH = 32
_RETRY_S = 1.0


class StepSender:
    """A thread between `put` and `publish`.

    At most `window` steps are published and not yet received. While nobody answers only a small probe is repeated, so an absent
    learner costs little; the window doubles again with every acknowledgement that shows progress.

    """

    def __init__(self, outbox: Outbox, publish: Callable[[Step], None], window: int = 256, stall_s: float = 1.0) -> None:
        """`publish` is called from the sender's thread; it may lose steps. `stall_s`: resend after so long without progress."""
        self._outbox = outbox
        self._publish = publish
        self._window = window
        self._stall_s = stall_s
        self._changed = threading.Condition()
        self._queue: deque[Step] = deque()
        self._stopping = False
        self._problems: dict[str, str] = {}
        self._learner_id = ""
        self._former_learners: set[str] = set()
        self._heard_s = float("-inf")
        # A restarted actor resumes behind what was stored; the first acknowledgement corrects a wrong guess
        self._received = (outbox.first_pending() or outbox.last_sequence + 1) - 1
        self._stored = self._received
        self._deleted = self._received
        self._beyond = 0  # what a learner claims to have of this outbox and cannot have; 0 when all is well
        self._next = self._received + 1
        self._allowed = min(window, _PROBE_WINDOW)
        self._progress_s = time.monotonic()
        self._thread = threading.Thread(target=self._run, name="step-sender", daemon=True)
        self._thread.start()

    def put(self, step: Step) -> None:
        """Hand over a step; returns at once. Its `actor_id` and `sequence` are set by the outbox."""
        with self._changed:
            self._queue.append(step)
            self._changed.notify()

    @property
    def pending(self) -> int:
        """Steps that the learner has not stored yet."""
        return len(self._queue) + len(self._outbox)

    @property
    def error(self) -> str:
        """What is wrong now (disk full, a learner with another history), empty when all is well."""
        return "; ".join(self._problems.copy().values())

    def on_ack(self, received_sequence: int, stored_sequence: int, learner_id: str) -> None:
        """The learner has taken steps up to `received_sequence` and has those up to `stored_sequence` on disk. Any thread.

        Acknowledgements may be lost, repeated or late. A `learner_id` not seen before is a restarted learner, which may have
        received less than the one before it. One that has more than this outbox ever held is not believed in anything: nothing is
        sent or deleted until a learner withdraws the claim, because the numbers of the two mean different steps.
        """
        with self._changed:
            claim, last = max(received_sequence, stored_sequence), self._outbox.last_sequence
            if claim > last or claim >= self._beyond > 0:
                self._beyond = max(claim, self._beyond)
                self._changed.notify()
                return
            self._beyond = 0
            self._stored = max(self._stored, stored_sequence)  # on disk is on disk, whoever says so
            now_s = time.monotonic()
            if learner_id == self._learner_id:
                self._heard_s = now_s
            late = learner_id in self._former_learners and now_s - self._heard_s < self._stall_s
            if late:
                pass  # a late word of a learner that has been replaced
            elif learner_id != self._learner_id:
                # one that was taken for replaced but is the only one still speaking is the living one: a late word of a dead
                # learner, first heard after its successor, must not silence the successor for ever
                self._former_learners.add(self._learner_id)
                self._former_learners.discard(learner_id)
                self._learner_id = learner_id
                self._heard_s = now_s
                self._received = received_sequence
                self._next = received_sequence + 1
                self._made_progress()
            elif received_sequence > self._received:
                self._received = received_sequence
                self._next = max(self._next, received_sequence + 1)
                self._made_progress()
            self._changed.notify()

    def stop(self, timeout_s: float = 5.0) -> None:
        """Put what is queued into the outbox and end the thread. The outbox stays open and keeps what is not acknowledged."""
        with self._changed:
            self._stopping = True
            self._changed.notify()
        self._thread.join(timeout_s)
        if self._thread.is_alive() or self._queue:
            _log.error("%d steps could not be written to the outbox before the end: %s", len(self._queue), self.error)

    # --- the thread ---------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        while True:
            with self._changed:
                if self._idle():
                    self._changed.wait(self._wait_s())
                if self._stopping and (not self._queue or "outbox" in self._problems):
                    return
                taken = [self._queue[i] for i in range(min(_READ_BATCH, len(self._queue)))]
                stored = self._stored
            try:
                for step in taken:
                    numbered = self._outbox.append(step)
                    with self._changed:
                        self._queue.popleft()
                        # the usual case: everything before is published, and the step need not be read back
                        direct = numbered.sequence == self._next and self._room() > 0
                        self._next += direct
                    if direct:
                        self._publish_one(numbered)
                self._send_backlog()
                if stored > self._deleted and not self._beyond:
                    self._outbox.acknowledge(stored)
                    self._deleted = stored
                self._report("numbers", self._mismatch())
                self._report("outbox", "")
            except OutboxError as error:  # the disk may have room again later; the steps stay queued
                self._report("outbox", str(error))
                with self._changed:
                    self._changed.wait(_RETRY_S)
                    if self._stopping:
                        return

    def _idle(self) -> bool:
        """Nothing to do now. Call with the lock held."""
        room = self._room()  # first: it may go back
        backlog = self._next <= self._outbox.last_sequence and room > 0
        return not self._queue and not backlog and (self._stored <= self._deleted or self._beyond > 0) and not self._stopping

    def _wait_s(self) -> float | None:
        if self._next <= self._received + 1:
            return None
        return max(0.0, self._progress_s + self._stall_s - time.monotonic())

    def _room(self) -> int:
        """How many more steps may be published now; going back when nothing has been received for too long."""
        if self._next > self._received + 1 and time.monotonic() - self._progress_s >= self._stall_s:
            self._next = self._received + 1
            self._allowed = min(self._window, _PROBE_WINDOW)
            self._progress_s = time.monotonic()
        return 0 if self._beyond else self._received + self._allowed - self._next + 1

    def _made_progress(self) -> None:
        self._allowed = min(self._window, self._allowed * 2)
        self._progress_s = time.monotonic()

    def _send_backlog(self) -> None:
        """Publish from the outbox what is due, a batch at a time."""
        with self._changed:
            room = self._room()
            first = self._next
        if room <= 0 or first > self._outbox.last_sequence:
            return
        for step in self._outbox.pending(first - 1, min(room, _READ_BATCH)):
            with self._changed:
                if step.sequence != self._next:  # an acknowledgement moved on, or the learner wants what is gone
                    return
                self._next += 1
            self._publish_one(step)

    def _publish_one(self, step: Step) -> None:
        with self._changed:
            if step.sequence == self._received + 1:
                self._progress_s = time.monotonic()  # nothing else was in flight: the clock of a stall starts now
        try:
            self._publish(step)
        except Exception as error:  # a transport that is shutting down raises anything; the step is sent again
            self._report("publish", f"step {step.sequence} could not be published ({error}); it will be sent again")
        else:
            self._report("publish", "")

    def _mismatch(self) -> str:
        """Why learner and outbox cannot belong together, if so: otherwise both would wait for each other for ever."""
        who, where = self._outbox.actor_id, self._outbox.path
        if self._beyond:
            return (
                f"the learner has step {self._beyond} of {who}, which outbox {where} had not made by then (it ends at "
                f"{self._outbox.last_sequence}): it is an old copy. Nothing is sent or deleted. Move it aside and start "
                "the actor again"
            )
        oldest = self._outbox.first_pending()
        if oldest is not None and self._learner_id and self._received + 1 < oldest:
            return (
                f"the learner asks for step {self._received + 1} of {who}, which an earlier learner has stored: its store was "
                f"replaced. Restore it, or move outbox {where} aside and start the actor again"
            )
        return ""

    def _report(self, kind: str, message: str) -> None:
        if not message:
            self._problems.pop(kind, None)
        elif self._problems.get(kind) != message:
            self._problems[kind] = message
            _log.error("%s", message)
