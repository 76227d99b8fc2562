"""The supervisor keeps children alive, gives up clearly, stops in order; the commands choose folders, ports and domains."""

from __future__ import annotations

import argparse
import io
import signal
import socket
import sys
import threading

import pytest

from etude.config import ConfigError, RunConfig, load_run_config
from etude.run_folder import RunFolder
from etude_nodes import practice, supervisor
from etude_nodes.supervisor import Child, PracticeError, Supervisor, last_words, progress_line


@pytest.fixture
def config() -> RunConfig:
    return load_run_config("robot_configs/runs/demo_state.yaml")


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("ETUDE_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("ETUDE_DATA", str(tmp_path / "data"))


# --- children -------------------------------------------------------------------------------------------------------

CHILD = """
import pathlib, signal, sys, time
folder, name = pathlib.Path(sys.argv[1]), sys.argv[2]
starts = folder / f"starts-{name}"
starts.write_text((starts.read_text() if starts.exists() else "") + "x")
count = len(starts.read_text())
def stop(*_):
    with (folder / "stopped").open("a") as file:
        file.write(name + " ")
    sys.exit(0)
signal.signal(signal.SIGTERM, stop)
"""


def make_supervisor(tmp_path, config, monkeypatch, **scripts: str) -> tuple[Supervisor, io.StringIO]:
    """Children that run the given Python instead of nodes."""
    folder = RunFolder(tmp_path / "run")
    folder.create()

    def start(child: Child, folder: RunFolder) -> None:
        log = (folder.logs / f"{child.name}.log").open("ab")
        command = [sys.executable, "-c", CHILD + scripts[child.name], str(folder.root), child.name]
        child.process = supervisor.subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
        child.restart_at = None

    monkeypatch.setattr(Child, "start", start)
    monkeypatch.setattr(supervisor, "BACKOFF_S", (0.05, 0.05))
    monkeypatch.setattr(supervisor, "REFRESH_S", 0.05)
    out = io.StringIO()
    made = Supervisor(folder, config, out)
    made.children = [Child(name, name, {}, needed=name != "dashboard") for name in scripts]
    return made, out


WAIT = "time.sleep(30)\n"


def test_a_crashed_child_is_started_again_and_the_run_ends_with_the_actor(tmp_path, config, monkeypatch) -> None:
    crash_once = "if count == 1: sys.exit('the card fell out')\n" + WAIT
    actor = (
        "while not (folder / 'starts-learner').exists() or len((folder / 'starts-learner').read_text()) < 2: time.sleep(0.02)\n"
    )
    made, out = make_supervisor(tmp_path, config, monkeypatch, learner=crash_once, actor=actor + "time.sleep(0.5)")
    assert made.run(threading.Event()) is True
    assert "the learner ended with status 1" in out.getvalue() and "the card fell out" in out.getvalue()
    assert (tmp_path / "run" / "stopped").read_text().split() == ["learner"]


def test_a_child_that_keeps_crashing_ends_the_run_with_its_last_words(tmp_path, config, monkeypatch) -> None:
    made, _ = make_supervisor(tmp_path, config, monkeypatch, learner="sys.exit('no disk')", actor=WAIT)
    with pytest.raises(PracticeError, match=r"learner ended with status 1.*no disk") as raised:
        made.run(threading.Event())
    assert "learner.log" in str(raised.value)
    assert not any(child.running for child in made.children)


def test_what_cannot_work_is_not_tried_again(tmp_path, config, monkeypatch) -> None:
    script = "print('classifier is missing', flush=True)\nsys.exit(2)"
    made, _ = make_supervisor(tmp_path, config, monkeypatch, actor=script, learner=WAIT)
    with pytest.raises(PracticeError, match="classifier is missing"):
        made.run(threading.Event())
    assert (tmp_path / "run" / "starts-actor").read_text() == "x"


def test_without_the_page_practice_goes_on(tmp_path, config, monkeypatch) -> None:
    made, out = make_supervisor(tmp_path, config, monkeypatch, learner=WAIT, actor="time.sleep(1.0)", dashboard="sys.exit(2)")
    assert made.run(threading.Event()) is True
    assert "practice goes on without it" in out.getvalue()


def test_a_stop_reaches_the_actor_before_the_learner(tmp_path, config, monkeypatch) -> None:
    made, _ = make_supervisor(tmp_path, config, monkeypatch, learner=WAIT, actor=WAIT, dashboard=WAIT)
    stop = threading.Event()
    threading.Timer(0.6, stop.set).start()
    assert made.run(stop) is False
    assert (tmp_path / "run" / "stopped").read_text().split() == ["actor", "learner", "dashboard"]


def test_a_child_that_ignores_sigterm_is_killed(tmp_path) -> None:
    code = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(30)"
    child = Child("actor", "", {})
    child.process = supervisor.subprocess.Popen([sys.executable, "-c", code], stdout=-1, start_new_session=True)
    child.process.stdout.readline()
    assert child.stop(0.1) is False and child.process.returncode == -signal.SIGKILL
    child.process.stdout.close()


def test_processes_of_a_killed_supervisor_stop_by_themselves(tmp_path) -> None:
    node = "from etude_nodes.process import stop_event_from_signals; print(stop_event_from_signals().wait(20), flush=True)"
    parent = (
        "import os, subprocess, sys, time; "
        f"child = subprocess.Popen([sys.executable, '-c', {node!r}], env={{**os.environ, 'ETUDE_SUPERVISOR': "
        f"str(os.getpid())}}); "
        "time.sleep(1.5); os.kill(os.getpid(), 9)"
    )
    done = supervisor.subprocess.run([sys.executable, "-c", parent], stdout=supervisor.subprocess.PIPE, timeout=20)
    assert done.returncode == -signal.SIGKILL and done.stdout == b"True\n"


# --- the line -------------------------------------------------------------------------------------------------------


def test_the_progress_line_says_what_a_person_wants_to_know(config: RunConfig) -> None:
    status = {
        "stage": "practice",
        "mode": "forward",
        "env_steps": 3120,
        "run_time_s": 252.0,
        "success": {"forward": {"successes": 13, "attempts": 20}, "backward": {"successes": 0, "attempts": 0}},
        "policy_version": 41,
        "weight_age_s": 1.2,
        "loop_rate_hz": 10.0,
        "help_requests": 1,
        "message": "",
    }
    line = progress_line(status, {"metrics": {"learner/updates_per_s": 61.6}}, config.model_copy(update={"minutes": 20.0}))
    assert line == (
        "4.2 of 20 min | 3120 steps | forward | forward 13/20 [43–82%] | backward – | 62 updates/s | weights v41 1 s old"
        " | 10.0 Hz | help 1"
    )


def test_before_practice_the_line_says_what_is_waited_for(config: RunConfig) -> None:
    assert progress_line({}, {}, config) == "starting the processes"
    learner = {"state": "pretraining", "metrics": {"learner/pretraining": 0.4}}
    assert "40%" in progress_line({"stage": "waiting"}, learner, config)


def test_last_words_survive_a_missing_log(tmp_path) -> None:
    assert last_words(tmp_path / "none.log") == "(no log)"
    (tmp_path / "a.log").write_text("--- first start\nold\n--- second start\none\n\ntwo\nthree\nfour\n")
    assert last_words(tmp_path / "a.log") == "two / three / four"


# --- commands -------------------------------------------------------------------------------------------------------


def arguments(**changes) -> argparse.Namespace:
    names = ["config", "name", "origin", "minutes", "seed", "observation", "task", "port"]
    return argparse.Namespace(**{**dict.fromkeys(names), "headless": False, "overrides": [], **changes})


def test_conveniences_and_overrides_reach_the_configuration() -> None:
    config = practice.configure(
        arguments(observation="state", seed=4, minutes=2.5, headless=True, overrides=["recipe.data.utd=2"])
    )
    assert (config.observation, config.seed, config.minutes, config.dashboard.enabled) == ("state", 4, 2.5, False)
    assert config.recipe.data.utd == 2 and config.recipe.reward.kind == "environment"


def test_poses_instead_of_images_are_rewarded_by_the_environment_whatever_the_file_says() -> None:
    pixels = practice.CONFIG_ROOT / "runs" / "demo.yaml"
    config = practice.configure(arguments(config=pixels, observation="state"))
    assert (config.observation, config.recipe.reward.kind) == ("state", "environment")
    assert practice.configure(arguments(config=pixels)).recipe.reward.kind == "classifier"
    with pytest.raises(ConfigError, match="classifier"):  # what was asked for is not overruled
        practice.configure(arguments(config=pixels, observation="state", overrides=["recipe.reward.kind=classifier"]))


def test_a_run_that_begins_from_another_has_its_configuration_unless_told_otherwise(tmp_path) -> None:
    origin = RunFolder(tmp_path / "offline-cal_ql-relocate-s0")
    origin.create()
    with pytest.raises(ConfigError, match="not a run folder"):
        practice.configure(arguments(origin=origin.root))
    practice.save_config(
        practice.configure(arguments(observation="state", task="relocate", overrides=["recipe=cal_ql"])), origin.config
    )
    config = practice.configure(arguments(origin=origin.root, minutes=3.0))
    assert (config.recipe.name, config.task.name, config.observation, config.minutes) == ("cal_ql", "relocate", "state", 3.0)
    demo = practice.CONFIG_ROOT / "runs" / "demo_state.yaml"
    assert practice.configure(arguments(origin=origin.root, config=demo)).task.name == "slide"


def test_the_final_evaluation_of_a_resumed_run_becomes_a_point_of_the_curve_without_touching_the_old_file(tmp_path) -> None:
    folder = RunFolder(tmp_path / "run")
    folder.create()
    practice._forget_final_evaluation(folder)  # none yet
    before = '{"kind": "before", "successes": 1}\n{"kind": "after", "successes": 9}\n'
    folder.evaluations.write_text(before)
    (tmp_path / "old").hardlink_to(folder.evaluations)
    practice._forget_final_evaluation(folder)
    assert folder.evaluations.read_text() == before.replace("after", "interval")
    assert (tmp_path / "old").read_text() == before  # replaced as a whole: a kill leaves the old lines or the new ones


def test_a_misspelt_override_is_one_clear_error() -> None:
    with pytest.raises(ConfigError, match=r"recipe\.critic\.ensembel.*'ensemble'"):
        practice.configure(arguments(observation="state", overrides=["recipe.critic.ensembel=3"]))


def test_a_taken_name_gets_a_number_and_latest_points_to_the_newest(config: RunConfig, tmp_path) -> None:
    first, second = (practice.make_run_folder(config, "mine", None) for _ in range(2))
    assert (first.root.name, second.root.name) == ("mine", "mine-2")
    assert (tmp_path / "runs" / "latest").resolve() == second.root.resolve()
    with pytest.raises(ConfigError, match="--name"):
        practice.make_run_folder(config, "../outside", None)


def test_a_run_begins_from_another_one_with_its_replay_but_not_its_outbox(config: RunConfig) -> None:
    source = practice.make_run_folder(config, "first", None)
    practice.save_config(config, source.config)
    (source.checkpoints / "100").mkdir()
    source.episodes.mkdir()
    (source.outbox / "robot.sqlite").write_text("steps of the first run")
    new = practice.make_run_folder(config, "second", source.root)
    assert (new.checkpoints / "100").is_dir() and new.episodes.is_dir()
    assert list(new.outbox.iterdir()) == []


def test_an_occupied_port_that_was_asked_for_is_an_error_and_otherwise_the_next_is_taken(config: RunConfig) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        wanted = practice._checked(config, dashboard={"port": port})
        with pytest.raises(PracticeError, match=f"port {port} on 127.0.0.1 is taken.*--port"):
            practice._settle_port(wanted, asked=True)
        assert practice._settle_port(wanted, asked=False).dashboard.port != port
    assert practice._settle_port(wanted, asked=True).dashboard.port == port


def test_a_domain_is_the_same_for_a_name_and_another_when_it_is_in_use() -> None:
    domain = practice.choose_domain("some-run")
    assert domain in practice.DOMAINS and practice.choose_domain("some-run") == domain
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as participant:
        participant.bind(("127.0.0.1", 7410 + 250 * domain))
        assert practice.choose_domain("some-run") != domain


def test_resuming_what_is_no_run_says_so(tmp_path) -> None:
    with pytest.raises(ConfigError, match="is not a run folder"):
        practice.resume_command([str(tmp_path)])
