"""The control loop: one thread that reads the robot, scores, emits steps, chooses an action, filters it and acts, on time.

It composes the pure parts (practice machine, safety filter, scoring, segments, pacing) and owns nothing that can block: outbox,
network and dashboard have threads of their own and talk to it through callbacks and a queue of commands.
"""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from actor import practice
from actor.authority import Holder
from actor.demonstrations import max_steps
from actor.evaluation import reading_clock
from actor.evaluations import Evaluations
from actor.execution import SLOWEST, Execution
from actor.fit import require_fit
from actor.help import LABELS, Attempt
from actor.help.desk import HelpDesk
from actor.help.scripted import OPERATOR
from actor.memory import recall, remember
from actor.pacing import Pacer, RateMeter
from actor.safety import reading_problems
from actor.scoring import Scorer
from actor.segments import SegmentRecorder
from actor.snapshot import Answer, make_status
from actor.takeover import Takeover
from actor.teleop.command import STOP_BUTTON, TeleopCommand
from actor.viewfinder import Viewfinder, pictures_in
from actor.wander import Wander, start_box
from etude.config import RunConfig
from etude.robot import Judge, Reading, Robot
from etude.specs import PHASES
from etude.status import HelpRequest, Mode, PracticeStatus, StuckLabels
from etude.step import Source, Step

if TYPE_CHECKING:
    from actor.policy_runner import PolicyRunner

REST_S = 0.05
"""Longest sleep while waiting; a command is answered within it."""
LEAD_POLL_S = 0.002
SNAPSHOT_S = 0.1


class ControlLoop:
    """Practises with `robot` until stopped.

    Callbacks run in the loop's thread and must not block. `emit` gets steps without actor_id and sequence (the outbox's).
    `on_evaluation` gets the dictionary of `actor.evaluation.evaluate` plus ``kind`` (before, interval, after, …), ``env_steps``,
    ``practice_time_s``, ``policy_version`` and ``stamp_ns``, one per direction. The loop makes the interval evaluations by itself
    (every ``evaluation.interval_s`` of practice); before and after ones are asked for with `request_evaluation`.
    `on_help` is called when a request opens, whenever its question or level changes, and, with ``open`` False and the answer in
    ``meanwhile``, when it closes; `on_stuck_labels` when a person has labelled the states before it.

    The loop starts idle: `set_mode("practise")` sets it going, or `start_run`, which respects a person's pause or stop.
    `resume_from` takes up `counters()` after a restart: counts, a stop, a pause, and an open help request, which is told again.
    """

    def __init__(
        self,
        config: RunConfig,
        robot: Robot,
        policy: "PolicyRunner",
        judge: Judge | None,
        emit: Callable[[Step], None],
        *,
        first_segment: int,
        seed: int,
        evaluation_robot: Robot | None = None,
        lead: Callable[[], bool] = lambda: True,
        on_help: Callable[[HelpRequest], None] = lambda request: None,
        on_stuck_labels: Callable[[StuckLabels], None] = lambda labels: None,
        on_evaluation: Callable[[dict[str, Any]], None] = lambda result: None,
        on_label: Callable[[int, bool], None] = lambda segment, success: None,
        resume_from: dict[str, Any] | None = None,
    ) -> None:
        require_fit(config, robot, judge)
        self._config = config
        self._robot = robot
        self._policy = policy
        self._lead = lead
        self._on_label = on_label
        self._rng = np.random.default_rng([seed, first_segment])
        self._learned = config.recipe.learned_rewards
        reward = config.recipe.reward
        judge = judge if reward.kind == "classifier" else None
        self._scorer = Scorer(judge, reward.consecutive_frames, reward.vote_window, self._learned)
        self._recorder = SegmentRecorder(robot.action_spec, config.task.name, config.task.instructions, emit, first_segment)
        self._max_steps = max_steps(config)
        self._announced: tuple[int, str] | None = None
        self._wander = Wander(robot.action_spec, config.recipe.reset.wander_steps, self._rng, start_box(config.task))
        self._progress, self._state, request = recall(resume_from, practice.PracticeState(reset=config.recipe.reset.kind))
        self._desk = HelpDesk(config, robot.advances_on_act, on_help, on_stuck_labels, request)
        self._stop_asked = self._state.stopped
        self._pacer, self._meter, self._viewfinder = Pacer(config.robot.control_rate_hz), RateMeter(), Viewfinder()
        self._takeover, self._standing = Takeover(robot.action_spec, 1.0 / config.robot.control_rate_hz), False
        self._commands: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._evaluations = Evaluations(config, evaluation_robot, policy, seed, on_evaluation, self._progress.practice_time_s)
        self._execution = Execution(robot, config.robot.safety)
        self._human_acted = False
        self._probability = float("nan")
        self._holding: tuple[str, ...] = ()
        self._message = ""
        self._images: dict[str, np.ndarray] = {}
        self._snapshot_due_s = 0.0
        self._snapshot()

    # --- any thread -------------------------------------------------------------------------------------------------

    def status(self) -> PracticeStatus:
        """The newest snapshot, at most about 0.1 s old. `outbox_pending` is 0: the loop does not know the outbox."""
        return self._status

    def counters(self) -> dict[str, Any]:
        """What `resume_from` takes after a restart, as JSON data, as new as `status`."""
        return self._counters

    def latest_images(self) -> dict[str, np.ndarray]:
        """Camera name -> newest picture: what the policy sees, and what `request_render` asked for."""
        return {**self._images, **self._viewfinder.images()}

    def request_render(self, camera: str, height: int, width: int) -> None:
        """Keep asking (at least once a second) to have `camera` rendered for people; it appears in `latest_images`."""
        self._viewfinder.request(camera, height, width)

    def set_mode(self, mode: str) -> Answer:
        """``practise`` (also after a pause), ``pause``, ``evaluate`` or ``idle``."""
        events: dict[str, practice.Event] = {"practise": practice.Start(), "pause": practice.Pause(), "idle": practice.Finish()}
        if mode == "evaluate":
            return self.request_evaluation(self._config.evaluation.interval_episodes or 20, "manual")
        if mode not in events:
            return Answer(False, f"there is no mode {mode!r}; use practise, pause, evaluate or idle")
        if mode == "practise" and self._stop_asked:
            return Answer(False, "the software stop is on: clear it first")
        self._commands.put(lambda: self._apply(events[mode]))
        if mode == "practise":
            self._takeover.hand_back()
        return Answer(True, f"{mode} at the next control step")

    def start_run(self) -> None:
        """Begin practice without a person's word: at once, or paused when a person paused or stopped before."""
        self._commands.put(lambda: self._apply(practice.StartOfRun()))

    def resolve_help(self, answer: str, operator: str, request_id: int = 0) -> Answer:
        """Answer help request `request_id`, 0 for whichever is open, by one of its `answers` (`actor.help.ANSWERS`, `LABELS`)."""
        request, refusal = self._desk.request, self._desk.refusal(answer, request_id)
        if request is None or refusal:
            return Answer(False, refusal)
        if answer in LABELS:
            self._commands.put(lambda: self._desk.label(request, answer == "stuck"))
            return Answer(True, f"the picture is labelled: {answer}")
        self._commands.put(lambda: self._answer_help(request.id, answer, operator))
        return Answer(True, f"help request {request.id} is answered: {answer}")

    def teleop(self, command: TeleopCommand) -> str:
        """An operator's command, many times a second (`actor.authority`). Returns why this robot cannot be taken over, if so."""
        if STOP_BUTTON in command.buttons and not self._stop_asked:
            self.software_stop(True)
        return self._takeover.put(command)

    def software_stop(self, active: bool) -> Answer:
        """Hold until cleared. Clearing leaves practice paused."""
        self._stop_asked = active  # at once: what is asked after this is queued behind it
        self._commands.put(lambda: self._apply(practice.SoftwareStop() if active else practice.ClearStop()))
        return Answer(True, "software stop is on" if active else "software stop is cleared; practice waits until it is resumed")

    def limit_speed(self, share: float) -> Answer:
        """Allow `share` of the configured step limits, 0.1 to 1, to policy and operators alike, until another is asked for."""
        if not SLOWEST <= share <= 1.0:
            return Answer(False, f"the speed limit is a share of the configured one, {SLOWEST:g} to 1, not {share:g}")
        self._commands.put(partial(setattr, self._progress, "speed_limit", float(share)))
        return Answer(True, f"at most {share:.0%} of the configured speed")

    def label(self, segment: int, success: bool) -> Answer:
        """A person corrects the outcome of a finished, recent attempt: it changes the success rate that `status` shows."""
        if segment < 1:
            return Answer(False, f"there is no segment {segment}; segments count from 1")
        self._commands.put(lambda: self._label(segment, success))
        return Answer(True, f"segment {segment} is labelled as {'success' if success else 'failure'}")

    def request_evaluation(self, episodes: int, kind: str) -> Answer:
        """Evaluate both directions, `episodes` each, when the open segment has ended. Results go to `on_evaluation`."""
        if self._evaluations.robot is None:
            return Answer(False, "this robot has no second scene to evaluate in")
        if self._stop_asked:
            return Answer(False, "the software stop is on: clear it first")
        self._commands.put(lambda: self._evaluations.ask(episodes, kind))
        return Answer(True, f"{episodes} episodes per direction after the current attempt")

    # --- the loop's thread ------------------------------------------------------------------------------------------

    def run(self, stop: threading.Event) -> None:
        """Block until `stop` is set. On the way out, also by an exception, the open segment is cut and the robot holds."""
        try:
            self._desk.tell_again()  # what is open since before the restart
            while not stop.is_set():
                started_s = time.monotonic()
                if self._tick(stop):
                    self._progress.practice_time_s += time.monotonic() - started_s
                if time.monotonic() >= self._snapshot_due_s:
                    self._snapshot()
        finally:
            self._recorder.cut()
            self._robot.hold()
            self._viewfinder.close()
            self._snapshot()

    def _tick(self, stop: threading.Event) -> bool:
        """One turn; True when it was practice (and not waiting for a person, a policy or an evaluation)."""
        self._serve_commands()
        answer = self._desk.turn(self._state.help_open, time.monotonic())
        if answer is not None:
            self._answer_help(self._state.help_id, answer, OPERATOR)
        if self._evaluation_due() and self._policy.ready:
            self._evaluate(stop)
            return False
        if not self._state.takeover and not (self._state.practising and self._policy.ready):
            self._message = "waiting for the policy: the learner is preparing it" if self._state.practising else ""
            self._rest(stop)
            return False
        self._message = ""
        if not self._wait_for_turn(stop):
            return True
        self._control_step()
        return self._state.attempting

    def _control_step(self) -> None:
        reading = self._read()
        spec, now_s = self._robot.observation_spec, reading_clock(self._robot, reading)
        problems = reading_problems(reading, self._config.robot.safety, now_s, spec)
        if self._state.attempting:
            self._apply(self._desk.held(problems, self._state.phase, time.monotonic()))
        if problems:
            return self._hold(problems)
        mover = self._takeover.who_moves(self._state.practising, time.monotonic())
        if mover is Holder.HOLD:
            return self._stand()
        human, self._holding, self._standing = mover is Holder.HUMAN, (), False
        if self._recorder.open and not self._state.attempting:
            self._recorder.cut()  # paused, or a person was asked, while an operator moved the robot
        if self._recorder.open:
            if not human and not self._policy.prepare(reading.observation, self._state.phase):
                self._robot.hold()  # a policy server thinks: the control step takes longer, the segment stays open
                self._holding = ("waiting for the policy server",)
                return
            self._observe(reading)
        if not self._recorder.open and self._state.attempting and not self._evaluation_due():
            if reading.episode_over:
                # the environment can do nothing else; a new attempt begins at the next control step
                self._robot.hard_reset(self._state.phase, self._rng)
                self._desk.scene_reset()
                self._progress.hard_resets += 1
                self._wander.cancel()
                return
            motion = None if human else self._wander.next(reading.tcp_position_m)
            if motion is not None:
                self._execute(motion, reading)
                return
            self._begin(reading)
        if self._recorder.open:
            self._act(reading, human)
        elif human:
            self._execute(self._takeover.action(self._execution.last, reading), reading)

    def _stand(self) -> None:
        """An operator has the robot and does not move it: it stands still, and an open segment waits for what comes next."""
        if not self._standing:
            self._robot.hold()  # once: each hold takes the pose as it is, and a soft arm would sink from one to the next
        self._standing = True
        self._meter.interrupt()
        self._holding = self._takeover.reasons()

    def _begin(self, reading: Reading) -> None:
        """Open a segment, of the other direction when this one's goal is met already (nothing is counted then). A learned reward
        knows no goal that could be met."""
        for _ in PHASES:
            phase = self._state.phase
            if self._announced != (self._recorder.segment, phase):
                self._announced = (self._recorder.segment, phase)
                self._scorer.forget()
                if self._robot.begin_phase(phase, self._rng):
                    return None  # it shows another goal now: begin at the next control step, on a checked reading
            if phase in self._learned or not self._scorer.look(reading, phase)[0]:
                self._apply(practice.Begun())
                return self._open(reading, phase, armed=True)
            contradiction = self._state.reset != "human" and self._scorer.look(reading, practice.opposite(phase))[0]
            self._apply(practice.AlreadyMet(contradiction))
            if not self._state.attempting:
                return None
            if contradiction:
                return self._open(reading, phase, armed=False)
        return None

    def _open(self, reading: Reading, phase: str, armed: bool) -> None:
        self._scorer.start(armed)
        self._policy.begin()
        self._recorder.begin(reading, self._scorer.score(reading, phase), phase, self._scorer.name)

    def _observe(self, reading: Reading) -> None:
        """Judge what the last action led to; ends the segment on success (not under a learned reward), time-out, or when the
        object is lost."""
        phase, segment = self._state.phase, self._recorder.segment
        reward = self._config.recipe.reward
        verdict = self._scorer.score(reading, phase)
        self._probability = verdict.probability
        self._desk.saw((segment, self._recorder.index + 1), reading)
        lost = self._desk.rule.object_lost() if reading.object_lost else None
        ended = reading.episode_over or lost is not None
        done = verdict.success and phase not in self._learned
        last = done or ended or self._recorder.index + 1 >= self._max_steps[phase]
        self._recorder.observe(
            reading,
            verdict,
            reward.success if verdict.success else reward.step,
            last=last,
            terminal=done and reward.success_is_terminal,
        )
        if last:
            if not self._recorder.corrected:  # else it says nothing about the policy alone
                self._progress.finished(segment, phase, verdict.label, verdict.truth)
            self._apply(practice.SegmentEnded(verdict.success))
            self._wander.plan()
            doubt = self._scorer.doubt(reading, phase)
            attempt = Attempt(segment, phase, verdict.success, verdict.probability, verdict.known, doubt)
            self._apply(self._desk.after_attempt(attempt, lost))

    def _act(self, reading: Reading, human: bool) -> None:
        asked = human or self._recorder.index == 0  # else the control step has prepared it already
        prepared = not asked or (self._policy.ready and self._policy.prepare(reading.observation, self._state.phase))
        if not human and not prepared:  # without a trace: the segment begins at the next control step
            return self._hold(("waiting for the policy server",))
        if self._recorder.index == 0:
            self._desk.saw((self._recorder.segment, 0), reading)
        if human or self._human_acted:
            self._policy.begin()  # what was planned before a person acted is not what the policy would do now
        self._human_acted, version = human, self._policy.version if prepared else 0
        proposed: Any = self._policy.act(reading.observation, self._state.phase, True) if prepared else None
        action = self._execute(self._takeover.action(self._execution.last, reading) if human else proposed, reading)
        words = self._takeover.instruction if human else ""
        self._recorder.acted(action, action if proposed is None else proposed, Source(human), version, words)
        self._progress.env_steps += 1
        if human:
            return
        self._apply(self._desk.after_step(self._progress.env_steps, self._policy.irreversible, self._state.phase))

    def _execute(self, proposed: np.ndarray, reading: Reading) -> np.ndarray:
        """Send what the safety filter leaves of `proposed`; returns it."""
        action = self._execution.send(proposed, reading, self._progress.speed_limit, stopped=self._state.stopped)
        self._meter.tick(time.monotonic())
        return action

    # --- waiting ----------------------------------------------------------------------------------------------------

    @property
    def _pace(self) -> str:
        """Whatever the policy's pace is, an operator moves the robot in real time."""
        return "realtime" if self._state.takeover else self._config.robot.pace

    def _wait_for_turn(self, stop: threading.Event) -> bool:
        """Sleep until the next control step is due by the robot's pace; False when practice ended meanwhile."""
        pace = self._pace
        deadline_s = self._pacer.next_deadline(time.monotonic()) if pace == "realtime" else 0.0
        while not stop.is_set():
            self._serve_commands()
            if not (self._state.practising or self._state.takeover) or self._pace != pace:
                return False
            if pace != "realtime":
                self._viewfinder.serve(self._robot, None)
                if pace == "free" or self._lead():
                    return True
                time.sleep(LEAD_POLL_S)
            else:
                self._viewfinder.serve(self._robot, deadline_s - time.monotonic())
                left_s = deadline_s - time.monotonic()
                if left_s <= 0:
                    return True
                time.sleep(min(left_s, 0.02))
            if time.monotonic() >= self._snapshot_due_s:
                self._snapshot()
        return False

    def _rest(self, stop: threading.Event) -> None:
        """Hold still for a moment, with fresh pictures, while there is nothing to practise."""
        self._hold((self._state.mode.value,) if self._state.mode is Mode.STOPPED else ())
        self._pacer.reset()
        self._read()
        self._viewfinder.serve(self._robot, None)
        stop.wait(min(REST_S, self._pacer.period_s))

    def _hold(self, reasons: tuple[str, ...]) -> None:
        self._recorder.cut()
        self._robot.hold()
        self._meter.interrupt()
        self._holding = reasons

    def _read(self) -> Reading:
        reading = self._robot.read()
        self._images = pictures_in(reading.observation)
        return reading

    # --- commands, help, evaluation ---------------------------------------------------------------------------------

    def _serve_commands(self) -> None:
        while True:
            try:
                command = self._commands.get_nowait()
            except queue.Empty:
                break
            command()
            self._snapshot_due_s = 0.0
        event = self._takeover.turn(self._state, time.monotonic())
        if event is not None:
            self._progress.interventions += isinstance(event, practice.Takeover)
            self._apply(event)
            if self._config.robot.pace != "realtime":
                self._pacer.reset()

    def _apply(self, event: practice.Event | None) -> None:
        """Advance the practice machine and let the help desk follow it; None: nothing happened."""
        if event is None:
            return
        before, self._state = self._state, practice.advance(self._state, event)
        if self._state.mode is not before.mode:
            self._snapshot_due_s = 0.0
        self._progress.help_requests += self._state.help_id - before.help_id
        self._desk.follow(before, self._state, event, self._progress.env_steps)

    def _answer_help(self, request_id: int, answer: str, operator: str) -> None:
        if not self._state.help_open or self._state.help_id != request_id:
            return  # answered twice, or cancelled meanwhile
        self._recorder.cut()  # where practice went on beside the request
        if answer == "reset":
            # a real robot cannot reset its scene: there the person who answered has done it
            with contextlib.suppress(NotImplementedError):
                self._robot.hard_reset(self._state.phase, self._rng)
            self._progress.hard_resets += 1
            self._wander.cancel()
        self._apply(practice.HelpAnswered(f"Answered by {operator}: {answer}."))
        then: dict[str, practice.Event] = {"skip": practice.Skip(), "take_over": practice.Pause(), "stop": practice.Finish()}
        if answer in then:
            self._apply(then[answer])

    def _label(self, segment: int, success: bool) -> None:
        if self._progress.label(segment, success):
            self._on_label(segment, success)
        else:
            self._message = f"segment {segment} cannot be labelled: it is not among the recent finished attempts"

    def _evaluation_due(self) -> bool:
        """True when an evaluation waits and may start now: between segments, and nobody stopped or took over."""
        waiting = self._evaluations.wait(self._progress.practice_time_s)
        free = self._state.mode not in (Mode.STOPPED, Mode.TAKEOVER)
        return waiting and free and not (self._recorder.open and self._state.practising)

    def _evaluate(self, stop: threading.Event) -> None:
        """Evaluate in the second scene; the practice robot holds. Stop, software stop and idle abandon it."""
        self._apply(practice.Evaluate())
        self._hold(())
        self._pacer.reset()

        def abandoned() -> bool:
            self._serve_commands()
            self._viewfinder.serve(self._robot, None)
            if time.monotonic() >= self._snapshot_due_s:
                self._snapshot()
            return stop.is_set() or not self._state.evaluating

        self._evaluations.run_next(self._progress, partial(setattr, self, "_message"), abandoned)
        self._message = ""
        self._apply(practice.Evaluated())

    def _snapshot(self) -> None:
        self._snapshot_due_s = time.monotonic() + SNAPSHOT_S
        if not self._state.practising:
            self._probability = float("nan")
        self._counters = remember(self._progress, self._state, self._desk.request)
        self._status = make_status(
            self._config.task.name,
            self._state,
            self._progress,
            self._recorder,
            self._pacer,
            self._meter,
            policy_version=self._policy.version,
            weight_age_s=self._policy.weight_age_s,
            probability=self._probability,
            message=self._message,
            holding=self._holding,
            authority=self._takeover.authority,
        )
