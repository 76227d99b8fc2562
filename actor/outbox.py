"""The outbox: every step an actor has made and the learner has not yet stored, in one SQLite file.

It is separate from the sender so that "on disk before it is published" is one small thing that can be tested by killing it.
The file also owns the actor's identity: whoever has the file continues its sequence.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
import threading
import time
import uuid
from dataclasses import replace
from pathlib import Path

from etude.step import Step
from etude.wire import WireError, decode_step, encode_step

_USER_VERSION = 1
_APPLICATION_ID = 0x45544F42  # "ETOB": tells our file from any other SQLite file
_VACUUM_PAGES = 1024


class OutboxError(RuntimeError):
    """The outbox cannot be used; the message names the file and the remedy. Nothing is ever deleted on an error."""


class Outbox:
    """A durable queue of steps, numbered 1, 2, 3, …; thread-safe, one process at a time.

    Attributes:
        actor_id: made once per file; steps are unique by ``(actor_id, sequence)``.
        last_sequence: number of the newest step, 0 when there was none; survives acknowledgement and restart.
        last_segment: highest segment number seen, 0 when none.
    """

    def __init__(self, path: str | Path) -> None:
        """Open or create the file at `path`. Raises OutboxError when it is in use, damaged, or something else."""
        self.path = Path(path)
        self._lock = threading.Lock()
        self.actor_id = ""
        self.last_sequence = self.last_segment = self._count = 0
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._lock_file = os.open(self.path.with_name(self.path.name + ".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise OutboxError(f"outbox {self.path} cannot be opened: {error}") from error
        try:
            fcntl.flock(self._lock_file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._database = sqlite3.connect(self.path, isolation_level=None, check_same_thread=False)
            try:
                self._prepare()
            except BaseException:
                self._database.close()
                raise
        except BlockingIOError:
            os.close(self._lock_file)
            raise OutboxError(
                f"outbox {self.path} is in use by another actor: stop it, or give this one another robot namespace"
            ) from None
        except (sqlite3.Error, TypeError, ValueError) as error:
            os.close(self._lock_file)
            raise self._damaged(error) from error
        except BaseException:
            os.close(self._lock_file)
            raise

    def append(self, step: Step) -> Step:
        """Number `step`, keep it on disk, and return it as numbered (`actor_id` and `sequence` set)."""
        with self._lock:
            numbered = replace(step, actor_id=self.actor_id, sequence=self.last_sequence + 1)
            payload = encode_step(numbered)
            segment = max(self.last_segment, step.segment)
            try:
                self._database.execute("BEGIN IMMEDIATE")
                self._database.execute("INSERT INTO steps(sequence, payload) VALUES (?, ?)", (numbered.sequence, payload))
                self._database.execute("UPDATE identity SET last_sequence = ?, last_segment = ?", (numbered.sequence, segment))
                self._database.execute("COMMIT")
            except sqlite3.Error as error:
                if self._database.in_transaction:
                    self._database.execute("ROLLBACK")
                raise OutboxError(
                    f"outbox {self.path} cannot be written: {error}. Make room on the disk; steps wait in memory until then"
                ) from error
            self.last_sequence, self.last_segment = numbered.sequence, segment
            self._count += 1
            return numbered

    def pending(self, after: int, limit: int) -> list[Step]:
        """At most `limit` steps with a sequence above `after`, in order. Raises OutboxError when one is damaged."""
        with self._lock:
            try:
                rows = self._database.execute(
                    "SELECT sequence, payload FROM steps WHERE sequence > ? ORDER BY sequence LIMIT ?", (after, limit)
                ).fetchall()
            except sqlite3.Error as error:
                raise self._damaged(error) from error
        try:
            return [decode_step(payload) for _, payload in rows]
        except WireError as error:
            raise self._damaged(error) from error

    def acknowledge(self, stored_sequence: int) -> None:
        """Delete the steps up to and including `stored_sequence`: the learner has them on disk."""
        with self._lock:
            try:
                deleted = self._database.execute("DELETE FROM steps WHERE sequence <= ?", (stored_sequence,)).rowcount
                self._count -= deleted
                if deleted and self._database.execute("PRAGMA freelist_count").fetchone()[0] > _VACUUM_PAGES:
                    self._database.execute(f"PRAGMA incremental_vacuum({_VACUUM_PAGES // 2})").fetchall()
            except sqlite3.Error as error:
                raise self._damaged(error) from error

    def first_pending(self) -> int | None:
        """Sequence of the oldest step that is not acknowledged, None when there is none."""
        with self._lock:
            return self._database.execute("SELECT min(sequence) FROM steps").fetchone()[0]

    def __len__(self) -> int:
        """Number of steps that are not acknowledged."""
        return self._count

    def close(self) -> None:
        with self._lock:
            self._database.close()
            if self._lock_file >= 0:
                os.close(self._lock_file)
                self._lock_file = -1

    def _prepare(self) -> None:
        execute = self._database.execute
        fresh = execute("PRAGMA schema_version").fetchone()[0] == 0
        if fresh:
            execute("PRAGMA page_size = 16384")  # a step with two small images is 100 KB: fewer, larger pages
            execute("PRAGMA auto_vacuum = INCREMENTAL")
        elif execute("PRAGMA application_id").fetchone()[0] != _APPLICATION_ID:
            raise ValueError("it is not an outbox")
        elif (version := execute("PRAGMA user_version").fetchone()[0]) != _USER_VERSION:
            raise ValueError(f"it has version {version}, this program reads {_USER_VERSION}")
        elif (report := execute("PRAGMA quick_check(1)").fetchone()[0]) != "ok":
            raise ValueError(report)
        # WAL + NORMAL: a commit survives any kill of the process; a power cut may take the newest commits, never tear the file
        execute("PRAGMA journal_mode = WAL")
        execute("PRAGMA synchronous = NORMAL")
        execute("PRAGMA wal_autocheckpoint = 2048")  # 32 MB: a checkpoint costs fsyncs, so seldom
        execute("PRAGMA journal_size_limit = 67108864")
        execute("PRAGMA secure_delete = OFF")  # some builds overwrite deleted steps with zeros, tripling the cost of that
        if fresh:
            execute("BEGIN IMMEDIATE")
            execute(f"PRAGMA application_id = {_APPLICATION_ID}")
            execute(f"PRAGMA user_version = {_USER_VERSION}")
            execute("CREATE TABLE steps(sequence INTEGER PRIMARY KEY, payload BLOB NOT NULL)")
            execute(
                "CREATE TABLE identity(actor_id TEXT NOT NULL, last_sequence INTEGER NOT NULL, last_segment INTEGER NOT NULL, "
                "created_ns INTEGER NOT NULL)"
            )
            execute(
                "INSERT INTO identity VALUES (?, 0, 0, ?)", (f"{_plain(self.path.stem)}-{uuid.uuid4().hex[:12]}", time.time_ns())
            )
            execute("COMMIT")
        self.actor_id, self.last_sequence, self.last_segment = execute(
            "SELECT actor_id, last_sequence, last_segment FROM identity"
        ).fetchone()
        self._count = execute("SELECT count(*) FROM steps").fetchone()[0]

    def _damaged(self, error: Exception) -> OutboxError:
        reason = " ".join(str(error).split())
        return OutboxError(
            f"outbox {self.path} is damaged ({reason}). Nothing was deleted: move the file and its -wal aside and start again; "
            "the next start makes a new outbox with a new identity"
        )


def _plain(name: str) -> str:
    """`name` with only the characters that an actor id may have."""
    return "".join(c if c.isascii() and (c.isalnum() or c == "_") else "_" for c in name)[:40].lstrip("_") or "actor"
