"""A judge that follows its folder: when a newer version of the classifier is written there, it judges from the next attempt on.

So labels that are given while the robot practises count without a restart. Reading and compiling happen in a thread of their own;
a version that cannot be used is refused in the log, and the last good one goes on.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path

from etude.robot import Judge
from etude.specs import Observation
from reward_classifiers.endpoint import EndpointError
from reward_classifiers.files import DESCRIPTION_FILE, ClassifierError
from reward_classifiers.judge import ImageJudge, load_judge

log = logging.getLogger(__name__)
LOOK_EVERY_S = 1.0


class ReloadingJudge:
    """`etude.robot.Judge` of the newest good version in a folder. `name` and `threshold` change with it, between attempts.

    Args:
        wrap: makes of each version the judge that is asked, e.g. one with a deadline.

    Attributes:
        problem: why the newest version in the folder is not used, empty when it is.
    """

    def __init__(
        self,
        folder: Path,
        wrap: Callable[[ImageJudge], Judge] = lambda judge: judge,
        load: Callable[[Path], ImageJudge] = load_judge,
        look_every_s: float = LOOK_EVERY_S,
    ) -> None:
        """Raises ClassifierError when the version that is there now cannot be used."""
        self.problem = ""
        self._folder, self._wrap, self._load = Path(folder), wrap, load
        self._seen = self._stamp()
        self._newest = load(self._folder)
        self._judge = wrap(self._newest)
        self.name = self._judge.name
        self._next: Judge | None = None
        self._retired: list[Judge] = []
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._watch, args=(look_every_s,), name="classifier-versions", daemon=True)
        self._thread.start()

    def probability(self, observation: Observation, phase: str) -> float:
        return self._judge.probability(observation, phase)

    def doubt(self, observation: Observation, phase: str) -> float:
        return self._judge.doubt(observation, phase)

    def threshold(self, phase: str) -> float:
        return self._judge.threshold(phase)

    def forget(self) -> None:
        """Another attempt begins; if there is a newer version, with that one."""
        newer, self._next = self._next, None
        if newer is not None:
            log.info("classifier %s judges from now on, before it %s", newer.name, self._judge.name)
            self._retired.append(self._judge)
            self._judge, self.name = newer, newer.name
        self._judge.forget()

    def close(self) -> None:
        self._closed.set()
        self._thread.join(timeout=1.0)
        self._retired.append(self._judge)
        self._close_retired()

    def _watch(self, every_s: float) -> None:
        while not self._closed.wait(every_s):
            self._close_retired()
            stamp = self._stamp()
            if stamp in (None, self._seen):
                continue
            before, self._seen = self._seen, stamp  # a version that is refused once is not tried again
            started = time.monotonic()
            try:
                newer = self._load(self._folder)
                _require_same_views(self._newest, newer)
            except Exception as error:  # a thread that dies would leave later versions unread, silently
                down = isinstance(error, EndpointError)
                if not (down and str(error) == self.problem):
                    log.warning("the new classifier in %s is not used, %s goes on: %s", self._folder, self._judge.name, error)
                self.problem = str(error)
                if down:
                    self._seen = before  # the version may be good: it is tried again, for the endpoint may come back
                continue
            self.problem = ""
            if newer.name != self._newest.name:
                log.info("classifier %s is read (%.1f s)", newer.name, time.monotonic() - started)
                self._newest, self._next = newer, self._wrap(newer)

    def _close_retired(self) -> None:
        """Here and not in the control loop, because it waits for threads."""
        while self._retired:
            close = getattr(self._retired.pop(), "close", None)
            if close is not None:
                close()

    def _stamp(self) -> tuple[int, int] | None:
        """Of the description, which is written last: when it changes, the weights are there."""
        try:
            found = (self._folder / DESCRIPTION_FILE).stat()
        except OSError:
            return None
        return found.st_mtime_ns, found.st_ino


def _require_same_views(old: ImageJudge, new: ImageJudge) -> None:
    if (new.backend.cameras, new.backend.state_names) != (old.backend.cameras, old.backend.state_names):
        raise ClassifierError(
            f"classifier {new.name} looks at {', '.join(new.backend.cameras)} and not at what {old.name} does: train it on "
            "recordings of this robot"
        )
