"""The doctor always finishes, and every finding that is not green carries a remedy."""

from __future__ import annotations

import json
import os
import socket
import sys

import pytest

from etude import doctor
from etude.doctor import GREEN, RED, YELLOW, Finding


def test_a_missing_package_is_red_and_a_different_version_yellow(tmp_path):
    pins = tmp_path / "pins.txt"
    pins.write_text("# comment\npytest==0.0.1\n")
    assert doctor.check_packages(pins).status == YELLOW
    pins.write_text("pytest==0.0.1\nno-such-package-anywhere==1.0\n")
    finding = doctor.check_packages(pins)
    assert finding.status == RED and "no-such-package-anywhere" in finding.detail and finding.remedy


def test_a_taken_port_is_named_with_the_way_out():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        finding = doctor.check_port(port)
    assert finding.status == YELLOW and str(port) in finding.detail and "PORT=" in finding.remedy
    assert doctor.check_port(port).status == GREEN


def test_an_unusable_rendering_backend_is_red_and_names_the_packages(monkeypatch):
    monkeypatch.setenv("MUJOCO_GL", "egl")
    monkeypatch.setattr(doctor, "RENDER", "raise OSError('no library libEGL')")
    finding = doctor.check_rendering()
    assert finding.status == RED and "libEGL" in finding.detail and "libegl1" in finding.remedy


def test_segments_of_killed_processes_are_told_from_living_ones(tmp_path):
    living = tmp_path / "fastrtps_living"
    (tmp_path / "fastrtps_dead").write_bytes(b"0")
    living.write_bytes(b"0" * 4096)
    import mmap

    with living.open("r+b") as file, mmap.mmap(file.fileno(), 0):
        assert living in doctor.mapped_files(tmp_path)
        assert tmp_path / "fastrtps_dead" not in doctor.mapped_files(tmp_path)
        assert doctor.check_shared_memory(tmp_path).detail.endswith("1 stale segments")


def test_a_check_that_hangs_is_ended():
    ok, output = doctor.run_python("import time; time.sleep(60)", dict(os.environ), timeout_s=0.5)
    assert not ok and "no answer" in output


def test_a_check_that_fails_itself_is_a_red_finding():
    def check_broken() -> Finding:
        raise RuntimeError("surprise")

    (finding,) = doctor.diagnose([check_broken])
    assert finding.status == RED and finding.check == "broken" and "surprise" in finding.detail


@pytest.mark.parametrize(("status", "expected"), [(GREEN, 0), (YELLOW, 0), (RED, 1)])
def test_only_red_makes_the_command_fail(status, expected, monkeypatch, capsys):
    monkeypatch.setattr(doctor, "CHECKS", (lambda: Finding("thing", status, "detail", "" if status == GREEN else "do this"),))
    assert doctor.main([]) == expected
    printed = capsys.readouterr().out
    assert status in printed and ("do this" in printed) == (status != GREEN)


def test_json_output_is_one_list(monkeypatch, capsys):
    monkeypatch.setattr(doctor, "CHECKS", (doctor.check_python,))
    doctor.main(["--json"])
    (finding,) = json.loads(capsys.readouterr().out)
    assert finding["check"] == "Python" and sys.executable in finding["detail"]
