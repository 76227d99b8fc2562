"""Notices an arm that no controller moves: its state is in order, commands go out, and the tool stays where it is.

It looks at a window of time and not at one moment: a policy that goes back and forth is ahead of the tool only now and then.
"""

from __future__ import annotations

from collections import deque

import numpy as np

WINDOW_S = 1.0
STILL_M = 0.005
"""All positions of the tool in the window lie within this of the newest one."""
FREE_N = 5.0
"""An arm that pushes against more than this may stand still for that reason."""


class Following:
    """`watch` once per command. `lead_m`: a command that was so far ahead should have moved the tool, metres."""

    def __init__(self, lead_m: float) -> None:
        self._lead_m = lead_m
        self._seen: deque[tuple[float, float, np.ndarray]] = deque()

    def watch(self, command_m: np.ndarray, tool_m: np.ndarray, force_n: float, now_s: float) -> bool:
        """Whether nobody follows: for `WINDOW_S` the free tool stood still although a command was ahead of it.

        Args:
            command_m, tool_m: positions ``(3,)``, base frame.
            force_n: what the world exerts on the tool; 0 where that is not measured.
        """
        if force_n >= FREE_N:
            self.forget()
            return False
        self._seen.append((now_s, float(np.linalg.norm(command_m - tool_m)), np.array(tool_m)))
        while len(self._seen) > 1 and now_s - self._seen[1][0] >= WINDOW_S:
            self._seen.popleft()
        if now_s - self._seen[0][0] < WINDOW_S:
            return False
        ahead = max(lead for _, lead, _ in self._seen) > self._lead_m
        return ahead and all(np.linalg.norm(tool - tool_m) < STILL_M for _, _, tool in self._seen)

    def forget(self) -> None:
        """There was nothing to follow: what was seen so far says nothing."""
        self._seen.clear()
