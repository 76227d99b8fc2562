"""The documentation stays true: its links lead somewhere, its commands exist, its error messages are those of the code."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

from etude.cli import COMMANDS
from etude.config import REPOSITORY

PAGES = [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").rglob("*.md"))]
SOURCES = ("etude", "actor", "learner", "reward_classifiers", "simulation", "dashboard", "policy_servers", "ros2_ws/src")
SHORTEST = 6


def name_of(page: Path) -> str:
    return str(page.relative_to(REPOSITORY))


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_somewhere(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", text):
        if "://" not in target and "images/" not in target:
            assert (page.parent / target).exists(), f"{name_of(page)} links to {target}"


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_commands_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    first_words = {name.split()[0] for name in COMMANDS}
    for first, second in re.findall(r"(?:^|`|\s)etude ([a-z]+)(?: ([a-z-]+))?", text):
        if first in first_words:
            assert first in COMMANDS or not second or f"{first} {second}" in COMMANDS, f"{name_of(page)}: etude {first} {second}"


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_make_targets_exist(page: Path) -> None:
    targets = set(re.findall(r"^([a-z][a-z0-9-]*):", (REPOSITORY / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    for target in re.findall(r"(?:^|`)make ([a-z][a-z0-9-]*)", page.read_text(encoding="utf-8"), re.MULTILINE):
        assert target in targets, f"{name_of(page)}: make {target}"


@cache
def texts_of_the_code() -> tuple[str, ...]:
    """Every string of the sources, with … for what is filled in."""
    found = []
    for folder in SOURCES:
        for path in (REPOSITORY / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.JoinedStr):
                    found.append("".join(str(v.value) if isinstance(v, ast.Constant) else "…" for v in node.values))
                elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                    found.append(node.value)
    found += [path.read_text(encoding="utf-8") for path in (REPOSITORY / "tools").glob("*.sh")]
    return tuple(found)


def messages() -> list[str]:
    page = (REPOSITORY / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (`.*?) \|", page, re.MULTILINE)
    return [message for row in rows for message in re.findall(r"`([^`]+)`", row)]


@pytest.mark.parametrize("message", messages())
def test_documented_messages_are_those_of_the_code(message: str) -> None:
    # names and values are … in the page and in the code, or stand in quotes
    parts = [part.strip(" '") for part in re.split(r"…|'", message)]
    parts = [part for part in parts if len(part) >= SHORTEST] or [message.strip("… ")]
    pattern = re.compile(".*".join(re.escape(part) for part in parts), re.DOTALL)
    assert any(pattern.search(text) for text in texts_of_the_code()), f"no text in the code reads like: {message}"
