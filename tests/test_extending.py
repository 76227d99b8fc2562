"""docs/extending.md is true: its example, carried out in a copy of the sources, is one file and one line, and its test passes."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from etude.config import REPOSITORY

PAGE = REPOSITORY / "docs" / "extending.md"
COPIED = ("etude", "learner", "robot_configs/recipes", "tests/learner/helpers.py")
LIMIT_S = 900  # a few seconds on a free core; compiling takes long on a busy one


class Block(NamedTuple):
    language: str
    path: str
    text: str


def blocks() -> list[Block]:
    """The page's code blocks that name a file."""
    found = re.findall(r"^```(\w+) (\S+)\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    return [Block(*match) for match in found]


def changed(block: Block) -> tuple[list[str], list[str]]:
    """Lines that a diff takes away, and those that it adds."""
    lines = block.text.splitlines()
    return [line[1:] for line in lines if line[0] == "-"], [line[1:] for line in lines if line[0] == "+"]


def carry_out(block: Block, root: Path) -> None:
    """Write the new file, or change the line, below `root`."""
    path = root / block.path
    if block.language != "diff":
        assert not path.exists(), f"{block.path} is said to be new"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(block.text, encoding="utf-8")
        return
    (old,), (new,) = changed(block)
    lines = path.read_text(encoding="utf-8").splitlines()
    assert lines.count(old) == 1, f"{block.path} has the line {lines.count(old)} times: {old}"
    path.write_text("\n".join(new if line == old else line for line in lines) + "\n", encoding="utf-8")


def run(root: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """A Python command in the copy, whose packages come before the installed ones."""
    environment = {**os.environ, "PYTHONPATH": str(root), "JAX_PLATFORMS": "cpu"}
    return subprocess.run(
        [sys.executable, *arguments], cwd=root, env=environment, capture_output=True, text=True, timeout=LIMIT_S, check=False
    )


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The learner's sources with the page's example in them."""
    root = tmp_path_factory.mktemp("extended")
    for name in COPIED:
        source, target = REPOSITORY / name, root / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, target)
    for block in blocks():
        carry_out(block, root)
    return root


def test_a_critic_is_one_new_file_one_line_and_tests() -> None:
    touched = [(block.language, block.path.split("/")[0]) for block in blocks()]
    assert sorted(touched) == [("diff", "etude"), ("python", "learner"), ("python", "tests"), ("yaml", "robot_configs")]
    diff = next(block for block in blocks() if block.language == "diff")
    removed, added = changed(diff)
    assert len(removed) == len(added) == len(diff.text.splitlines()) // 2 == 1


def test_the_new_recipe_is_valid_only_with_the_new_line(copy: Path) -> None:
    recipe = next(block.path for block in blocks() if block.language == "yaml")
    validated = run(copy, "-m", "etude", "recipe", "validate", recipe)
    assert validated.returncode == 0, validated.stderr
    assert "marwil: ok" in validated.stdout
    without = run(REPOSITORY, "-m", "etude", "recipe", "validate", str(copy / recipe))
    assert without.returncode == 2
    assert "critic.kind" in without.stderr


@pytest.mark.timeout(LIMIT_S)
def test_the_worked_example_learns(copy: Path) -> None:
    test = next(block.path for block in blocks() if block.path.startswith("tests/"))
    finished = run(copy, "-m", "pytest", "-q", "-p", "no:cacheprovider", test)
    assert finished.returncode == 0, finished.stdout + finished.stderr
    assert "1 passed" in finished.stdout
