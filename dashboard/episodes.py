"""What a run has stored, for the page: a list of attempts, one attempt step by step, and its pictures.

Reads the episode store while the learner writes it; nothing here can change it. Apart from `app`, because it knows the store.
"""

from __future__ import annotations

import re
import threading
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from etude.episodes.segment import Segment, SegmentInfo
from etude.episodes.store import EpisodeStore, StoreError
from etude.specs import IMAGE_PREFIX
from etude.step import Source

PAGE = 60
"""Attempts in one answer of the list."""
KEPT = 4
"""Attempts whose arrays stay in memory: the one that is looked at, and its neighbours."""
JPEG_QUALITY = 90
_KEY = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]{0,99}):(\d{1,12})")
_OUTCOME: Mapping[int, bool | None] = {1: True, 0: False}


class NoSuchEpisode(LookupError):
    """There is no such attempt, camera or step; the message is for people."""


class Episodes:
    """The stored attempts of one run. Every method may be called from any thread; reading one may take some milliseconds."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._store: EpisodeStore | None = None
        self._segments: OrderedDict[str, Segment] = OrderedDict()

    def infos(self) -> list[SegmentInfo]:
        """Of all stored attempts, in order of (actor, sequence)."""
        return list(self._infos().values())

    def listing(self, before: str | None = None, count: int = PAGE) -> dict[str, Any]:
        """The newest `count` attempts, those older than `before` (a key) if it is given; newest first. `more`: there are older.

        Raises:
            NoSuchEpisode: `before` is none.
        """
        infos = sorted(self._infos().items(), key=lambda item: (item[1].first_stamp_ns, item[0]), reverse=True)
        start = 0
        if before is not None:
            keys = [key for key, _ in infos]
            if before not in keys:
                raise NoSuchEpisode(f"there is no attempt {before!r}")
            start = keys.index(before) + 1
        chosen = infos[start : start + count]
        return {
            "attempts": [_summary(key, info) for key, info in chosen],
            "more": start + count < len(infos),
            "total": len(infos),
        }

    def detail(self, key: str) -> dict[str, Any]:
        """One attempt, with a value per step: who acted, reward, P(success) (None: not judged), policy version. The last step is
        only an observation: nobody acts in it.

        Raises:
            NoSuchEpisode: there is none.
        """
        info, segment = self._infos()[self._known(key)], self._segment(key)
        probability = [float(p) if np.isfinite(p) else None for p in segment.success_probability]
        return {
            **_summary(key, info),
            "instruction": info.instruction,
            "cameras": [name.removeprefix(IMAGE_PREFIX) for name in segment.observation if name.startswith(IMAGE_PREFIX)],
            "sources": [Source(int(source)).name.lower() for source in segment.source[:-1]],
            "reward": [float(reward) for reward in segment.reward],
            "probability": probability,
            "seconds": [round((int(stamp) - info.first_stamp_ns) / 1e9, 3) for stamp in segment.stamp_ns],
            "policy_version": [int(version) for version in segment.policy_version],
            "judged_by": next((name for name in reversed(segment.judged_by) if name), ""),
        }

    def picture(self, key: str, camera: str, index: int) -> bytes:
        """What `camera` showed at step `index` as JPEG, as the policy saw it.

        Raises:
            NoSuchEpisode: there is no such attempt, camera or step.
        """
        images = self._segment(self._known(key)).observation.get(IMAGE_PREFIX + camera)
        if images is None or not 0 <= index < len(images):
            raise NoSuchEpisode(f"attempt {key} has no picture {index} of camera {camera!r}")
        done, data = cv2.imencode(
            ".jpg", np.ascontiguousarray(images[index][:, :, ::-1]), [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY]
        )
        assert done
        return data.tobytes()

    # --- the store --------------------------------------------------------------------------------------------------------

    def _infos(self) -> dict[str, SegmentInfo]:
        """By key, all that are on disk by now; a run that has not begun has none."""
        with self._lock:
            if self._store is None:
                try:
                    self._store = EpisodeStore.open(self._path, "r")
                except StoreError:
                    return {}
            return {f"{info.actor_id}:{info.first_sequence}": info for info in self._store.segments()}

    def _known(self, key: str) -> str:
        if not _KEY.fullmatch(key) or key not in self._infos():
            raise NoSuchEpisode(f"there is no attempt {key!r}")
        return key

    def _segment(self, key: str) -> Segment:
        with self._lock:
            if key in self._segments:
                self._segments.move_to_end(key)
                return self._segments[key]
            store = self._store
        assert store is not None
        segment = store.read(self._infos()[key])
        with self._lock:
            self._segments[key] = segment
            while len(self._segments) > KEPT:
                self._segments.popitem(last=False)
        return segment


def _summary(key: str, info: SegmentInfo) -> dict[str, Any]:
    return {
        "key": key,
        "segment": info.segment,
        "phase": info.phase,
        "task": info.task,
        "steps": info.length - 1,
        "success": _OUTCOME.get(info.success),
        "success_truth": _OUTCOME.get(info.success_truth),
        "cut": info.cut,
        "stamp_ms": info.first_stamp_ns // 10**6,
        "seconds": (info.last_stamp_ns - info.first_stamp_ns) / 1e9,
        "sources": info.sources,
        "corrections": [one.instruction for one in info.corrections],
        "policy_version": info.policy_version,
    }
