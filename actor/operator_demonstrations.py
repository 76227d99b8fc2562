"""Demonstrations that a person gives with a teleoperation device, one after another, forward and backward in turn: no resets.

Separate from the scripted ones (`actor.demonstrations`), which need no person's pace: here a countdown, keys that say success,
failure or do it again, and checks of what was recorded. It knows neither devices nor ROS: commands are put in.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING

import numpy as np

from actor import practice
from actor.authority import Holder
from actor.demonstration_quality import quality_problems
from actor.demonstrations import SUCCESS_REWARD, max_steps
from actor.evaluation import reading_clock
from actor.safety import filter_action, reading_problems
from actor.scoring import ENVIRONMENT, Verdict, truth_of
from actor.segments import SegmentRecorder
from actor.takeover import Takeover
from actor.teleop.command import STOP_BUTTON, TeleopCommand
from etude.config import RunConfig
from etude.robot import Reading, Robot
from etude.step import UNKNOWN, Source, Step

if TYPE_CHECKING:
    from etude.episodes.store import EpisodeStore

COUNTDOWN_S = 3.0
JUDGE = "human"


class Stage(StrEnum):
    COUNTDOWN = "countdown"
    RECORDING = "recording"
    WAITING = "waiting"
    DONE = "done"


@dataclass(frozen=True)
class Moment:
    """What a person is told now. `kept` counts stored demonstrations per phase."""

    stage: Stage
    phase: str
    kept: dict[str, int]
    message: str


class Session:
    """Records `count` demonstrations per practised direction into `store`. Call `turn` once per control period.

    `put` may be called from any thread. A demonstration ends by the operator's ``success`` button or by the simulator's truth,
    and the other direction is next; ``failure`` and ``redo`` drop it, and the same one comes again. Between demonstrations the
    operator may move the robot too; that is not recorded.
    """

    def __init__(
        self,
        config: RunConfig,
        robot: Robot,
        store: "EpisodeStore",
        count: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._config, self._robot, self._store, self._count, self._clock = config, robot, store, count, clock
        self.period_s = 1.0 / config.robot.control_rate_hz
        self._takeover = Takeover(robot.action_spec, self.period_s)
        self._state = practice.PracticeState()
        self._actor_id, self._sequence = f"operator-{uuid.uuid4().hex[:12]}", 0
        self._steps: list[Step] = []
        self._recorder = SegmentRecorder(
            robot.action_spec, config.task.name, config.task.instructions, self._steps.append, first_segment=1
        )
        self._buttons: frozenset[str] = frozenset()
        self._pressed: list[str] = []
        self._stop = False
        self._executed: np.ndarray | None = None
        self._standing = False
        self._idle_s = 0.0
        self._kept = dict.fromkeys(config.recipe.phases, 0)
        self._phase = config.recipe.phases[0]
        self._said = ""
        self._stage = Stage.COUNTDOWN
        self._begin_countdown()

    # --- any thread -------------------------------------------------------------------------------------------------

    def put(self, command: TeleopCommand) -> None:
        """An operator's command. A button counts when it goes down."""
        down = frozenset(command.buttons)
        self._pressed.extend(sorted(down - self._buttons))
        self._stop |= STOP_BUTTON in down
        self._buttons = down
        self._takeover.put(command)

    @property
    def moment(self) -> Moment:
        return Moment(self._stage, self._phase, dict(self._kept), self._message())

    @property
    def operator(self) -> tuple[str, str, bool]:
        """(authority, operator, software stop is on), as `etude.status.PracticeStatus` has them."""
        authority = self._takeover.authority
        return authority.holder.value, authority.operator, self._stop or authority.stopped

    def software_stop(self, active: bool) -> None:
        """Hold until cleared; what was being recorded is dropped."""
        self._stop = active

    @property
    def refusal(self) -> str:
        """Why this robot cannot be demonstrated on by hand; empty when it can."""
        return self._takeover.refusal

    # --- one thread -------------------------------------------------------------------------------------------------

    def turn(self) -> Reading:
        """One control period: hear the operator, move, record. Returns what the robot sees."""
        now_s = self._clock()
        self._press()
        event = self._takeover.turn(self._state, now_s)
        if event is not None:
            self._state = practice.advance(self._state, event)
        reading = self._robot.read()
        problems = self._problems(reading)
        if problems:
            self._stand()
            self._drop(f"dropped: {problems[0]}")
            return reading
        if self._stage is Stage.COUNTDOWN and now_s >= self._begins_s and not self._stop:
            self._stage, self._idle_s = Stage.RECORDING, 0.0
            self._steps.clear()
        human = self._takeover.who_moves(False, now_s) is Holder.HUMAN and self._stage is not Stage.DONE
        if not human:
            self._stand()
            self._idle_s += self.period_s if self._recorder.open else 0.0
            return reading
        self._standing = False
        if self._stage is Stage.RECORDING and self._record(reading):
            return reading
        self._executed, _ = filter_action(
            self._takeover.action(self._executed, reading),
            reading,
            self._config.robot.safety,
            self._robot.action_spec,
            reading_clock(self._robot, reading),
            observation_spec=self._robot.observation_spec,
            previous=self._executed,
        )
        self._robot.act(self._executed)
        if self._recorder.open:
            self._recorder.acted(self._executed, self._executed, Source.HUMAN, 0)
        return reading

    def _record(self, reading: Reading) -> bool:
        """Note what the last action led to, or begin. True when the demonstration is over by the simulator's truth."""
        truth = truth_of(reading, self._phase)
        verdict = Verdict(truth == 1, truth == 1, float("nan"), truth)
        if not self._recorder.open:
            if truth == 1:
                self._stage = Stage.WAITING
                self._said = "the goal is reached already: move the robot or the scene, then press redo"
                return True
            self._recorder.begin(reading, verdict, self._phase, JUDGE if truth == UNKNOWN else ENVIRONMENT)
            return False
        reward = SUCCESS_REWARD if verdict.success else 0.0
        self._recorder.observe(reading, verdict, reward, last=verdict.success, terminal=verdict.success)
        if verdict.success:
            self._finish()
        return verdict.success

    def _press(self) -> None:
        if self._stop != self._state.stopped:
            self._state = practice.advance(self._state, practice.SoftwareStop() if self._stop else practice.ClearStop())
            self._drop("the software stop is on" if self._stop else "the software stop is cleared")
        while self._pressed:  # another thread may add meanwhile
            button = self._pressed.pop(0)
            if button == "redo":
                self._drop("once more")
            elif button == "failure" and self._stage is Stage.RECORDING:
                self._drop("not kept")
            elif button == "success" and self._recorder.open and self._recorder.index > 0:
                self._succeed()

    def _succeed(self) -> None:
        """The operator says that the goal is reached in what the robot sees now."""
        reading = self._robot.read()
        problems = self._problems(reading)
        if problems:
            return self._drop(f"dropped: {problems[0]}")
        verdict = Verdict(True, True, float("nan"), truth_of(reading, self._phase))
        self._recorder.observe(reading, verdict, SUCCESS_REWARD, last=True, terminal=True)
        # only the end was judged; when the goal was reached before it, nobody said
        *before, end = (replace(step, judged_by=JUDGE) for step in self._steps)
        self._steps[:] = [*(replace(step, success=UNKNOWN) for step in before), end]
        self._finish()

    def _finish(self) -> None:
        """Keep what was recorded when it is good; the other direction is next."""
        steps, phase = list(self._steps), self._phase
        limit, longest_m = max_steps(self._config)[phase], self._config.robot.safety.max_translation_per_step_m
        names = self._robot.observation_spec.state_names
        problems = quality_problems(steps, self._idle_s, self.period_s, limit, names, longest_m)
        if problems:
            self._said = f"not kept: {', '.join(problems)}"
        else:
            self._kept[phase] += 1
            for step in steps:
                self._sequence += 1
                segment = sum(self._kept.values())
                self._store.append(replace(step, actor_id=self._actor_id, sequence=self._sequence, segment=segment))
            self._said = f"kept: {len(steps) - 1} steps"
        if len(self._kept) > 1:
            self._phase = practice.opposite(phase)  # the scene is where that one begins, kept or not
        self._begin_countdown()

    def _drop(self, why: str) -> None:
        self._recorder.cut()
        self._said = why
        if self._stage is not Stage.DONE:
            self._begin_countdown()

    def _begin_countdown(self) -> None:
        self._steps.clear()
        self._begins_s = self._clock() + COUNTDOWN_S
        self._stage = Stage.DONE if min(self._kept.values()) >= self._count else Stage.COUNTDOWN

    def _problems(self, reading: Reading) -> tuple[str, ...]:
        now_s = reading_clock(self._robot, reading)
        return reading_problems(reading, self._config.robot.safety, now_s, self._robot.observation_spec)

    def _stand(self) -> None:
        if not self._standing:
            self._robot.hold()
        self._standing = True

    def _message(self) -> str:
        wanted = f"{self._kept[self._phase] + 1} of {self._count} {self._phase}"
        said = f"{self._said}. " if self._said else ""
        if self._stage is Stage.DONE:
            return f"{said}Done: {sum(self._kept.values())} demonstrations."
        if self._stage is Stage.WAITING or self._stop:
            return self._said
        if self._stage is Stage.COUNTDOWN:
            return f"{said}Next, {wanted}: {self._instruction}. Recording in {max(0.0, self._begins_s - self._clock()):.0f} s."
        return f"Recording {wanted}: {self._instruction}. {self._recorder.index} steps."

    @property
    def _instruction(self) -> str:
        return self._config.task.instructions[self._phase]
