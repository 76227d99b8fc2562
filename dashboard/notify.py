"""Tells somebody who is not in the room that the robot needs help, with a way back: a signed link that answers this one request.

Posting happens in a thread of its own and never holds anything up. A link is good for one answer to one request, for a limited
time, and only as long as this process lives: its key is made at the start and kept nowhere.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import logging
import queue
import secrets
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from urllib.parse import urlencode

from dashboard.guard import ANSWER
from etude.config import NotifyConfig
from etude.status import HelpRequest

log = logging.getLogger("etude.dashboard")

TIMEOUT_S = 5.0
TRIES = 3
WAIT_S = 2.0
"""Before the second try; twice as long before the third."""
PRIORITIES = ("default", "high", "urgent", "urgent")
"""Of ntfy, by how often nobody has answered yet."""


class LinkError(ValueError):
    """A link answers nothing (any more); the message is for the person who opened it."""


class Links:
    """Makes and checks links. Thread-safe."""

    def __init__(self, minutes: float, clock: Callable[[], float] = time.time) -> None:
        self._seconds, self._clock = 60.0 * minutes, clock
        self._key = secrets.token_bytes(32)
        self._used: set[str] = set()
        self._lock = threading.Lock()

    def make(self, help_id: int) -> str:
        """A token that answers request `help_id` once."""
        content = f"{help_id}.{int(self._clock() + self._seconds)}.{secrets.token_hex(8)}"
        return f"{content}.{self._signature(content)}"

    def help_id(self, token: str) -> int:
        """The request that `token` answers.

        Raises:
            LinkError: it was not made here, was used, or its time is over.
        """
        content, _, signature = token.rpartition(".")
        if not hmac.compare_digest(signature.encode(), self._signature(content).encode()):
            raise LinkError("This link is not one of this run's page, or the page was started anew since.")
        number, expires, _ = content.split(".")
        with self._lock:
            if token in self._used:
                raise LinkError("This link was used already.")
        if self._clock() > int(expires):
            raise LinkError("The time of this link is over. A new one comes when the request is repeated.")
        return int(number)

    def use(self, token: str) -> int:
        """As `help_id`; afterwards the token is worth nothing."""
        number = self.help_id(token)
        with self._lock:
            if token in self._used:
                raise LinkError("This link was used already.")
            self._used.add(token)
        return number

    def give_back(self, token: str) -> None:
        """The answer did not arrive: the token may be used again."""
        with self._lock:
            self._used.discard(token)

    def _signature(self, content: str) -> str:
        return base64.urlsafe_b64encode(hmac.digest(self._key, content.encode(), hashlib.sha256)).decode().rstrip("=")


def message(config: NotifyConfig, run: str, request: HelpRequest, link: str) -> urllib.request.Request:
    """What is posted about `request`, in the form that the receiver wants; `link` may be empty."""
    again = f" Asked {request.level + 1} times." if request.level else ""
    if config.format == "ntfy":
        # headers are ASCII; the sentence, which may be anything, is the body
        headers = {"Title": f"{ascii_only(run)}: help wanted", "Priority": PRIORITIES[min(request.level, 3)], "Tags": "robot"}
        headers |= {"Click": link} if link else {}
        return urllib.request.Request(config.url, f"{request.reason}{again}".encode(), headers, method="POST")
    if config.format == "slack":
        text = f"*{run}* ({request.phase}): {request.reason}{again}" + (f" <{link}|Answer>" if link else "")
        body = {"text": text}
    else:
        body = {"run": run, **request.to_json(), "link": link}
    return urllib.request.Request(config.url, json.dumps(body).encode(), {"Content-Type": "application/json"}, method="POST")


def ascii_only(text: str) -> str:
    return text.encode("ascii", "replace").decode()


class Notifier:
    """Posts every open request once, and once more each time that it is repeated. `told` returns at once."""

    def __init__(self, config: NotifyConfig, run: str, links: Links) -> None:
        self._config, self._run, self._links = config, run, links
        self._told: set[tuple[int, int]] = set()
        self._queue: queue.SimpleQueue[HelpRequest | None] = queue.SimpleQueue()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._work, name="notifier", daemon=True)
        if config.url:
            self._thread.start()

    def told(self, request: HelpRequest) -> None:
        if self._config.url and request.open and (request.id, request.level) not in self._told:
            self._told.add((request.id, request.level))
            self._queue.put(request)

    def close(self) -> None:
        self._closing.set()
        self._queue.put(None)

    def _work(self) -> None:
        while (request := self._queue.get()) is not None and not self._closing.is_set():
            link = ""
            if self._config.link:
                link = f"{self._config.link.rstrip('/')}{ANSWER}?{urlencode({'t': self._links.make(request.id)})}"
            self._post(message(self._config, self._run, request, link))

    def _post(self, request: urllib.request.Request) -> None:
        for attempt in range(TRIES):
            try:
                with urllib.request.urlopen(request, timeout=TIMEOUT_S):
                    return
            except (urllib.error.URLError, OSError, ValueError) as error:
                log.warning(
                    "a request for help could not be told to dashboard.notify.url (try %d of %d): %s", attempt + 1, TRIES, error
                )
                if self._closing.wait(WAIT_S * 2**attempt):
                    return
