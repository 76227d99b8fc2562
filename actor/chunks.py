"""Executes action chunks one action per control step: what a policy planned at once, open loop.

Separate from the policy runner because whoever runs a policy (practice, evaluation, benchmarks) must follow the same rules. The
policy is asked anew after the last action of a chunk, when an attempt begins (`begin`), and when anything changes that the chunk
was planned for: the phase, exploring or not, the weights. What is left of the old chunk is dropped.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import numpy as np


class ChunkPlayer:
    """One per policy that acts; for one thread."""

    def __init__(self) -> None:
        self._left: deque[np.ndarray] = deque()
        self._planned_for: tuple[object, ...] = ()

    def begin(self) -> None:
        """Something else moved the robot, or a scene was reset: what was planned before is not executed."""
        self._left.clear()

    def next(self, situation: tuple[object, ...], plan: Callable[[], np.ndarray]) -> np.ndarray:
        """The next action ``(d,)``. `plan` gives one action ``(d,)`` or a chunk ``(h, d)``; it is asked when no action is left,
        and when `situation` is not the one that the chunk was planned for."""
        if not self._left or situation != self._planned_for:
            planned = plan()
            self._left = deque(planned.reshape(-1, planned.shape[-1]))
            self._planned_for = situation
        return self._left.popleft()
