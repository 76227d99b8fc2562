"""The episode store: every step a learner has acknowledged, as one zarr group per finished segment.

A segment is written aside, fsynced and renamed into place by a thread of its own, so a kill at any moment leaves only complete
segments and `append` never waits for the disk. See docs/data_formats.md for the layout.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
import threading
import time
from collections import deque
from dataclasses import replace
from enum import Enum
from pathlib import Path
from typing import Any, Literal

import numpy as np

from etude.durable import fsync_folder, write_atomic, write_trees
from etude.episodes.segment import Segment, SegmentInfo, encode_segment, info_from_json, read_segment, segment_from_steps
from etude.specs import ActionSpec, ObservationSpec, SpecError, specs_from_json, specs_to_json
from etude.step import Step

FORMAT = "etude-episodes"
FORMAT_VERSION = 1
HEADER = "store.json"
_WRITING = ".writing"
_SEGMENTS = "segments"
_ACTOR_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_FOLDER = re.compile(r"(\d{12})-(\d{6})")
_GROUP_JSON = json.dumps({"attributes": {}, "zarr_format": 3, "node_type": "group"}).encode()
_BATCH = 8
_RETRY_S = 1.0


class StoreError(RuntimeError):
    """A store cannot be opened, read or written; the message names the folder and the remedy."""


class Appended(Enum):
    """What became of a step given to `EpisodeStore.append`."""

    ACCEPTED = "accepted"
    DUPLICATE = "duplicate"
    GAP = "gap"


class EpisodeStore:
    """A folder of segments. Use `create` or `open`; one writer at a time, any number of readers. Thread-safe.

    Steps of an unfinished segment live in memory only: they are not yet `stored`, the actor still has them in its outbox and
    sends them again after a restart of the learner.
    """

    def __init__(
        self, path: Path, observation_spec: ObservationSpec, action_spec: ActionSpec, metadata: dict, lock_file: int | None
    ) -> None:
        self.path = path
        self.observation_spec = observation_spec
        self.action_spec = action_spec
        self.metadata = metadata
        self.damaged: list[tuple[Path, str]] = []
        self._lock_file = lock_file
        self._infos: dict[tuple[str, int], SegmentInfo] = {}
        self._received: dict[str, int] = {}
        self._stored: dict[str, int] = {}
        self._open: dict[str, list[Step]] = {}
        self._queue: deque[Segment] = deque()
        self._queue_limit = 64
        self._changed = threading.Condition()
        self._error: str | None = None
        self._closing = False
        self._writer: threading.Thread | None = None
        self._scan()
        if lock_file is not None:
            self._received = dict(self._stored)
            self._writer = threading.Thread(target=self._write_loop, name="episode-store", daemon=True)
            self._writer.start()

    @classmethod
    def create(
        cls, path: str | Path, observation_spec: ObservationSpec, action_spec: ActionSpec, metadata: dict[str, Any] | None = None
    ) -> EpisodeStore:
        """Make a new store at `path`, which must be absent or empty, open for append.

        Raises:
            StoreError: something is there already, or the folder cannot be written.
        """
        path = Path(path)
        if (path / HEADER).exists():
            raise StoreError(f"{path} already holds an episode store: open it for append, or move it aside")
        if path.is_dir() and any(entry.name not in ("writer.lock", "zarr.json", _SEGMENTS) for entry in path.iterdir()):
            raise StoreError(f"{path} is not empty and is no episode store: choose another folder")
        specs = json.loads(specs_to_json(observation_spec, action_spec))
        header = {"format": FORMAT, "version": FORMAT_VERSION, **specs, "metadata": metadata or {}, "created_ns": time.time_ns()}
        lock_file = None
        try:
            (path / _SEGMENTS).mkdir(parents=True, exist_ok=True)
            lock_file = _lock(path)
            write_atomic(path / "zarr.json", _GROUP_JSON)
            write_atomic(path / _SEGMENTS / "zarr.json", _GROUP_JSON)
            write_atomic(path / HEADER, json.dumps(header, indent=1).encode())  # last: a store exists once its header does
        except OSError as error:
            if lock_file is not None:
                os.close(lock_file)
            raise StoreError(f"episode store {path} cannot be created: {error}") from error
        return cls(path, observation_spec, action_spec, metadata or {}, lock_file)

    @classmethod
    def open(cls, path: str | Path, mode: Literal["r", "a"] = "r") -> EpisodeStore:
        """Open an existing store for reading or append. Append removes what a killed writer left unfinished.

        Raises:
            StoreError: there is no store, it is damaged, of another version, or (append) somebody else is writing.
        """
        path = Path(path)
        observation_spec, action_spec, metadata = _read_header(path)
        if mode == "r":
            return cls(path, observation_spec, action_spec, metadata, None)
        lock_file = None
        try:
            lock_file = _lock(path)
            shutil.rmtree(path / _WRITING, ignore_errors=True)
        except OSError as error:
            raise StoreError(f"episode store {path} cannot be opened for append: {error}") from error
        return cls(path, observation_spec, action_spec, metadata, lock_file)

    def __enter__(self) -> EpisodeStore:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # --- appending ----------------------------------------------------------------------------------------------------

    def append(self, step: Step) -> Appended:
        """Take the actor's next step. A first step while the actor's previous segment is open cuts that one.

        Returns DUPLICATE for a sequence already taken and GAP for one beyond the next; neither changes anything.

        Raises:
            StoreError: the step does not fit the store's specifications (it is not taken), or the disk refuses to be written
                (steps are then refused until a retry succeeds; the actor keeps them).
        """
        with self._changed:
            self._require_writer()
            while len(self._queue) >= self._queue_limit and self._error is None:
                self._changed.wait()
            if self._error is not None:
                raise StoreError(self._error)
            received = self._received.get(step.actor_id, 0)
            if step.sequence <= received:
                return Appended.DUPLICATE
            if step.sequence > received + 1:
                return Appended.GAP
            self._check(step)
            steps = self._open.get(step.actor_id)
            if steps and (step.is_first or _identity(step) != _identity(steps[0])):
                self._finish(step.actor_id)
            self._open.setdefault(step.actor_id, []).append(step)
            self._received[step.actor_id] = step.sequence
            if step.is_last:
                self._finish(step.actor_id)
            return Appended.ACCEPTED

    def close_segment(self, actor_id: str) -> None:
        """Cut the actor's open segment short: its last received step becomes last, without action and not terminal."""
        with self._changed:
            self._require_writer()
            if actor_id in self._open:
                self._finish(actor_id)

    def received(self, actor_id: str) -> int:
        """Highest contiguous sequence taken, 0 when none. After a restart it begins at `stored`."""
        with self._changed:
            return self._received.get(actor_id, 0)

    def stored(self, actor_id: str) -> int:
        """Highest contiguous sequence that is durable on disk, 0 when none: the one to acknowledge."""
        with self._changed:
            return self._stored.get(actor_id, 0)

    def flush(self) -> None:
        """Wait until every finished segment is durable. Raises StoreError when the disk refuses."""
        with self._changed:
            while self._queue and self._error is None:
                self._changed.wait()
            if self._queue and self._error is not None:
                raise StoreError(self._error)

    def close(self) -> None:
        """Flush and release the store. Steps of unfinished segments are dropped: they were never acknowledged."""
        if self._writer is None:
            return
        try:
            self.flush()
        finally:
            with self._changed:
                self._closing = True
                self._changed.notify_all()
            self._writer.join()
            self._writer = None
            if self._lock_file is not None:
                os.close(self._lock_file)
                self._lock_file = None

    # --- reading ------------------------------------------------------------------------------------------------------

    def actors(self) -> list[str]:
        """Actors with at least one finished segment, sorted."""
        return sorted({info.actor_id for info in self.segments()})

    def segments(self) -> list[SegmentInfo]:
        """Durable segments in order of (actor, sequence). A writer waits for its own finished segments first."""
        if self._writer is not None:
            self.flush()
        else:
            self._scan()
        with self._changed:
            return [self._infos[key] for key in sorted(self._infos)]

    def read(self, info: SegmentInfo) -> Segment:
        """All arrays of one segment. Raises StoreError when its files are missing or damaged."""
        try:
            return read_segment(info, self.observation_spec, self.action_spec)
        except Exception as error:  # zarr, its codecs and numpy raise many types on damaged files
            raise StoreError(
                f"segment {info.path} cannot be read ({type(error).__name__}: {error}): "
                "move that folder out of the store to go on without it"
            ) from error

    # --- inside -------------------------------------------------------------------------------------------------------

    def _require_writer(self) -> None:
        if self._writer is None:
            raise StoreError(f"episode store {self.path} is not open for append")

    def _check(self, step: Step) -> None:
        if not _ACTOR_ID.fullmatch(step.actor_id):
            raise StoreError(f"actor id {step.actor_id!r} must be letters, digits, '.', '_' and '-' (at most 100)")
        try:
            self.observation_spec.check(step.observation)
            self.action_spec.check(step.action)
            self.action_spec.check(step.policy_action)
        except SpecError as error:
            raise StoreError(f"step {step.sequence} of {step.actor_id} does not fit the store {self.path}: {error}") from error
        if not np.isfinite(step.reward):
            raise StoreError(f"step {step.sequence} of {step.actor_id} has the reward {step.reward}, which is not finite")
        if step.is_terminal and not step.is_last:
            raise StoreError(f"step {step.sequence} of {step.actor_id} is terminal but not the last of its segment")

    def _finish(self, actor_id: str) -> None:
        self._queue.append(segment_from_steps(self._open.pop(actor_id)))
        self._changed.notify_all()

    def _scan(self) -> None:
        """Learn of the segments on disk that are not known yet."""
        try:
            actors = [entry for entry in (self.path / _SEGMENTS).iterdir() if entry.is_dir()]
            folders = [(actor, sorted(name for name in os.listdir(actor) if _FOLDER.fullmatch(name))) for actor in actors]
        except OSError as error:
            raise StoreError(f"episode store {self.path} cannot be listed: {error}") from error
        damaged = []
        with self._changed:
            for actor, names in folders:
                for name in names:
                    first, length = (int(part) for part in name.split("-"))
                    # Segments are written in order: the newest one bounds what was acknowledged even if an older one is damaged
                    self._stored[actor.name] = max(self._stored.get(actor.name, 0), first + length - 1)
                    if (actor.name, first) in self._infos:
                        continue
                    try:
                        group = json.loads((actor / name / "zarr.json").read_bytes())
                        info = info_from_json(group["attributes"]["info"], actor / name)
                        if (info.actor_id, info.first_sequence, info.length) != (actor.name, first, length):
                            raise ValueError("its content is not that of its name")
                        self._infos[actor.name, first] = info
                    except (OSError, ValueError, KeyError, TypeError) as error:
                        damaged.append((actor / name, f"{type(error).__name__}: {error}"))
            self.damaged = damaged

    def _write_loop(self) -> None:
        while True:
            with self._changed:
                while not self._queue and not self._closing:
                    self._changed.wait()
                batch = [self._queue[i] for i in range(min(_BATCH, len(self._queue)))]
                if not batch or (self._closing and self._error is not None):
                    return
            try:
                infos = self._write(batch)
            except Exception as error:  # this thread must live on: the disk may have room again later
                with self._changed:
                    self._error = (
                        f"episode store {self.path} cannot be written: {error}. "
                        "Nothing acknowledged is lost; make room on the disk"
                    )
                    self._changed.notify_all()
                    self._changed.wait(_RETRY_S)
                continue
            with self._changed:
                self._error = None
                for info in infos:
                    self._queue.popleft()
                    self._infos[info.actor_id, info.first_sequence] = info
                    self._stored[info.actor_id] = info.last_sequence
                self._changed.notify_all()

    def _write(self, batch: list[Segment]) -> list[SegmentInfo]:
        """Make `batch` durable, in order; one fsync of each actor's folder for all of it."""
        aside = self.path / _WRITING
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir()
        infos, folders = [], set()
        encoded = [encode_segment(segment, self.observation_spec, self.action_spec) for segment in batch]
        write_trees({aside / str(number): files for number, files in enumerate(encoded)})
        for number, segment in enumerate(batch):
            info = segment.info
            actor = self.path / _SEGMENTS / info.actor_id
            if not (actor / "zarr.json").exists():
                actor.mkdir(exist_ok=True)
                write_atomic(actor / "zarr.json", _GROUP_JSON)
                fsync_folder(actor.parent)
            place = actor / f"{info.first_sequence:012d}-{info.length:06d}"
            if not place.exists():  # it exists when an earlier attempt failed after this rename
                os.rename(aside / str(number), place)
            folders.add(actor)
            infos.append(replace(info, path=place))
        for folder in folders:
            fsync_folder(folder)
        return infos


def _identity(step: Step) -> tuple[Any, ...]:
    return step.segment, step.phase, step.task


def _lock(path: Path) -> int:
    """Hold the store's writer lock; it ends with the process, however that ends."""
    descriptor = os.open(path / "writer.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise StoreError(
            f"episode store {path} is being written by another process: stop it first, or open the store for reading"
        ) from None
    return descriptor


def _read_header(path: Path) -> tuple[ObservationSpec, ActionSpec, dict[str, Any]]:
    header = path / HEADER
    try:
        data = json.loads(header.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise StoreError(
            f"there is no episode store at {path} (it has no {HEADER}): check the path, or record one first"
        ) from None
    except (OSError, ValueError) as error:
        raise StoreError(f"the header of episode store {path} cannot be read ({error}): restore {header} from a copy") from error
    if not isinstance(data, dict) or data.get("format") != FORMAT:
        raise StoreError(f"{header} is not the header of an episode store: check the path")
    if data.get("version") != FORMAT_VERSION:
        raise StoreError(
            f"episode store {path} has format version {data.get('version')}, this program reads {FORMAT_VERSION}: "
            "use a matching version"
        )
    try:
        observation_spec, action_spec = specs_from_json(
            json.dumps({"observation": data["observation"], "action": data["action"]})
        )
        return observation_spec, action_spec, dict(data["metadata"])
    except (SpecError, KeyError, TypeError, ValueError) as error:
        raise StoreError(f"the header of episode store {path} is damaged ({error}): restore {header} from a copy") from error
