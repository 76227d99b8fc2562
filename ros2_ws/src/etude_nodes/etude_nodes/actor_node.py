"""The actor process: `actor.control_loop.ControlLoop` behind ROS topics and services. The node only moves bytes.

The control loop has the main thread; callbacks, publishing of steps (`actor.sender`) and everything that tells people how it goes
have threads of their own, so that nothing here can make the loop late.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import os
import sys
import threading
import time

import numpy as np
from etude_msgs import msg, srv
from rclpy.node import Node
from std_msgs.msg import Bool
from std_srvs.srv import SetBool

from actor.candidates import CandidateFeed
from actor.control_loop import ControlLoop
from actor.outbox import Outbox
from actor.policy_runner import PolicyRunner
from actor.robots import make_robot
from actor.sender import StepSender
from actor.snapshot import Answer
from etude.cli import clear_message
from etude.config import RunConfig
from etude.robot import CountingJudge, Judge
from etude.run_folder import RunFolder
from etude.status import HelpRequest, PracticeStatus, StuckLabels
from etude.step import Step
from etude_nodes import convert, diagnostics, qos
from etude_nodes.diagnostics import Condition
from etude_nodes.kept_policy import KeptPolicy
from etude_nodes.parameters import fact
from etude_nodes.policy_inbox import PolicyInbox
from etude_nodes.process import (
    EXIT_DONE,
    EXIT_REFUSED,
    configure_logging,
    middleware,
    parse_run,
    spinning,
    stop_event_from_signals,
)
from etude_nodes.rehearsal import Rehearsal
from etude_nodes.teleop import CommandInbox

log = logging.getLogger("etude.actor_node")

STATUS_PERIOD_S = 0.2
CAMERA_PERIOD_S = 0.25
BEAUTY = "beauty"
BEAUTY_SIZE = (480, 640)
DRAIN_S = 5.0
"""On the way out: how long to wait for the learner's acknowledgement. What is not acknowledged stays in the outbox."""
LEARNER_SILENT_S = 3.0
LONELY_AFTER_S = 60.0
"""A learner that compiles and reads a large replay needs most of this before it answers."""
LOOP_NICENESS = -10
STEPS_AHEAD = 24
"""At the learner's pace: steps made but not yet received, at most; so an old acknowledgement cannot mislead for long."""


class LearnerLead:
    """Whether a simulation at the learner's pace may take its next step, by acknowledgements and emitted steps. Any thread."""

    def __init__(self, last_sequence: int, pending: int = 0) -> None:
        """`last_sequence` of the outbox, of which the newest `pending` steps are not acknowledged."""
        self._made = last_sequence
        self._received = last_sequence - pending
        self._may_advance = False
        self._heard_s = -float("inf")
        self._born_s = time.monotonic()

    def made_one(self) -> None:
        self._made += 1

    def heard(self, may_advance: bool) -> None:
        """Any acknowledgement, also of another actor's steps: the learner lives, and says whether simulations may advance."""
        self._may_advance, self._heard_s = may_advance, time.monotonic()

    def received(self, sequence: int) -> None:
        """The learner has this actor's steps up to `sequence`."""
        self._received = sequence

    @property
    def silent(self) -> bool:
        return time.monotonic() - self._heard_s > LEARNER_SILENT_S

    @property
    def lonely_s(self) -> float:
        """Seconds since the start without any acknowledgement at all; 0 once a learner was heard."""
        return time.monotonic() - self._born_s if self._heard_s == -float("inf") else 0.0

    def __call__(self) -> bool:
        return self._may_advance and self._made - self._received < STEPS_AHEAD and not self.silent


class ActorNode(Node):
    """Topics and services of one robot. `serve` connects the control loop, which needs this node's publishers to exist first."""

    def __init__(self, config: RunConfig, outbox: Outbox, inbox: PolicyInbox, cameras: tuple[str, ...]) -> None:
        super().__init__("actor", namespace=config.robot_namespace)
        self._config, self._outbox, self._inbox = config, outbox, inbox
        fact(self, "robot", config.robot.name, "what moves: a file in robot_configs/robots")
        fact(self, "task", config.task.name, "what is practised: a file in robot_configs/tasks")
        fact(self, "recipe", config.recipe.name, "how is learned: a file in robot_configs/recipes")
        fact(self, "seed", config.seed, "of everything random in the run")
        fact(self, "rate_hz", float(config.robot.control_rate_hz), "control steps, hertz", 0.1, 1000.0)
        self.lead = LearnerLead(outbox.last_sequence, len(outbox))
        name = config.robot_namespace
        self._steps = self.create_publisher(msg.Step, qos.robot_topic(name, "steps"), qos.STEPS)
        self._statuses = self.create_publisher(msg.PracticeStatus, qos.robot_topic(name, "practice_status"), qos.latched())
        self._help = self.create_publisher(msg.HelpRequest, qos.robot_topic(name, "help_request"), qos.latched())
        self._stuck_labels = self.create_publisher(msg.StuckLabels, qos.robot_topic(name, "stuck_labels"), qos.STUCK_LABELS)
        self._tell_condition = diagnostics.teller(self, f"actor/{name}")
        self._cameras = {
            camera: self.create_publisher(convert.CompressedImage, qos.camera_topic(name, camera), qos.SENSOR)
            for camera in dict.fromkeys((*cameras, BEAUTY))
        }
        self._sent_pictures: dict[str, np.ndarray] = {}
        self.judge: Judge | None = None
        self.sender = StepSender(outbox, self._publish_step)

    def emit(self, step: Step) -> None:
        """The control loop's way out: never blocks."""
        self.lead.made_one()
        self.sender.put(step)

    def serve(self, loop: ControlLoop) -> None:
        """Subscribe and offer the operator's services, all of which only queue commands for `loop`."""
        self._loop = loop
        name = self._config.robot_namespace
        self.create_subscription(msg.StepAck, qos.robot_topic(name, "steps_ack"), self._on_ack, qos.STEPS_ACK)
        self.create_subscription(
            msg.PolicyProgram, qos.POLICY_PROGRAM_TOPIC, lambda m: self._inbox.program(convert.to_bytes(m.data)), qos.latched()
        )
        # the subscription's depth covers the largest policy that fits 1 GB of 512 KB chunks; only what arrived is kept
        self.create_subscription(
            msg.PolicyWeights,
            qos.POLICY_WEIGHTS_TOPIC,
            lambda m: self._inbox.chunk(convert.chunk_from_message(m)),
            qos.weights(2048),
        )
        self.create_subscription(Bool, qos.robot_topic(name, "software_stop"), self._on_stop_topic, qos.SOFTWARE_STOP)
        self._operators = CommandInbox()
        self.create_subscription(msg.TeleopCommand, qos.robot_topic(name, qos.TELEOP_TOPIC), self._on_teleop, qos.TELEOP)
        self.create_service(SetBool, qos.robot_topic(name, "software_stop"), self._on_stop_service)
        self.create_service(srv.SetMode, qos.robot_topic(name, "set_mode"), self._on_set_mode)
        self.create_service(srv.ResolveHelp, qos.robot_topic(name, "resolve_help"), self._on_resolve_help)
        self.create_service(srv.Label, qos.robot_topic(name, "label"), self._on_label)
        self.create_service(srv.LimitSpeed, qos.robot_topic(name, "limit_speed"), self._on_limit_speed)

    # --- out --------------------------------------------------------------------------------------------------------

    def _publish_step(self, step: Step) -> None:
        self._steps.publish(convert.step_to_message(step))

    def publish_status(self, status: PracticeStatus) -> None:
        self._statuses.publish(convert.status_to_message(status, self._config.robot_namespace, self._outbox.actor_id))

    def publish_help(self, request: HelpRequest) -> None:
        self._help.publish(convert.help_to_message(request, self._config.robot_namespace))

    def publish_stuck_labels(self, labels: StuckLabels) -> None:
        self._stuck_labels.publish(convert.stuck_labels_to_message(labels, self._outbox.actor_id))

    def publish_diagnostics(self, status: PracticeStatus) -> None:
        level = "warn" if status.holding or self.lead.silent or self._inbox.refused else "ok"
        text = status.message or status.mode.value
        values = {
            "mode": status.mode.value,
            "env_steps": status.env_steps,
            "loop_rate_hz": status.loop_rate_hz,
            "loop_period_p99_ms": status.loop_period_p99_ms,
            "missed_deadlines": status.missed_deadlines,
            "policy_version": status.policy_version,
            "weight_age_s": status.weight_age_s,
            "weights_refused": self._inbox.refused,
            "outbox_pending": status.outbox_pending,
            "learner_silent": self.lead.silent,
            **(self.judge.counts() if isinstance(self.judge, CountingJudge) else {}),
        }
        self._tell_condition(Condition(level, text, values))

    def publish_cameras(self, loop: ControlLoop) -> None:
        """New pictures as JPEG, of the cameras that somebody watches; nothing is encoded or rendered for nobody."""
        watched = [camera for camera, publisher in self._cameras.items() if publisher.get_subscription_count()]
        if not watched:
            return
        if BEAUTY in watched:
            loop.request_render(BEAUTY, *BEAUTY_SIZE)
        pictures = loop.latest_images()
        for camera in watched:
            picture = pictures.get(camera)
            if picture is None or picture is self._sent_pictures.get(camera):
                continue
            self._sent_pictures[camera] = picture
            self._cameras[camera].publish(convert.jpeg_message(picture, camera, self.get_clock().now().to_msg()))

    # --- in ---------------------------------------------------------------------------------------------------------

    def _on_ack(self, message: msg.StepAck) -> None:
        self.lead.heard(message.may_advance)
        if message.actor_id == self._outbox.actor_id:
            self.lead.received(message.received_sequence)
            self.sender.on_ack(message.received_sequence, message.stored_sequence, message.learner_id)

    def _on_stop_topic(self, message: Bool) -> None:
        self._say("software_stop", self._loop.software_stop(message.data))

    def _on_teleop(self, message: msg.TeleopCommand) -> None:
        try:
            refusal = self._loop.teleop(self._operators.command(message))
            if refusal and message.takeover:
                self.get_logger().error(f"nobody can take over: {refusal}", throttle_duration_sec=5.0)
        except convert.MessageError as error:
            self.get_logger().error(f"a teleoperation command was dropped: {error}", throttle_duration_sec=5.0)

    def _on_stop_service(self, request: SetBool.Request, response: SetBool.Response) -> SetBool.Response:
        response.success, response.message = self._say("software_stop", self._loop.software_stop(request.data))
        return response

    def _on_set_mode(self, request: srv.SetMode.Request, response: srv.SetMode.Response) -> srv.SetMode.Response:
        response.success, response.message = self._say(f"set_mode {request.mode}", self._loop.set_mode(request.mode))
        return response

    def _on_resolve_help(self, request: srv.ResolveHelp.Request, response: srv.ResolveHelp.Response) -> srv.ResolveHelp.Response:
        answer = self._loop.resolve_help(request.answer, request.operator_name or "an operator", request.id)
        response.success, response.message = self._say("resolve_help", answer)
        return response

    def _on_label(self, request: srv.Label.Request, response: srv.Label.Response) -> srv.Label.Response:
        segment = request.segment or max(0, self._loop.status().segment - 1)
        response.success, response.message = self._say("label", self._loop.label(segment, request.succeeded))
        return response

    def _on_limit_speed(self, request: srv.LimitSpeed.Request, response: srv.LimitSpeed.Response) -> srv.LimitSpeed.Response:
        response.success, response.message = self._say("limit_speed", self._loop.limit_speed(request.share))
        return response

    def _say(self, what: str, answer: Answer) -> Answer:
        self.get_logger().info(f"{what}: {answer.message}")
        return answer


class Teller:
    """Thread that tells how it goes: status 5 Hz, pictures 4 Hz while watched, diagnostics 1 Hz; it also turns the rehearsal."""

    def __init__(self, node: ActorNode, loop: ControlLoop, inbox: PolicyInbox, rehearsal: Rehearsal, kept: KeptPolicy) -> None:
        self._node, self._loop, self._inbox, self._rehearsal, self._kept = node, loop, inbox, rehearsal, kept
        self._said_lonely = False
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="tell", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join(timeout=3.0)

    def status(self) -> PracticeStatus:
        status = self._loop.status()
        message = self._node.sender.error or self._inbox.complaint() or self._lonely() or status.message
        if not message and self._node.lead.silent and status.policy_version:
            message = "the learner is silent; steps are kept in the outbox until it is back"
        return dataclasses.replace(status, outbox_pending=self._node.sender.pending, message=message)

    def _lonely(self) -> str:
        """A sentence when no learner was ever heard, which a wrong domain or network explains."""
        if self._node.lead.lonely_s < LONELY_AFTER_S:
            return ""
        domain = os.environ.get("ROS_DOMAIN_ID", "0")
        text = (
            f"no learner answers in ROS domain {domain}: start one with `etude practice run`, or give both machines the same "
            "ROS_DOMAIN_ID and ROS_AUTOMATIC_DISCOVERY_RANGE=SUBNET"
        )
        if not self._said_lonely:
            self._said_lonely = True
            log.warning("%s", text)
        return text

    def _run(self) -> None:
        due = {"status": 0.0, "cameras": 0.0, "diagnostics": 0.0}
        while not self._stop.wait(0.05):
            try:
                self._turn(due)
            except Exception:
                if not self._stop.is_set():
                    log.exception("telling about the run failed; practice goes on")
                    self._stop.wait(1.0)

    def _turn(self, due: dict[str, float]) -> None:
        now = time.monotonic()
        for request in self._rehearsal.take_help_requests():
            self._node.publish_help(request)
        for labels in self._rehearsal.take_stuck_labels():
            self._node.publish_stuck_labels(labels)
        if now >= due["cameras"]:
            due["cameras"] = now + CAMERA_PERIOD_S
            self._node.publish_cameras(self._loop)
        if now >= due["status"]:
            due["status"] = now + STATUS_PERIOD_S
            status = self.status()
            self._node.publish_status(status)
            self._rehearsal.turn(status)
            self._kept.write(now)
            if now >= due["diagnostics"]:
                due["diagnostics"] = now + 1.0
                self._node.publish_diagnostics(status)


def run(folder: RunFolder, config: RunConfig, stop: threading.Event) -> int:
    """Practise until `stop`, or until the run's minutes are over and evaluated. The process's exit status."""
    if config.robot.pace == "realtime":
        _prefer_this_process()
    classifier = config.recipe.reward.classifier if config.recipe.reward.kind == "classifier" else None
    judge: Judge | None = None
    if classifier and not classifier.service:
        from reward_classifiers.judge import load_live_judge

        judge = load_live_judge(folder.classifier, classifier)
    robot = make_robot(config, config.seed)
    evaluates = config.evaluation.episodes or config.evaluation.interval_episodes
    # a real robot has no second scene
    evaluation_robot = make_robot(config, config.seed + 1) if evaluates and not config.robot.real else None
    outbox = Outbox(folder.outbox / f"{config.robot_namespace}.sqlite")
    # a restarted actor explores with other random numbers than the one before it
    seed = 1_000_003 * config.seed + outbox.last_sequence
    policy = PolicyRunner(seed, CandidateFeed.of(config, seed))
    kept = KeptPolicy(folder.kept_policy)
    inbox = PolicyInbox(policy, kept)
    inbox.restore()
    rehearsal = Rehearsal(folder, config, stop)
    with middleware(), contextlib.ExitStack() as open_until_the_end:
        if classifier and classifier.service:
            from etude_nodes.reward_service import remote_judge

            judge = open_until_the_end.enter_context(remote_judge(classifier))
        node = ActorNode(config, outbox, inbox, tuple(robot.observation_spec.cameras))
        loop = ControlLoop(
            config,
            robot,
            policy,
            judge,
            node.emit,
            first_segment=outbox.last_segment + 1,
            seed=config.seed,
            evaluation_robot=evaluation_robot,
            lead=node.lead,
            on_help=rehearsal.on_help,
            on_stuck_labels=rehearsal.on_stuck_labels,
            on_evaluation=rehearsal.on_evaluation,
            resume_from=rehearsal.counters,
        )
        node.judge = judge
        node.serve(loop)
        rehearsal.conduct(loop, policy)
        teller = Teller(node, loop, inbox, rehearsal, kept)
        with spinning(node):
            teller.start()
            try:
                loop.run(stop)
            finally:
                drained = _drain(node.sender)
                teller.stop()
                rehearsal.close(teller.status())
                node.sender.stop()
                log.info("stopped; %d steps wait in the outbox%s", len(outbox), "" if drained else " for the learner's return")
    outbox.close()
    for each in (robot, evaluation_robot):
        if each is not None:
            each.close()
    return EXIT_DONE


def _prefer_this_process() -> None:
    """Let the actor run before others on a busy machine, where the system allows it (root, or a raised limit).

    All its threads, because the control loop waits for whichever of them holds the interpreter. Call before any is started.
    """
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, 0, LOOP_NICENESS)


def _drain(sender: StepSender) -> bool:
    """Wait a moment for the learner to store what was sent."""
    deadline = time.monotonic() + DRAIN_S
    while sender.pending and time.monotonic() < deadline:
        time.sleep(0.02)
    return not sender.pending


def main(argv: list[str] | None = None) -> int:
    configure_logging()
    stop = stop_event_from_signals()
    try:
        return run(*parse_run(argv, __doc__.splitlines()[0]), stop)
    except Exception as error:
        text = clear_message(error)
        if text is None:
            raise
        with contextlib.suppress(OSError):
            print(f"actor: {text}", file=sys.stderr)
        return EXIT_REFUSED


if __name__ == "__main__":
    sys.exit(main())
