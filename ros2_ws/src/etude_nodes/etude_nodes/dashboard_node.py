"""The dashboard process: the page of `dashboard` fed by ROS topics, its commands sent as service calls.

Pictures are subscribed to only while a browser looks, so that nobody renders or encodes for an empty room.
"""

from __future__ import annotations

import logging
import secrets
import sys
import threading
import time
from functools import partial
from typing import Any

from builtin_interfaces.msg import Time
from etude_msgs import msg, srv
from rclpy.node import Node
from sensor_msgs.msg import CompressedImage
from std_msgs.msg import Bool
from std_srvs.srv import SetBool

from actor.corrections import means_stop
from actor.teleop import browser
from actor.teleop.command import DelayMeter, TeleopError
from actor.teleop.mapping import Mapper, load_mapping
from dashboard.app import Answer, Frames, create_app
from dashboard.curves import Curves
from dashboard.episodes import Episodes
from dashboard.notify import Links, Notifier
from dashboard.run_view import RunView
from dashboard.server import make_server, open_port
from dashboard.teleop import Held
from dashboard.timeline import Timeline
from etude.addresses import is_loopback
from etude.cli import clear_message
from etude.config import ConfigError, RunConfig
from etude.run_folder import RunFolder
from etude.status import PracticeStatus
from etude.tail import JsonLines
from etude_nodes import convert, qos
from etude_nodes.correct import NOT_OBEYED, OBEYED_S, Speaker, publisher_of
from etude_nodes.diagnostics import Condition, tell_every_second
from etude_nodes.parameters import fact
from etude_nodes.process import (
    EXIT_DONE,
    EXIT_REFUSED,
    append_json_line,
    configure_logging,
    middleware,
    parse_run,
    spinning,
    stop_event_from_signals,
    write_json,
)
from etude_nodes.teleop import command_to_message

log = logging.getLogger("etude.dashboard_node")

ANSWER_TIMEOUT_S = 3.0
ACTOR_SILENT_S = 3.0
MAX_PICTURE_BYTES = 4 * 1024**2
OPERATOR = "page"


class DashboardNode(Node):
    """Implements `dashboard.app.Bridge`: topics fill the view, commands become service calls.

    Command methods block for up to `ANSWER_TIMEOUT_S` and are called from the web server's worker threads.
    """

    def __init__(self, config: RunConfig, folder: RunFolder, view: RunView, notifier: Notifier | None = None) -> None:
        super().__init__("dashboard")
        self.view, self._notifier = view, notifier
        self._viewers = 0
        self._evaluations = JsonLines(folder.evaluations)
        self._attempt_labels = folder.attempt_labels
        self._cameras: dict[str, Any] = {}
        self._namespace = namespace = config.robot_namespace
        topic = partial(qos.robot_topic, namespace)
        self.create_subscription(msg.PracticeStatus, topic("practice_status"), self._on_status, qos.latched())
        self.create_subscription(msg.HelpRequest, topic("help_request"), self._on_help, qos.latched())
        self.create_subscription(msg.Metrics, qos.METRICS_TOPIC, self._on_metrics, qos.METRICS)
        self.create_subscription(convert.DiagnosticArray, qos.DIAGNOSTICS_TOPIC, self._on_diagnostics, qos.DIAGNOSTICS)
        self._stop_topic = self.create_publisher(Bool, topic("software_stop"), qos.SOFTWARE_STOP)
        self._teleop = self.create_publisher(msg.TeleopCommand, topic(qos.TELEOP_TOPIC), qos.TELEOP)
        self._mapping = load_mapping("browser")
        self._status: PracticeStatus | None = None
        self._speaker = Speaker(publisher_of(self, namespace), self._heard, config.task.actions)
        self._operators: dict[str, tuple[Mapper, DelayMeter]] = {}
        self._set_mode = self.create_client(srv.SetMode, topic("set_mode"))
        self._resolve_help = self.create_client(srv.ResolveHelp, topic("resolve_help"))
        self._label = self.create_client(srv.Label, topic("label"))
        self._limit_speed = self.create_client(srv.LimitSpeed, topic("limit_speed"))
        self._software_stop = self.create_client(SetBool, topic("software_stop"))
        self.create_timer(0.2, self._watch_cameras)
        self.create_timer(1.0, self._read_evaluations)
        self._status_s = -float("inf")
        fact(self, "robot_namespace", namespace, "of the actor that the page shows and commands")
        fact(self, "run", str(folder.root), "folder of the run")
        tell_every_second(self, "dashboard", self.condition)

    def condition(self) -> Condition:
        """For ``/diagnostics``: whether there is something to show."""
        silent_s = time.monotonic() - self._status_s
        values = {"viewers": self._viewers, "cameras": len(self._cameras), "status_age_s": silent_s}
        if silent_s > ACTOR_SILENT_S:
            actor = f"nothing was heard of the actor on {qos.robot_topic(self._namespace, 'practice_status')}"
            return Condition("warn", f"{actor}: start it, or see that ROS_DOMAIN_ID is the same", values)
        return Condition("ok", "the page shows the actor", values)

    # --- topics in ----------------------------------------------------------------------------------------------------

    def _on_status(self, message: msg.PracticeStatus) -> None:
        self._status_s = time.monotonic()
        try:
            self._status = convert.status_from_message(message)
            self.view.on_status(self._status)
        except (convert.MessageError, ValueError) as error:
            self.get_logger().error(f"a malformed practice status was dropped: {error}", throttle_duration_sec=5.0)

    def _on_help(self, message: msg.HelpRequest) -> None:
        request = convert.help_from_message(message)
        self.view.on_help(request)
        if self._notifier is not None:
            self._notifier.told(request)

    def _on_metrics(self, message: msg.Metrics) -> None:
        self.view.on_metrics(convert.metrics_from_message(message), updates=message.updates)

    def _on_diagnostics(self, message: convert.DiagnosticArray) -> None:
        for told in convert.diagnostics_from_message(message):
            self.view.on_diagnostics(*told)

    def _on_picture(self, camera: str, message: CompressedImage) -> None:
        data = bytes(message.data)
        if not data.startswith(b"\xff\xd8") or len(data) > MAX_PICTURE_BYTES:
            self.get_logger().warning(
                f"camera {camera!r} sent {len(data)} bytes that are no JPEG; dropped", throttle_duration_sec=5.0
            )
            return
        self.view.on_image(camera, data)

    def _watch_cameras(self) -> None:
        """Subscribe while somebody looks. In a timer, because subscriptions are best made in the callbacks' own thread."""
        wanted = set(self.view.cameras) if self._viewers else set()
        for camera in wanted - self._cameras.keys():
            topic = qos.camera_topic(self._namespace, camera)
            self._cameras[camera] = self.create_subscription(
                CompressedImage, topic, partial(self._on_picture, camera), qos.SENSOR
            )
        for camera in self._cameras.keys() - wanted:
            self.destroy_subscription(self._cameras.pop(camera))

    def _read_evaluations(self) -> None:
        for record in self._evaluations.new():
            try:
                self.view.on_evaluation(record)
            except (KeyError, TypeError, ValueError) as error:
                log.warning("a line of the evaluations file was skipped: %r", error)

    # --- Bridge -------------------------------------------------------------------------------------------------------

    def snapshot(self) -> dict[str, Any]:
        return self.view.snapshot()

    def image(self, camera: str) -> bytes | None:
        return self.view.image(camera)

    def image_sequences(self) -> dict[str, int]:
        return self.view.image_sequences()

    def viewers(self, count: int) -> None:
        self._viewers = count

    def set_mode(self, mode: str) -> Answer:
        words = {"practise": "Resume", "pause": "Pause", "evaluate": "Evaluate now", "idle": "End practice"}
        return self._call(self._set_mode, srv.SetMode.Request(mode=mode, operator_name=OPERATOR), words.get(mode, mode))

    def software_stop(self, active: bool) -> Answer:
        """Says it twice: latched on the topic, which reaches an actor that is restarting, and as a call, which is answered."""
        self._stop_topic.publish(Bool(data=active))
        answer = self._call(
            self._software_stop, SetBool.Request(data=active), "Software stop" if active else "Software stop cleared"
        )
        if not answer.ok and active:
            return Answer(
                False, f"{answer.message} The stop stays published for when it comes back; use the hardware's own stop now."
            )
        return answer

    def resolve_help(self, answer: str, operator: str) -> Answer:
        request = srv.ResolveHelp.Request(id=self.view.open_help_id or 0, answer=answer, operator_name=operator)
        return self._call(self._resolve_help, request, f"Help answered: {answer}")

    def teleop(self, operator: str, held: Held) -> None:
        """Called for every message of a page that has taken over; published with the age that the way from the page took."""
        mapper, delay = self._operators.get(operator) or (Mapper(self._mapping, operator), DelayMeter())
        self._operators[operator] = mapper, delay
        now_s = time.time()
        sample = browser.sample(held.keys, held.pad, held.taken)
        command = mapper.command(sample, now_s)
        given_ns = time.time_ns() - int(delay.age_s(held.t_ms / 1000.0, now_s) * 1e9)
        self._teleop.publish(command_to_message(command, operator, self._mapping.device, _stamp(given_ns)))
        if not held.taken:
            del self._operators[operator]

    def label(self, segment: int, success: bool) -> Answer:
        request = srv.Label.Request(segment=segment, succeeded=success, operator_name=OPERATOR)
        answer = self._call(self._label, request, f"Attempt {segment} relabelled as {'success' if success else 'failure'}")
        if answer.ok:
            self.view.relabel(segment, success)
            append_json_line(self._attempt_labels, {"segment": segment, "success": success, "time_ns": time.time_ns()})
        return answer

    def limit_speed(self, share: float) -> Answer:
        request = srv.LimitSpeed.Request(share=share, operator_name=OPERATOR)
        return self._call(self._limit_speed, request, f"Speed limited to {share:.0%}" if share < 1.0 else "Full speed")

    def _heard(self) -> PracticeStatus | None:
        """The newest status, None when the actor has been silent for long."""
        return self._status if time.monotonic() - self._status_s <= ACTOR_SILENT_S else None

    def correct(self, text: str) -> Answer:
        if means_stop(text):
            return self.software_stop(True)
        try:
            understood = self._speaker.say(text, OPERATOR)
        except (TeleopError, ConfigError) as error:
            return Answer(False, str(error))
        if not self._speaker.was_obeyed(OBEYED_S):
            return Answer(False, f"{understood}: {NOT_OBEYED}")
        self.view.on_command(f"Said: {text}")
        return Answer(True, understood)

    def _call(self, client: Any, request: Any, note: str) -> Answer:
        """Call a service and wait for its answer. What was granted goes into the page's journal."""
        if not client.service_is_ready():
            return Answer(False, f"No actor answers on {client.srv_name}: it is not running, or has another ROS_DOMAIN_ID.")
        done = threading.Event()
        future = client.call_async(request)
        future.add_done_callback(lambda _: done.set())
        if not done.wait(ANSWER_TIMEOUT_S):
            client.remove_pending_request(future)
            return Answer(False, f"The actor has not answered on {client.srv_name} within {ANSWER_TIMEOUT_S:g} s.")
        response = future.result()
        if response.success:
            self.view.on_command(note)
        return Answer(bool(response.success), response.message)


def _stamp(time_ns: int) -> Time:
    return Time(sec=time_ns // 10**9, nanosec=time_ns % 10**9)


def _frames(folder: RunFolder, config: RunConfig) -> Frames | None:
    if config.recipe.reward.kind != "classifier":
        return None
    from reward_classifiers.page_queue import PageQueue  # JAX comes with it, which other runs do not wait for

    return PageQueue(folder.classifier, folder.episodes, folder.root / "labels")


def run(folder: RunFolder, config: RunConfig, stop: threading.Event) -> int:
    """Serve the page until `stop`. Raises DashboardError when the port cannot be opened."""
    listener = open_port(config.dashboard.host, config.dashboard.port)
    host, port = listener.getsockname()[:2]
    url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
    token = "" if is_loopback(host) else config.dashboard.token or secrets.token_urlsafe(16)
    url += f"/?token={token}" if token else ""
    with middleware():
        links = Links(config.dashboard.notify.link_minutes)
        notifier = Notifier(config.dashboard.notify, folder.root.name, links)
        node = DashboardNode(config, folder, RunView(config, f"runs/{folder.root.name}"), notifier)
        episodes = Episodes(folder.episodes)
        curves, timeline = Curves(folder, episodes.infos), Timeline(folder, episodes.infos)
        frames = _frames(folder, config)
        server = make_server(create_app(node, config.dashboard.host, token, episodes, links, curves, timeline, frames))
        web = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, name="web", daemon=True)
        with spinning(node):
            web.start()
            write_json(folder.root / "dashboard_status.json", {"url": url})
            log.info("the page is at %s", url)
            while not stop.wait(0.5) and web.is_alive():
                pass
            server.should_exit = True
            notifier.close()
            web.join(timeout=3.0)
    if not stop.is_set():
        raise RuntimeError(f"the web server on {url} has ended by itself")
    return EXIT_DONE


def main(argv: list[str] | None = None) -> int:
    configure_logging()
    stop = stop_event_from_signals()
    try:
        return run(*parse_run(argv, __doc__.splitlines()[0]), stop)
    except Exception as error:
        text = clear_message(error)
        if text is None:
            raise
        print(f"dashboard: {text}", file=sys.stderr)
        return EXIT_REFUSED


if __name__ == "__main__":
    sys.exit(main())
