"""`etude demo record --by DEVICE`: a person demonstrates, with a device of this machine or on the page. Needs no ROS.

Here because it puts together what may not import each other: the actor's recording and the dashboard's page.
"""

from __future__ import annotations

import math
import secrets
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import cv2
import numpy as np

from actor.commands import demo_record
from actor.operator_demonstrations import Session, Stage
from actor.pacing import Pacer
from actor.teleop import browser
from actor.teleop.command import TeleopError
from actor.teleop.commands import open_device
from actor.teleop.mapping import Mapper, load_mapping
from dashboard.app import Answer, create_app
from dashboard.run_view import RunView
from dashboard.server import make_server, open_port
from dashboard.teleop import Held
from etude.addresses import is_loopback
from etude.config import RunConfig
from etude.episodes.store import EpisodeStore
from etude.robot import Robot
from etude.specs import IMAGE_PREFIX
from etude.status import Mode, PracticeStatus

PICTURE_S = 0.1
BEAUTY_SIZE = (480, 640)
LINE_S = 0.5


def record_command(argv: Sequence[str]) -> int:
    """`etude demo record`."""
    return demo_record(argv, demonstrate)


def demonstrate(config: RunConfig, robot: Robot, store: EpisodeStore, count: int, by: str) -> None:
    """Record until `count` demonstrations per direction are kept, or Ctrl-C, which keeps those that there are.

    Raises:
        TeleopError: the robot or the device cannot be used, or nothing was kept.
    """
    session = Session(config, robot, store, count)
    if session.refusal:
        raise TeleopError(session.refusal)
    mapping = load_mapping(by)
    if mapping.device == "browser":
        page = Page(config, session, robot)
        print(f"demonstrate at {page.url} : T takes over, Enter is success, Backspace failure, R once more; Ctrl-C ends")
        before, close = page.turn, page.close
    else:
        device, mapper = open_device(mapping), Mapper(mapping, by)
        before, close = (lambda: session.put(mapper.command(device.read(), time.monotonic()))), device.close
    try:
        run(session, before)
    except KeyboardInterrupt:
        print("ended")
    except OSError as error:
        print(f"the {mapping.device} is gone ({error.strerror})")
    finally:
        robot.hold()
        close()
    if not any(session.moment.kept.values()):
        raise TeleopError("no demonstration was kept, so there is no store")


def run(session: Session, before: Callable[[], None]) -> None:
    """Turn `session` at its robot's rate until it is done; `before` every turn. Prints what the person should know."""
    pacer, shown, line_s = Pacer(1.0 / session.period_s), "", 0.0
    while session.moment.stage is not Stage.DONE:
        before()
        session.turn()
        message = session.moment.message
        if message != shown and time.monotonic() >= line_s:
            print(message, flush=True)
            shown, line_s = message, time.monotonic() + LINE_S
        time.sleep(max(0.0, pacer.next_deadline(time.monotonic()) - time.monotonic()))
    print(session.moment.message)


class Page:
    """The page over a session: `dashboard.app.Bridge` without ROS."""

    def __init__(self, config: RunConfig, session: Session, robot: Robot) -> None:
        self._config, self._session, self._robot = config, session, robot
        self._view = RunView(config, f"demonstrations of {config.task.name}")
        self.snapshot, self.image, self.image_sequences = self._view.snapshot, self._view.image, self._view.image_sequences
        self._mapping = load_mapping("browser")
        self._mappers: dict[str, Mapper] = {}
        self._operator, self._picture_s, self._watched = "", 0.0, False
        listener = open_port(config.dashboard.host, config.dashboard.port)
        host, port = listener.getsockname()[:2]
        token = "" if is_loopback(host) else config.dashboard.token or secrets.token_urlsafe(16)
        self.url = f"http://{host}:{port}" + (f"/?token={token}" if token else "")
        self._server = make_server(create_app(self, config.dashboard.host, token))
        self._thread = threading.Thread(target=self._server.run, kwargs={"sockets": [listener]}, name="web", daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._server.should_exit = True
        self._thread.join(timeout=3.0)

    # --- the session's thread ---------------------------------------------------------------------------------------

    def turn(self) -> None:
        """Show how it goes, with a new picture ten times a second while somebody looks."""
        moment = self._session.moment
        self._view.on_status(_status(self._config, moment.message, self._session.operator))
        if self._watched and time.monotonic() >= self._picture_s:
            self._picture_s = time.monotonic() + PICTURE_S
            pictures = {"beauty": self._robot.render("beauty", *BEAUTY_SIZE)}
            for key, array in self._robot.read().observation.items():
                if key.startswith(IMAGE_PREFIX):
                    pictures[key.removeprefix(IMAGE_PREFIX)] = array
            for camera, picture in pictures.items():
                self._view.on_image(camera, _jpeg(picture))

    # --- the web server's threads -----------------------------------------------------------------------------------

    def viewers(self, count: int) -> None:
        self._watched = count > 0

    def teleop(self, operator: str, held: Held) -> None:
        mapper = self._mappers.setdefault(operator, Mapper(self._mapping, f"{operator} (browser)"))
        self._session.put(mapper.command(browser.sample(held.keys, held.pad, held.taken), time.monotonic()))

    def software_stop(self, active: bool) -> Answer:
        self._session.software_stop(active)
        return Answer(True)

    def set_mode(self, mode: str) -> Answer:
        return Answer(False, "demonstrations are recorded here; nothing practises")

    def resolve_help(self, answer: str, operator: str) -> Answer:
        return Answer(False, "demonstrations are recorded here; nobody asks for help")

    def limit_speed(self, share: float) -> Answer:
        return Answer(False, "demonstrations are recorded here; the mapping of the device says how fast it moves")

    def correct(self, text: str) -> Answer:
        return Answer(False, "demonstrations are recorded here; take over and show it")

    def label(self, segment: int, success: bool) -> Answer:
        return Answer(False, "demonstrations are recorded here; press Enter for success and Backspace for failure")


def _status(config: RunConfig, message: str, who: tuple[str, str, bool]) -> PracticeStatus:
    authority, operator, stopped = who
    mode = Mode.STOPPED if stopped else Mode.TAKEOVER if operator else Mode.PAUSED
    unknown: dict[str, Any] = dict.fromkeys(("weight_age_s", "loop_rate_hz", "loop_period_p99_ms", "judge_probability"), math.nan)
    counts = ("env_steps", "segment", "step_in_segment", "policy_version", "missed_deadlines", "outbox_pending")
    zeros: dict[str, Any] = dict.fromkeys((*counts, "help_requests", "hard_resets", "interventions"), 0)
    return PracticeStatus(
        mode=mode,
        task=config.task.name,
        success={},
        success_truth={},
        message=message,
        authority=authority,
        operator_name=operator,
        **zeros,
        **unknown,
    )


def _jpeg(picture: np.ndarray) -> bytes:
    return bytes(cv2.imencode(".jpg", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))[1])
