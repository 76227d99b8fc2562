"""Commands about acting: `etude demo record`, `etude demo list`, `etude task graph`, `etude evaluate`.

Only argument parsing, progress lines and printing live here; the work is done by actor/demonstrations.py and actor/evaluation.py.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from etude.config import ConfigError, RunConfig, TaskConfig, build, load_run_config, read_named, read_yaml
from etude.run_folder import RunFolder, data_root, demonstrations_store
from etude.specs import PHASES, ActionSpec, ObservationSpec, specs_from_json
from etude.status import wilson_interval

if TYPE_CHECKING:
    from etude.episodes.store import EpisodeStore
    from etude.robot import Robot

GIF_FRAME_MS = 100
GIF_SIZE_PX = (240, 320)


class CommandError(RuntimeError):
    """The command cannot be carried out; the message says what is missing and how to get it."""


# --- demo record, demo list -----------------------------------------------------------------------------------------


ByPerson = Callable[..., None]
"""Records a person's demonstrations: called with run, robot, store, ``count`` per direction, and ``by``, the device's mapping."""


def demo_record(argv: Sequence[str], by_person: ByPerson | None = None) -> int:
    """`etude demo record`: demonstrations of both directions, of the scripted expert or of a person, into an episode store."""
    parser = argparse.ArgumentParser(
        prog="etude demo record",
        description="Record successful demonstrations of both directions into an episode store: the scripted expert's, or yours.",
        epilog="examples:\n  etude demo record --task slide --count 20 --observation pixels\n"
        "  etude demo record --task slide --count 20 --by browser --out my-demonstrations\n"
        "  etude demo record --task drawer --observation state --seed 3 --out my-demonstrations",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--task", required=True, help="name of a file in robot_configs/tasks")
    parser.add_argument("--count", type=_positive, help="demonstrations per direction (default: the task's)")
    parser.add_argument("--observation", choices=("pixels", "state"), default="pixels")
    parser.add_argument("--robot", default="sim_panda_fast", help="name of a file in robot_configs/robots (default: %(default)s)")
    parser.add_argument(
        "--by",
        default="scripted",
        help="scripted, browser (you, on the page), or another mapping of `etude teleop list` (default: %(default)s)",
    )
    parser.add_argument(
        "--recipe", help="name in robot_configs/recipes; one that a person resets needs the forward direction only"
    )
    parser.add_argument("--config", type=Path, help="a run's YAML instead of --task's defaults (its task must be --task)")
    parser.add_argument(
        "--out", type=Path, help="folder of the new store (default: data/demonstrations/<task>-<observation>/demos)"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--force", action="store_true", help="replace an existing store")
    arguments = parser.parse_args(argv)
    if arguments.config is None:
        config = task_config(arguments.task, arguments.observation, arguments.robot, arguments.recipe)
    else:
        overrides = [f"task={arguments.task}", f"observation={arguments.observation}", "recipe.reward.kind=environment"]
        config = load_run_config(arguments.config, overrides)
    out = arguments.out or demonstrations_store(config.task.name, config.observation)
    count = arguments.count or config.task.demonstrations_per_direction
    from etude.episodes.store import EpisodeStore

    started_s = time.monotonic()
    by = None
    if arguments.by != "scripted":
        if by_person is None:
            raise CommandError("only the scripted expert demonstrates here: record with `etude demo record`")
        by = partial(by_person, config, count=count, by=arguments.by)
    record_into(config, out, count, arguments.seed, force=arguments.force, progress=_progress_line("demonstrations"), by=by)
    with EpisodeStore.open(out, "r") as store:
        print(f"{len(store.segments())} demonstrations of {config.task.name} in {out} ({time.monotonic() - started_s:.0f} s)")
    return 0


def record_into(
    config: RunConfig,
    out: Path,
    count: int,
    seed: int,
    *,
    force: bool = False,
    progress: Callable[[int, int], None] | None = None,
    by: Callable[["Robot", "EpisodeStore"], None] | None = None,
) -> None:
    """Record into a new store at `out`, by the scripted expert unless `by` does it.

    The store appears there complete or not at all (recorded aside, then renamed).

    Raises:
        CommandError: `out` exists and not `force`.
        DemonstrationError: see `actor.demonstrations.record_demonstrations`.
    """
    from actor.demonstrations import record_demonstrations
    from actor.robots import make_robot
    from etude.episodes.store import EpisodeStore

    if out.exists() and not force:
        raise CommandError(f"{out} exists already: use it as it is, name another folder with --out, or replace it with --force")
    aside = out.with_name(f".{out.name}.{os.getpid()}.recording")
    out.parent.mkdir(parents=True, exist_ok=True)
    robot = make_robot(config, seed)
    metadata = {
        "task": config.task.name,
        "source": "operator" if by else "scripted expert",
        "seed": seed,
        "expert_noise": config.task.expert_noise,
    }
    try:
        store = EpisodeStore.create(aside, robot.observation_spec, robot.action_spec, metadata)
        try:
            if by is None:
                record_demonstrations(config, robot, store, count, seed, progress)
            else:
                robot.hard_reset("forward", np.random.default_rng(seed))
                by(robot, store)
        finally:
            store.close()
        if out.exists():
            shutil.rmtree(out)
        aside.rename(out)
    finally:
        robot.close()
        shutil.rmtree(aside, ignore_errors=True)


def demo_list(argv: Sequence[str]) -> int:
    """`etude demo list`: recorded demonstrations, one line per store."""
    parser = argparse.ArgumentParser(
        prog="etude demo list",
        description="List recorded demonstrations.",
        epilog="example:\n  etude demo list",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--root", type=Path, help="folder to look in (default: data/demonstrations)")
    arguments = parser.parse_args(argv)
    from etude.episodes.store import EpisodeStore, StoreError

    root = arguments.root or data_root() / "demonstrations"
    headers = sorted(path.parent for path in root.rglob("store.json") if ".recording" not in path.parent.name)
    if not headers:
        print(f"no demonstrations in {root} yet; record some with: etude demo record --task slide")
        return 0
    unreadable = 0
    for path in headers:
        try:
            store = EpisodeStore.open(path, "r")
        except StoreError as error:
            unreadable += 1
            print(f"{path.relative_to(root)}: {error}", file=sys.stderr)
            continue
        segments = store.segments()
        counts = ", ".join(f"{sum(s.phase == phase for s in segments)} {phase}" for phase in PHASES)
        print(f"{path.relative_to(root)}: {counts}, {sum(s.length for s in segments)} steps")
        store.close()
    return 1 if unreadable else 0


# --- task graph -----------------------------------------------------------------------------------------------------


def task_graph(argv: Sequence[str]) -> int:
    """`etude task graph`: the graph that some task files make together; refused when practice in it could come to an end."""
    parser = argparse.ArgumentParser(
        prog="etude task graph",
        description="Check that practice can go on for ever in the graph of these tasks, and show what leads to what.",
        epilog="example:\n  etude task graph drawer relocate",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("tasks", nargs="+", metavar="TASK", help="name of a file in robot_configs/tasks, or a YAML file")
    from actor.task_graph import describe, from_tasks

    names = dict.fromkeys(parser.parse_args(argv).tasks)
    files = {name if name.endswith(".yaml") else f"robot_configs/tasks/{name}.yaml": name for name in names}
    graph = from_tasks({file: build(TaskConfig, read_named("tasks", name), file) for file, name in files.items()})
    print("\n".join(describe(graph)))
    return 0


# --- evaluate -------------------------------------------------------------------------------------------------------


def evaluate_command(argv: Sequence[str]) -> int:
    """`etude evaluate`: success of a policy from random starts, by ground truth, with Wilson intervals."""
    parser = argparse.ArgumentParser(
        prog="etude evaluate",
        description="Run a policy with deterministic actions from random starts and count successes by ground truth.",
        epilog="examples:\n  etude evaluate --policy runs/latest/policy --episodes 50\n"
        "  etude evaluate --policy runs/latest/policy --task slide --phase forward --video forward.gif",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--policy", type=Path, required=True, help="folder with policy.program and policy.safetensors")
    parser.add_argument("--task", help="name of a file in robot_configs/tasks (default: the task of the policy's run)")
    parser.add_argument("--robot", default="sim_panda_fast", help="name of a file in robot_configs/robots (default: %(default)s)")
    parser.add_argument("--observation", choices=("pixels", "state"), help="default: what the policy sees")
    parser.add_argument("--episodes", type=_positive, default=50)
    parser.add_argument("--phase", choices=PHASES, help="default: every direction that the run practises")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--video", type=Path, help="write the first episodes as an animated GIF")
    parser.add_argument(
        "--video-episodes", type=_positive, default=3, help="episodes per direction in the GIF (default: %(default)s)"
    )
    arguments = parser.parse_args(argv)

    from actor.candidates import CandidateFeed
    from actor.demonstrations import max_steps
    from actor.evaluation import evaluate
    from actor.policy_runner import PolicyRunner
    from actor.robots import make_robot
    from etude.policy_file import load_policy

    if not arguments.policy.is_dir():
        raise CommandError(
            f"there is no policy folder {arguments.policy}: a run keeps its newest policy in runs/<name>/policy, "
            "and `etude policy export` writes one"
        )
    program, weights = load_policy(arguments.policy)
    seen, actions = specs_from_json(program.specs_json)
    observation = arguments.observation or ("pixels" if seen.cameras else "state")
    config = _evaluation_config(arguments.policy, arguments.task, observation, arguments.robot)
    robot = make_robot(config, arguments.seed)
    film = _Film(arguments.video, arguments.video_episodes)
    try:
        _require_fit(seen, actions, robot, arguments.policy, config)
        policy = PolicyRunner(feed=CandidateFeed.of(config, arguments.seed))
        policy.load_program(program.to_bytes())
        policy.load_weights(weights.to_bytes())
        print(f"policy version {weights.version} of {weights.run_id}, task {config.task.name}, {observation}")
        for phase in (arguments.phase,) if arguments.phase else config.recipe.phases:
            result = evaluate(
                robot,
                policy,
                phase,
                arguments.episodes,
                arguments.seed,
                max_steps(config)[phase],
                _progress_line(phase, arguments.episodes),
                limits=config.robot.safety,
                on_frame=film.frame if arguments.video else None,
            )
            low, high = wilson_interval(result["successes"], result["episodes"])
            print(
                f"{phase}: {result['successes']} of {result['episodes']} succeeded = {result['success_rate']:.0%} "
                f"(95% interval {low:.0%} to {high:.0%}), {result['mean_steps']:.1f} steps per success"
            )
        film.write()
    finally:
        robot.close()
    return 0


def task_config(task: str, observation: str, robot: str = "sim_panda_fast", recipe: str | None = None) -> RunConfig:
    """A run configuration for commands that need only a task and a robot. Raises ConfigError naming the known ones."""
    parts = {"name": "none"} if recipe is None else read_named("recipes", recipe)
    data = {
        "task": read_named("tasks", task),
        "robot": read_named("robots", robot),
        "recipe": {**parts, "reward": {"kind": "environment"}},
        "observation": observation,
    }
    return build(RunConfig, data, f"task {task!r} with robot {robot!r}")


def _evaluation_config(policy: Path, task: str | None, observation: str, robot: str) -> RunConfig:
    if task is not None:
        return task_config(task, observation, robot)
    run = RunFolder(policy.resolve().parent)
    if not run.config.is_file():
        raise CommandError(f"{policy} is not inside a run folder, so its task is not known: name it with --task")
    data = read_yaml(run.config)
    recipe = data.get("recipe") or {}
    kept = {part: recipe.get(part) or {} for part in ("reset", "encoder")}
    policy_config = recipe.get("policy") or {}
    data = {"task": data.get("task"), "robot": data.get("robot"), "observation": observation}
    data["recipe"] = {"name": "none", "reward": {"kind": "environment"}, **kept}
    if policy_config.get("kind") == "external":  # it acts with its server here too
        server = {key: policy_config[key] for key in ("kind", "server", "server_timeout_s") if key in policy_config}
        data["recipe"] |= {"improvement": {"kind": "bc"}, "policy": server}
    return build(RunConfig, data, str(run.config))


def _require_fit(seen: ObservationSpec, actions: ActionSpec, robot: "Robot", policy: Path, config: RunConfig) -> None:
    if seen.shapes() != robot.observation_spec.shapes() or actions.names != robot.action_spec.names:
        raise ConfigError(
            f"the policy in {policy} sees {_shapes(seen)} and acts on {'/'.join(actions.names)}, but task "
            f"{config.task.name!r} with observation={config.observation} shows {_shapes(robot.observation_spec)} and takes "
            f"{'/'.join(robot.action_spec.names)}: name the task and observation that it was trained on"
        )


def _shapes(spec: ObservationSpec) -> str:
    return ", ".join(f"{key}{shape}" for key, (shape, _) in spec.shapes().items())


class _Film:
    """Frames of the first episodes of each direction, for an animated GIF."""

    def __init__(self, path: Path | None, episodes: int) -> None:
        self._path = path
        self._episodes = episodes
        self._frames: list[np.ndarray] = []

    def frame(self, robot: "Robot", episode: int, success: bool) -> None:
        if episode < self._episodes:
            # the moment of success is held for half a second, so that the eye sees it
            self._frames += [robot.render("beauty", *GIF_SIZE_PX)] * (5 if success else 1)

    def write(self) -> None:
        if self._path is None or not self._frames:
            return
        from PIL import Image

        images = [Image.fromarray(frame).quantize(128) for frame in self._frames]
        images[0].save(self._path, format="GIF", save_all=True, append_images=images[1:], duration=GIF_FRAME_MS, loop=0)
        print(f"{len(images)} frames in {self._path}")


def _progress_line(word: str, total: int | None = None) -> Callable[[int, int], None]:
    """A progress callback: one line that rewrites itself on a terminal, a line every 5 s elsewhere, on stderr.

    Without `total` it takes (done, wanted); with it, (done, successes).
    """
    state = {"next_s": time.monotonic() + 5.0}

    def show(done: int, second: int) -> None:
        text = f"{word}: {done} of {second}" if total is None else f"{word}: {done} of {total} episodes, {second} succeeded"
        finished = done == (second if total is None else total)
        if sys.stderr.isatty():
            print(f"\r\033[K{text}", end="\n" if finished else "", file=sys.stderr, flush=True)
        elif finished or time.monotonic() >= state["next_s"]:
            state["next_s"] = time.monotonic() + 5.0
            print(text, file=sys.stderr, flush=True)

    return show


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not at least 1")
    return value
