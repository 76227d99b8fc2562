"""The evaluations of a run: which of them wait for the end of an attempt, and what is told of each.

Separate from `actor.evaluation`, which runs the episodes, and from the control loop, which knows when the robot is free.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from actor.demonstrations import max_steps
from actor.evaluation import evaluate
from actor.progress import Progress
from etude.config import RunConfig
from etude.robot import Robot

if TYPE_CHECKING:
    from actor.policy_runner import PolicyRunner


class Evaluations:
    """First come, first served; one comes by itself every ``evaluation.interval_s`` of practice. Used by the loop's thread.

    `robot` is the second scene; without one (None) nothing comes by itself and nothing may be asked for. `on_result` gets what
    `ControlLoop` promises its `on_evaluation`. `practised_s`: practice until now.
    """

    def __init__(
        self,
        config: RunConfig,
        robot: Robot | None,
        policy: "PolicyRunner",
        seed: int,
        on_result: Callable[[dict[str, Any]], None],
        practised_s: float,
    ) -> None:
        self.robot = robot
        self._config, self._policy, self._seed, self._on_result = config, policy, seed, on_result
        self._waiting: deque[tuple[int, str]] = deque()
        self._next_interval_s = practised_s + config.evaluation.interval_s

    def ask(self, episodes: int, kind: str) -> None:
        """`episodes` per direction, after those that wait already."""
        self._waiting.append((episodes, kind))

    def wait(self, practised_s: float) -> bool:
        """Whether an evaluation waits after so much practice."""
        evaluation = self._config.evaluation
        if practised_s >= self._next_interval_s and not self._waiting:
            self._next_interval_s = practised_s + evaluation.interval_s
            if evaluation.interval_episodes > 0 and self.robot is not None:
                self.ask(evaluation.interval_episodes, "interval")
        return bool(self._waiting)

    def run_next(self, progress: Progress, say: Callable[[str], None], abandoned: Callable[[], bool]) -> None:
        """Make the oldest one, of every direction. `say` gets a sentence about its progress; `abandoned` ends it early."""
        assert self.robot is not None
        episodes, kind = self._waiting.popleft()
        steps = max_steps(self._config)
        for phase in self._config.recipe.phases:

            def report(done: int, successes: int, phase: str = phase) -> None:
                say(f"evaluating {phase}: {successes} of {done} succeeded, {episodes} wanted")

            say(f"evaluating {phase}: {episodes} episodes")
            version = self._policy.version
            result = evaluate(
                self.robot,
                self._policy,
                phase,
                episodes,
                self._seed,
                steps[phase],
                report,
                abandoned,
                limits=self._config.robot.safety,
            )
            # an abandoned interval evaluation says nothing; whoever asked for another one waits for its result
            if result["complete"] or kind != "interval":
                self._on_result(
                    {
                        **result,
                        "kind": kind,
                        "env_steps": progress.env_steps,
                        "practice_time_s": progress.practice_time_s,
                        "policy_version": version,
                        "stamp_ns": time.time_ns(),
                    }
                )
