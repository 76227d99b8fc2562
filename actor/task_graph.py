"""Several tasks in one scene: what each needs, undoes and leads to, and which one to practise next from here.

A scene is the set of named conditions that hold in it, e.g. ``{"drawer_open", "block_left"}``. A task is possible where all that
it `needs` holds; its success removes what it `undoes` and adds what it `leads_to`; a failure leaves the scene (STRIPS, Fikes &
Nilsson 1971). A forward and a backward task that undo each other are the smallest graph. Everything here is pure.

Practice goes where success is possible and not yet certain. A task that succeeds with probability p teaches in proportion to
``p (1 - p)``, the variance of its outcome: nothing while it always fails, nothing once it always succeeds (goals of intermediate
difficulty, Florensa et al. 2018; Tzannetos et al. 2023, proximal curriculum; Rutherford et al. 2024, learnability; the idea of
learning progress is Oudeyer, Kaplan & Hafner 2007). p is known only within its Wilson interval; the weight is the *largest*
``p (1 - p)`` in it, so that a task that was hardly tried has the full 1/4.
"""

from __future__ import annotations

import difflib
import heapq
import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from actor.practice import opposite
from etude.config import ConfigError, TaskConfig
from etude.specs import PHASES
from etude.status import SuccessRate

Scene = frozenset[str]

EPSILON = 0.1
"""Share of choices made at random among the possible tasks, so that no rate grows old unseen."""
LEARNABLE = 0.05
"""Weight above which a task is worth practising: success rates between 5% and 95%."""


@dataclass(frozen=True)
class Task:
    """One node. `where` is its place in the configuration, for messages."""

    name: str
    needs: Scene
    undoes: Scene
    leads_to: Scene
    where: str = ""

    def possible(self, scene: Scene) -> bool:
        return self.needs <= scene

    def after(self, scene: Scene) -> Scene:
        """The scene after a success."""
        return (scene - self.undoes) | self.leads_to


@dataclass(frozen=True)
class TaskGraph:
    """Tasks by name, and the scene that a person sets up."""

    tasks: dict[str, Task]
    start: Scene

    def possible(self, scene: Scene) -> list[str]:
        """Names of the tasks that can be practised in `scene`, in the order of the graph."""
        return [name for name, task in self.tasks.items() if task.possible(scene)]


# --- from configurations --------------------------------------------------------------------------------------------


def from_tasks(files: Mapping[str, TaskConfig]) -> TaskGraph:
    """The graph of some task pairs: file name -> its configuration. Nodes are named ``<task>/<phase>``.

    The start scene is what all forward directions need. A pair that names no conditions gets its own two.

    Raises:
        ConfigError: two tasks of one name, an unknown condition, or a dead end; the message names file and key.
    """
    tasks: dict[str, Task] = {}
    start: set[str] = set()
    for file, config in files.items():
        named = any(side.needs or side.undoes or side.leads_to for side in (config.forward, config.backward))
        for phase in PHASES:
            direction = config.forward if phase == "forward" else config.backward
            here, there = (f"{config.name}/{other}_done" for other in (opposite(phase), phase))
            needs, undoes, leads_to = (
                (direction.needs, direction.undoes, direction.leads_to) if named else ((here,), (here,), (there,))
            )
            name = f"{config.name}/{phase}"
            if name in tasks:
                raise ConfigError(f"{file}: name: {config.name!r} is the name of another task of the graph too; rename one")
            tasks[name] = Task(name, frozenset(needs), frozenset(undoes), frozenset(leads_to), f"{file}: {phase}")
            if phase == "forward":
                start |= set(needs)
    graph = TaskGraph(tasks, frozenset(start))
    validate(graph)
    return graph


def validate(graph: TaskGraph) -> None:
    """Raises ConfigError, naming file and key, unless practice can go on for ever with every task.

    That is: all conditions that are needed or undone can come about; what a task leads to, another one undoes; and from every
    scene that practice can reach, every task can be reached.
    """
    known = graph.start.union(*(task.leads_to for task in graph.tasks.values()))
    undone: Scene = frozenset().union(*(task.undoes for task in graph.tasks.values()))
    for task in graph.tasks.values():
        for key, names in (("needs", task.needs), ("undoes", task.undoes)):
            for condition in sorted(names - known):
                close = difflib.get_close_matches(condition, sorted(known), n=1)
                hint = f" Did you mean {close[0]!r}?" if close else f" Known: {', '.join(sorted(known))}."
                raise ConfigError(f"{task.where}.{key}: no task leads to the condition {condition!r}.{hint}")
    for task in graph.tasks.values():
        for condition in sorted(task.leads_to - undone - graph.start):
            raise ConfigError(
                f"{task.where}.leads_to: no task undoes {condition!r}, so that it is a dead end: add a task that undoes it, or "
                "leave it out when nothing needs it"
            )
    scenes = _reachable(graph, graph.start)
    for scene in scenes:
        reached = {name for other in _reachable(graph, scene) for name in graph.possible(other)}
        for name in graph.tasks.keys() - reached:
            task = graph.tasks[name]
            raise ConfigError(
                f"{task.where}.needs: {', '.join(sorted(task.needs))} cannot be reached from the scene "
                f"{{{', '.join(sorted(scene))}}}, into which practice can come: add a task that leads back"
            )


def _reachable(graph: TaskGraph, scene: Scene) -> list[Scene]:
    """Every scene that successes can lead to from `scene`, itself first."""
    found = {scene: None}
    waiting = [scene]
    while waiting:
        here = waiting.pop()
        for name in graph.possible(here):
            following = graph.tasks[name].after(here)
            if following not in found:
                found[following] = None
                waiting.append(following)
    return list(found)


# --- what to practise -----------------------------------------------------------------------------------------------


def learnability(rate: SuccessRate) -> float:
    """Largest ``p (1 - p)`` for a success probability p within the Wilson interval of `rate`; 1/4 without attempts."""
    low, high = rate.wilson()
    p = min(max(0.5, low), high)
    return p * (1.0 - p)


def choose(
    graph: TaskGraph, scene: Scene, rates: Mapping[str, SuccessRate], rng: np.random.Generator, epsilon: float = EPSILON
) -> str | None:
    """The task to practise in `scene`; None where none is possible, and a person has to help.

    With probability `epsilon` any possible task. Else, where some possible tasks are worth practising (weight above `LEARNABLE`),
    one of them in proportion to `learnability`. Else the first task on the way to one that is (`plan`). With nothing left to
    learn anywhere, the possible tasks in proportion to their weights. `rates`: task -> recent successes; those that are missing
    were never tried.
    """
    possible = graph.possible(scene)
    if not possible:
        return None
    weights = {name: learnability(rates.get(name, SuccessRate())) for name in graph.tasks}
    if rng.random() < epsilon:
        return str(rng.choice(possible))
    worthwhile = [name for name in possible if weights[name] > LEARNABLE]
    if not worthwhile:
        path = plan(graph, scene, lambda name: weights[name] > LEARNABLE, rates)
        if path is not None:
            return path[0]
    candidates = worthwhile or possible
    share = np.array([weights[name] + 1e-9 for name in candidates])
    return str(rng.choice(candidates, p=share / share.sum()))


def plan(graph: TaskGraph, scene: Scene, wanted: Callable[[str], bool], rates: Mapping[str, SuccessRate]) -> list[str] | None:
    """The tasks that lead from `scene` to a wanted one, that one last; None when there is no way.

    The path has the fewest expected attempts (Dijkstra 1959): a task on the way costs ``(n + 2) / (k + 1)`` for k successes in n
    attempts, one over its success rate by Laplace's rule, so that reliable tasks make the way.
    """
    order = itertools.count()  # ties are broken by age, so that the answer is the same every time
    waiting: list[tuple[float, int, Scene, list[str]]] = [(0.0, next(order), scene, [])]
    done: set[Scene] = set()
    while waiting:
        cost, _, here, path = heapq.heappop(waiting)
        if here in done:
            continue
        done.add(here)
        possible = graph.possible(here)
        for name in possible:
            if wanted(name):
                return [*path, name]
        for name in possible:
            rate = rates.get(name, SuccessRate())
            step = (rate.attempts + 2) / (rate.successes + 1)
            heapq.heappush(waiting, (cost + step, next(order), graph.tasks[name].after(here), [*path, name]))
    return None


def describe(graph: TaskGraph) -> Iterator[str]:
    """Lines for a person: every task with its conditions."""
    yield f"start: {', '.join(sorted(graph.start))}"
    for task in graph.tasks.values():
        parts = (("needs", task.needs), ("undoes", task.undoes), ("leads to", task.leads_to))
        yield f"{task.name}: " + "; ".join(f"{word} {', '.join(sorted(names)) or 'nothing'}" for word, names in parts)
