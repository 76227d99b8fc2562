"""Policy weights in pieces: a blob becomes 512 KB chunks, chunks that arrive in any order become the blob again.

One 20 MB message would hold the interpreter while it is converted and make the control loop late; chunks do not. ROS-free,
so that every order, loss and corruption can be tested without a middleware.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from etude.specs import digest

MAX_TOTAL_BYTES = 4 * 1024**3
MAX_UNFINISHED = 2
"""Versions in assembly at once. Two, so that a chunk whose version number was garbled cannot block the real ones."""
SILENT_S = 10.0
"""So long without a chunk of the current learner, and one that was taken for replaced is believed again (weights come every few
seconds)."""
_SHA256 = re.compile(r"[0-9a-f]{64}")
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Chunk:
    """One piece of one version of the weights. Fields as in `etude_msgs/PolicyWeights`; `index` counts from 0."""

    run_id: str
    learner_id: str
    version: int
    index: int
    count: int
    program_digest: str
    blob_sha256: str
    total_bytes: int
    data: bytes

    def __str__(self) -> str:
        return f"chunk {self.index} of weights version {self.version} of run {self.run_id!r}"


def split(
    blob: bytes, *, run_id: str, learner_id: str, version: int, program_digest: str, chunk_bytes: int = 512 * 1024
) -> list[Chunk]:
    """`blob` as chunks of at most `chunk_bytes` bytes; at least one chunk, even for an empty blob."""
    checksum = digest(blob)
    view = memoryview(blob)
    count = max(1, -(-len(blob) // chunk_bytes))
    pieces = (bytes(view[i * chunk_bytes : (i + 1) * chunk_bytes]) for i in range(count))
    return [
        Chunk(run_id, learner_id, version, i, count, program_digest, checksum, len(blob), piece) for i, piece in enumerate(pieces)
    ]


@dataclass
class _Unfinished:
    first: Chunk
    parts: dict[int, bytes] = field(default_factory=dict)


class WeightsAssembler:
    """Chunks in, complete checked blobs out, with ever newer versions only.

    A subscriber that fell behind forgets an unfinished version when newer ones begin, so it never works through old versions one
    after the other. Version numbers are compared within one learner process: a restarted learner has a new `learner_id`, may step
    back to its checkpoint's version, and its predecessor is ignored as long as the new one speaks. Whatever is refused is
    reported through `on_refused`, counted in `refused`, and the assembler goes on.
    """

    def __init__(self, on_refused: Callable[[str], None] = log.warning, clock: Callable[[], float] = time.monotonic):
        self._on_refused = on_refused
        self._clock = clock
        self._learner: tuple[str, str] | None = None
        self._heard_s = -float("inf")
        self._former_learners: set[tuple[str, str]] = set()
        self._completed_version = -1
        self._unfinished: dict[tuple[int, str], _Unfinished] = {}
        self.refused = 0

    def add(self, chunk: Chunk) -> bytes | None:
        """Take one chunk; the complete blob when it was the last one missing, else None."""
        problem = _problem(chunk)
        if problem:
            self._refuse(f"{chunk} {problem}")
            return None
        if not self._from_current_learner(chunk) or chunk.version <= self._completed_version:
            return None
        key = (chunk.version, chunk.blob_sha256)
        entry = self._unfinished.setdefault(key, _Unfinished(chunk))
        ours = (entry.first.count, entry.first.total_bytes, entry.first.program_digest)
        theirs = (chunk.count, chunk.total_bytes, chunk.program_digest)
        if ours != theirs:
            self._refuse(f"{chunk} says (count, bytes, program) = {theirs}, but the others of this version say {ours}")
            return None
        entry.parts[chunk.index] = chunk.data
        if len(entry.parts) == chunk.count:
            del self._unfinished[key]
            return self._finish(chunk, entry)
        while len(self._unfinished) > MAX_UNFINISHED:
            del self._unfinished[min(self._unfinished)]
        return None

    def _from_current_learner(self, chunk: Chunk) -> bool:
        learner, now_s = (chunk.run_id, chunk.learner_id), self._clock()
        if learner != self._learner:
            # one that was taken for replaced but is the only one still speaking is the living one: a late chunk of a dead
            # learner, first heard after its successor, must not silence the successor for ever (as with acknowledgements)
            if learner in self._former_learners and now_s - self._heard_s < SILENT_S:
                return False
            if self._learner is not None:
                self._former_learners.add(self._learner)
            self._former_learners.discard(learner)
            self._learner = learner
            self._completed_version = -1
            self._unfinished.clear()
        self._heard_s = now_s
        return True

    def _finish(self, chunk: Chunk, entry: _Unfinished) -> bytes | None:
        blob = b"".join(entry.parts[i] for i in range(chunk.count))
        if len(blob) != chunk.total_bytes or digest(blob) != chunk.blob_sha256:
            self._refuse(
                f"weights version {chunk.version} of run {chunk.run_id!r} were corrupted on the way (wrong checksum or length); "
                "the last good version stays in use and the next one is awaited"
            )
            return None
        self._completed_version = chunk.version
        self._unfinished = {key: value for key, value in self._unfinished.items() if key[0] > chunk.version}
        return blob

    def _refuse(self, message: str) -> None:
        self.refused += 1
        self._on_refused(message)


def _problem(chunk: Chunk) -> str:
    """What makes this chunk impossible by itself, or an empty string."""
    if chunk.count < 1 or not 0 <= chunk.index < chunk.count:
        return f"has an index outside its count of {chunk.count}"
    if not 0 <= chunk.total_bytes <= MAX_TOTAL_BYTES:
        return f"claims {chunk.total_bytes} bytes, more than the limit of {MAX_TOTAL_BYTES}"
    if len(chunk.data) > chunk.total_bytes:
        return f"has {len(chunk.data)} bytes, more than the whole of {chunk.total_bytes}"
    if not _SHA256.fullmatch(chunk.blob_sha256):
        return f"carries no SHA-256 checksum of the whole (got {chunk.blob_sha256[:20]!r})"
    return ""
