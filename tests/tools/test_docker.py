"""The containers without an engine: Dockerfiles pass their linter, and say what docker/ promises of them."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from etude.config import REPOSITORY

DOCKER = REPOSITORY / "docker"
FILES = sorted(DOCKER.glob("*.Dockerfile"))
COMPOSE = ("compose.yaml", "compose.two-machines.yaml")


def instructions(path: Path, name: str) -> list[str]:
    """The arguments of every instruction `name`, continued lines joined."""
    text = re.sub(r"\\\n", " ", re.sub(r"^#.*\n", "", path.read_text(encoding="utf-8"), flags=re.MULTILINE))
    return re.findall(rf"^{name} +(.*)$", text, re.MULTILINE)


def test_there_is_one_for_the_robot_the_learner_and_the_rewards():
    assert [path.name for path in FILES] == ["actor.Dockerfile", "learner.Dockerfile", "rewards.Dockerfile"]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_hadolint_finds_nothing(path):
    hadolint = Path(sys.executable).with_name("hadolint")
    if not hadolint.exists():
        pytest.skip("hadolint is not installed (requirements/dev.txt)")
    found = subprocess.run([hadolint, path], capture_output=True, text=True, check=False)
    assert found.returncode == 0 and not found.stdout, found.stdout


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_images_are_pinned_and_run_as_nobody_special(path):
    stages = [line.split(" AS ")[-1] for line in instructions(path, "FROM")]
    for base in (line.split()[0] for line in instructions(path, "FROM")):
        assert base in stages or (":" in base and not base.endswith(":latest")), f"{base} is not pinned"
    assert instructions(path, "USER")[-1].isdigit(), "the last USER is a number, and not root"
    assert int(instructions(path, "USER")[-1]) > 0


def test_the_robot_computer_gets_no_training_code():
    copied = " ".join(instructions(DOCKER / "actor.Dockerfile", "COPY")).split()
    assert {"actor", "etude", "robot_configs"} <= set(copied)
    assert "learner" not in copied and "." not in copied


def test_versions_are_those_of_the_project():
    project = (REPOSITORY / "pyproject.toml").read_text(encoding="utf-8")
    base = (REPOSITORY / "requirements" / "base.txt").read_text(encoding="utf-8")
    for package in ("torch==", "timm>=", "open_clip_torch>=", "transformers>=5", "peft>="):
        (version,) = set(re.findall(rf"{package}[\d.,<]+", (DOCKER / "rewards.Dockerfile").read_text(encoding="utf-8")))
        assert version in project, f"{version} is not in pyproject.toml"
    assert re.search(r"pyrealsense2==[\d.]+", (DOCKER / "actor.Dockerfile").read_text(encoding="utf-8")).group() in project
    (jax,) = re.findall(r"jax\[cuda12\]==([\d.]+)", (DOCKER / "learner.Dockerfile").read_text(encoding="utf-8"))
    assert f"jax=={jax}\n" in base


@pytest.mark.parametrize("name", COMPOSE)
def test_compose_files_start_what_the_entrypoint_knows(name):
    services = yaml.safe_load((DOCKER / name).read_text(encoding="utf-8"))["services"]
    entrypoint = (DOCKER / "entrypoint.sh").read_text(encoding="utf-8")
    built = {service["image"] for service in services.values() if "build" in service}
    for title, service in services.items():
        assert service.get("image") in built | {None}, f"nothing builds the image of {title}"
        for part in service.get("command", [])[:1]:
            assert re.search(rf"\b{part}\b.*\) exec", entrypoint), f"the entrypoint does not know {part!r}"
            if part != "prepare":
                assert (REPOSITORY / "ros2_ws/src/etude_nodes/etude_nodes" / f"{part}_node.py").is_file()
        if name == "compose.yaml":
            assert service["cap_drop"] == ["ALL"] and "privileged" not in service


def test_two_machines_change_services_of_the_one():
    one, two = (yaml.safe_load((DOCKER / name).read_text(encoding="utf-8"))["services"] for name in COMPOSE)
    assert set(two) <= set(one)


def test_the_entrypoint_runs_any_command_of_etude():
    """As in an image: from the repository, with its .venv."""
    done = subprocess.run([DOCKER / "entrypoint.sh", "recipe", "list"], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "cal_ql" in done.stdout
