"""The rules that keep the parts apart and the network harmless, read from the syntax trees of all sources.

docs/architecture.md §3 says who may import whom and why.
"""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from etude.config import REPOSITORY

PARTS = ("actor", "learner", "reward_classifiers", "simulation", "dashboard", "policy_servers")
MAY_IMPORT = {"etude": set(), **{part: {"etude"} for part in PARTS}}
EXCEPTIONS = {("actor/robots/mujoco.py", "simulation"), ("actor/robots/go1_sim.py", "simulation")}
PROJECT = {"etude", *PARTS, "etude_nodes", "benchmarks"}
UNPICKLERS = {"pickle", "cPickle", "cloudpickle", "dill", "joblib", "shelve", "marshal"}
LONGEST_FILE = 500


def sources(*folders: str) -> list[Path]:
    return sorted(path for folder in folders for path in (REPOSITORY / folder).rglob("*.py"))


ALL = sources("etude", *PARTS, "benchmarks", "ros2_ws/src", "tools", "tests")
PRODUCT = [path for path in ALL if not path.is_relative_to(REPOSITORY / "tests")]


def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


def where(path: Path, node: ast.AST) -> str:
    return f"{path.relative_to(REPOSITORY)}:{getattr(node, 'lineno', 0)}"


def imports(path: Path) -> list[tuple[ast.AST, str]]:
    """Every absolute import in the file, those inside functions too: (node, module)."""
    found: list[tuple[ast.AST, str]] = []
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            found += [(node, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.append((node, node.module))
    return found


def dotted(node: ast.AST) -> str:
    """``a.b.c`` of a name or attribute expression, else an empty text."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return ""


@pytest.mark.parametrize("part", MAY_IMPORT)
def test_imports_point_one_way(part):
    wrong = []
    for path in sources(part):
        relative = path.relative_to(REPOSITORY).as_posix()
        for node, module in imports(path):
            top = module.partition(".")[0]
            allowed = top == part or top in MAY_IMPORT[part] or (relative, top) in EXCEPTIONS
            if top in PROJECT and not allowed:
                wrong.append(f"{where(path, node)} imports {module}")
    assert not wrong, f"{part} may import only {sorted(MAY_IMPORT[part])} of the project's packages"


def test_only_the_sinks_need_the_packages_of_other_peoples_viewers():
    wrong = [
        where(path, node)
        for path in PRODUCT
        if not path.is_relative_to(REPOSITORY / "etude" / "sinks")
        for node, module in imports(path)
        if module.partition(".")[0] in {"rosbags", "rerun", "wandb"}
    ]
    assert not wrong


def test_only_etude_nodes_subclasses_a_ros_node():
    wrong = []
    for path in PRODUCT:
        if "etude_nodes" in path.parts:
            continue
        for node in ast.walk(tree(path)):
            bases = {dotted(base).rpartition(".")[2] for base in node.bases} if isinstance(node, ast.ClassDef) else set()
            if bases & {"Node", "LifecycleNode"}:
                wrong.append(where(path, node))
    assert not wrong


@pytest.mark.parametrize("part", ["etude", "learner", "reward_classifiers", "simulation", "dashboard", "policy_servers"])
def test_parts_know_no_ros(part):
    wrong = [
        where(path, node)
        for path in sources(part)
        for node, module in imports(path)
        if module.partition(".")[0] in {"rclpy", "etude_msgs", "std_msgs", "sensor_msgs"}
    ]
    assert not wrong


def test_nothing_is_unpickled():
    wrong = [where(path, node) for path in ALL for node, module in imports(path) if module.partition(".")[0] in UNPICKLERS]
    for path in ALL:
        for node in ast.walk(tree(path)):
            if not isinstance(node, ast.Call):
                continue
            keywords = {keyword.arg: keyword.value for keyword in node.keywords}
            allow = keywords.get("allow_pickle")
            if isinstance(allow, ast.Constant) and allow.value:
                wrong.append(where(path, node))
            if dotted(node.func) in {"torch.load", "yaml.load", "yaml.unsafe_load"}:
                wrong.append(where(path, node))
    assert not wrong


def test_no_shell_and_no_evaluation_of_text():
    wrong = []
    for path in PRODUCT:
        for node in ast.walk(tree(path)):
            if not isinstance(node, ast.Call):
                continue
            shell = next((keyword.value for keyword in node.keywords if keyword.arg == "shell"), None)
            if (isinstance(shell, ast.Constant) and shell.value) or dotted(node.func) in {
                "os.system",
                "os.popen",
                "eval",
                "exec",
            }:
                wrong.append(where(path, node))
    assert not wrong


def test_nothing_listens_on_every_interface():
    everywhere = ".".join("0000")
    wrong = [
        where(path, node)
        for path in PRODUCT
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Constant) and node.value == everywhere
    ]
    assert not wrong


def test_no_error_is_swallowed_whole():
    """``except Exception: pass`` and ``except: ...`` hide bugs; a handler names what it expects or says what happened."""
    wrong = []
    for path in PRODUCT:
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.ExceptHandler):
                broad = node.type is None or dotted(node.type) in {"Exception", "BaseException"}
                silent = all(isinstance(line, ast.Pass | ast.Continue) for line in node.body)
                if node.type is None or (broad and silent):
                    wrong.append(where(path, node))
    assert not wrong


def test_every_module_says_what_lives_in_it():
    wrong = [str(path.relative_to(REPOSITORY)) for path in PRODUCT if path.stat().st_size and not ast.get_docstring(tree(path))]
    assert not wrong


def test_no_file_is_too_long():
    lengths = {str(path.relative_to(REPOSITORY)): len(path.read_text(encoding="utf-8").splitlines()) for path in ALL}
    assert not {name: length for name, length in lengths.items() if length > LONGEST_FILE}
